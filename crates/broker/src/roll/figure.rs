//! Numbers that one task changes and others read.

use std::sync::atomic::{AtomicU64, Ordering};

use leveret_message::Timestamp;

/// A number that its owner alone changes: to add to it costs no more than to add to any other.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Adds to it. For its owner.
    #[inline]
    pub fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Takes from it. For its owner.
    #[inline]
    pub fn subtract(&self, count: u64) {
        let before = self.get();
        debug_assert!(before >= count, "{before} - {count}");
        self.set(before.saturating_sub(count));
    }

    /// Sets it. For its owner.
    #[inline]
    pub fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    /// What it is.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What it is, as a time.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp(self.get())
    }
}
