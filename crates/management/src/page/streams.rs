//! The streams that are open, within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Streams at a time, of all tabs.
const STREAMS_MAX: usize = 64;

/// How many are open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Arc<AtomicUsize>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Streams {
    /// Whether none is open.
    pub(crate) fn are_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Room for one more; None: too many are open.
    pub(crate) fn take(&self) -> Option<Place> {
        let more = |open| (open < STREAMS_MAX).then_some(open + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Place(Arc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_makes_room() {
        let streams = Streams::default();
        let mut open: Vec<Place> = (0..STREAMS_MAX).filter_map(|_| streams.take()).collect();
        assert!(open.len() == STREAMS_MAX && streams.take().is_none());
        open.pop();
        assert!(streams.take().is_some());
    }
}
