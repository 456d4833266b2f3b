//! The ledger of a channel: deliveries that were sent and are not settled.
//!
//! Tags rise by one per delivery; those of deliveries that need no acknowledgement are missing.

mod older;

use std::collections::VecDeque;

use older::Older;

use super::queue_table::QueueNumber;
use crate::mailbox::InFlight;
use crate::queue::consumers::ConsumerRef;
use crate::queue::handle::{Outcome, QueueSettlement};
use crate::time::Timestamp;

/// One delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) tag: u64,
    pub(super) in_flight: InFlight,
    pub(super) queue: QueueNumber,
    /// None after `basic.get`.
    pub(super) consumer: Option<ConsumerRef>,
    /// When it was delivered.
    pub(super) delivered_at: Timestamp,
    /// When it must be settled at the latest (`x-consumer-timeout`).
    pub(super) due: Timestamp,
}

impl Unacked {
    /// What its queue is to be told.
    pub(super) fn settled(self, outcome: Outcome) -> QueueSettlement {
        QueueSettlement {
            in_flight: self.in_flight,
            consumer: self.consumer,
            outcome,
            delivered_at: self.delivered_at,
        }
    }
}

/// So many tags are at hand; those before them are older ones.
const AT_HAND_MAX: usize = 8192;
/// So many become older ones together.
const AGED: usize = 4096;

/// Rising by tag; settled ones leave a gap until everything before them is settled too.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    older: Older,
    entries: VecDeque<Option<Unacked>>,
    /// The tag of each place: places are contiguous, so the first one's tag says all. All older ones are before it.
    first_tag: u64,
    /// The shortest time that any delivery so far was given.
    shortest_ms: Option<u64>,
}

impl Ledger {
    /// Inlined, so that the delivery is written where it stays.
    #[inline(always)]
    pub(super) fn push(&mut self, unacked: Unacked) {
        if self.entries.is_empty() {
            self.first_tag = unacked.tag;
        }
        // Tags in between belong to deliveries without acknowledgement.
        while self.first_tag + (self.entries.len() as u64) < unacked.tag {
            self.entries.push_back(None);
        }
        if unacked.due != Timestamp::NEVER {
            let given = unacked.due - unacked.delivered_at;
            self.shortest_ms = Some(self.shortest_ms.map_or(given, |least| least.min(given)));
        }
        self.entries.push_back(Some(unacked));
        if self.entries.len() > AT_HAND_MAX {
            self.age();
        }
    }

    #[cold]
    fn age(&mut self) {
        for unacked in self.entries.drain(..AGED).flatten() {
            self.older.push(unacked);
        }
        self.first_tag += AGED as u64;
    }

    /// The delivery that must be settled first of all. Where all are given the same time that is the
    /// oldest, and no other is looked at.
    pub(super) fn earliest_due(&self) -> Option<&Unacked> {
        let shortest_ms = self.shortest_ms?;
        let mut earliest: Option<&Unacked> = None;
        for unacked in self.older.iter().chain(self.entries.iter().flatten()) {
            let due = earliest.map_or(Timestamp::NEVER, |earliest| earliest.due);
            if due <= unacked.delivered_at + shortest_ms {
                break;
            }
            if unacked.due < due {
                earliest = Some(unacked);
            }
        }
        earliest
    }

    /// Takes out deliveries to one consumer of one queue, oldest first: of `most` tags, the first of which is
    /// `from`. Answers the tag to go on with.
    pub(super) fn take_of_consumer(
        &mut self,
        queue: QueueNumber,
        consumer: ConsumerRef,
        from: u64,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> Option<u64> {
        if self.older.reaches(from) {
            let older = &mut self.older;
            let next = older.take_of_consumer(queue, consumer, from, most, each);
            return next.or_else(|| (!self.entries.is_empty()).then_some(self.first_tag));
        }
        let from = from.max(self.first_tag);
        let start = usize::try_from(from - self.first_tag).unwrap_or(usize::MAX);
        let end = start.saturating_add(most);
        let ends = end >= self.entries.len();
        let end = end.min(self.entries.len());
        for entry in self.entries.range_mut(start.min(end)..end) {
            let theirs = |it: &mut Unacked| it.queue == queue && it.consumer == Some(consumer);
            if let Some(unacked) = entry.take_if(theirs) {
                each(unacked);
            }
        }
        self.trim();
        (!ends).then_some(from + most as u64)
    }

    /// Takes out one delivery.
    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        if self.older.reaches(tag) {
            return self.older.take(tag);
        }
        let place = usize::try_from(tag.checked_sub(self.first_tag)?).ok()?;
        let unacked = self.entries.get_mut(place)?.take()?;
        self.trim();
        Some(unacked)
    }

    /// Whether `tag` is in the ledger.
    pub(super) fn contains(&self, tag: u64) -> bool {
        if self.older.reaches(tag) {
            return self.older.contains(tag);
        }
        let place = tag
            .checked_sub(self.first_tag)
            .and_then(|place| usize::try_from(place).ok());
        place
            .and_then(|place| self.entries.get(place))
            .is_some_and(Option::is_some)
    }

    /// Takes out what is up to and including `tag`, oldest first, of at most `most` tags. Answers whether
    /// there is more of it.
    pub(super) fn take_some(
        &mut self,
        tag: u64,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> bool {
        if self.older.count() > 0 {
            let more = self.older.take_some(tag, most, each);
            return more || (!self.entries.is_empty() && self.first_tag <= tag);
        }
        for _ in 0..most {
            if self.first_tag > tag {
                break;
            }
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.first_tag += 1;
            if let Some(unacked) = entry {
                each(unacked);
            }
        }
        self.trim();
        !self.entries.is_empty() && self.first_tag <= tag
    }

    /// Puts back what a transaction took out and did not settle. Called in the order of tags.
    pub(super) fn put_back(&mut self, unacked: Unacked) {
        let is_older = if self.entries.is_empty() {
            self.older.reaches(unacked.tag)
        } else {
            unacked.tag < self.first_tag
        };
        if is_older {
            self.older.put_back(unacked);
            return;
        }
        if self.entries.is_empty() {
            self.push_again(unacked);
            return;
        }
        let place = usize::try_from(unacked.tag - self.first_tag).unwrap_or(usize::MAX);
        match self.entries.get_mut(place) {
            Some(entry) => *entry = Some(unacked),
            None => self.push_again(unacked),
        }
    }

    #[cold]
    fn push_again(&mut self, unacked: Unacked) {
        self.push(unacked);
    }

    /// Passes over settled ones at the front.
    fn trim(&mut self) {
        const KEPT: usize = 1024;
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first_tag += 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use leveret_codec::{ContentHeader, write_names};
    use leveret_store::Sequence;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Body, Message, MessageScratch};
    use crate::queue::delivery_count::DeliveryCount;

    fn unacked(tag: u64) -> Unacked {
        let mut names = Vec::new();
        write_names(&mut names, b"", b"queue");
        let header = ContentHeader::default();
        let mut scratch = MessageScratch::default();
        let message = Message::compose(&mut scratch, &names, &header, Body::Borrowed(&[]));
        Unacked {
            tag,
            in_flight: InFlight {
                message,
                sequence: Sequence(tag),
                expires_at: Timestamp::NEVER,
                delivery_count: DeliveryCount::NONE,
                level: 0,
                retries: 0,
                redelivered: false,
                stored: false,
            },
            queue: QueueNumber::default(),
            consumer: None,
            delivered_at: Timestamp(1),
            due: Timestamp::NEVER,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many deliveries, the first of them after so many without acknowledgement.
        Push(u64, u64),
        Take(usize),
        TakeSome(usize, usize),
        /// A transaction takes what is up to one, and rolls back.
        TakeAndPutBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let count = prop_oneof![0u64..4, 900u64..6000];
        prop_oneof![
            (count, 0u64..3).prop_map(|(count, gap)| Step::Push(count, gap)),
            any::<usize>().prop_map(Step::Take),
            (any::<usize>(), 0usize..9000).prop_map(|(place, most)| Step::TakeSome(place, most)),
            any::<usize>().prop_map(Step::TakeAndPutBack),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_ledger_agrees_with_a_map(steps in vec(step(), 1..30)) {
            let mut ledger = Ledger::default();
            let mut model: BTreeMap<u64, ()> = BTreeMap::new();
            let mut last = 0;
            for step in steps {
                let nth = |place: usize| model.keys().nth(place % model.len().max(1)).copied();
                match step {
                    Step::Push(count, gap) => {
                        last += gap;
                        for _ in 0..count {
                            last += 1;
                            ledger.push(unacked(last));
                            model.insert(last, ());
                        }
                    }
                    Step::Take(place) => {
                        if let Some(tag) = nth(place) {
                            prop_assert_eq!(ledger.take(tag).map(|it| it.tag), Some(tag));
                            prop_assert!(ledger.take(tag).is_none());
                            model.remove(&tag);
                        }
                    }
                    Step::TakeSome(place, most) => {
                        let up_to = nth(place).unwrap_or(u64::MAX);
                        let mut taken = Vec::new();
                        let more = ledger.take_some(up_to, most, |it| taken.push(it.tag));
                        prop_assert!(taken.len() <= most);
                        for tag in taken {
                            prop_assert_eq!(model.pop_first().map(|(tag, ())| tag), Some(tag));
                        }
                        let first = model.keys().next().copied();
                        if !more {
                            prop_assert!(first.is_none_or(|first| first > up_to));
                        }
                    }
                    Step::TakeAndPutBack(place) => {
                        let up_to = nth(place).unwrap_or(u64::MAX);
                        let mut taken = Vec::new();
                        while ledger.take_some(up_to, 777, |it| taken.push(it)) {}
                        for unacked in taken {
                            ledger.put_back(unacked);
                        }
                    }
                }
                let at_hand = ledger.entries.iter().flatten().count();
                prop_assert_eq!(ledger.older.count() + at_hand, model.len());
                for tag in model.keys().take(3).chain(model.keys().rev().take(3)) {
                    prop_assert!(ledger.contains(*tag));
                }
                prop_assert!(!ledger.contains(last + 1));
                prop_assert!(!ledger.contains(0));
            }
            let mut all = Vec::new();
            while ledger.take_some(u64::MAX, 1000, |it| all.push(it.tag)) {}
            prop_assert_eq!(all, model.into_keys().collect::<Vec<_>>());
        }
    }
}
