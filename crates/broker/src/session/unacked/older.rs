//! Deliveries that have been unsettled for long, where there are very many, in blocks: millions of them are never
//! moved or freed at once.

use std::collections::VecDeque;

use super::super::queue_table::QueueNumber;
use super::Unacked;
use crate::queue::consumers::ConsumerRef;

/// So many tags are kept together.
const BLOCK: usize = 1024;

/// The key of a tag: a block before the first tag has keys, too.
#[inline]
fn key(tag: u64) -> u64 {
    tag.saturating_add(BLOCK as u64)
}

/// Places of tags that follow each other. Settled ones are empty.
type Block = Vec<Option<Unacked>>;

/// Rising by tag.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// All but the last are full.
    blocks: VecDeque<Block>,
    /// The key of the first place: places are contiguous, so it says all.
    base: u64,
    /// So many places of the first block are passed.
    passed: usize,
    /// How many deliveries there are.
    count: usize,
}

impl Older {
    #[inline]
    pub(super) fn push(&mut self, unacked: Unacked) {
        if self.count == 0 {
            self.start_at(unacked.tag);
        }
        // Tags in between belong to deliveries without acknowledgement.
        while self.end() < key(unacked.tag) {
            self.push_place(None);
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

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether `tag` is before the end.
    pub(super) fn reaches(&self, tag: u64) -> bool {
        self.count > 0 && key(tag) < self.end()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unacked> {
        self.blocks.iter().flatten().flatten()
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
