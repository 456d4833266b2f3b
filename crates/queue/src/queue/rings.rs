//! Consumers that can take a message, in rings: one for each priority. What anything costs here does not depend on how
//! many priorities there are.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, VecDeque};

/// A ring that nobody stands in keeps room for so many.
const KEPT: usize = 64;

/// Consumers of one priority, by their places; the first has its turn.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) priority: i32,
    pub(super) ready: VecDeque<u32>,
    /// So many of these have gone, but not the first, nor more than half of them. Their places are not free yet.
    pub(super) gone: usize,
}

impl Ring {
    fn new(priority: i32) -> Ring {
        Ring {
            priority,
            ..Ring::default()
        }
    }

    /// Lets go of those that have gone and would be at the front, or of all if they are many.
    fn tidy(&mut self, has_gone: impl Fn(u32) -> bool, free: &mut Vec<u32>) {
        if self.gone * 2 > self.ready.len() {
            self.ready.retain(|&index| {
                let gone = has_gone(index);
                if gone {
                    free.push(index);
                }
                !gone
            });
            self.gone = 0;
        }
        while self.gone > 0
            && let Some(index) = self.ready.pop_front_if(|index| has_gone(*index))
        {
            free.push(index);
            self.gone -= 1;
        }
    }
}

/// All of them. `has_gone` says whether there is no consumer at a place any more; places that are let go of are added
/// to `free`.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// That of the highest priority. Nobody stands in it: there are no others.
    first: Ring,
    /// The others.
    rest: BTreeMap<Reverse<i32>, Ring>,
}

impl Rings {
    /// Whose turn it is, of those with the highest priority, and how many stand in line with it.
    #[inline]
    pub(super) fn turn(&self) -> Option<(u32, usize)> {
        let ring = &self.first;
        let in_line = ring.ready.len() - ring.gone;
        ring.ready.front().map(|&index| (index, in_line))
    }

    /// The one whose turn it was goes to the back.
    #[inline]
    pub(super) fn rotate(&mut self, has_gone: impl Fn(u32) -> bool, free: &mut Vec<u32>) {
        let ring = &mut self.first;
        if let Some(index) = ring.ready.pop_front() {
            ring.ready.push_back(index);
            if ring.gone > 0 {
                ring.tidy(has_gone, free);
            }
        }
    }

    /// The one whose turn it is leaves.
    pub(super) fn pop(
        &mut self,
        has_gone: impl Fn(u32) -> bool,
        free: &mut Vec<u32>,
    ) -> Option<u32> {
        let index = self.first.ready.pop_front()?;
        self.first.tidy(has_gone, free);
        self.raise();
        Some(index)
    }

    /// A consumer stands in its ring, behind all others.
    pub(super) fn enter(&mut self, index: u32, priority: i32) {
        if self.first.ready.is_empty() {
            self.first.priority = priority;
        }
        let ring = match priority.cmp(&self.first.priority) {
            Ordering::Equal => &mut self.first,
            Ordering::Less => {
                let ring = self.rest.entry(Reverse(priority));
                ring.or_insert_with(|| Ring::new(priority))
            }
            Ordering::Greater => {
                let lower = std::mem::replace(&mut self.first, Ring::new(priority));
                self.rest.insert(Reverse(lower.priority), lower);
                &mut self.first
            }
        };
        ring.ready.push_back(index);
    }

    /// A consumer has gone that stood in the ring of its priority; [`Rings::tidy`] follows.
    pub(super) fn leave(&mut self, priority: i32) {
        if let Some(ring) = self.ring_mut(priority) {
            ring.gone += 1;
        }
    }

    /// Looks after a ring that consumers have left.
    pub(super) fn tidy(
        &mut self,
        priority: i32,
        has_gone: impl Fn(u32) -> bool,
        free: &mut Vec<u32>,
    ) {
        let Some(ring) = self.ring_mut(priority) else {
            return;
        };
        ring.tidy(has_gone, free);
        if !ring.ready.is_empty() {
            return;
        }
        self.rest.remove(&Reverse(priority));
        self.raise();
    }

    /// All that somebody stands in, highest priority first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Ring> {
        let first = Some(&self.first).filter(|ring| !ring.ready.is_empty());
        first.into_iter().chain(self.rest.values())
    }

    fn ring_mut(&mut self, priority: i32) -> Option<&mut Ring> {
        if self.first.priority == priority && !self.first.ready.is_empty() {
            return Some(&mut self.first);
        }
        self.rest.get_mut(&Reverse(priority))
    }

    /// The next ring becomes the first, if nobody stands in that.
    fn raise(&mut self) {
        if !self.first.ready.is_empty() {
            return;
        }
        if let Some((_, next)) = self.rest.pop_first() {
            self.first = next;
        } else if self.first.ready.capacity() > KEPT {
            self.first = Ring::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Taken in turn by a list that is searched.
    fn next(model: &mut Vec<(i32, u32)>) -> Option<(i32, u32)> {
        let highest = model.iter().map(|(priority, _)| *priority).max()?;
        let at = model
            .iter()
            .position(|(priority, _)| *priority == highest)?;
        Some(model.remove(at))
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_that_is_searched(steps in prop::collection::vec((0u8..4, -2i32..3), 1..200)) {
            let mut rings = Rings::default();
            let mut model: Vec<(i32, u32)> = Vec::new();
            let mut free = Vec::new();
            for ((step, priority), index) in steps.into_iter().zip(0u32..) {
                let there: Vec<u32> = model.iter().map(|(_, index)| *index).collect();
                match step {
                    0 => {
                        rings.enter(index, priority);
                        model.push((priority, index));
                    }
                    1 => {
                        rings.rotate(|index| !there.contains(&index), &mut free);
                        let first = next(&mut model);
                        model.extend(first);
                    }
                    2 => {
                        let first = next(&mut model);
                        let left: Vec<u32> = model.iter().map(|(_, index)| *index).collect();
                        let popped = rings.pop(|index| !left.contains(&index), &mut free);
                        prop_assert_eq!(popped, first.map(|(_, index)| index));
                    }
                    _ => {
                        let at = model.iter().position(|(of, _)| *of == priority);
                        if let Some(at) = at {
                            model.remove(at);
                            let left: Vec<u32> = model.iter().map(|(_, index)| *index).collect();
                            rings.leave(priority);
                            rings.tidy(priority, |index| !left.contains(&index), &mut free);
                        }
                    }
                }
                let first = next(&mut model.clone());
                let line = model.iter().filter(|(of, _)| Some(*of) == first.map(|it| it.0));
                let expected = first.map(|(_, index)| (index, line.count()));
                prop_assert_eq!(rings.turn(), expected);
                prop_assert!(rings.iter().is_sorted_by(|one, other| one.priority > other.priority));
            }
        }
    }
}
