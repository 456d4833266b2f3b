//! See [`leveret_broker::check`].

use leveret_queue::check::Faults;

use super::{Block, Places};
use crate::unacked::check::Each;

impl Block {
    /// Answers how many deliveries it has, and how much memory they have.
    pub(in crate::unacked) fn check(&self, faults: &mut Faults) -> (usize, usize) {
        let (count, memory) = match &self.places {
            Places::Whole(places) => {
                let memory = places.iter().flatten().map(|it| it.delivery.memory());
                (places.iter().flatten().count(), memory.sum())
            }
            Places::Packed(packed) => packed.check(),
            Places::Empty(_) => (0, 0),
        };
        faults.same("deliveries of a block", self.count, count);
        faults.same("memory of a block", self.memory, memory);
        (count, memory)
    }

    pub(in crate::unacked) fn each(&self, each: &mut Each<'_>) {
        match &self.places {
            Places::Whole(places) => {
                for unacked in places.iter().flatten() {
                    each(unacked.queue, unacked.consumer, unacked.delivery.place());
                }
            }
            Places::Packed(packed) => packed.each(each),
            Places::Empty(_) => {}
        }
    }
}
