//! What a publish says of those it is too fast for.

use leveret_broker::handle::QueueHandle;
use leveret_queue::queue::effects::Effects;
use leveret_store_api::CommitPoint;
use smallvec::SmallVec;

/// Whom a publisher may have to wait for.
pub(super) struct Pressure {
    /// A queue that is behind with delivering.
    pub(super) queue: Option<QueueHandle>,
    /// What the store has of it.
    pub(super) staged: CommitPoint,
    /// Queues whose dead letters are on their way.
    pub(super) letters: SmallVec<[QueueHandle; 1]>,
}

impl Pressure {
    pub(super) fn none() -> Pressure {
        Pressure {
            queue: None,
            staged: CommitPoint::NONE,
            letters: SmallVec::new(),
        }
    }

    /// A queue has taken what was published; these are the effects.
    #[inline]
    pub(super) fn add(&mut self, queue: &QueueHandle, effects: &Effects) {
        self.staged = self.staged.max(effects.point).max(effects.spilled);
        if effects.letters {
            self.letters.push(queue.clone());
        }
        if effects.hold_back {
            self.queue = Some(queue.clone());
        }
    }
}
