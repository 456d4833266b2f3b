//! What never changes about a queue.

use std::sync::Arc;

use leveret_codec::FieldTable;
use leveret_routing::QueueId;

/// Identifies a session for exclusive queues.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SessionId(pub u64);

/// What never changes about a queue.
#[derive(Clone, Debug)]
pub struct QueueIdentity {
    /// Its identity in the topology; never reused.
    pub id: QueueId,
    /// Its name.
    pub name: String,
    /// The virtual host it is in.
    pub vhost: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The session it belongs to alone.
    pub exclusive: Option<SessionId>,
    /// As declared.
    pub arguments: FieldTable,
}
