//! What comes back to a queue a part at a time.

use leveret_message::Timestamp;
use leveret_queue::queue::effects::Effects;
use leveret_queue::queue::machine::Machine;

use super::QueueHandle;

/// Somebody gives back to this queue and is not done. Meanwhile nothing goes out of it to consumers, nor for a length
/// limit: it would be what is back before what is not yet, and what was published in between. Only where clients give
/// back without end it goes on nevertheless, see `queue::givers`.
pub struct GivingBack {
    queue: QueueHandle,
    is_waited_for: bool,
}

impl GivingBack {
    /// From now on the queue waits for what comes back to it.
    pub fn begin(queue: &QueueHandle, now: Timestamp) -> GivingBack {
        let (is_waited_for, _) = queue.with(|machine, _| machine.begin_giving_back(now));
        GivingBack {
            queue: queue.clone(),
            is_waited_for,
        }
    }

    /// All is back: the queue keeps its limits, and delivers, unless others are not done.
    pub fn finish(mut self, now: Timestamp) -> (QueueHandle, Effects) {
        let was_waited_for = std::mem::take(&mut self.is_waited_for);
        let queue = self.queue.clone();
        let verb = |machine: &mut Machine, effects: &mut Effects| {
            if was_waited_for {
                machine.end_giving_back(now);
            }
            machine.start(now, effects);
        };
        let ((), effects) = queue.at(now, verb);
        (queue, effects)
    }
}

impl Drop for GivingBack {
    fn drop(&mut self) {
        if self.is_waited_for {
            self.queue
                .with(|machine, _| machine.end_giving_back(Timestamp::default()));
        }
    }
}
