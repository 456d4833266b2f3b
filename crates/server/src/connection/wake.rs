//! The waker a session is given: it remembers that it was the session that woke the task, not the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Wakes the connection's task once for any number of wakes between two turns.
pub(super) struct SessionWake {
    woken: AtomicBool,
    task: Waker,
}

impl SessionWake {
    /// `task` must stay the task's waker for good, as a spawned task's does.
    pub(super) fn new(task: Waker) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(false),
            task,
        })
    }

    /// Whether it was woken since the last call.
    pub(super) fn take(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for SessionWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn many_wakes_between_two_turns_wake_the_task_once() {
        let count = Arc::new(Count::default());
        let wake = SessionWake::new(Arc::clone(&count).into());
        let waker = Waker::from(Arc::clone(&wake));
        assert!(!wake.take());
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(wake.take());
        assert!(!wake.take());
        waker.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
