//! The ledger of a channel: deliveries that were sent and are not settled.
//!
//! Tags rise by one per delivery; those of deliveries that need no acknowledgement are missing.

use std::collections::VecDeque;

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

/// So many tags are kept together.
const BLOCK: usize = 1024;

/// The key of a tag: a block before the first tag has keys, too.
#[inline]
fn key(tag: u64) -> u64 {
    tag.saturating_add(BLOCK as u64)
}

/// Places of tags that follow each other. Settled ones are empty.
type Block = Vec<Option<Unacked>>;

/// Rising by tag; settled ones leave a gap until everything before them is settled too. Kept in blocks, so that
/// millions of them are never moved or freed at once.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// All but the last are full.
    blocks: VecDeque<Block>,
    /// The key of the first place: places are contiguous, so it says all.
    base: u64,
    /// So many places of the first block are passed.
    passed: usize,
    /// How many deliveries there are.
    count: usize,
    /// The shortest time that any delivery so far was given.
    shortest_ms: Option<u64>,
}

impl Ledger {
    #[inline]
    pub(super) fn push(&mut self, unacked: Unacked) {
        if self.count == 0 {
            self.start_at(unacked.tag);
        }
        // Tags in between belong to deliveries without acknowledgement.
        while self.end() < key(unacked.tag) {
            self.push_place(None);
        }
        if unacked.due != Timestamp::NEVER {
            let given = unacked.due - unacked.delivered_at;
            self.shortest_ms = Some(self.shortest_ms.map_or(given, |least| least.min(given)));
        }
        self.push_place(Some(unacked));
        self.count += 1;
    }

    /// There is nothing: the next place is that of `tag`.
    fn start_at(&mut self, tag: u64) {
        self.blocks.truncate(1);
        if let Some(block) = self.blocks.front_mut() {
            block.clear();
        }
        self.passed = 0;
        self.base = key(tag);
    }

    #[inline]
    fn push_place(&mut self, place: Option<Unacked>) {
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK => block.push(place),
            Some(_) => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(place);
                self.blocks.push_back(block);
            }
            // It grows with what the client leaves unsettled.
            None => self.blocks.push_back(vec![place]),
        }
    }

    /// The key behind the last place.
    #[inline]
    fn end(&self) -> u64 {
        let last = self.blocks.back().map_or(0, Vec::len);
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        self.base + (full + last) as u64
    }

    /// The key of the first place that is not passed.
    fn first(&self) -> u64 {
        self.base + self.passed as u64
    }

    #[inline]
    fn place_of(&self, key: u64) -> Option<(usize, usize)> {
        let place = usize::try_from(key.checked_sub(self.base)?).ok()?;
        Some((place / BLOCK, place % BLOCK))
    }

    #[inline]
    fn place_mut(&mut self, key: u64) -> Option<&mut Option<Unacked>> {
        let (block, place) = self.place_of(key)?;
        self.blocks.get_mut(block)?.get_mut(place)
    }

    /// The delivery that must be settled first of all. Where all are given the same time that is the
    /// oldest, and no other is looked at.
    pub(super) fn earliest_due(&self) -> Option<&Unacked> {
        let shortest_ms = self.shortest_ms?;
        let mut earliest: Option<&Unacked> = None;
        for unacked in self.blocks.iter().flatten().flatten() {
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
        let from = key(from).max(self.first());
        let end = from.saturating_add(most as u64);
        let ends = end >= self.end();
        for key in from..end.min(self.end()) {
            let theirs = |it: &mut Unacked| it.queue == queue && it.consumer == Some(consumer);
            if let Some(unacked) = self.place_mut(key).and_then(|place| place.take_if(theirs)) {
                self.count -= 1;
                each(unacked);
            }
        }
        self.trim();
        (!ends).then_some(end - BLOCK as u64)
    }

    /// Takes out one delivery.
    #[inline]
    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        let unacked = self.place_mut(key(tag))?.take()?;
        self.count -= 1;
        self.trim();
        Some(unacked)
    }

    /// Whether `tag` is in the ledger.
    pub(super) fn contains(&self, tag: u64) -> bool {
        let place = self.place_of(key(tag));
        place
            .and_then(|(block, place)| self.blocks.get(block)?.get(place))
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
        for _ in 0..most {
            if self.count == 0 || self.first() > key(tag) {
                break;
            }
            let first = self.blocks.front_mut();
            let taken = first.and_then(|block| block.get_mut(self.passed)?.take());
            self.pass();
            if let Some(unacked) = taken {
                self.count -= 1;
                each(unacked);
            }
        }
        self.trim();
        self.count > 0 && self.first() <= key(tag)
    }

    /// Puts back what a transaction took out and did not settle. Called in the order of tags.
    pub(super) fn put_back(&mut self, unacked: Unacked) {
        let key = key(unacked.tag);
        if self.count == 0 || key >= self.end() {
            self.push(unacked);
            return;
        }
        while key < self.base {
            let block = std::iter::repeat_with(|| None).take(BLOCK).collect();
            self.blocks.push_front(block);
            self.base -= BLOCK as u64;
            self.passed = BLOCK;
        }
        let place = usize::try_from(key - self.base).unwrap_or(usize::MAX);
        self.passed = self.passed.min(place);
        if let Some(place) = self.place_mut(key) {
            *place = Some(unacked);
            self.count += 1;
        }
    }

    /// The first place is passed, and with the last of a block the block.
    #[inline]
    fn pass(&mut self) {
        self.passed += 1;
        if self.passed >= BLOCK {
            self.blocks.pop_front();
            self.base += BLOCK as u64;
            self.passed = 0;
        }
    }

    /// Passes over settled ones at the front, not over very many at a time.
    #[inline]
    fn trim(&mut self) {
        const TRIMMED_MAX: usize = 1 << 16;
        if self.count == 0 {
            self.blocks.truncate(1);
            return;
        }
        for _ in 0..TRIMMED_MAX {
            let first = self.blocks.front();
            let Some(None) = first.and_then(|block| block.get(self.passed)) else {
                break;
            };
            self.pass();
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
        let count = prop_oneof![0u64..4, 900u64..2500];
        prop_oneof![
            (count, 0u64..3).prop_map(|(count, gap)| Step::Push(count, gap)),
            any::<usize>().prop_map(Step::Take),
            (any::<usize>(), 0usize..3000).prop_map(|(place, most)| Step::TakeSome(place, most)),
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
                prop_assert_eq!(ledger.count, model.len());
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
