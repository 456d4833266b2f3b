//! See [`crate::check`].

use leveret_store_api::Sequence;

use super::Returned;
use crate::check::Faults;
use crate::queue::ready::check::Counted;
use crate::queue::ready::memory_of;

impl Returned {
    pub(in crate::queue::ready) fn check(&self, faults: &mut Faults, counted: &mut Counted) {
        for entry in self.entries.values() {
            counted.add(entry);
        }
        faults.count(self.entries.len() + self.runs.len());
        faults.same(
            "memory of what came back",
            self.memory,
            memory_of(self.entries.values()),
        );
        faults.same(
            "what came back and is stored",
            self.stored as u64,
            counted.stored,
        );
        let mut end = 0;
        for (first, run) in &self.runs {
            counted.add_unread(run.length, run.memory, run.body_bytes);
            faults.holds(
                "runs have messages, and none in common",
                run.length > 0 && end <= first.0,
            );
            end = first.0 + run.length;
            let both = self.entries.range(*first..Sequence(end)).next();
            faults.holds("what is in memory is in no run", both.is_none());
        }
        faults.holds(
            "what is not staged is to leave",
            self.unstaged <= self.leaving.len(),
        );
    }

    /// Those of which only the store has the bytes.
    pub(in crate::queue::ready) fn on_disk(&self) -> impl Iterator<Item = Sequence> {
        let places = |(first, run): (&Sequence, &super::Run)| first.0..first.0 + run.length;
        self.runs.iter().flat_map(places).map(Sequence)
    }
}
