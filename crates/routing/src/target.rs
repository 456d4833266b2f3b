//! Where matched bindings lead, counted: several bindings of one exchange may lead to one place.

use leveret_codec::FieldTable;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::binding::QueueId;

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

/// Distinct targets, each with the number of bindings that lead to it. Changing one costs the same
/// whatever the size.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetSet {
    items: SmallVec<[Counted; 1]>,
    positions: Option<Box<FxHashMap<Target, usize>>>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    target: Target,
    bindings: u32,
}

impl TargetSet {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Target> + '_ {
        self.items.iter().map(|item| item.target)
    }

    /// The target at `position` of [`Self::iter`].
    pub(crate) fn at(&self, position: usize) -> Option<Target> {
        self.items.get(position).map(|item| item.target)
    }

    /// Counts one more binding to `target`.
    pub(crate) fn insert(&mut self, target: Target) {
        if let Some(item) = self.position(target).and_then(|at| self.items.get_mut(at)) {
            item.bindings += 1;
            return;
        }
        let position = self.items.len();
        self.items.push(Counted {
            target,
            bindings: 1,
        });
        match &mut self.positions {
            Some(positions) => {
                positions.insert(target, position);
            }
            None if position >= SCANNED_MAX => {
                let all = self.items.iter().enumerate();
                self.positions = Some(Box::new(all.map(|(at, item)| (item.target, at)).collect()));
            }
            None => {}
        }
    }

    /// Counts one binding less; true when `target` went with it.
    pub(crate) fn remove(&mut self, target: Target) -> bool {
        let Some(position) = self.position(target) else {
            return false;
        };
        let Some(item) = self.items.get_mut(position) else {
            return false;
        };
        item.bindings -= 1;
        if item.bindings > 0 {
            return false;
        }
        self.items.swap_remove(position);
        if let Some(positions) = &mut self.positions {
            positions.remove(&target);
            if let Some(moved) = self.items.get(position) {
                positions.insert(moved.target, position);
            }
        }
        if self.items.is_empty() {
            *self = Self::default();
        }
        true
    }

    fn position(&self, target: Target) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&target).copied(),
            None => self.items.iter().position(|item| item.target == target),
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
        for id in 0..100 {
            set.insert(queue(id));
            set.insert(queue(id));
        }
        assert_eq!(set.len(), 100);
        for id in (0..100).rev().step_by(2) {
            assert!(!set.remove(queue(id)));
            assert!(set.remove(queue(id)));
            assert!(!set.remove(queue(id)));
        }
        let mut left: Vec<_> = set.iter().collect();
        left.sort_unstable();
        assert_eq!(left, (0..100).step_by(2).map(queue).collect::<Vec<_>>());
    }
}
