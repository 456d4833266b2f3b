//! All open connections: how many there are, and how to tell them that the broker stops. Holds wakers only; what a
//! connection is belongs to its task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use slab::Slab;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The registry. It is locked when a connection comes, when it goes, and at shutdown; never in between.
#[derive(Default)]
pub(crate) struct Connections {
    tasks: TaskTracker,
    wakers: Mutex<Slab<Waker>>,
    shutting_down: AtomicBool,
}

/// One connection's place in the registry, given up by dropping it.
pub(crate) struct Member {
    connections: Arc<Connections>,
    place: usize,
    /// Counts it; goes last.
    _token: TaskTrackerToken,
}

impl Connections {
    /// Enters the task that `waker` wakes.
    pub(crate) fn join(self: &Arc<Self>, waker: &Waker) -> Member {
        Member {
            connections: Arc::clone(self),
            place: self.lock().insert(waker.clone()),
            _token: self.tasks.token(),
        }
    }

    /// Tells every connection, the ones to come included, that the broker stops.
    pub(crate) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        let wakers: Vec<Waker> = self.lock().iter().map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Returns once there are none. To be called when no more are to come.
    pub(crate) async fn emptied(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Whether the broker stops.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.connections.shutting_down.load(Ordering::Relaxed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut wakers = self.connections.lock();
        let waker = wakers.try_remove(self.place);
        if wakers.is_empty() {
            wakers.shrink_to_fit();
        }
        drop(wakers);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn members_hear_of_the_shutdown_and_are_waited_for() {
        let connections = Arc::new(Connections::default());
        connections.emptied().await;
        let (member, second) = (
            connections.join(Waker::noop()),
            connections.join(Waker::noop()),
        );
        assert!(!member.is_shutting_down());
        connections.shut_down();
        assert!(second.is_shutting_down());
        drop(member);
        assert_eq!(connections.count(), 1);
        let waiting = tokio::spawn(async move { connections.emptied().await });
        tokio::task::yield_now().await;
        drop(second);
        waiting.await.unwrap();
    }
}
