//! See [`crate::check`].

use super::Stream;
use crate::check::{Faults, OfQueue};

impl Stream {
    /// `held`: what sessions have of its messages; `is_whole`: nobody is at work.
    pub fn check(&self, held: &OfQueue, is_whole: bool, faults: &mut Faults) {
        if self.deleted {
            return;
        }
        faults.same("changes that are not staged", self.changes.len(), 0);
        let (first, next) = (self.segments.first(), self.tail.next());
        faults.holds(
            "a stream begins before what is in memory, and ends with it",
            first <= self.tail.first()
                && self.tail.first() <= self.tail.visible()
                && self.tail.visible() <= next,
        );
        self.segments.check(next, faults);
        self.tail.check(faults);
        self.readers.check(next, faults);
        faults.holds("nothing is granted between verbs", self.grant.is_none());
        if is_whole {
            for (reader, in_flight) in self.readers.in_flight() {
                let counted = held.by_consumer.get(&reader).copied().unwrap_or(0);
                faults.same("in flight to a reader", in_flight, counted);
            }
        }
    }
}
