//! Memory that many may use, up to a bound for all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is left for all of them.
#[derive(Debug)]
pub struct Budget(AtomicUsize);

impl Budget {
    /// So many bytes for all.
    pub fn new(bytes: usize) -> Budget {
        Budget(AtomicUsize::new(bytes))
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one of them has taken. It goes back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    taken: usize,
}

impl Share {
    /// Nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Share {
        Share {
            budget: Arc::clone(budget),
            taken: 0,
        }
    }

    /// How many bytes it has.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Takes so many bytes more, if that many are left.
    pub fn take(&mut self, bytes: usize) -> bool {
        let lower = |left: usize| left.checked_sub(bytes);
        let Budget(left) = &*self.budget;
        let taken = left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower)
            .is_ok();
        if taken {
            self.taken += bytes;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_taken_the_others_do_without_until_it_goes_back() {
        let budget = Arc::new(Budget::new(10));
        let mut one = Share::new(&budget);
        let mut other = Share::new(&budget);
        assert!(one.take(6));
        assert!(!other.take(5));
        assert_eq!((one.taken(), other.taken()), (6, 0));
        assert!(other.take(4));
        assert_eq!(budget.left(), 0);
        drop(one);
        assert!(other.take(5));
        drop(other);
        assert_eq!(budget.left(), 10);
    }
}
