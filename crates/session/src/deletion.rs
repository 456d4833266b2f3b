//! What is deleted, and what the client is told then.

use leveret_codec::ChannelNumber;
use leveret_codec::protocol::AMQPClass;
use leveret_store_api::CommitPoint;

/// What the client is told of it.
pub(super) enum Answer {
    /// That it is deleted, as it asked for, unless it does not want to know.
    Deleted {
        channel: ChannelNumber,
        nowait: bool,
    },
    /// This: the queue goes with its last consumer.
    Reply(Vec<u8>),
}

/// What was deleted is cleared away; then the client is told.
pub(super) struct Clearing {
    pub(super) answer: Option<Told>,
}

/// What the client is told, once that is durable.
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) deleted: AMQPClass,
    pub(super) point: CommitPoint,
}
