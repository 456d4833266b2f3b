//! What the queue is told, and how little memory it has.

use proptest::prelude::*;

use crate::harness::calls::{number, string};

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) max_priority: Option<u8>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) overflow: Overflow,
    pub(super) delivery_limit: Option<u32>,
    pub(super) single_active: bool,
    pub(super) memory_bytes: usize,
    pub(super) unacked_bytes: usize,
    pub(super) step_cost: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Overflow {
    DropHead,
    Reject,
    RejectDeadLetter,
}

pub(super) fn options() -> impl Strategy<Value = Options> {
    let kind = prop_oneof![
        Just((None, None)),
        (1u8..4).prop_map(|max| (Some(max), None)),
        (0u32..3).prop_map(|limit| (None, Some(limit))),
    ];
    let length = proptest::option::weighted(0.4, 0u64..8);
    let bytes = proptest::option::weighted(0.2, 0u64..20);
    let overflow = prop_oneof![
        Just(Overflow::DropHead),
        Just(Overflow::Reject),
        Just(Overflow::RejectDeadLetter),
    ];
    let limits = (length, bytes, overflow);
    let ttl_ms = proptest::option::weighted(0.3, 0u64..40);
    let memory = prop_oneof![Just(0usize), Just(300), Just(1000), Just(1 << 20)];
    let unacked = prop_oneof![Just(0usize), Just(1 << 20)];
    let memory = (memory, unacked);
    let step = prop_oneof![Just(1usize), Just(9), Just(4096)];
    (kind, ttl_ms, limits, any::<bool>(), memory, step).prop_map(
        |(
            (max_priority, delivery_limit),
            ttl_ms,
            (max_length, max_bytes, overflow),
            single_active,
            (memory_bytes, unacked_bytes),
            step_cost,
        )| {
            // What is over a limit goes after each step: with one step it is known what goes.
            let is_limited = max_length.is_some() || max_bytes.is_some();
            let step_cost = if is_limited { 4096 } else { step_cost };
            Options {
                max_priority,
                ttl_ms,
                max_length,
                max_bytes,
                overflow,
                delivery_limit,
                single_active,
                memory_bytes,
                unacked_bytes,
                step_cost,
            }
        },
    )
}

impl Options {
    /// A quorum queue with a single active consumer.
    pub(super) fn refuses_get(&self) -> bool {
        self.delivery_limit.is_some() && self.single_active
    }

    pub(super) fn arguments(&self) -> Vec<(&'static str, leveret_codec::AMQPValue)> {
        let mut arguments = Vec::new();
        let mut add = |name, value: Option<i64>| {
            arguments.extend(value.map(|value| (name, number(value))));
        };
        add("x-max-priority", self.max_priority.map(i64::from));
        add("x-message-ttl", self.ttl_ms.map(|ttl| ttl as i64));
        add("x-max-length", self.max_length.map(|max| max as i64));
        add("x-max-length-bytes", self.max_bytes.map(|max| max as i64));
        add("x-delivery-limit", self.delivery_limit.map(i64::from));
        if self.delivery_limit.is_some() {
            arguments.push(("x-queue-type", string("quorum")));
        }
        let overflow = match self.overflow {
            Overflow::DropHead => "drop-head",
            Overflow::Reject => "reject-publish",
            Overflow::RejectDeadLetter => "reject-publish-dlx",
        };
        arguments.push(("x-overflow", string(overflow)));
        arguments.push(("x-dead-letter-exchange", string("")));
        arguments.push(("x-dead-letter-routing-key", string("dead")));
        let single_active = leveret_codec::AMQPValue::Boolean(self.single_active);
        arguments.push(("x-single-active-consumer", single_active));
        arguments
    }
}
