//! The index as rows of keys and values, small enough for sled, and back. Owns the layout of the index
//! on disk that docs/STORE.md describes.

use std::collections::{BTreeMap, BTreeSet};

use leveret_store_api::LogId;

use super::chunk::{Chunk, Extent};
use super::counts::{BLOCK, CountRun, Counts};
use super::log::StoredRows;
use super::{Definition, Index, Log, Position};
use crate::bytes::{Cursor, push_bytes};

/// A row to write, or with `None` to remove.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// Values stay below this: sled would put large ones into files that it never syncs.
const PART_BYTES: usize = 6 * 1024;
const CHUNK_BYTES: usize = 24;

const PREFIX_CHUNKS: u8 = b'c';
const PREFIX_DEFINITION: u8 = b'd';
const PREFIX_LOG: u8 = b'l';
const PREFIX_COUNTS: u8 = b'n';
const PREFIX_CHECKPOINT: u8 = b'z';

const INDEX_VERSION: u32 = 1;

/// How far the rows go, and what cannot be found in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) position: Position,
    pub(crate) next_log: u64,
    /// Counts the openings of the journal.
    pub(crate) epoch: u32,
    /// Nothing was written after it.
    pub(crate) clean: bool,
}

/// Why rows could not be read.
#[derive(Debug)]
pub(crate) struct BadRow(pub(crate) &'static str);

pub(crate) fn checkpoint_row(checkpoint: &Checkpoint) -> Row {
    let mut value = Vec::with_capacity(40);
    value.extend_from_slice(&INDEX_VERSION.to_le_bytes());
    value.extend_from_slice(&checkpoint.position.lsn.to_le_bytes());
    value.extend_from_slice(&checkpoint.position.segment.to_le_bytes());
    value.extend_from_slice(&checkpoint.position.offset.to_le_bytes());
    value.extend_from_slice(&checkpoint.next_log.to_le_bytes());
    value.extend_from_slice(&checkpoint.epoch.to_le_bytes());
    value.push(u8::from(checkpoint.clean));
    (vec![PREFIX_CHECKPOINT], Some(value))
}

/// The rows of one log that changed since the last time; notes them as written.
pub(crate) fn log_rows(id: LogId, log: &mut Log, out: &mut Vec<Row>) {
    let mut key = vec![PREFIX_LOG];
    key.extend_from_slice(&id.0.to_be_bytes());
    out.push((key, Some(log.next().to_le_bytes().to_vec())));

    let dirty = std::mem::take(&mut log.dirty_segments);
    let mut values: BTreeMap<u32, Vec<u8>> =
        dirty.iter().map(|segment| (*segment, Vec::new())).collect();
    if !values.is_empty() {
        for chunk in log.chunks().filter(|chunk| !chunk.is_transient()) {
            if let Some(value) = values.get_mut(&chunk.segment) {
                push_chunk(value, chunk);
            }
        }
    }
    for (segment, value) in values {
        let parts: Vec<(u64, &[u8])> = value
            .chunks(PART_BYTES / CHUNK_BYTES * CHUNK_BYTES)
            .map(|part| (Cursor::new(part).u64().unwrap_or(0), part))
            .collect();
        // From the last to the first, and removing comes after: whatever of this a crash lets through,
        // every message that has not changed is still in one row or another.
        for (first, part) in parts.iter().rev() {
            out.push((chunks_key(id, segment, *first), Some(part.to_vec())));
        }
        let now: BTreeSet<u64> = parts.iter().map(|(first, _)| *first).collect();
        if let Some(before) = log.stored_parts.remove(&segment) {
            out.extend(
                before
                    .difference(&now)
                    .map(|first| (chunks_key(id, segment, *first), None)),
            );
        }
        if !now.is_empty() {
            log.stored_parts.insert(segment, now);
        }
    }
    if let Some(counts) = &mut log.counts {
        count_rows(id, counts, out);
        if counts.is_empty() && counts.stored_blocks.is_empty() {
            log.counts = None;
        }
    }
}

/// The rows of those numbers of one log that changed since the last time; notes them as written.
fn count_rows(id: LogId, counts: &mut Counts, out: &mut Vec<Row>) {
    for block in std::mem::take(&mut counts.dirty_blocks) {
        let mut value = Vec::new();
        for run in counts.of_block(block) {
            // Within its block, a place and a length fit 16 bits.
            let place = u16::try_from(run.first % BLOCK).unwrap_or(u16::MAX);
            let length = u16::try_from(run.end - run.first).unwrap_or(u16::MAX);
            value.extend_from_slice(&place.to_le_bytes());
            value.extend_from_slice(&length.to_le_bytes());
            value.extend_from_slice(&run.count.to_le_bytes());
        }
        if !value.is_empty() {
            counts.stored_blocks.insert(block);
            out.push((counts_key(id, block), Some(value)));
        } else if counts.stored_blocks.remove(&block) {
            out.push((counts_key(id, block), None));
        }
    }
}

/// Removes all rows of a log.
pub(crate) fn deleted_log_rows(id: LogId, stored: &StoredRows, out: &mut Vec<Row>) {
    let mut key = vec![PREFIX_LOG];
    key.extend_from_slice(&id.0.to_be_bytes());
    out.push((key, None));
    out.extend(
        stored
            .blocks
            .iter()
            .map(|block| (counts_key(id, *block), None)),
    );
    for (segment, firsts) in &stored.parts {
        out.extend(
            firsts
                .iter()
                .map(|first| (chunks_key(id, *segment, *first), None)),
        );
    }
}

/// The rows of one definition; notes them as written. A definition that changes gets new rows, so that
/// they never hold a mixture of two.
pub(crate) fn definition_rows(key: &[u8], definition: &mut Definition, out: &mut Vec<Row>) {
    let mut value = Vec::with_capacity(key.len() + definition.value.len() + 8);
    push_bytes(&mut value, key);
    push_bytes(&mut value, &definition.value);
    let mut parts = 0;
    for (number, part) in (0u16..).zip(value.chunks(PART_BYTES)) {
        out.push((definition_key(definition.row, number), Some(part.to_vec())));
        parts = number + 1;
    }
    definition.stored_parts = parts;
}

pub(crate) fn removed_definition_rows(row: u64, parts: u16, out: &mut Vec<Row>) {
    out.extend((0..parts).map(|number| (definition_key(row, number), None)));
}

fn chunks_key(log: LogId, segment: u32, first: u64) -> Vec<u8> {
    let mut key = vec![PREFIX_CHUNKS];
    key.extend_from_slice(&log.0.to_be_bytes());
    key.extend_from_slice(&segment.to_be_bytes());
    key.extend_from_slice(&first.to_be_bytes());
    key
}

fn counts_key(log: LogId, block: u64) -> Vec<u8> {
    let mut key = vec![PREFIX_COUNTS];
    key.extend_from_slice(&log.0.to_be_bytes());
    key.extend_from_slice(&block.to_be_bytes());
    key
}

fn definition_key(row: u64, part: u16) -> Vec<u8> {
    let mut key = vec![PREFIX_DEFINITION];
    key.extend_from_slice(&row.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn push_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    out.extend_from_slice(&chunk.first().to_le_bytes());
    out.extend_from_slice(&chunk.count().to_le_bytes());
    out.extend_from_slice(&chunk.offset.to_le_bytes());
    out.extend_from_slice(&chunk.span.to_le_bytes());
    out.extend_from_slice(&chunk.bytes.to_le_bytes());
}

/// Everything that the rows of an index say. Chunks are not yet in the index: their segments have to
/// be there first.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) chunks: Vec<(LogId, Chunk)>,
    pub(crate) logs: Vec<(LogId, u64)>,
    pub(crate) parts: Vec<(LogId, u32, u64)>,
    counts: Vec<(LogId, CountRun)>,
    blocks: Vec<(LogId, u64)>,
    definitions: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Loaded {
    /// Takes in one row. Rows come in key order.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), BadRow> {
        let mut cursor = Cursor::new(key);
        match cursor.u8() {
            Some(PREFIX_CHUNKS) => self
                .chunks_row(&mut cursor, value)
                .ok_or(BadRow("bad row of chunks")),
            Some(PREFIX_LOG) => self
                .log_row(&mut cursor, value)
                .ok_or(BadRow("bad row of a log")),
            Some(PREFIX_COUNTS) => self
                .counts_row(&mut cursor, value)
                .ok_or(BadRow("bad row of counts")),
            Some(PREFIX_DEFINITION) => {
                let row = be_u64(&mut cursor).ok_or(BadRow("bad key of a definition"))?;
                self.definitions
                    .entry(row)
                    .or_default()
                    .push(value.to_vec());
                Ok(())
            }
            Some(PREFIX_CHECKPOINT) => {
                self.checkpoint = Some(decode_checkpoint(value).ok_or(BadRow("bad checkpoint"))?);
                Ok(())
            }
            _ => Err(BadRow("unknown row")),
        }
    }

    fn chunks_row(&mut self, key: &mut Cursor<'_>, value: &[u8]) -> Option<()> {
        let log = LogId(be_u64(key)?);
        let segment = key.u32()?.swap_bytes();
        self.parts.push((log, segment, be_u64(key)?));
        let mut cursor = Cursor::new(value);
        while !cursor.is_empty() {
            let (first, count) = (cursor.u64()?, cursor.u32()?);
            let place = Extent {
                segment,
                offset: cursor.u32()?,
                span: cursor.u32()?,
            };
            self.chunks
                .push((log, Chunk::new(first, count, false, place, cursor.u32()?)));
        }
        Some(())
    }

    fn counts_row(&mut self, key: &mut Cursor<'_>, value: &[u8]) -> Option<()> {
        let (log, block) = (LogId(be_u64(key)?), be_u64(key)?);
        let start = block.checked_mul(BLOCK)?;
        self.blocks.push((log, block));
        let mut cursor = Cursor::new(value);
        while !cursor.is_empty() {
            let (place, length) = (u64::from(cursor.u16()?), u64::from(cursor.u16()?));
            let count = cursor.u32()?;
            if place + length > BLOCK {
                return None;
            }
            let first = start.checked_add(place)?;
            let end = first.checked_add(length)?;
            self.counts.push((log, CountRun { first, end, count }));
        }
        Some(())
    }

    fn log_row(&mut self, key: &mut Cursor<'_>, value: &[u8]) -> Option<()> {
        self.logs
            .push((LogId(be_u64(key)?), Cursor::new(value).u64()?));
        Some(())
    }

    /// Puts logs and definitions into an index, which is clean afterwards.
    pub(crate) fn fill(&mut self, index: &mut Index) -> Result<(), BadRow> {
        for (row, parts) in std::mem::take(&mut self.definitions) {
            let stored_parts = u16::try_from(parts.len()).unwrap_or(u16::MAX);
            index.next_row = index.next_row.max(row);
            let whole = parts.concat();
            let mut cursor = Cursor::new(&whole);
            let (Some(key), Some(value)) = (cursor.bytes(), cursor.bytes()) else {
                // A crash cut it short: the journal still has it.
                index.removed_rows.push((row, stored_parts));
                continue;
            };
            let definition = Definition {
                value: value.into(),
                row,
                stored_parts,
            };
            if let Some(older) = index.definitions.insert(key.into(), definition) {
                index.removed_rows.push((older.row, older.stored_parts));
            }
        }
        for (id, next) in self.logs.drain(..) {
            index.raise_next(id, next);
        }
        for (id, segment, first) in self.parts.drain(..) {
            let log = index.logs.entry(id).or_default();
            log.stored_parts.entry(segment).or_default().insert(first);
        }
        let mut stale = Vec::new();
        for (id, chunk) in self.chunks.drain(..) {
            // A crash amid a checkpoint left an older row beside a newer one: both are written again.
            let overlapped = index
                .logs
                .get(&id)
                .map(|log| log.segments_in(chunk.first(), chunk.end()));
            stale.extend(
                overlapped
                    .into_iter()
                    .flatten()
                    .map(|segment| (id, segment)),
            );
            index.insert_chunk(id, chunk);
        }
        for (id, run) in self.counts.drain(..) {
            index.set_counts(id, run.first, run.end, run.count);
        }
        for (id, block) in self.blocks.drain(..) {
            let log = index.logs.entry(id).or_default();
            let counts = log.counts.get_or_insert_default();
            counts.stored_blocks.insert(block);
        }
        if let Some(checkpoint) = &self.checkpoint {
            index.position = checkpoint.position;
            index.next_log = index.next_log.max(checkpoint.next_log);
        }
        index.set_clean();
        for (id, segment) in stale {
            index.mark_dirty(id, segment);
        }
        Ok(())
    }
}

fn decode_checkpoint(value: &[u8]) -> Option<Checkpoint> {
    let mut cursor = Cursor::new(value);
    if cursor.u32()? != INDEX_VERSION {
        return None;
    }
    let (lsn, segment, offset) = (cursor.u64()?, cursor.u32()?, cursor.u64()?);
    let position = Position {
        lsn,
        segment,
        offset,
    };
    Some(Checkpoint {
        position,
        next_log: cursor.u64()?,
        epoch: cursor.u32()?,
        clean: cursor.u8()? != 0,
    })
}

fn be_u64(cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.u64().map(u64::swap_bytes)
}
