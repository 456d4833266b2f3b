//! What type of queue it is, and what one does that is full.

use serde::{Deserialize, Serialize};

/// `x-queue-type`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// The ordinary queue.
    #[default]
    Classic,
    /// Always durable, counts deliveries; on one node with the same safety as a classic queue here.
    Quorum,
    /// An append-only log.
    Stream,
}

impl QueueKind {
    /// As it stands in `x-queue-type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            QueueKind::Classic => "classic",
            QueueKind::Quorum => "quorum",
            QueueKind::Stream => "stream",
        }
    }

    /// All there are.
    pub const ALL: [QueueKind; 3] = [QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream];

    /// The type by its name or by that of RabbitMQ's module.
    #[must_use]
    pub fn parse(name: &str) -> Option<QueueKind> {
        let mut all = QueueKind::ALL.into_iter();
        all.find(|kind| kind.name() == name || kind.module() == name)
    }

    /// The type by its name, as `x-queue-type` has it.
    #[must_use]
    pub fn of_argument(name: &str) -> Option<QueueKind> {
        QueueKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// RabbitMQ's module name, which its error texts show.
    pub fn module(self) -> &'static str {
        match self {
            QueueKind::Classic => "rabbit_classic_queue",
            QueueKind::Quorum => "rabbit_quorum_queue",
            QueueKind::Stream => "rabbit_stream_queue",
        }
    }
}

/// `x-overflow`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overflow {
    /// The oldest messages go.
    #[default]
    DropHead,
    /// New messages are refused; a confirming publisher gets `basic.nack`.
    RejectPublish,
    /// As before, and the refused message is dead-lettered.
    RejectPublishDeadLetter,
}

impl Overflow {
    /// What `x-overflow` says.
    #[must_use]
    pub fn parse(name: &str) -> Option<Overflow> {
        match name {
            "drop-head" => Some(Overflow::DropHead),
            "reject-publish" => Some(Overflow::RejectPublish),
            "reject-publish-dlx" => Some(Overflow::RejectPublishDeadLetter),
            _ => None,
        }
    }
}
