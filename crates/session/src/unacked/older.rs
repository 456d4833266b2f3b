//! Deliveries that have been unsettled for long, where there are very many, in blocks: millions of them are never
//! moved or freed at once.

#[cfg(debug_assertions)]
mod check;

use std::collections::VecDeque;

use leveret_codec::DeliveryTag;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_store_api::CommitPoint;

use super::block::{Block, Leaving};
use super::{Due, KeepInStore, Relief, Unacked};
use crate::queue_table::QueueNumber;

/// So many tags are kept together.
const BLOCK: usize = 1024;
/// So many blocks go a step on their way out of memory before others have their turn.
const STEPS_MAX: usize = 4;

/// The key of a tag: a block before the first tag has keys, too.
#[inline]
fn key(tag: DeliveryTag) -> u64 {
    tag.0.saturating_add(BLOCK as u64)
}

/// The tag of a key.
#[inline]
fn tag_of(key: u64) -> DeliveryTag {
    DeliveryTag(key.saturating_sub(BLOCK as u64))
}

/// Rising by tag.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// All but the last are full.
    blocks: VecDeque<Block>,
    /// The key of the first place: places are contiguous, so it says all.
    base: u64,
    /// So many places of the first block are skipped.
    skipped: usize,
    /// How many deliveries there are.
    count: usize,
    /// Memory of their messages.
    memory: usize,
    /// Blocks before the one with this key have no message that could leave memory.
    left_below: u64,
}

impl Older {
    #[inline]
    pub(super) fn push(&mut self, unacked: Unacked) {
        if self.count == 0 {
            self.start_at(unacked.tag);
        }
        // Tags in between are settled, or belong to deliveries without acknowledgement.
        loop {
            let left = key(unacked.tag) - self.end();
            let is_full = self.blocks.back().is_none_or(|last| last.len() == BLOCK);
            match left {
                0 => break,
                _ if is_full && left >= BLOCK as u64 => self.blocks.push_back(Block::empty(BLOCK)),
                _ => self.push_place(None),
            }
        }
        self.comes(&unacked);
        self.push_place(Some(unacked));
    }

    #[inline]
    fn comes(&mut self, unacked: &Unacked) {
        self.count += 1;
        self.memory += unacked.delivery.memory();
        self.left_below = self.left_below.min(key(unacked.tag));
    }

    /// There is nothing: the next place is that of `tag`.
    fn start_at(&mut self, tag: DeliveryTag) {
        self.blocks.truncate(1);
        if let Some(block) = self.blocks.front_mut() {
            block.clear();
        }
        self.skipped = 0;
        self.base = key(tag);
        self.left_below = self.base;
    }

    #[inline]
    fn push_place(&mut self, place: Option<Unacked>) {
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK => block.push(place),
            Some(_) => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(place);
                self.blocks.push_back(Block::new(block));
            }
            // It grows with what the client leaves unsettled.
            None => self.blocks.push_back(Block::new(vec![place])),
        }
    }

    /// The key behind the last place.
    #[inline]
    fn end(&self) -> u64 {
        let last = self.blocks.back().map_or(0, Block::len);
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        self.base + (full + last) as u64
    }

    /// The key of the first place that is not skipped.
    fn first(&self) -> u64 {
        self.base + self.skipped as u64
    }

    #[inline]
    fn place_of(&self, key: u64) -> Option<(usize, usize)> {
        let place = usize::try_from(key.checked_sub(self.base)?).ok()?;
        Some((place / BLOCK, place % BLOCK))
    }

    #[inline]
    fn take_key(&mut self, key: u64) -> Option<Unacked> {
        let (block, place) = self.place_of(key)?;
        let block = self.blocks.get_mut(block)?;
        let unacked = block.take(place, tag_of(key))?;
        if block.len() == BLOCK {
            block.shrink();
        }
        self.count -= 1;
        self.memory -= unacked.delivery.memory();
        Some(unacked)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Memory of the messages.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    #[cfg(test)]
    pub(super) fn memory_of_blocks(&self) -> usize {
        self.blocks.iter().map(Block::memory).sum()
    }

    /// How many places take memory.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.blocks.iter().map(Block::kept).sum()
    }

    /// Whether `tag` is before the end.
    pub(super) fn reaches(&self, tag: DeliveryTag) -> bool {
        self.count > 0 && key(tag) < self.end()
    }

    /// When each must be settled.
    pub(super) fn dues(&self) -> impl Iterator<Item = Due> {
        let bases = (self.base..).step_by(BLOCK);
        self.blocks.iter().zip(bases).flat_map(|(block, base)| {
            (0..block.len()).filter_map(move |at| block.due(at, tag_of(base + at as u64)))
        })
    }

    /// Takes out deliveries to one consumer of one queue, oldest first: of `most` tags, the first of which is
    /// `from`. Answers the tag to go on with.
    pub(super) fn take_of_consumer(
        &mut self,
        queue: QueueNumber,
        consumer: ConsumerRef,
        from: DeliveryTag,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> Option<DeliveryTag> {
        let from = key(from).max(self.first());
        let end = from.saturating_add(most as u64);
        let ends = end >= self.end();
        for key in from..end.min(self.end()) {
            let theirs = self.place_of(key).is_some_and(|(block, place)| {
                let block = self.blocks.get(block);
                block.is_some_and(|block| block.is_of(place, queue, consumer))
            });
            if theirs && let Some(unacked) = self.take_key(key) {
                each(unacked);
            }
        }
        self.trim();
        (!ends).then_some(tag_of(end))
    }

    /// Takes out one delivery.
    #[inline]
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Unacked> {
        let unacked = self.take_key(key(tag))?;
        self.trim();
        Some(unacked)
    }

    /// Whether `tag` is in the ledger.
    pub(super) fn contains(&self, tag: DeliveryTag) -> bool {
        self.place_of(key(tag)).is_some_and(|(block, place)| {
            let block = self.blocks.get(block);
            block.is_some_and(|block| block.contains(place))
        })
    }

    /// How many of `most` tags, the first of which is `from`, can be taken for their messages to have no more than `bytes` if all must be
    /// read, one at least; and how many bytes that is.
    pub(super) fn readable(&self, from: DeliveryTag, most: usize, bytes: usize) -> (usize, usize) {
        let first = key(from).max(self.first());
        let mut sum = 0;
        for count in 0..most {
            let place = self.place_of(first + count as u64);
            let block = place.and_then(|(block, place)| Some((self.blocks.get(block)?, place)));
            let Some((block, place)) = block else {
                break;
            };
            let with_it = sum + block.unread(place);
            if count > 0 && with_it > bytes {
                return (count, sum);
            }
            sum = with_it;
        }
        (most, sum)
    }

    /// Takes out what is up to and including `tag`, oldest first, of at most `most` tags. Answers whether
    /// there is more of it.
    pub(super) fn take_some(
        &mut self,
        tag: DeliveryTag,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> bool {
        for _ in 0..most {
            if self.count == 0 || self.first() > key(tag) {
                break;
            }
            let taken = self.take_key(self.first());
            self.skip();
            if let Some(unacked) = taken {
                each(unacked);
            }
        }
        self.trim();
        self.count > 0 && self.first() <= key(tag)
    }

    /// Puts back what a transaction took out and did not settle.
    pub(super) fn put_back(&mut self, unacked: Unacked) {
        let key = key(unacked.tag);
        if self.count == 0 || key >= self.end() {
            self.push(unacked);
            return;
        }
        while key < self.base {
            self.blocks.push_front(Block::empty(BLOCK));
            self.base -= BLOCK as u64;
            self.skipped = BLOCK;
        }
        self.comes(&unacked);
        if let Some((block, place)) = self.place_of(key) {
            if block == 0 {
                self.skipped = self.skipped.min(place);
            }
            if let Some(block) = self.blocks.get_mut(block) {
                block.set(place, unacked);
            }
        }
    }

    /// Has messages of the oldest leave memory, a few blocks at a time, until that is `enough`: it is told how much
    /// will have left when the store has it all.
    pub(super) fn relieve(
        &mut self,
        durable: CommitPoint,
        keep: &mut KeepInStore<'_>,
        mut enough: impl FnMut(usize, usize) -> bool,
    ) -> Relief {
        let at = self.left_below.saturating_sub(self.base) / BLOCK as u64;
        let mut at = usize::try_from(at).unwrap_or(usize::MAX);
        let mut none_before = true;
        let (mut steps, mut going) = (0, 0);
        let mut point = None;
        while steps < STEPS_MAX {
            let is_enough = enough(self.memory, going);
            let Some(block) = self.blocks.get_mut(at).filter(|_| !is_enough) else {
                return point.map_or(Relief::Done, Relief::At);
            };
            let before = block.memory();
            let leaving = block.leave(durable, keep);
            self.memory -= before - block.memory();
            match leaving {
                Leaving::Nothing | Leaving::Left => {
                    steps += usize::from(leaving == Leaving::Left);
                    if none_before {
                        self.left_below = self.base + ((at + 1) * BLOCK) as u64;
                    }
                }
                Leaving::Told(until) | Leaving::Waits(until) => {
                    steps += usize::from(matches!(leaving, Leaving::Told(_)));
                    going += block.memory();
                    none_before = false;
                    point = point.or(Some(until));
                }
            }
            at += 1;
        }
        Relief::Again
    }

    /// The first place is skipped, and with the last of a block the block.
    #[inline]
    fn skip(&mut self) {
        self.skipped += 1;
        if self.skipped >= BLOCK {
            self.blocks.pop_front();
            self.base += BLOCK as u64;
            self.skipped = 0;
        }
    }

    /// Skips settled ones at the front, not over very many at a time.
    #[inline]
    fn trim(&mut self) {
        const TRIMMED_MAX: usize = 1 << 16;
        if self.count == 0 {
            self.blocks.truncate(1);
            return;
        }
        for _ in 0..TRIMMED_MAX {
            let first = self.blocks.front();
            if first.is_none_or(|block| block.len() <= self.skipped || block.contains(self.skipped))
            {
                break;
            }
            self.skip();
        }
    }
}
