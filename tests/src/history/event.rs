//! What is noted in a ledger.

/// One publish. A message that is sent again is another one, with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

/// One delivery to one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub u64);

/// One transaction: what a channel did up to a commit, a rollback or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u64);

/// One channel that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublisherId(pub u64);

/// One subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// A queue's place in [`History::queues`](super::History::queues).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub usize);

/// What a queue promises beyond what all do.
#[derive(Clone, Debug)]
pub struct QueueFacts {
    /// Its name.
    pub name: &'static str,
    /// Where its rejected messages go.
    pub dead_letters_to: Option<QueueId>,
    /// What one channel published arrives in that order.
    pub in_order: bool,
    /// It is a stream: what is in it is read, and stays.
    pub is_stream: bool,
}

/// What a client says about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// basic.ack
    Acked,
    /// basic.reject or nack with requeue
    Requeued,
    /// basic.reject or nack without requeue
    Rejected,
}

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// About to be sent, to these queues.
    Published {
        /// This publish.
        message: MessageId,
        /// By which channel.
        publisher: PublisherId,
        /// All queues it is routed to.
        queues: Vec<QueueId>,
        /// The transaction it is part of.
        transaction: Option<TransactionId>,
        /// Of several with the same key, within a window of deduplication, one counts.
        key: Option<u64>,
    },
    /// basic.ack from the broker.
    Confirmed {
        /// The publish.
        message: MessageId,
    },
    /// basic.nack from the broker: it has not taken the message.
    Refused {
        /// The publish.
        message: MessageId,
    },
    /// A reader has got it out of a stream.
    Read {
        /// By whom.
        reader: ConsumerId,
        /// Out of which stream.
        queue: QueueId,
        /// What it is; None if it is nothing that anybody publishes.
        message: Option<MessageId>,
        /// Its place, the header x-stream-offset.
        offset: u64,
    },
    /// A consumer has got it.
    Delivered {
        /// This delivery.
        delivery: DeliveryId,
        /// By whom.
        consumer: ConsumerId,
        /// Out of which queue.
        queue: QueueId,
        /// What it is; None if it is nothing that anybody publishes.
        message: Option<MessageId>,
        /// The flag.
        redelivered: bool,
        /// The header x-delivery-count.
        count: Option<u64>,
    },
    /// About to be said.
    Settled {
        /// Of which delivery.
        delivery: DeliveryId,
        /// What.
        outcome: Outcome,
        /// The transaction it is part of.
        transaction: Option<TransactionId>,
    },
    /// The broker has said something that it may say only once this is on stable storage.
    SettledForGood {
        /// The delivery settled.
        delivery: DeliveryId,
    },
    /// tx.commit is about to be sent.
    CommitSent(TransactionId),
    /// tx.commit-ok
    Committed(TransactionId),
    /// tx.rollback is about to be sent.
    RolledBack(TransactionId),
    /// The consumer is about to end, with its channel; what it has not settled goes back.
    Closed {
        /// Which.
        consumer: ConsumerId,
    },
    /// The broker is dead, and no client hears of it any more.
    Killed,
    /// It runs again.
    Restarted,
}
