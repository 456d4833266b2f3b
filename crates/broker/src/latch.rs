//! What keeps a gate shut between the slices of something large: a transaction, a message for very many queues, a history
//! that goes to whoever has bound.
//!
//! A gate's lock is held within a step only. Whoever goes on in the next step leaves the latch on, and everybody else who
//! locks the gate sees it, lets go at once and comes back when the latch is off.

use std::task::Waker;

use leveret_queue::queue::hidden::HiddenTicket;

/// The latch of one gate. Whoever looks at it has the gate locked.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    by: Option<HiddenTicket>,
    waiting: Vec<Waker>,
}

impl Latch {
    /// Whether nobody has put it on.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        self.by.is_none()
    }

    /// As [`Latch::is_off`]; if it is on, `waker` is woken when it is off.
    #[inline]
    pub(crate) fn is_off_for(&mut self, waker: &Waker) -> bool {
        if self.is_off() {
            return true;
        }
        if !self.waiting.iter().any(|it| it.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
        false
    }

    /// Nobody else gets in until it is off.
    pub(crate) fn put_on(&mut self, ticket: HiddenTicket) {
        debug_assert!(self.is_off(), "a gate is shut by one at a time");
        self.by = Some(ticket);
    }

    /// Answers who is to be woken, once the gate is unlocked.
    pub(crate) fn take_off(&mut self, ticket: HiddenTicket) -> Vec<Waker> {
        debug_assert_eq!(self.by, Some(ticket), "who shut a gate opens it");
        self.by = None;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_finds_it_on_is_woken_once_when_it_is_off() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut latch = Latch::default();
        assert!(latch.is_off_for(&waker));
        latch.put_on(HiddenTicket(1));
        for _ in 0..3 {
            assert!(!latch.is_off_for(&waker));
        }
        let woken = latch.take_off(HiddenTicket(1));
        assert!(latch.is_off_for(&waker));
        woken.into_iter().for_each(Waker::wake);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        latch.put_on(HiddenTicket(2));
        assert!(latch.take_off(HiddenTicket(2)).is_empty());
    }
}
