//! The index of one log: its chunks in sequence order. Owns inserting, replacing and acknowledging;
//! knows no files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leveret_store_api::broken::without;

use super::chunk::Chunk;
use super::counts::{CountRun, Counts};

/// What changes in a segment when chunks of a log come and go.
pub(crate) trait SegmentCounts {
    fn added(&mut self, segment: u32, count: u32, bytes: u32);
    fn removed(&mut self, segment: u32, count: u32, bytes: u32);
}

/// What there is in a range of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Only messages that need not be kept.
    Transient,
    /// Messages of which at least one must be kept.
    Persistent,
}

/// The rows of a log: by segment, the first sequences of their parts.
pub(crate) type StoredParts = BTreeMap<u32, BTreeSet<u64>>;

/// All rows of a log in the index on disk.
#[derive(Default)]
pub(crate) struct StoredRows {
    pub(crate) parts: StoredParts,
    /// Blocks of numbers.
    pub(crate) blocks: BTreeSet<u64>,
}

/// One log.
#[derive(Default)]
pub(crate) struct Log {
    /// Disjoint, in ascending order.
    chunks: VecDeque<Chunk>,
    live: u64,
    bytes: u64,
    next: u64,
    /// Segments in which this log's persistent chunks changed since the last checkpoint.
    pub(crate) dirty_segments: BTreeSet<u32>,
    /// Listed among the index's dirty logs.
    pub(crate) is_dirty: bool,
    /// The rows this log has in the index on disk.
    pub(crate) stored_parts: StoredParts,
    /// The numbers of its messages, if any ever had one.
    pub(crate) counts: Option<Box<Counts>>,
}

impl Log {
    pub(crate) fn live(&self) -> u64 {
        self.live
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn first(&self) -> u64 {
        self.chunks.front().map_or(self.next, Chunk::first)
    }

    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// The chunks that hold anything at or above `from`.
    pub(crate) fn chunks_from(&self, from: u64) -> impl Iterator<Item = &Chunk> {
        self.chunks.range(self.position(from)..)
    }

    /// Sequences below `next` have been used.
    pub(crate) fn raise_next(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Puts a chunk in its place; what was there under the same sequences is replaced.
    pub(crate) fn insert(&mut self, chunk: Chunk, counts: &mut impl SegmentCounts) {
        let (count, bytes) = (chunk.count(), chunk.bytes);
        if count == 0 {
            return;
        }
        self.next = self.next.max(chunk.end());
        if self
            .chunks
            .back()
            .is_none_or(|last| last.end() <= chunk.first())
        {
            self.mark_dirty(&chunk);
            let merged = self
                .chunks
                .back_mut()
                .is_some_and(|last| last.try_merge(&chunk));
            if !merged {
                self.push_back(chunk);
            }
        } else {
            self.remove(chunk.first(), chunk.end(), counts);
            self.mark_dirty(&chunk);
            let at = self.position(chunk.first());
            let merged = at > 0
                && self
                    .chunks
                    .get_mut(at - 1)
                    .is_some_and(|before| before.try_merge(&chunk));
            if !merged {
                self.chunks.insert(at, chunk);
            }
        }
        self.live += u64::from(count);
        self.bytes += u64::from(bytes);
        counts.added(chunk.segment, count, bytes);
    }

    /// Takes out every live message from `first` up to but not including `end`.
    pub(crate) fn remove(&mut self, first: u64, end: u64, counts: &mut impl SegmentCounts) {
        let mut at = self.position(first);
        while let Some(chunk) = self.chunks.get_mut(at).filter(|chunk| chunk.first() < end) {
            let before = *chunk;
            let (count, bytes);
            if chunk.first() >= first && chunk.end() <= end {
                (count, bytes) = (chunk.count(), chunk.bytes);
                if at == 0 {
                    self.chunks.pop_front();
                } else {
                    self.chunks.remove(at);
                }
            } else if chunk.first() >= first {
                (count, bytes) = chunk.trim_front(end);
            } else {
                // The front part stays; what lies behind `end` becomes a chunk of its own.
                let mut behind = *chunk;
                chunk.trim_back(first);
                behind.trim_front(end.min(behind.end()));
                let (kept, kept_bytes) =
                    (chunk.count() + behind.count(), chunk.bytes + behind.bytes);
                (count, bytes) = (
                    before.count() - kept,
                    without(before.bytes, kept_bytes, "bytes of a chunk"),
                );
                at += 1;
                if behind.count() > 0 {
                    self.chunks.insert(at, behind);
                    at += 1;
                }
            }
            self.live -= u64::from(count);
            self.bytes = without(self.bytes, u64::from(bytes), "bytes of a log");
            counts.removed(before.segment, count, bytes);
            self.mark_dirty(&before);
        }
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
            self.bytes = 0;
        } else if self.chunks.capacity() > 64 && self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }

    /// Gives a range of sequences a number, live or not.
    pub(crate) fn set_counts(&mut self, first: u64, end: u64, count: u32) {
        if first < end {
            self.counts.get_or_insert_default().set(first, end, count);
        }
    }

    /// Gives those that live in a range of sequences, and outlive a restart, a number.
    pub(crate) fn set_live_counts(&mut self, first: u64, end: u64, count: u32) {
        for (first, end) in self.kept_ranges(first, end) {
            self.set_counts(first, end, count);
        }
    }

    /// The ranges of what lives within a range and outlives a restart.
    pub(crate) fn kept_ranges(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        self.chunks_from(first)
            .take_while(|chunk| chunk.first() < end)
            .filter(|chunk| !chunk.is_transient())
            .map(|chunk| (chunk.first().max(first), chunk.end().min(end)))
            .collect()
    }

    /// A range of sequences has no numbers any more.
    pub(crate) fn cut_counts(&mut self, first: u64, end: u64) {
        if let Some(counts) = &mut self.counts {
            counts.cut(first, end);
        }
    }

    /// Forgets the numbers of what does not live.
    pub(crate) fn keep_live_counts(&mut self) {
        if self.counts.is_none() {
            return;
        }
        let mut from = 0;
        for (first, end) in self.kept_ranges(0, u64::MAX) {
            self.cut_counts(from, first);
            from = end;
        }
        self.cut_counts(from, u64::MAX);
    }

    /// The numbers within a range of sequences.
    pub(crate) fn counts_in(&self, first: u64, end: u64) -> Vec<CountRun> {
        let counts = self.counts.as_ref().filter(|counts| !counts.is_empty());
        counts.map_or(Vec::new(), |counts| counts.runs(first, end).collect())
    }

    /// Lets go of the log; answers its rows in the index on disk.
    pub(crate) fn stored_rows(self) -> StoredRows {
        StoredRows {
            parts: self.stored_parts,
            blocks: self.counts.map(|it| it.stored_blocks).unwrap_or_default(),
        }
    }

    /// What lives in this range.
    pub(crate) fn holds(&self, first: u64, end: u64) -> Option<Holds> {
        let mut found = self
            .chunks_from(first)
            .take_while(|chunk| chunk.first() < end)
            .peekable();
        found.peek()?;
        Some(if found.any(|chunk| !chunk.is_transient()) {
            Holds::Persistent
        } else {
            Holds::Transient
        })
    }

    /// The segments of what lives in a range.
    pub(crate) fn segments_in(&self, first: u64, end: u64) -> Vec<u32> {
        let chunks = self
            .chunks_from(first)
            .take_while(|chunk| chunk.first() < end);
        chunks.map(|chunk| chunk.segment).collect()
    }

    /// The live ranges `[first, end)` within a range that lie in `segment`.
    pub(crate) fn ranges_in(&self, segment: u32, first: u64, end: u64) -> Vec<(u64, u64)> {
        self.chunks_from(first)
            .take_while(|chunk| chunk.first() < end)
            .filter(|chunk| chunk.segment == segment)
            .map(|chunk| (chunk.first().max(first), chunk.end().min(end)))
            .collect()
    }

    /// The first chunk that ends after `sequence`.
    fn position(&self, sequence: u64) -> usize {
        if self
            .chunks
            .front()
            .is_none_or(|front| front.end() > sequence)
        {
            return 0;
        }
        self.chunks.partition_point(|chunk| chunk.end() <= sequence)
    }

    /// Grows by an eighth, not by doubling: in a long backlog the slack would be most of the memory.
    fn push_back(&mut self, chunk: Chunk) {
        if self.chunks.len() == self.chunks.capacity() {
            self.chunks.reserve_exact((self.chunks.len() / 8).max(4));
        }
        self.chunks.push_back(chunk);
    }

    fn mark_dirty(&mut self, chunk: &Chunk) {
        if !chunk.is_transient() {
            self.dirty_segments.insert(chunk.segment);
        }
    }
}
