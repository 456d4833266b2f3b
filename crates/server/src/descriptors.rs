//! The limit of open files: raised to what the system permits, and shared out so that connections never take what the
//! store needs for its files.
//!
//! A connection has a place before it is accepted. There are as many places as the limit leaves beside a reserve and
//! whatever else the process has open; who comes when there is none waits in the kernel until a place is free.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::clock::Clock;

/// What the store may still open: this part of the limit …
const RESERVE_PART: usize = 4;
/// … but no less and no more than this.
const RESERVE_MIN: usize = 32;
const RESERVE_MAX: usize = 1024;
/// Assumed to be open where the system does not tell.
const OTHERS_UNTOLD: usize = 64;
/// How often at most it is counted what is open.
const COUNT_EVERY_MS: u64 = 1_000;
/// With a higher limit nobody counts again: that would take long, and files do not come near it.
const COUNTED_LIMIT_MAX: usize = 1 << 16;
/// How long it may go unnoticed that the limit was raised.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who has how many of them.
#[derive(Debug)]
pub(crate) struct Descriptors {
    clock: Clock,
    /// Places of connections that are taken.
    taken: AtomicUsize,
    /// Open, and no connection: files, listeners, what the runtime has.
    others: AtomicUsize,
    counted_at: AtomicU64,
    /// Somebody waits for a place, or did a moment ago.
    full: AtomicBool,
    /// With fewer places taken, that is over.
    again_below: AtomicUsize,
    freed: Notify,
}

/// A connection's place, given up by dropping it; to be dropped after the socket.
#[derive(Debug)]
pub(crate) struct FilePermit(Arc<Descriptors>);

/// What is open, and what may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescriptorFigures {
    pub(crate) open: usize,
    pub(crate) limit: usize,
    pub(crate) connections: usize,
    pub(crate) connections_max: usize,
}

/// How a limit is shared out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shares {
    connections: usize,
    reserve: usize,
}

impl Shares {
    fn of(limit: usize, others: usize) -> Self {
        let rest = limit.saturating_sub(others);
        let reserve = (limit / RESERVE_PART)
            .clamp(RESERVE_MIN, RESERVE_MAX)
            .min(rest / 2);
        Self {
            // With none at all, nobody could see what is wrong.
            connections: (rest - reserve).max(1),
            reserve,
        }
    }
}

impl Descriptors {
    /// Raises the limit to what the system permits, and counts what is open. To be called when the store is open.
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            limit.current = limit.maximum;
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                tracing::warn!(%error, "cannot raise the limit of open files");
            }
        }
        let descriptors = Arc::new(Self {
            clock,
            taken: AtomicUsize::new(0),
            others: AtomicUsize::new(0),
            counted_at: AtomicU64::new(0),
            full: AtomicBool::new(false),
            again_below: AtomicUsize::new(0),
            freed: Notify::new(),
        });
        descriptors.count();
        descriptors
    }

    /// Counts again and says how the limit is shared out; for when all is open that a start opens.
    pub(crate) fn tell(&self) {
        self.count();
        let limit = limit_now();
        let shares = self.shares(limit);
        tracing::info!(
            open_files_max = limit,
            connections_max = shares.connections,
            reserved = shares.reserve,
            "descriptors"
        );
    }

    /// What is open, and what may be; what others have open as it was counted last.
    pub(crate) fn figures(&self) -> DescriptorFigures {
        let limit = limit_now();
        let connections = self.taken.load(Ordering::Relaxed);
        DescriptorFigures {
            open: connections + self.others.load(Ordering::Relaxed),
            limit,
            connections,
            connections_max: self.shares(limit).connections,
        }
    }

    /// A place for one more connection; waits until there is one.
    pub(crate) async fn place(self: &Arc<Self>) -> FilePermit {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_take().await {
                return place;
            }
            if !self.full.swap(true, Ordering::SeqCst) {
                let limit = limit_now();
                let shares = self.shares(limit);
                tracing::warn!(
                    connections = self.taken.load(Ordering::Relaxed),
                    open_files_max = limit,
                    reserved = shares.reserve,
                    "no descriptors are left for more connections: those that come wait until others close; \
                     raise the limit of open files (ulimit -n, LimitNOFILE)"
                );
                // A place that was given up before that was said woke nobody.
                continue;
            }
            drop(tokio::time::timeout(LOOK_AGAIN, freed).await);
        }
    }

    async fn try_take(self: &Arc<Self>) -> Option<FilePermit> {
        let limit = limit_now();
        self.count_again(limit).await;
        let most = self.shares(limit).connections;
        // Not as soon as one place is free: it may be taken again at once.
        self.again_below.store(most - most / 16, Ordering::Relaxed);
        self.take(most)
    }

    fn take(self: &Arc<Self>, most: usize) -> Option<FilePermit> {
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(FilePermit(Arc::clone(self)))
    }

    fn shares(&self, limit: usize) -> Shares {
        Shares::of(limit, self.others.load(Ordering::Relaxed))
    }

    /// Counts anew what the store has open, if that may be close to the limit by now.
    async fn count_again(self: &Arc<Self>, limit: usize) {
        let open = self.taken.load(Ordering::Relaxed) + self.others.load(Ordering::Relaxed);
        let now = self.clock.now().0;
        let due = self.counted_at.load(Ordering::Relaxed) + COUNT_EVERY_MS <= now;
        if due && limit <= COUNTED_LIMIT_MAX && open >= limit / 2 {
            let counting = Arc::clone(self);
            drop(tokio::task::spawn_blocking(move || counting.count()).await);
        }
    }

    fn count(&self) {
        self.counted_at.store(self.clock.now().0, Ordering::Relaxed);
        let others = match fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is read.
            Ok(open) => open
                .count()
                .saturating_sub(self.taken.load(Ordering::Relaxed) + 1),
            Err(_) => OTHERS_UNTOLD,
        };
        self.others.store(others, Ordering::Relaxed);
    }
}

impl Drop for FilePermit {
    fn drop(&mut self) {
        let left = self.0.taken.fetch_sub(1, Ordering::SeqCst) - 1;
        if !self.0.full.load(Ordering::SeqCst) {
            return;
        }
        if left < self.0.again_below.load(Ordering::Relaxed)
            && self.0.full.swap(false, Ordering::SeqCst)
        {
            tracing::info!(connections = left, "connections are accepted again");
        }
        self.0.freed.notify_one();
    }
}

fn limit_now() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_always_left_for_the_store() {
        let of = |limit, others| {
            let shares = Shares::of(limit, others);
            (shares.connections, shares.reserve)
        };
        assert_eq!(of(1024, 24), (744, 256));
        assert_eq!(of(256, 26), (166, 64));
        assert_eq!(of(60, 40), (10, 10));
        assert_eq!(of(1 << 20, 30), ((1 << 20) - 30 - 1024, 1024));
        assert_eq!(of(50, 60), (1, 0));
        assert_eq!(of(usize::MAX, 30).1, 1024);
    }

    #[tokio::test]
    async fn who_comes_too_many_waits_for_a_place() {
        let descriptors = Descriptors::new(Clock::start());
        let (first, second) = (descriptors.take(2).unwrap(), descriptors.take(2).unwrap());
        assert!(descriptors.take(2).is_none());
        drop(first);
        assert!(descriptors.take(2).is_some());
        descriptors.full.store(true, Ordering::SeqCst);
        let freed = descriptors.freed.notified();
        drop(second);
        freed.await;
    }
}
