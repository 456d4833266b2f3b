//! The only place of this crate that reads a clock or sleeps: pacing of the commit thread.

use std::time::{Duration, Instant};

/// Now, for measuring how long ago something was.
#[allow(
    clippy::disallowed_methods,
    reason = "the store's own threads pace themselves; nothing of it reaches a result"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets the next group gather for `gap`, or another thread come to its end.
#[allow(
    clippy::disallowed_methods,
    reason = "a deliberate gap between two commits, or between two looks of a poll with a deadline"
)]
pub(crate) fn pause(gap: Duration) {
    std::thread::sleep(gap);
}
