//! Compaction: copies what still lives in an old, mostly dead segment forward, so that the segment can
//! be given back. Owns the choice and the pace; the copies are ordinary records of the commit thread.

use std::sync::Arc;
use std::time::Duration;

use super::checkpoint::pause;
use super::encoder::Copied;
use super::read::{load, messages};
use super::segment::{Contents, Segment};
use super::{Internal, Shared};
use crate::failpoint::{self, Failpoint};
use crate::index::{Chunk, Index};
use crate::{LogId, Payload, StoreError};

/// A segment with less than one in so many of its bytes live is compacted.
const LIVE_SHARE: u64 = 4;
/// At most so many segments in one go: as many as the journal grows by between two checkpoints, and
/// one more.
const SEGMENTS_MAX: usize = 2;
/// One record takes about so many bytes of copies.
const COPY_BYTES: usize = 256 * 1024;

/// Compacts what is worth it among the segments before `current`.
pub(super) fn run<P: Payload>(shared: &Arc<Shared<P>>, current: u32) {
    let candidates: Vec<u32> = {
        let index = shared.index.lock();
        let mostly_dead = index.segments.entries.iter().filter(|(number, entry)| {
            **number < current
                && entry.live > 0
                && entry.segment.holds == Contents::Records
                && entry.live_bytes.saturating_mul(LIVE_SHARE) < entry.segment.capacity
        });
        mostly_dead
            .map(|(number, _)| *number)
            .take(SEGMENTS_MAX)
            .collect()
    };
    for number in candidates {
        if !compact(shared, number) {
            return;
        }
    }
}

/// Copies everything live out of one segment; `false` if the journal has stopped.
fn compact<P: Payload>(shared: &Arc<Shared<P>>, number: u32) -> bool {
    let (segment, logs) = {
        let index = shared.index.lock();
        let Some(entry) = index.segments.entries.get(&number) else {
            return true;
        };
        let logs: Vec<LogId> = index.logs.keys().copied().collect();
        (Arc::clone(&entry.segment), logs)
    };
    let mut batch = Batch {
        pieces: Vec::new(),
        bytes: 0,
    };
    let mut buffer = Vec::new();
    for log in logs {
        let chunks = chunks_in(&shared.index.lock(), log, number);
        for chunk in chunks {
            if let Err(error) = copy(log, &chunk, &segment, &mut buffer, &mut batch) {
                tracing::error!("a segment stays because it cannot be read: {error}");
                return true;
            }
            if batch.bytes >= COPY_BYTES && !batch.write(shared) {
                return false;
            }
        }
    }
    batch.pieces.is_empty() || batch.write(shared)
}

/// Copies that go into one record.
struct Batch {
    pieces: Vec<Copied>,
    bytes: usize,
}

impl Batch {
    fn write<P: Payload>(&mut self, shared: &Arc<Shared<P>>) -> bool {
        self.bytes = 0;
        let written = shared.write_internal(Internal::Copied(std::mem::take(&mut self.pieces)));
        failpoint::reached(Failpoint::InCompaction);
        pause(shared, Duration::from_millis(shared.options.copy_pause_ms));
        written
    }
}

fn chunks_in(index: &Index, log: LogId, segment: u32) -> Vec<Chunk> {
    let Some(log) = index.logs.get(&log) else {
        return Vec::new();
    };
    log.chunks()
        .filter(|chunk| chunk.segment == segment)
        .copied()
        .collect()
}

/// Adds the messages of a chunk, as they are now.
fn copy(
    log: LogId,
    chunk: &Chunk,
    segment: &Segment,
    buffer: &mut Vec<u8>,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    load(chunk, segment, buffer)?;
    let found = messages(log, chunk, chunk.first(), buffer).map_err(|reason| {
        let path = segment.path().to_path_buf();
        StoreError::Damaged {
            path,
            offset: u64::from(chunk.offset),
            reason,
        }
    })?;
    batch.bytes += found
        .iter()
        .map(|message| message.payload.len())
        .sum::<usize>();
    batch.pieces.push(Copied {
        log,
        segment: segment.number(),
        transient: chunk.is_transient(),
        messages: found
            .into_iter()
            .map(|message| (message.sequence, message.entry, message.payload.to_vec()))
            .collect(),
    });
    Ok(())
}
