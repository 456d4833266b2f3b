//! Histories written by hand, a word an event.

use leveret_tests::history::{
    ConsumerId, DeliveryId, Event, Finding, History, MessageId, Outcome, PublisherId, QueueFacts,
    QueueId, Rule, TransactionId, judge,
};

/// Published to by one channel, in order.
pub(crate) const IN: QueueId = QueueId(0);
/// Its rejected messages go to [`DEAD`].
pub(crate) const OUT: QueueId = QueueId(1);
pub(crate) const DEAD: QueueId = QueueId(2);
/// A stream.
pub(crate) const LOG: QueueId = QueueId(3);

pub(crate) fn queues() -> Vec<QueueFacts> {
    let facts = |name, dead_letters_to, in_order| QueueFacts {
        name,
        dead_letters_to,
        in_order,
        is_stream: name == "log",
    };
    vec![
        facts("in", None, true),
        facts("out", Some(DEAD), true),
        facts("dead", None, false),
        facts("log", None, true),
    ]
}

/// A history in the making.
#[derive(Default)]
pub(crate) struct Story {
    events: Vec<Event>,
    deliveries: u64,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn note(&mut self, event: Event) {
        self.events.push(event);
    }

    fn publish_as(
        &mut self,
        message: u64,
        queues: &[QueueId],
        transaction: Option<u64>,
        key: Option<u64>,
    ) {
        self.note(Event::Published {
            message: MessageId(message),
            publisher: PublisherId(1),
            queues: queues.to_vec(),
            transaction: transaction.map(TransactionId),
            key,
        });
    }

    pub(crate) fn publish(&mut self, message: u64, queue: QueueId) {
        self.publish_as(message, &[queue], None, None);
    }

    /// Published and confirmed.
    pub(crate) fn confirmed(&mut self, message: u64, queues: &[QueueId]) {
        self.publish_as(message, queues, None, None);
        self.confirm(message);
    }

    pub(crate) fn publish_in(&mut self, transaction: u64, message: u64, queue: QueueId) {
        self.publish_as(message, &[queue], Some(transaction), None);
    }

    pub(crate) fn publish_with_key(&mut self, message: u64, queue: QueueId, key: u64) {
        self.publish_as(message, &[queue], None, Some(key));
    }

    pub(crate) fn publish_in_with_key(
        &mut self,
        transaction: u64,
        message: u64,
        queue: QueueId,
        key: u64,
    ) {
        self.publish_as(message, &[queue], Some(transaction), Some(key));
    }

    pub(crate) fn confirm(&mut self, message: u64) {
        self.note(Event::Confirmed {
            message: MessageId(message),
        });
    }

    fn deliver_as(
        &mut self,
        consumer: u64,
        queue: QueueId,
        message: Option<u64>,
        redelivered: bool,
        count: Option<u64>,
    ) -> DeliveryId {
        self.deliveries += 1;
        let delivery = DeliveryId(self.deliveries);
        self.note(Event::Delivered {
            delivery,
            consumer: ConsumerId(consumer),
            queue,
            message: message.map(MessageId),
            redelivered,
            count,
        });
        delivery
    }

    pub(crate) fn deliver(&mut self, consumer: u64, queue: QueueId, message: u64) -> DeliveryId {
        self.deliver_as(consumer, queue, Some(message), false, None)
    }

    /// Marked as redelivered, without its count.
    pub(crate) fn uncounted(&mut self, consumer: u64, queue: QueueId, message: u64) -> DeliveryId {
        self.deliver_as(consumer, queue, Some(message), true, None)
    }

    /// Marked as redelivered, with its count.
    pub(crate) fn counted(&mut self, consumer: u64, queue: QueueId, message: u64) -> DeliveryId {
        self.deliver_as(consumer, queue, Some(message), true, Some(1))
    }

    /// What nobody has sent.
    pub(crate) fn deliver_rubbish(&mut self, consumer: u64, queue: QueueId) {
        self.deliver_as(consumer, queue, None, false, None);
    }

    fn settle(&mut self, delivery: DeliveryId, outcome: Outcome, transaction: Option<u64>) {
        self.note(Event::Settled {
            delivery,
            outcome,
            transaction: transaction.map(TransactionId),
        });
    }

    pub(crate) fn ack(&mut self, delivery: DeliveryId) {
        self.settle(delivery, Outcome::Acked, None);
    }

    pub(crate) fn ack_in(&mut self, transaction: u64, delivery: DeliveryId) {
        self.settle(delivery, Outcome::Acked, Some(transaction));
    }

    pub(crate) fn reject(&mut self, delivery: DeliveryId) {
        self.settle(delivery, Outcome::Rejected, None);
    }

    pub(crate) fn requeue(&mut self, delivery: DeliveryId) {
        self.settle(delivery, Outcome::Requeued, None);
    }

    pub(crate) fn for_good(&mut self, delivery: DeliveryId) {
        self.note(Event::SettledForGood { delivery });
    }

    pub(crate) fn reject_in(&mut self, transaction: u64, delivery: DeliveryId) {
        self.settle(delivery, Outcome::Rejected, Some(transaction));
    }

    pub(crate) fn requeue_in(&mut self, transaction: u64, delivery: DeliveryId) {
        self.settle(delivery, Outcome::Requeued, Some(transaction));
    }

    pub(crate) fn refuse(&mut self, message: u64) {
        self.note(Event::Refused {
            message: MessageId(message),
        });
    }

    /// A reader finds these in the stream, from this place on.
    pub(crate) fn read(&mut self, reader: u64, offset: u64, messages: &[u64]) {
        for (offset, message) in (offset..).zip(messages) {
            self.note(Event::Read {
                reader: ConsumerId(reader),
                queue: LOG,
                message: Some(MessageId(*message)),
                offset,
            });
        }
    }

    pub(crate) fn commit_sent(&mut self, transaction: u64) {
        self.note(Event::CommitSent(TransactionId(transaction)));
    }

    pub(crate) fn commit(&mut self, transaction: u64) {
        self.commit_sent(transaction);
        self.note(Event::Committed(TransactionId(transaction)));
    }

    pub(crate) fn roll_back(&mut self, transaction: u64) {
        self.note(Event::RolledBack(TransactionId(transaction)));
    }

    pub(crate) fn close(&mut self, consumer: u64) {
        self.note(Event::Closed {
            consumer: ConsumerId(consumer),
        });
    }

    /// Killed, and started again.
    pub(crate) fn crash(&mut self) {
        self.note(Event::Killed);
        self.note(Event::Restarted);
    }

    fn findings(self) -> Vec<Finding> {
        judge(&History {
            queues: queues(),
            events: self.events,
        })
    }

    /// Guilty of this, once, and of nothing else.
    pub(crate) fn breaks(self, rule: Rule) {
        let findings = self.findings();
        let rules: Vec<Rule> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, [rule], "{findings:#?}");
    }

    pub(crate) fn breaks_nothing(self) {
        assert_eq!(self.findings(), []);
    }
}
