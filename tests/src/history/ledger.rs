//! The one list that all clients write to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Event, History, QueueFacts};

/// Takes down events in the order in which they happen, and gives out numbers.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queues: Vec<QueueFacts>,
    events: Mutex<Vec<Event>>,
    next: AtomicU64,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new(queues: Vec<QueueFacts>) -> Self {
        Self(Arc::new(Shared {
            queues,
            events: Mutex::default(),
            next: AtomicU64::new(1),
        }))
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        // A client that panicked has noted nothing by halves.
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happens now.
    pub fn note(&self, event: Event) {
        self.events().push(event);
    }

    /// A number that was never given out.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events().len()
    }

    /// Nothing has happened yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The queues it knows.
    #[must_use]
    pub fn queues(&self) -> &[QueueFacts] {
        &self.0.queues
    }

    /// What has happened so far, to be judged.
    #[must_use]
    pub fn history(&self) -> History {
        History {
            queues: self.0.queues.clone(),
            events: self.events().clone(),
        }
    }
}
