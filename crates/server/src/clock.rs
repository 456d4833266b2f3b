//! The only place that reads a clock.
//!
//! The wall clock is read once, at start; from then on time runs with the monotonic clock. A step of the system's time
//! (by an administrator or at boot) therefore neither expires messages nor cuts connections.
//!
//! Late is allowed, early never. A moment lies between two milliseconds: what is due is judged by the earlier one
//! ([`Clock::now`]), and what begins, begins with the later one ([`Clock::after_now`]).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret_message::Timestamp;

/// Tells the time in milliseconds since the Unix epoch. A reading costs some 20 ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    epoch_ms: u64,
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else is told to ask"
)]
impl Clock {
    /// Sets the clock by the system's time.
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            started: Instant::now(),
            epoch_ms: milliseconds(since_epoch),
        }
    }

    /// What time it is, rounded down: the time for all that has been waited for. Never goes backwards.
    pub(crate) fn now(&self) -> Timestamp {
        self.after(milliseconds(self.started.elapsed()))
    }

    /// What time it is, rounded up: the time for what is done now and waits from now on. To be asked when that is at
    /// hand, after the bytes were read.
    pub(crate) fn after_now(&self) -> Timestamp {
        self.after(milliseconds_begun(self.started.elapsed()))
    }

    fn after(&self, milliseconds: u64) -> Timestamp {
        Timestamp(self.epoch_ms.saturating_add(milliseconds))
    }
}

fn milliseconds_begun(duration: Duration) -> u64 {
    let begun = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(begun).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_in_a_millisecond_begins_with_the_next() {
        for (nanoseconds, passed, begun) in [
            (0, 0, 0),
            (1, 0, 1),
            (999_999, 0, 1),
            (1_000_000, 1, 1),
            (1_000_001, 1, 2),
        ] {
            let elapsed = Duration::from_nanos(nanoseconds);
            assert_eq!(
                (milliseconds(elapsed), milliseconds_begun(elapsed)),
                (passed, begun),
                "{nanoseconds} ns"
            );
        }
    }
}
