//! What is where: logs and their chunks, segments and what lives in them, definitions. Kept in
//! memory, brought to disk at checkpoints. Owns no files and takes no locks of its own.

#[cfg(debug_assertions)]
mod check;
mod chunk;
mod counts;
pub(crate) mod disk;
mod log;
pub(crate) mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leveret_store_api::LogId;
use leveret_store_api::broken::without;
use rustc_hash::FxHashMap;

pub(crate) use chunk::{Chunk, Extent};
pub(crate) use counts::CountRun;
use log::SegmentCounts;
pub(crate) use log::{Holds, Log};

use crate::segments::body::{Found, find_run};
use crate::segments::run::RunHeader;
use crate::segments::segment::{Contents, Segment};

/// How far the index goes: everything up to this record is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The newest record.
    pub(crate) lsn: u64,
    /// The segment the next record goes to, if it has room.
    pub(crate) segment: u32,
    /// Where in that segment.
    pub(crate) offset: u64,
}

/// One segment as the index sees it.
pub(crate) struct SegmentEntry {
    pub(crate) segment: Arc<Segment>,
    /// Live messages in it and their payload bytes.
    pub(crate) live: u64,
    pub(crate) live_bytes: u64,
    /// Bytes of records in it.
    pub(crate) used: u64,
}

/// A definition and its rows in the index on disk.
#[derive(Clone)]
pub(crate) struct Definition {
    pub(crate) value: Arc<[u8]>,
    /// Names its rows.
    pub(crate) row: u64,
    /// How many parts it has on disk.
    pub(crate) stored_parts: u16,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) logs: FxHashMap<LogId, Log>,
    pub(crate) segments: Segments,
    pub(crate) definitions: BTreeMap<Arc<[u8]>, Definition>,
    pub(crate) position: Position,
    /// Logs with changes since the last checkpoint; those that are not there any more were deleted.
    pub(crate) dirty_logs: Vec<LogId>,
    /// Deleted since the last checkpoint, with the rows they have on disk.
    pub(crate) deleted_logs: Vec<(LogId, log::StoredRows)>,
    /// Deleted, and nobody has yet let go of what else is kept for them.
    pub(crate) gone_logs: Vec<LogId>,
    /// Definitions whose rows are to be written, and rows to remove with their number of parts.
    pub(crate) dirty_definitions: BTreeSet<Arc<[u8]>>,
    pub(crate) removed_rows: Vec<(u64, u16)>,
    pub(crate) next_row: u64,
    /// Numbers are kept for messages that are not there: while the journal is read back, a copy of them may
    /// come later.
    pub(crate) keeps_all_counts: bool,
    /// One above the highest log id seen.
    pub(crate) next_log: u64,
}

/// The segments that hold records.
#[derive(Default)]
pub(crate) struct Segments {
    pub(crate) entries: BTreeMap<u32, SegmentEntry>,
    /// How often a segment has become empty since the last checkpoint.
    pub(crate) emptied: u32,
}

impl SegmentCounts for Segments {
    fn added(&mut self, segment: u32, count: u32, bytes: u32) {
        if let Some(entry) = self.entries.get_mut(&segment) {
            entry.live += u64::from(count);
            entry.live_bytes += u64::from(bytes);
        }
    }

    fn removed(&mut self, segment: u32, count: u32, bytes: u32) {
        if let Some(entry) = self.entries.get_mut(&segment) {
            entry.live = without(entry.live, u64::from(count), "messages of a segment");
            entry.live_bytes = without(entry.live_bytes, u64::from(bytes), "bytes of a segment");
            if entry.live == 0 {
                self.emptied += 1;
            }
        }
    }
}

impl Segments {
    /// A segment that begins to be used.
    pub(crate) fn insert(&mut self, segment: Arc<Segment>) {
        let entry = SegmentEntry {
            live: 0,
            live_bytes: 0,
            used: 0,
            segment,
        };
        self.entries.insert(entry.segment.number(), entry);
    }
}

impl Index {
    pub(crate) fn insert_chunk(&mut self, log: LogId, chunk: Chunk) {
        self.next_log = self.next_log.max(log.0.saturating_add(1));
        let entry = self.logs.entry(log).or_default();
        entry.insert(chunk, &mut self.segments);
        mark(&mut self.dirty_logs, log, entry);
    }

    /// The run at this place of a segment is the one with this header, whether or not its message is what was
    /// written.
    pub(crate) fn holds_run(&self, segment: u32, offset: u32, header: &RunHeader) -> bool {
        self.segments.entries.get(&segment).is_some_and(|entry| {
            let found = find_run(&entry.segment, u64::from(offset), header);
            found.is_ok_and(|found| found != Found::Nothing)
        })
    }

    pub(crate) fn acknowledge(&mut self, log: LogId, first: u64, count: u64) {
        if let Some(entry) = self.logs.get_mut(&log) {
            entry.remove(first, first.saturating_add(count), &mut self.segments);
            entry.cut_counts(first, first.saturating_add(count));
            mark(&mut self.dirty_logs, log, entry);
        }
    }

    /// Gives the messages that live in a range of sequences a number.
    pub(crate) fn set_counts(&mut self, log: LogId, first: u64, end: u64, count: u32) {
        let Some(entry) = self.logs.get_mut(&log) else {
            // It was deleted, or is not read back yet.
            return;
        };
        if self.keeps_all_counts {
            entry.set_counts(first, end, count);
        } else {
            entry.set_live_counts(first, end, count);
        }
        mark(&mut self.dirty_logs, log, entry);
    }

    /// From now on only messages that live have numbers.
    pub(crate) fn keep_live_counts(&mut self) {
        self.keeps_all_counts = false;
        for (id, log) in &mut self.logs {
            log.keep_live_counts();
            if log
                .counts
                .as_ref()
                .is_some_and(|it| !it.dirty_blocks.is_empty())
            {
                mark(&mut self.dirty_logs, *id, log);
            }
        }
    }

    /// Sequences of `log` below `next` were used, though nothing of them may have been written.
    pub(crate) fn raise_next(&mut self, log: LogId, next: u64) {
        self.next_log = self.next_log.max(log.0.saturating_add(1));
        let entry = self.logs.entry(log).or_default();
        entry.raise_next(next);
        mark(&mut self.dirty_logs, log, entry);
    }

    pub(crate) fn delete_log(&mut self, log: LogId) {
        self.gone_logs.push(log);
        if let Some(mut entry) = self.logs.remove(&log) {
            entry.remove(0, u64::MAX, &mut self.segments);
            self.deleted_logs.push((log, entry.stored_rows()));
        }
    }

    pub(crate) fn put_definition(&mut self, key: Arc<[u8]>, value: Arc<[u8]>) {
        // Never over rows that are on disk: half of a new value must not mix with half of an old one.
        if let Some(old) = self
            .definitions
            .get(&key)
            .filter(|old| old.stored_parts > 0)
        {
            self.removed_rows.push((old.row, old.stored_parts));
        }
        self.next_row += 1;
        let definition = Definition {
            value,
            row: self.next_row,
            stored_parts: 0,
        };
        self.dirty_definitions.insert(Arc::clone(&key));
        self.definitions.insert(key, definition);
    }

    pub(crate) fn remove_definition(&mut self, key: &[u8]) {
        if let Some(old) = self.definitions.remove(key) {
            self.dirty_definitions.remove(key);
            self.removed_rows.push((old.row, old.stored_parts));
        }
    }

    /// Segments in which nothing lives and to which nothing more is written.
    pub(crate) fn dead_segments(&self) -> impl Iterator<Item = u32> {
        let current = self.position.segment;
        let is_over = move |entry: &SegmentEntry| {
            entry.segment.number() < current || entry.segment.holds == Contents::Body
        };
        (self.segments.entries.iter())
            .filter(move |(_, entry)| entry.live == 0 && is_over(entry))
            .map(|(number, _)| *number)
    }

    /// What lives in a range of sequences; `None` if nothing does.
    pub(crate) fn holds(&self, log: LogId, first: u64, count: u64) -> Option<Holds> {
        self.logs
            .get(&log)?
            .holds(first, first.saturating_add(count))
    }

    /// The rows on disk say the same as this index.
    pub(crate) fn set_clean(&mut self) {
        self.dirty_logs.clear();
        for log in self.logs.values_mut() {
            log.is_dirty = false;
            log.dirty_segments.clear();
            if let Some(counts) = &mut log.counts {
                counts.dirty_blocks.clear();
            }
        }
        self.dirty_definitions.clear();
    }

    /// Makes the next checkpoint write what the log has in a segment.
    pub(crate) fn mark_dirty(&mut self, log: LogId, segment: u32) {
        if let Some(entry) = self.logs.get_mut(&log) {
            entry.dirty_segments.insert(segment);
            mark(&mut self.dirty_logs, log, entry);
        }
    }

    /// Makes the next checkpoint write everything.
    pub(crate) fn mark_all(&mut self) {
        self.dirty_logs.clear();
        for (id, log) in &mut self.logs {
            let segments: BTreeSet<u32> = log
                .chunks()
                .filter(|chunk| !chunk.is_transient())
                .map(|chunk| chunk.segment)
                .collect();
            log.dirty_segments = segments;
            if let Some(counts) = &mut log.counts {
                counts.mark_all();
            }
            // Whoever took the list of dirty logs has not come to all of them.
            log.is_dirty = true;
            self.dirty_logs.push(*id);
        }
        self.dirty_definitions = self.definitions.keys().cloned().collect();
    }
}

fn mark(dirty_logs: &mut Vec<LogId>, log: LogId, entry: &mut Log) {
    if !entry.is_dirty {
        entry.is_dirty = true;
        dirty_logs.push(log);
    }
}
