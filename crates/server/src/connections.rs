//! All open connections: how many there are, and how to tell them that the broker stops. Holds wakers only; what a
//! connection is belongs to its task.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;

/// The registry. It is locked when a connection comes, when it goes, and at shutdown; never in between.
#[derive(Default)]
pub(crate) struct Connections {
    tasks: Mutex<Tasks>,
    shutting_down: AtomicBool,
    emptied: Notify,
}

#[derive(Default)]
struct Tasks {
    wakers: HashMap<u64, Waker>,
    next: u64,
}

/// One connection's place in the registry, given up by dropping it.
pub(crate) struct Member {
    connections: Arc<Connections>,
    id: u64,
}

impl Connections {
    /// Enters the task that `waker` wakes.
    pub(crate) fn join(self: &Arc<Self>, waker: &Waker) -> Member {
        let mut tasks = self.lock();
        let id = tasks.next;
        tasks.next += 1;
        tasks.wakers.insert(id, waker.clone());
        Member {
            connections: Arc::clone(self),
            id,
        }
    }

    /// Tells every connection, the ones to come included, that the broker stops.
    pub(crate) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        let wakers: Vec<Waker> = self.lock().wakers.values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().wakers.len()
    }

    /// Returns once there are none.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut tasks = self.connections.lock();
        let waker = tasks.wakers.remove(&self.id);
        if tasks.wakers.is_empty() {
            tasks.wakers.shrink_to_fit();
            self.connections.emptied.notify_waiters();
        }
        drop(tasks);
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
