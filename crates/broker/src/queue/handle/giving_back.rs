//! What comes back to a queue a part at a time.

use super::QueueHandle;
use crate::queue::effects::Effects;
use crate::time::Timestamp;

/// Somebody gives back to this queue and is not done. Meanwhile nothing goes out of it to consumers, nor for a length
/// limit: it would be what is back before what is not yet, and what was published in between.
pub(crate) struct GivingBack {
    queue: QueueHandle,
    is_done: bool,
}

impl GivingBack {
    pub(crate) fn begin(queue: &QueueHandle) -> GivingBack {
        queue.with(|machine, _| machine.begin_giving_back());
        GivingBack {
            queue: queue.clone(),
            is_done: false,
        }
    }

    /// All is back: the queue keeps its limits, and delivers, unless others are not done.
    pub(crate) fn finish(mut self, now: Timestamp) -> (QueueHandle, Effects) {
        self.is_done = true;
        let queue = self.queue.clone();
        let verb = |machine: &mut super::Machine, effects: &mut Effects| {
            machine.end_giving_back();
            machine.start(now, effects);
        };
        let ((), effects) = queue.at(now, verb);
        (queue, effects)
    }
}

impl Drop for GivingBack {
    fn drop(&mut self) {
        if !self.is_done {
            self.queue.with(|machine, _| machine.end_giving_back());
        }
    }
}
