//! See [`leveret_broker::check`].

use leveret_queue::check::Faults;
use rustc_hash::FxHashMap;

use super::{QueueNumber, QueueTable};

impl QueueTable {
    /// `uses`: how often each is named.
    pub(crate) fn check(&self, uses: &FxHashMap<QueueNumber, u32>, faults: &mut Faults) {
        let numbers = (0u32..).map(QueueNumber);
        for (number, row) in numbers.zip(&self.rows) {
            let counted = uses.get(&number).copied().unwrap_or(0);
            faults.same(
                "uses of a queue",
                row.as_ref().map_or(0, |row| row.uses),
                counted,
            );
            let Some(row) = row else { continue };
            faults.holds("a queue without uses has no number", row.uses > 0);
            faults.same("settlements that are gathered", row.settlements.len(), 0);
            let known = self.by_id.get(&row.queue.id()).copied();
            faults.same("the number of a queue", known, Some(number));
        }
        faults.same(
            "queues",
            self.by_id.len() + self.free.len(),
            self.rows.len(),
        );
        faults.count(self.rows.len());
    }
}
