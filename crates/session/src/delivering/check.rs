//! See [`leveret_broker::check`].

use leveret_broker::check::Outside;
use leveret_codec::ChannelNumber;
use leveret_queue::mailbox::Delivery;
use leveret_queue::queue::consumers::ConsumerRef;
use rustc_hash::FxHashMap;

use super::Delivering;
use crate::channel::{Channel, PublishMode};
use crate::channels::Channels;
use crate::link::Link;
use crate::queue_table::QueueNumber;
use crate::unacked::Unacked;

/// What was counted of a connection.
#[derive(Default)]
struct Counted {
    /// Of each queue: consumers, and deliveries that are in a ledger.
    uses: FxHashMap<QueueNumber, u32>,
    /// Of each channel: what it has of the credit that its consumers share.
    credit: FxHashMap<ChannelNumber, u32>,
}

impl Delivering {
    /// While the connection is busy, not everything is where it belongs.
    pub(crate) fn check(
        &self,
        channels: &Channels,
        link: &Link,
        busy: bool,
        outside: &mut Outside,
    ) {
        self.consumers.check(&mut outside.faults);
        for channel in channels.iter() {
            channel.ledger.check(&mut outside.faults);
        }
        if busy || !self.handing_out.is_empty() || !self.freed.is_empty() {
            outside.is_partial = true;
            return;
        }
        let mut counted = Counted::default();
        for slot in self.consumers.slots() {
            if let Some(consumer) = self.consumers.get(slot) {
                *counted.uses.entry(consumer.queue).or_default() += 1;
            }
        }
        let mail = link.mailbox.lock();
        for delivery in mail.deliveries.iter().chain(&self.mail.deliveries) {
            self.count_on_its_way(delivery, &mut counted, outside);
        }
        drop(mail);
        for channel in channels.iter() {
            self.count_channel(channel, &mut counted, outside);
        }
        let faults = &mut outside.faults;
        self.queues.check(&counted.uses, faults);
        for channel in channels.iter().filter(|channel| !channel.closing) {
            let credit = counted.credit.get(&channel.number).copied().unwrap_or(0);
            faults.same("credit of a channel", channel.credit.taken(), credit);
        }
    }

    fn count_on_its_way(&self, delivery: &Delivery, counted: &mut Counted, outside: &mut Outside) {
        let it = &delivery.in_flight;
        let Some(consumer) = self.consumers.get(delivery.consumer) else {
            outside.faults.holds("a delivery is for somebody", false);
            return;
        };
        if !consumer.no_ack {
            *counted.credit.entry(consumer.channel).or_default() += 1;
        }
        // A delivery without acknowledgement that is not stored is not counted as in flight.
        if !consumer.no_ack || it.stored {
            let place = (it.level, it.sequence, it.stored);
            let who = (!consumer.no_ack).then_some(consumer.reference);
            self.add(consumer.queue, who, place, outside);
        }
    }

    fn count_channel(&self, channel: &Channel, counted: &mut Counted, outside: &mut Outside) {
        let mut count = |queue, consumer: Option<ConsumerRef>, place| {
            *counted.uses.entry(queue).or_default() += 1;
            *counted.credit.entry(channel.number).or_default() += u32::from(consumer.is_some());
            self.add(queue, consumer, place, outside);
        };
        channel.ledger.each(&mut count);
        if let PublishMode::Transaction(transaction) = &channel.mode {
            let kept = transaction
                .settlements
                .iter_from(0)
                .map(|(unacked, _)| unacked);
            for unacked in kept.chain(transaction.returning.values()) {
                let Unacked {
                    queue,
                    consumer,
                    delivery,
                    ..
                } = unacked;
                count(*queue, *consumer, delivery.place());
            }
        }
    }

    fn add(
        &self,
        queue: QueueNumber,
        consumer: Option<ConsumerRef>,
        place: (u8, leveret_store_api::Sequence, bool),
        outside: &mut Outside,
    ) {
        match self.queues.queue(queue) {
            Some(queue) => outside.add(self.vhost.name(), queue.id(), consumer, place),
            None => outside.faults.holds("a delivery is of a queue", false),
        }
    }
}
