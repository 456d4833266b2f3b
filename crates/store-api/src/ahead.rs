//! What a caller holds of a payload that is written ahead. Owns no bytes.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether there is nothing left to wait for; set by the store.
#[derive(Debug, Default)]
pub struct Done(AtomicBool);

impl Done {
    /// There is nothing left.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A large payload on its way to the disk, ahead of the change that will enqueue it: see
/// [`MessageLog::write_ahead`](crate::MessageLog::write_ahead). Dropping it gives back what was written
/// and not used.
pub struct WriteAhead {
    done: Arc<Done>,
    _claim: Box<dyn Any + Send + Sync>,
}

impl WriteAhead {
    /// For a store: what it keeps in `claim` goes when this does.
    #[must_use]
    pub fn new(done: Arc<Done>, claim: Box<dyn Any + Send + Sync>) -> Self {
        WriteAhead {
            done,
            _claim: claim,
        }
    }

    /// There is nothing more to wait for: it is written, or cannot be written ahead.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.0.load(Ordering::Acquire)
    }
}

impl fmt::Debug for WriteAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteAhead(done: {})", self.is_done())
    }
}
