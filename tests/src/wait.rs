//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

#[allow(
    clippy::disallowed_methods,
    reason = "black-box tests run in real time"
)]
impl Stopwatch {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks `condition` again and again until it answers, for at most `patience`.
#[allow(
    clippy::disallowed_methods,
    reason = "the pause between two looks of a poll with a deadline"
)]
pub fn eventually<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let waited = Stopwatch::start();
    loop {
        let answer = condition();
        if answer.is_some() || waited.elapsed() > patience {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
