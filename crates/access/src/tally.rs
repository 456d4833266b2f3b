//! Counting what is open against a limit: connections of a virtual host, connections and channels of
//! a user.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many of something are open.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Counts one more, until the answer is dropped.
    ///
    /// # Errors
    /// The limit, if it is reached.
    pub fn enter(self: &Arc<Self>, limit: Option<u64>) -> Result<Permit, u64> {
        let raise = |open: u64| {
            let full = limit.is_some_and(|limit| open >= limit);
            (!full).then_some(open + 1)
        };
        match self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, raise)
        {
            Ok(_) => Ok(Permit(Arc::clone(self))),
            Err(_) => Err(limit.unwrap_or_default()),
        }
    }

    /// How many are open.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One that is open.
#[derive(Debug)]
pub struct Permit(Arc<Tally>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_when_dropped() {
        let tally = Arc::new(Tally::default());
        let permit = tally.enter(Some(1)).unwrap();
        assert_eq!(tally.enter(Some(1)).unwrap_err(), 1);
        assert_eq!(tally.count(), 1);
        drop(permit);
        assert!(tally.enter(Some(1)).is_ok());
        assert_eq!(tally.enter(Some(0)).unwrap_err(), 0);
        assert!(tally.enter(None).is_ok());
    }
}
