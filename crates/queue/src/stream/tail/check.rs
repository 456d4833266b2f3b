//! See [`crate::check`].

use super::Tail;
use crate::check::Faults;

impl Tail {
    pub(crate) fn check(&self, faults: &mut Faults) {
        let memory = self.kept.iter().map(|kept| kept.message.memory_bytes());
        faults.same("memory of the tail", self.memory, memory.sum());
        let times = self.kept.iter().map(|kept| kept.time);
        faults.holds("times never go down", times.is_sorted());
        faults.rise(
            "what is staged",
            self.staged.iter().map(|staged| staged.until),
        );
        let staged = self.staged.back().map_or(self.visible, |last| last.until);
        faults.same("all is staged, or will be", staged, self.next());
        faults.count(self.kept.len());
    }
}
