//! A list that grows and goes a block at a time: of a million things nothing is moved or freed at once.

use std::collections::VecDeque;

/// So many things are kept together.
const BLOCK: usize = 256;

/// First in, first out.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    /// All but the first and the last are full.
    blocks: VecDeque<VecDeque<T>>,
    /// So many things of the first block have been taken out.
    popped: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks {
            blocks: VecDeque::new(),
            popped: 0,
        }
    }
}

impl<T> Blocks<T> {
    pub(crate) fn push(&mut self, thing: T) {
        let popped = if self.blocks.len() == 1 {
            self.popped
        } else {
            0
        };
        match self.blocks.back_mut() {
            Some(last) if popped + last.len() < BLOCK => last.push_back(thing),
            // The first one grows with what there is.
            None => self.blocks.push_back(VecDeque::from([thing])),
            Some(_) => {
                let mut block = VecDeque::with_capacity(BLOCK);
                block.push_back(thing);
                self.blocks.push_back(block);
            }
        }
    }

    /// Takes out the first thing.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let first = self.blocks.front_mut()?;
        let thing = first.pop_front();
        self.popped += 1;
        if first.is_empty() {
            self.blocks.pop_front();
            self.popped = 0;
        }
        thing
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let of = |block: Option<&VecDeque<T>>| block.map_or(0, VecDeque::len);
        match self.blocks.len() {
            0 => 0,
            1 => of(self.blocks.front()),
            count => of(self.blocks.front()) + (count - 2) * BLOCK + of(self.blocks.back()),
        }
    }

    /// The things from number `from` on, counted from the first that is there.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = &T> {
        let from = from + self.popped;
        let blocks = self.blocks.iter().skip(from / BLOCK);
        let passed = if from < BLOCK {
            from - self.popped
        } else {
            from % BLOCK
        };
        blocks.flatten().skip(passed)
    }

    /// As [`Blocks::iter_from`], to change them.
    pub(crate) fn iter_mut_from(&mut self, from: usize) -> impl Iterator<Item = &mut T> {
        let from = from + self.popped;
        let passed = match from < BLOCK {
            true => from - self.popped,
            false => from % BLOCK,
        };
        let blocks = self.blocks.iter_mut().skip(from / BLOCK);
        blocks.flatten().skip(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_found_and_popped_in_order() {
        let mut blocks = Blocks::default();
        let mut next = 0;
        let mut popped = 0;
        // More goes in than comes out, then the other way round.
        for (pushes, pops) in [(3, 1), (300, 7), (BLOCK, 290), (1, 0), (0, 200), (20, 1000)] {
            for _ in 0..pushes {
                blocks.push(next);
                next += 1;
            }
            assert_eq!(blocks.len(), next - popped);
            for from in [0, 1, BLOCK - 1, BLOCK, BLOCK + 5] {
                let found: Vec<usize> = blocks.iter_from(from).copied().collect();
                let expected: Vec<usize> = (popped + from..next).collect();
                assert_eq!(found, expected);
                let found: Vec<usize> = blocks.iter_mut_from(from).map(|it| *it).collect();
                assert_eq!(found, expected);
            }
            for _ in 0..pops {
                let expected = (popped < next).then_some(popped);
                assert_eq!(blocks.pop(), expected);
                popped += usize::from(expected.is_some());
            }
        }
        assert_eq!(blocks.pop(), None);
        assert_eq!(blocks.iter_from(0).count(), 0);
    }
}
