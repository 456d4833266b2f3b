//! A broker in a few lines that keeps every promise: makes good histories of any steps.
//!
//! Time passes in changes. The model remembers its queues after each of them; a crash goes back to any state from the
//! last durable one on.

use std::collections::BTreeMap;

use leveret_tests::history::{
    ConsumerId, DeliveryId, Event, History, MessageId, Outcome, PublisherId, QueueId, TransactionId,
};

use crate::story::{DEAD, IN, LOG, OUT, queues};

/// What the model may be told to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Publish,
    /// Takes the next of a queue and settles it.
    Consume(usize, Outcome),
    /// Takes the next and leaves it until the consumer ends.
    Hold(usize),
    /// Ends the consumer, and another begins.
    Close,
    /// Takes one message, settles it and puts out three, in one transaction.
    Transform(Outcome, Ending),
    /// Reads all of the stream that may be seen.
    Read,
    /// All so far is on stable storage, and everybody is told.
    Sync,
    /// Goes back to a state of so many changes before the last one, if that is allowed.
    Crash(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Commit,
    Rollback,
    /// The broker dies with the commit on its way.
    Crash,
}

/// A message in a queue, and how often it was delivered in this run.
#[derive(Clone, Copy)]
struct Held {
    marked: bool,
    came: u64,
}

/// Of each queue the messages, by their place. Out of the stream, the last one, nothing is taken.
type Queues = [BTreeMap<u64, Held>; 4];

/// What is told at the next sync.
enum Owed {
    Confirm(MessageId),
    ForGood(DeliveryId),
}

pub(crate) struct Model {
    events: Vec<Event>,
    queues: Queues,
    /// After each change since the last sync, the durable one first.
    states: Vec<Queues>,
    owed: Vec<Owed>,
    /// Delivered and not settled: they go back when the consumer ends.
    held: Vec<(QueueId, u64, Held)>,
    consumer: u64,
    numbers: u64,
}

impl Model {
    pub(crate) fn run(steps: &[Step]) -> History {
        let mut model = Self {
            events: Vec::new(),
            queues: Queues::default(),
            states: vec![Queues::default()],
            owed: Vec::new(),
            held: Vec::new(),
            consumer: 1,
            numbers: 1,
        };
        for step in steps {
            model.step(step);
        }
        model.drain();
        History {
            queues: queues(),
            events: model.events,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish => self.publish(),
            Step::Consume(queue, outcome) => self.consume(QueueId(*queue), *outcome),
            Step::Hold(queue) => {
                if let Some((message, _, held)) = self.deliver(QueueId(*queue)) {
                    self.held.push((QueueId(*queue), message, held));
                }
            }
            Step::Close => self.close(),
            Step::Transform(outcome, ending) => self.transform(*outcome, *ending),
            Step::Read => self.read(),
            Step::Sync => self.sync(),
            Step::Crash(back) => self.crash(*back),
        }
    }

    fn changed(&mut self) {
        let mut state = self.queues.clone();
        // The store knows nothing of deliveries.
        for (queue, message, held) in &self.held {
            state[queue.0].insert(*message, *held);
        }
        self.states.push(state);
    }

    fn publish(&mut self) {
        let message = self.number();
        self.events.push(Event::Published {
            message: MessageId(message),
            publisher: PublisherId(1),
            queues: vec![IN, OUT, LOG],
            transaction: None,
            key: None,
        });
        for queue in [IN, OUT, LOG] {
            self.put(queue, message);
        }
        self.owed.push(Owed::Confirm(MessageId(message)));
        self.changed();
    }

    fn put(&mut self, queue: QueueId, message: u64) {
        let held = Held {
            marked: false,
            came: 0,
        };
        self.queues[queue.0].insert(message, held);
    }

    /// Takes the first of a queue out.
    fn deliver(&mut self, queue: QueueId) -> Option<(u64, DeliveryId, Held)> {
        let (message, mut held) = self.queues[queue.0].pop_first()?;
        let delivery = DeliveryId(self.number());
        self.events.push(Event::Delivered {
            delivery,
            consumer: ConsumerId(self.consumer),
            queue,
            message: Some(MessageId(message)),
            redelivered: held.marked,
            count: (held.came > 0).then_some(held.came),
        });
        held.marked = true;
        held.came += 1;
        Some((message, delivery, held))
    }

    fn settle(
        &mut self,
        delivery: DeliveryId,
        outcome: Outcome,
        transaction: Option<TransactionId>,
    ) {
        self.events.push(Event::Settled {
            delivery,
            outcome,
            transaction,
        });
    }

    fn consume(&mut self, queue: QueueId, outcome: Outcome) {
        // Only one queue has somewhere to go for what is rejected.
        let outcome = match outcome {
            Outcome::Rejected if queue != OUT => Outcome::Acked,
            other => other,
        };
        let Some((message, delivery, held)) = self.deliver(queue) else {
            return;
        };
        self.settle(delivery, outcome, None);
        match outcome {
            Outcome::Acked => {}
            Outcome::Requeued => {
                self.queues[queue.0].insert(message, held);
            }
            Outcome::Rejected => self.put(DEAD, message),
        }
        self.owed.push(Owed::ForGood(delivery));
        self.changed();
    }

    fn give_back(&mut self) {
        for (queue, message, held) in std::mem::take(&mut self.held) {
            self.queues[queue.0].insert(message, held);
        }
    }

    fn close(&mut self) {
        self.events.push(Event::Closed {
            consumer: ConsumerId(self.consumer),
        });
        self.give_back();
        self.consumer = self.number();
    }

    /// What is on stable storage; a message's number is its place.
    fn read(&mut self) {
        let reader = ConsumerId(self.number());
        for message in self.states[0][LOG.0].keys() {
            self.events.push(Event::Read {
                reader,
                queue: LOG,
                message: Some(MessageId(*message)),
                offset: *message,
            });
        }
    }

    fn transform(&mut self, outcome: Outcome, ending: Ending) {
        // Nothing dies out of this queue.
        let outcome = match outcome {
            Outcome::Rejected => Outcome::Acked,
            other => other,
        };
        let Some((message, delivery, held)) = self.deliver(IN) else {
            return;
        };
        let transaction = TransactionId(self.number());
        let out: Vec<(QueueId, u64)> = [OUT, DEAD, LOG]
            .map(|queue| (queue, self.number()))
            .to_vec();
        for (queue, message) in &out {
            self.events.push(Event::Published {
                message: MessageId(*message),
                publisher: PublisherId(2),
                queues: vec![*queue],
                transaction: Some(transaction),
                key: None,
            });
        }
        self.settle(delivery, outcome, Some(transaction));
        if matches!(ending, Ending::Rollback) {
            self.events.push(Event::RolledBack(transaction));
            self.held.push((IN, message, held));
            return;
        }
        self.events.push(Event::CommitSent(transaction));
        // Until now the store has the message that was taken.
        if let Some(last) = self.states.last_mut() {
            last[IN.0].insert(message, held);
        }
        for (queue, message) in out {
            self.put(queue, message);
        }
        if outcome == Outcome::Requeued {
            self.queues[IN.0].insert(message, held);
        }
        self.changed();
        match ending {
            Ending::Crash => self.crash(usize::from(message % 2 == 0)),
            Ending::Commit | Ending::Rollback => {
                self.sync();
                self.events.push(Event::Committed(transaction));
            }
        }
    }

    fn sync(&mut self) {
        for owed in std::mem::take(&mut self.owed) {
            self.events.push(match owed {
                Owed::Confirm(message) => Event::Confirmed { message },
                Owed::ForGood(delivery) => Event::SettledForGood { delivery },
            });
        }
        let last = self.states.pop();
        self.states = last.into_iter().collect();
    }

    fn crash(&mut self, back: usize) {
        let at = self.states.len().saturating_sub(1 + back);
        let state = self.states.get(at).cloned().unwrap_or_default();
        self.queues = state;
        for held in self.queues.iter_mut().flat_map(BTreeMap::values_mut) {
            *held = Held {
                marked: true,
                came: 1,
            };
        }
        self.states = vec![self.queues.clone()];
        self.owed.clear();
        self.held.clear();
        self.events.push(Event::Killed);
        self.events.push(Event::Restarted);
        self.consumer = self.number();
    }

    fn drain(&mut self) {
        self.close();
        for queue in [IN, OUT, DEAD] {
            while !self.queues[queue.0].is_empty() {
                self.consume(queue, Outcome::Acked);
            }
        }
        self.sync();
        self.read();
    }
}
