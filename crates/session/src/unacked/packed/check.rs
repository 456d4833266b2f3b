//! See [`leveret_broker::check`].

use leveret_store_api::Sequence;

use super::Packed;
use crate::unacked::check::Each;

impl Packed {
    /// How many deliveries there are, and how much memory they have.
    pub(in crate::unacked) fn check(&self) -> (usize, usize) {
        let memory = self.others.values().map(|it| it.delivery.memory());
        let count = self.places.iter().flatten().count() + self.others.len();
        (count, memory.sum())
    }

    pub(in crate::unacked) fn each(&self, each: &mut Each<'_>) {
        for place in self.places.iter().flatten() {
            if let Some((facts, first)) = self.facts_of(*place) {
                let sequence = Sequence(first.0 + u64::from(place.beyond));
                let stood = (facts.level, sequence, facts.stored);
                each(facts.queue, facts.consumer, stood);
            }
        }
        for unacked in self.others.values() {
            each(unacked.queue, unacked.consumer, unacked.delivery.place());
        }
    }
}
