//! Numbers that messages of a log bear besides what was written of them, as runs of sequences with the same
//! number. Owns joining and cutting runs; a sequence without a number has 0. The runs lie in blocks of
//! sequences, so that what changed since the last checkpoint can be written without the rest.

use std::collections::{BTreeMap, BTreeSet};

/// A block is so many sequences. A run never reaches from one into the next, so a block's row is small
/// enough: at most so many runs of 12 bytes.
pub(crate) const BLOCK: u64 = 512;

/// Consecutive sequences with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CountRun {
    pub(crate) first: u64,
    /// One more than its last sequence.
    pub(crate) end: u64,
    pub(crate) count: u32,
}

/// The numbers of one log.
#[derive(Default)]
pub(crate) struct Counts {
    /// By first sequence: disjoint, and none reaches into the next block.
    runs: BTreeMap<u64, (u64, u32)>,
    /// Blocks that changed since the last checkpoint.
    pub(crate) dirty_blocks: BTreeSet<u64>,
    /// Blocks that have a row in the index on disk.
    pub(crate) stored_blocks: BTreeSet<u64>,
}

impl Counts {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Gives these sequences a number; 0 takes it from them.
    pub(crate) fn set(&mut self, first: u64, end: u64, count: u32) {
        self.cut(first, end);
        if count == 0 {
            return;
        }
        let mut at = first;
        while at < end {
            let block = at / BLOCK;
            let until = end.min((block + 1).saturating_mul(BLOCK));
            self.put(CountRun {
                first: at,
                end: until,
                count,
            });
            at = until;
        }
    }

    /// Adds a run within one block, where nothing is; joins it to its neighbours.
    fn put(&mut self, mut run: CountRun) {
        let block = run.first / BLOCK;
        self.dirty_blocks.insert(block);
        let before = self.runs.range(..run.first).next_back();
        if let Some((&first, &(end, count))) = before
            && end == run.first
            && count == run.count
            && first / BLOCK == block
        {
            run.first = first;
        }
        if run.end / BLOCK == block
            && let Some(&(end, count)) = self.runs.get(&run.end)
            && count == run.count
        {
            self.runs.remove(&run.end);
            run.end = end;
        }
        self.runs.insert(run.first, (run.end, run.count));
    }

    /// These sequences have no number any more.
    pub(crate) fn cut(&mut self, first: u64, end: u64) {
        if self.runs.is_empty() {
            return;
        }
        let before = self.runs.range(..first).next_back();
        let before = before.map(|(start, run)| (*start, *run));
        if let Some((start, (stop, count))) = before.filter(|(_, (stop, _))| *stop > first) {
            self.dirty_blocks.insert(start / BLOCK);
            self.runs.insert(start, (first, count));
            if stop > end {
                self.runs.insert(end, (stop, count));
            }
        }
        while let Some((&start, &(stop, count))) = self.runs.range(first..end).next() {
            self.dirty_blocks.insert(start / BLOCK);
            self.runs.remove(&start);
            if stop > end {
                self.runs.insert(end, (stop, count));
            }
        }
    }

    /// All runs that reach into `[first, end)`, in order.
    pub(crate) fn runs(&self, first: u64, end: u64) -> impl Iterator<Item = CountRun> + '_ {
        let before = self.runs.range(..first).next_back();
        let before = before.filter(move |(_, (stop, _))| *stop > first);
        let inside = self.runs.range(first..end.max(first));
        before
            .into_iter()
            .chain(inside)
            .map(|(&first, &(end, count))| CountRun { first, end, count })
    }

    /// The runs of a block.
    pub(crate) fn of_block(&self, block: u64) -> impl Iterator<Item = CountRun> + '_ {
        let first = block.saturating_mul(BLOCK);
        self.runs(first, first.saturating_add(BLOCK))
    }

    /// Makes the next checkpoint write all of it.
    pub(crate) fn mark_all(&mut self) {
        self.dirty_blocks = self.runs.keys().map(|first| first / BLOCK).collect();
        // What is not there any more goes.
        self.dirty_blocks.extend(&self.stored_blocks);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One number for each sequence.
    type Plain = BTreeMap<u64, u32>;

    fn plain(counts: &Counts) -> Plain {
        let runs = counts.runs(0, u64::MAX);
        runs.flat_map(|run| (run.first..run.end).map(move |sequence| (sequence, run.count)))
            .collect()
    }

    fn check(counts: &Counts, expected: &Plain) {
        assert_eq!(plain(counts), *expected);
        let runs: Vec<CountRun> = counts.runs(0, u64::MAX).collect();
        for pair in runs.windows(2) {
            let [one, next] = pair else { continue };
            assert!(one.end <= next.first);
            let joined = one.end == next.first && one.count == next.count;
            assert!(
                !joined || next.first.is_multiple_of(BLOCK),
                "{one:?} {next:?}"
            );
        }
        for run in runs {
            assert!(run.first < run.end && run.count > 0);
            assert_eq!(run.first / BLOCK, (run.end - 1) / BLOCK);
        }
    }

    proptest! {
        #[test]
        fn runs_say_what_single_numbers_would(
            steps in prop::collection::vec((0..1500u64, 1..700u64, 0..4u32), 1..60),
        ) {
            let (mut counts, mut expected) = (Counts::default(), Plain::new());
            for (first, length, count) in steps {
                let end = first + length;
                let before = plain(&counts);
                counts.dirty_blocks.clear();
                counts.set(first, end, count);
                expected.retain(|sequence, _| !(first..end).contains(sequence));
                if count > 0 {
                    expected.extend((first..end).map(|sequence| (sequence, count)));
                }
                check(&counts, &expected);
                for block in 0..5 {
                    let of = |all: &Plain| -> Plain {
                        let range = block * BLOCK..(block + 1) * BLOCK;
                        all.range(range).map(|(sequence, count)| (*sequence, *count)).collect()
                    };
                    if of(&before) != of(&expected) {
                        prop_assert!(counts.dirty_blocks.contains(&block));
                    }
                }
            }
        }
    }

    #[test]
    fn a_range_finds_the_run_that_reaches_into_it() {
        let mut counts = Counts::default();
        counts.set(10, 20, 3);
        let runs: Vec<u64> = counts.runs(15, 16).map(|run| run.first).collect();
        assert_eq!((runs, counts.runs(20, 30).count()), (vec![10], 0));
    }
}
