//! The only place that reads a clock.
//!
//! The wall clock is read once, at start; from then on time runs with the monotonic clock. A step of the system's time
//! (by an administrator or at boot) therefore neither expires messages nor cuts connections.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret_broker::Timestamp;

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

    /// What time it is. Never goes backwards.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(
            self.epoch_ms
                .saturating_add(milliseconds(self.started.elapsed())),
        )
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
