//! What is deleted, and what the client is told then.

use leveret_broker::queue::handle::QueueHandle;

/// What is deleted.
pub(super) enum Doomed {
    Queue(QueueHandle),
    Exchange(String),
}

/// What the client is told of it.
pub(super) enum Answer {
    /// That it is deleted, as it asked for, unless it does not want to know.
    Deleted { channel: u16, nowait: bool },
    /// This: the queue goes with its last consumer.
    Reply(Vec<u8>),
}

/// A deletion in steps: whether it may be was decided before.
pub(super) struct Deleting {
    pub(super) doomed: Doomed,
    pub(super) answer: Option<Answer>,
}
