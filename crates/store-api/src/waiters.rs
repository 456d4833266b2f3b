//! Who waits for which commit point. Owns the wakers; wakes without holding a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::CommitPoint;

/// The durable point of a store and those who wait for it to move.
#[derive(Debug, Default)]
pub struct Waiters {
    durable: AtomicU64,
    waiting: Mutex<Vec<(CommitPoint, Waker)>>,
}

impl Waiters {
    /// See [`MessageLog::durable_point`](crate::MessageLog::durable_point).
    pub fn durable_point(&self) -> CommitPoint {
        CommitPoint(self.durable.load(Ordering::Acquire))
    }

    /// See [`MessageLog::wake_at`](crate::MessageLog::wake_at).
    pub fn wake_at(&self, point: CommitPoint, waker: &Waker) -> bool {
        if self.durable_point() >= point {
            return false;
        }
        let mut waiting = self.waiting.lock();
        // The point may have moved before the lock was taken; afterwards `advance` sees the entry.
        if self.durable_point() >= point {
            return false;
        }
        waiting.push((point, waker.clone()));
        true
    }

    /// Moves the durable point up to `point` and wakes those it has reached.
    pub fn advance(&self, point: CommitPoint) {
        self.durable.fetch_max(point.0, Ordering::AcqRel);
        let mut reached: Vec<Waker> = Vec::new();
        self.waiting.lock().retain(|(wanted, waker)| {
            if *wanted > point {
                return true;
            }
            // A connection often waits for several points of one group: one wake is enough.
            if !reached.last().is_some_and(|last| last.will_wake(waker)) {
                reached.push(waker.clone());
            }
            false
        });
        for waker in reached {
            waker.wake();
        }
    }
}
