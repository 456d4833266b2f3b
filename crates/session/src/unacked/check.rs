//! See [`leveret_broker::check`].

use leveret_queue::check::Faults;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_store_api::Sequence;

use super::{AT_HAND_MAX, Ledger};
use crate::queue_table::QueueNumber;

/// A delivery: of which queue, to whom, and where it stood there.
pub(crate) type Each<'a> = dyn FnMut(QueueNumber, Option<ConsumerRef>, (u8, Sequence, bool)) + 'a;

impl Ledger {
    pub(crate) fn check(&self, faults: &mut Faults) {
        self.older.check(faults);
        for (place, entry) in self.entries.iter().enumerate() {
            if let Some(unacked) = entry {
                faults.same("tag", unacked.tag, self.first_tag.plus(place));
            }
        }
        faults.count(self.entries.len());
        faults.holds("so many are at hand", self.entries.len() <= AT_HAND_MAX);
        faults.holds(
            "older ones have lower tags",
            self.entries.is_empty() || self.older.is_before(self.first_tag),
        );
        faults.holds(
            "settled ones at the front are passed over",
            self.entries.front().is_none_or(Option::is_some),
        );
    }

    pub(crate) fn each(&self, each: &mut Each<'_>) {
        self.older.each(each);
        for unacked in self.entries.iter().flatten() {
            let it = &unacked.delivery;
            each(
                unacked.queue,
                unacked.consumer,
                (it.level, it.sequence, it.stored),
            );
        }
    }
}
