//! See [`crate::check`].

use rustc_hash::FxHashMap;

use super::{ConsumerRef, Position, Readers};
use crate::check::Faults;

impl Readers {
    /// `next`: the offset behind the last message.
    pub(crate) fn check(&self, next: u64, faults: &mut Faults) {
        let mut order: Vec<u32> = self.order.values().copied().collect();
        order.sort_unstable();
        let indices = (0u32..).zip(&self.places);
        let there = indices.filter(|(_, place)| place.reader.is_some());
        let there: Vec<u32> = there.map(|(index, _)| index).collect();
        faults.same("readers in order", order, there);
        faults.holds(
            "the active one is there",
            self.active.is_none_or(|index| self.get(index).is_some()),
        );
        for reader in self.iter() {
            let limit = u32::from(reader.spec.prefetch);
            faults.holds("prefetch", limit == 0 || reader.in_flight <= limit);
            if self.single_active {
                let unsettled = reader.unsettled.len();
                faults.same("unsettled", unsettled, reader.in_flight as usize);
            }
            faults.holds(
                "what was read is kept for a place in it",
                reader.place == 0 || !reader.pages.is_empty(),
            );
            if let Position::At(offset) = reader.position {
                faults.holds("a reader is not past the end", offset <= next);
            }
        }
    }

    /// What each of them holds.
    pub(crate) fn in_flight(&self) -> FxHashMap<ConsumerRef, u32> {
        let there = (0u32..).filter_map(|index| Some((self.reference(index), self.get(index)?)));
        let there = there.take(self.count());
        there.map(|(who, reader)| (who, reader.in_flight)).collect()
    }
}
