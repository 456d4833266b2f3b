//! What happens to a queue.

use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Publish {
        count: u8,
        priority: u8,
        ttl_ms: Option<u8>,
        persistent: bool,
    },
    Consume {
        channel: u16,
        prefetch: u16,
    },
    Cancel {
        channel: u16,
    },
    CloseChannel {
        channel: u16,
    },
    /// One of the channel's deliveries, by its place among them.
    Settle {
        channel: u16,
        place: usize,
        multiple: bool,
        fate: Fate,
    },
    Get,
    Recover {
        channel: u16,
    },
    Purge,
    Pass {
        milliseconds: u64,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Ack,
    Requeue,
    Reject,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![3 => Just(Fate::Ack), 3 => Just(Fate::Requeue), 1 => Just(Fate::Reject)];
    let ttl = proptest::option::weighted(0.2, 0u8..40);
    prop_oneof![
        8 => (1u8..6, 0u8..5, ttl, any::<bool>()).prop_map(|(count, priority, ttl_ms, persistent)| {
            Step::Publish { count, priority, ttl_ms, persistent }
        }),
        3 => (1u16..4, 0u16..4).prop_map(|(channel, prefetch)| Step::Consume { channel, prefetch }),
        1 => (1u16..4).prop_map(|channel| Step::Cancel { channel }),
        1 => (1u16..5).prop_map(|channel| Step::CloseChannel { channel }),
        8 => (1u16..5, any::<usize>(), any::<bool>(), fate).prop_map(|(channel, place, multiple, fate)| {
            Step::Settle { channel, place, multiple, fate }
        }),
        4 => Just(Step::Get),
        1 => (1u16..5).prop_map(|channel| Step::Recover { channel }),
        1 => Just(Step::Purge),
        3 => (0u64..30).prop_map(|milliseconds| Step::Pass { milliseconds }),
    ]
}
