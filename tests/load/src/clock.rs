//! The one clock: monotonic nanoseconds, comparable between threads, and the kernel timer that ends waits on time.

use std::thread;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::error::Error;

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since some moment in the past.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// The same in seconds.
#[allow(clippy::cast_precision_loss, reason = "a figure to show")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Nanoseconds of so many seconds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "durations of a run"
)]
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Lets this thread wait; for the pauses of what measures, which has nothing to wait on.
#[allow(
    clippy::disallowed_methods,
    reason = "the generator's only pause; what it waits for has no event"
)]
pub(crate) fn pause(nanoseconds: u64) {
    thread::sleep(Duration::from_nanos(nanoseconds));
}

/// A timer that makes a file descriptor readable. Unlike the timeout of epoll, which counts milliseconds and is
/// rounded up, it is on time.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// One that is not set.
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Readable from `at` on, once.
    pub(crate) fn set(&self, at: u64) -> Result<(), Error> {
        let at = Timespec {
            tv_sec: i64::try_from(at / SECOND).unwrap_or(i64::MAX),
            // Zero in both would switch the timer off.
            tv_nsec: i64::try_from((at % SECOND).max(1)).unwrap_or(1),
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: at,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }

    /// What to wait on.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }
}
