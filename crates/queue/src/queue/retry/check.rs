//! See [`crate::check`].

use leveret_store_api::Sequence;

use super::{Retries, Waiting};
use crate::check::Faults;

impl Retries {
    pub(crate) fn check(&self, faults: &mut Faults) {
        let due = self.due.iter();
        let due =
            due.map(|(&(level, sequence), (due, waiting))| ((*due, level, sequence), waiting));
        let waiting = self
            .waiting
            .iter()
            .map(|(&place, waiting)| (place, waiting));
        let (mut memory, mut leaving) = (0, 0);
        for (place, waiting) in waiting.chain(due) {
            let Waiting::InMemory(in_flight, number) = waiting else {
                continue;
            };
            memory += in_flight.message.memory_bytes();
            if let Some(number) = number {
                leaving += 1;
                let known = self.leaving.get(number).map(|(_, place)| *place);
                faults.same("where one stands that is to leave", known, Some(place));
            }
        }
        faults.count(self.waiting.len() + self.due.len());
        faults.same("memory of retries", self.memory, memory);
        faults.same(
            "retries that are to leave memory",
            self.leaving.len(),
            leaving,
        );
        faults.holds(
            "what is staged has a number",
            self.staged_below <= self.next,
        );
    }

    /// Where all stand.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u8, Sequence)> {
        let waiting = self
            .waiting
            .keys()
            .map(|&(_, level, sequence)| (level, sequence));
        waiting.chain(self.due.keys().copied())
    }

    /// How many of a level the store has.
    pub(crate) fn stored(&self, number: u8) -> u64 {
        let waiting = self.waiting.iter().map(|((_, level, _), it)| (*level, it));
        let due = self.due.iter().map(|((level, _), (_, it))| (*level, it));
        let of_level = waiting.chain(due).filter(|(level, _)| *level == number);
        let stored = of_level.filter(|(_, waiting)| match waiting {
            Waiting::InMemory(in_flight, _) => in_flight.stored,
            Waiting::OnDisk(_) => true,
        });
        stored.count() as u64
    }
}
