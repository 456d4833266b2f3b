//! What a queue is told by arguments and policies, typed; the queue never sees a field table.

use std::sync::Arc;

use leveret_deduplication::Rules;

use crate::queue::kind::{Overflow, QueueKind};

/// Everything a queue can be told by arguments and policies.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueOptions {
    /// `x-queue-type`.
    pub kind: QueueKind,
    /// `x-message-ttl`, milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, milliseconds.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`, bytes of body.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<String>,
    /// `x-max-priority`; None: no priorities.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`: how often a message may come back.
    pub delivery_limit: Option<u32>,
    /// `x-max-age` of a stream, milliseconds.
    pub max_age_ms: Option<u64>,
    /// `x-stream-max-segment-size-bytes`.
    pub stream_segment_bytes: Option<u64>,
    /// `x-consumer-timeout`, milliseconds.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-retry-delays`, milliseconds, one for each time a client puts the message back; empty: at once.
    pub retry_delays_ms: Arc<[u64]>,
    /// `x-dedup-window-ms`.
    pub deduplication: Rules,
    /// `x-message-deduplication`: no two messages with the same `x-deduplication-header` at a time.
    pub unique: bool,
}

/// RabbitMQ's default delivery limit of quorum queues (4.0 and later).
const QUORUM_DELIVERY_LIMIT: u32 = 20;

impl QueueOptions {
    /// Those of a queue of this type that is told nothing.
    #[must_use]
    pub fn of_kind(kind: QueueKind) -> QueueOptions {
        QueueOptions {
            kind,
            delivery_limit: (kind == QueueKind::Quorum).then_some(QUORUM_DELIVERY_LIMIT),
            ..QueueOptions::default()
        }
    }

    /// Whether any length limit is set.
    #[must_use]
    pub fn has_length_limit(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// Whether duplicates are looked for.
    #[must_use]
    pub fn deduplicates(&self) -> bool {
        self.deduplication.is_on() || self.unique
    }
}
