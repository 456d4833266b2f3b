//! See [`leveret_broker::check`].

use leveret_codec::DeliveryTag;
use leveret_queue::check::Faults;

use super::{BLOCK, Block, Older, key};
use crate::unacked::check::Each;

impl Older {
    pub(in crate::unacked) fn check(&self, faults: &mut Faults) {
        let blocks = || self.blocks.iter();
        let (mut count, mut memory) = (0, 0);
        for block in blocks() {
            let counted = block.check(faults);
            count += counted.0;
            memory += counted.1;
        }
        faults.same("older ones", self.count, count);
        faults.same("memory of older ones", self.memory, memory);
        faults.count(self.count);
        let full = blocks().rev().skip(1).all(|block| block.len() == BLOCK);
        faults.holds("all blocks but the last are full", full);
        faults.holds("the first block is not skipped", self.skipped < BLOCK);
        let skipped = self
            .blocks
            .front()
            .map_or(0, |first| self.skipped.min(first.len()));
        let first = self.blocks.front();
        let none = first.is_none_or(|first| (0..skipped).all(|at| !first.contains(at)));
        faults.holds("nothing stands where it is skipped", none);
    }

    /// Whether all of them have tags below `tag`.
    pub(in crate::unacked) fn is_before(&self, tag: DeliveryTag) -> bool {
        self.count == 0 || self.end() <= key(tag)
    }

    pub(in crate::unacked) fn each(&self, each: &mut Each<'_>) {
        for block in &self.blocks {
            Block::each(block, each);
        }
    }
}
