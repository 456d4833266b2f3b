//! Time as the broker knows it: a number handed in by the caller. Nothing here reads a clock.

use std::ops::{Add, Sub};

/// Milliseconds since the Unix epoch, always an argument.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// A moment that never comes; for "no deadline" inside ordered structures.
    pub const NEVER: Timestamp = Timestamp(u64::MAX);

    /// Whole seconds since the Unix epoch, as AMQP timestamps count.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The first multiple of `step_ms` that is not before it. Deadlines that need not be exact are put there, so that
    /// many of them are one moment.
    #[must_use]
    pub fn round_up(self, step_ms: u64) -> Timestamp {
        Timestamp(self.0.checked_next_multiple_of(step_ms).unwrap_or(u64::MAX))
    }
}

impl Add<u64> for Timestamp {
    type Output = Timestamp;
    fn add(self, milliseconds: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(milliseconds))
    }
}

impl Sub for Timestamp {
    type Output = u64;
    fn sub(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
