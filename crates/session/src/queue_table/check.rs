//! See [`leveret_broker::check`].

use leveret_queue::check::Faults;
use rustc_hash::FxHashMap;

use super::{QueueNumber, QueueTable};

impl QueueTable {
    /// `uses`: how often each is named.
    pub(crate) fn check(&self, uses: &FxHashMap<QueueNumber, u32>, faults: &mut Faults) {
        for (number, row) in &self.rows {
            let number = QueueNumber(u32::try_from(number).unwrap_or(u32::MAX));
            let counted = uses.get(&number).copied().unwrap_or(0);
            faults.same("uses of a queue", row.uses, counted);
            faults.holds("a queue without uses has no number", row.uses > 0);
            faults.same("settlements that are gathered", row.settlements.len(), 0);
            let known = self.by_id.get(&row.queue.id()).copied();
            faults.same("the number of a queue", known, Some(number));
        }
        faults.same("queues", self.by_id.len(), self.rows.len());
        faults.count(self.rows.len());
    }
}
