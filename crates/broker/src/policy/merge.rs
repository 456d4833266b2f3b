//! A queue's arguments and what policies set, made into the options in force.
//!
//! RabbitMQ's rules, by queue type: of two numeric limits the lower one counts; a dead-letter target
//! given as an argument stays; `overflow` as an argument stays on classic queues and gives way on
//! quorum queues; a stream's retention by policy goes before its arguments.

use leveret_codec::{FieldTable, value_as_integer};

use super::settings::{DeliveryLimit, PolicySettings, lower, stricter};
use crate::arguments::argument;
use crate::queue::kind::QueueKind;
use crate::queue::options::QueueOptions;

/// The options of a queue with these arguments under these policies.
pub(crate) fn options_in_force(
    declared: QueueOptions,
    arguments: &FieldTable,
    policy: &PolicySettings,
) -> QueueOptions {
    if declared.kind == QueueKind::Stream {
        return stream_options(declared, policy);
    }
    let keeps_overflow =
        declared.kind == QueueKind::Classic && argument(arguments, "x-overflow").is_some();
    QueueOptions {
        message_ttl_ms: lower(declared.message_ttl_ms, policy.message_ttl_ms),
        expires_ms: lower(declared.expires_ms, policy.expires_ms),
        max_length: lower(declared.max_length, policy.max_length),
        max_length_bytes: lower(declared.max_length_bytes, policy.max_length_bytes),
        consumer_timeout_ms: lower(declared.consumer_timeout_ms, policy.consumer_timeout_ms),
        overflow: policy
            .overflow
            .filter(|_| !keeps_overflow)
            .unwrap_or(declared.overflow),
        dead_letter_exchange: declared
            .dead_letter_exchange
            .or_else(|| policy.dead_letter_exchange.clone()),
        dead_letter_routing_key: declared
            .dead_letter_routing_key
            .or_else(|| policy.dead_letter_routing_key.clone()),
        delivery_limit: delivery_limit(declared.delivery_limit, arguments, policy),
        deduplication: declared.deduplication.or(policy.deduplication),
        unique: declared.unique || policy.unique,
        ..declared
    }
}

/// What was declared may be the default, which any policy replaces.
fn delivery_limit(
    declared: Option<u32>,
    arguments: &FieldTable,
    policy: &PolicySettings,
) -> Option<u32> {
    let by_argument = argument(arguments, "x-delivery-limit")
        .and_then(value_as_integer)
        .map(DeliveryLimit::new);
    match policy.delivery_limit {
        None => declared,
        by_policy => stricter(by_argument, by_policy).and_then(DeliveryLimit::times),
    }
}

fn stream_options(declared: QueueOptions, policy: &PolicySettings) -> QueueOptions {
    QueueOptions {
        max_length_bytes: policy.max_length_bytes.or(declared.max_length_bytes),
        max_age_ms: policy.max_age_ms.or(declared.max_age_ms),
        stream_segment_bytes: policy
            .stream_segment_bytes
            .or(declared.stream_segment_bytes),
        ..declared
    }
}
