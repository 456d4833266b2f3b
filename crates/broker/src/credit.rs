//! The prefetch limit that the consumers of one channel share (`basic.qos` with `global`).
//!
//! Taken by queues while they dispatch, given back when deliveries are settled. A leaf of the lock
//! order: it is an atomic, never a lock.

use std::sync::atomic::{AtomicU32, Ordering};

/// Deliveries a channel may have unacknowledged over all its consumers.
#[derive(Debug, Default)]
pub struct ChannelCredit {
    /// 0: no limit.
    limit: AtomicU32,
    in_flight: AtomicU32,
}

impl ChannelCredit {
    /// Changes the limit; 0 takes it away.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The limit in force; 0 for none.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes room for one delivery; false when the channel is full.
    pub fn take(&self) -> bool {
        let limit = self.limit();
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_flight| {
                (limit == 0 || in_flight < limit).then_some(in_flight + 1)
            })
            .is_ok()
    }

    /// Gives back room for `count` deliveries; true when the channel was full before.
    pub fn give_back(&self, count: u32) -> bool {
        let before = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| {
                Some(n.saturating_sub(count))
            })
            .unwrap_or_else(|n| n);
        let limit = self.limit();
        limit != 0 && before >= limit
    }
}
