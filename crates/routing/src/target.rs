//! Where matched bindings lead, counted: several bindings of one exchange may lead to one place.

use leveret_codec::FieldTable;
use smallvec::SmallVec;

use crate::binding::QueueId;
use crate::sliced_table::{SlicedTable, spread};

/// An exchange's place in the topology. Reused after deletion, by which time nothing refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ExchangeIndex(pub(crate) u32);

/// A binding's destination, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Queue(QueueId),
    Exchange(ExchangeIndex),
}

/// What a binding brings to an index.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) target: Target,
    /// A hash of the destination's name, the same after a restart.
    pub(crate) seed: u64,
    pub(crate) routing_key: &'a [u8],
    pub(crate) arguments: &'a FieldTable,
}

/// Sets up to this size are scanned; larger ones keep positions, so that a change stays cheap.
const SCANNED_MAX: usize = 16;
/// So many targets lie together: a set that grows moves no more than them.
const BLOCK: usize = 1024;

/// Distinct targets, each with the number of bindings that lead to it. Changing one costs the same
/// whatever the size.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetSet {
    first: SmallVec<[Counted; 1]>,
    large: Option<Box<Large>>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    target: Target,
    bindings: u32,
}

/// What a large set has beside its first block.
#[derive(Clone, Debug, Default)]
struct Large {
    /// All but the last are full, and none is empty.
    blocks: Vec<Vec<Counted>>,
    positions: SlicedTable<Position>,
}

/// Where a target is, with a part of its hash.
#[derive(Clone, Copy, Debug)]
struct Position {
    hash: u32,
    at: u32,
}

impl Position {
    fn new(target: Target, at: usize) -> Self {
        Self {
            hash: target.hash(),
            at: u32::try_from(at).unwrap_or(u32::MAX),
        }
    }

    fn is(self, at: usize) -> bool {
        self.at as usize == at
    }

    fn spread(&self) -> u64 {
        spread(self.hash.into())
    }
}

impl Target {
    fn hash(self) -> u32 {
        let number = match self {
            Self::Queue(queue) => spread(queue.0),
            Self::Exchange(at) => !spread(at.0.into()),
        };
        u32::try_from(number >> 32).unwrap_or(u32::MAX)
    }
}

impl TargetSet {
    pub(crate) fn len(&self) -> usize {
        let blocks = self.large.as_ref().map_or(&[][..], |large| &large.blocks);
        let last = blocks.last().map_or(0, Vec::len);
        self.first.len() + blocks.len().saturating_sub(1) * BLOCK + last
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Target> + '_ {
        let others = self.large.iter().flat_map(|large| &large.blocks).flatten();
        self.first.iter().chain(others).map(|item| item.target)
    }

    /// The target at `position` of [`Self::iter`].
    pub(crate) fn at(&self, position: usize) -> Option<Target> {
        self.item(position).map(|item| item.target)
    }

    /// Counts one more binding to `target`.
    pub(crate) fn insert(&mut self, target: Target) {
        if let Some(item) = self.position(target).and_then(|at| self.item_mut(at)) {
            item.bindings += 1;
            return;
        }
        let position = self.len();
        if position == SCANNED_MAX {
            let mut large = Box::<Large>::default();
            for (at, item) in self.first.iter().enumerate() {
                let known = Position::new(item.target, at);
                large.positions.insert(known, Position::spread);
            }
            self.large = Some(large);
        }
        let item = Counted {
            target,
            bindings: 1,
        };
        match &mut self.large {
            Some(large) => large.push(&mut self.first, item, position),
            None => self.first.push(item),
        }
    }

    /// Counts one binding less; true when `target` went with it.
    pub(crate) fn remove(&mut self, target: Target) -> bool {
        let Some(position) = self.position(target) else {
            return false;
        };
        let Some(item) = self.item_mut(position) else {
            return false;
        };
        item.bindings -= 1;
        if item.bindings > 0 {
            return false;
        }
        self.take(target, position);
        if self.first.is_empty() {
            *self = Self::default();
        }
        true
    }

    /// Removes what is at a position; the last takes its place.
    fn take(&mut self, target: Target, position: usize) {
        let last = self.len().saturating_sub(1);
        let Some(item) = self.pop() else { return };
        if let Some(large) = &mut self.large {
            let positions = &mut large.positions;
            let gone = Position::new(target, position);
            positions.remove(gone.spread(), |known| known.is(position));
            let moved = Position::new(item.target, position);
            if let Some(known) = positions.find_mut(moved.spread(), |known| known.is(last)) {
                *known = moved;
            }
        }
        if let Some(place) = self.item_mut(position) {
            *place = item;
        }
    }

    fn pop(&mut self) -> Option<Counted> {
        let blocks = self.large.as_mut().map(|large| &mut large.blocks);
        if let Some(blocks) = blocks
            && let Some(block) = blocks.last_mut()
        {
            let item = block.pop();
            if block.is_empty() {
                blocks.pop();
            }
            return item;
        }
        self.first.pop()
    }

    fn item(&self, position: usize) -> Option<&Counted> {
        let Some(behind) = position.checked_sub(BLOCK) else {
            return self.first.get(position);
        };
        let blocks = &self.large.as_ref()?.blocks;
        blocks.get(behind / BLOCK)?.get(behind % BLOCK)
    }

    fn item_mut(&mut self, position: usize) -> Option<&mut Counted> {
        let Some(behind) = position.checked_sub(BLOCK) else {
            return self.first.get_mut(position);
        };
        let blocks = &mut self.large.as_mut()?.blocks;
        blocks.get_mut(behind / BLOCK)?.get_mut(behind % BLOCK)
    }

    fn position(&self, target: Target) -> Option<usize> {
        let Some(large) = &self.large else {
            return self.first.iter().position(|item| item.target == target);
        };
        let sought = Position::new(target, 0);
        let is_it = |known: &Position| {
            let item = (known.hash == sought.hash).then(|| self.item(known.at as usize));
            item.flatten().is_some_and(|item| item.target == target)
        };
        let found = large.positions.find(sought.spread(), is_it);
        found.map(|known| known.at as usize)
    }
}

impl Large {
    fn push(&mut self, first: &mut SmallVec<[Counted; 1]>, item: Counted, position: usize) {
        let known = Position::new(item.target, position);
        self.positions.insert(known, Position::spread);
        if position < BLOCK {
            first.push(item);
            return;
        }
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(item),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(item);
                self.blocks.push(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetSet};
    use crate::binding::QueueId;

    #[test]
    fn counts_bindings_and_survives_growth_and_shrinking() {
        let mut set = TargetSet::default();
        let queue = |id| Target::Queue(QueueId(id));
        for many in [2, 100, 6_000] {
            for id in 0..many {
                assert_eq!(set.len() as u64, id);
                set.insert(queue(id));
                set.insert(queue(id));
            }
            assert_eq!(set.iter().count(), set.len());
            assert!(
                set.iter()
                    .enumerate()
                    .all(|(at, it)| set.at(at) == Some(it))
            );
            for id in (0..many).rev().step_by(2).chain((0..many / 4).step_by(2)) {
                assert!(!set.remove(queue(id)));
                assert!(set.remove(queue(id)));
                assert!(!set.remove(queue(id)));
            }
            let mut left: Vec<_> = set.iter().collect();
            left.sort_unstable();
            let expected = (0..many).step_by(2).filter(|id| *id >= many / 4);
            assert_eq!(left, expected.map(queue).collect::<Vec<_>>());
            for target in left {
                assert!(!set.remove(target) && set.remove(target));
            }
            assert!(set.is_empty() && set.large.is_none());
        }
    }
}
