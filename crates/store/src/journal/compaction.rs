//! Compaction: copies what still lives in an old, mostly dead segment forward, so that the segment can
//! be given back. Owns the choice and the pace; the copies are ordinary records of the commit thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leveret_store_api::failpoint::{self, Failpoint};
use leveret_store_api::{LogId, Payload};

use super::encoder::Copied;
use super::found::Content;
use super::pace::pause;
use super::read::{load, messages};
use super::shared::{Internal, Shared};
use crate::index::{Chunk, Index};
use crate::segments::run::EntryHeader;
use crate::segments::segment::{Contents, Segment};

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
                && is_mostly_dead(entry.live_bytes, entry.segment.capacity)
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

/// So little lives in a segment of this size that it is worth its copy.
pub(super) fn is_mostly_dead(live_bytes: u64, bytes: u64) -> bool {
    live_bytes.saturating_mul(LIVE_SHARE) < bytes
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
                let path = segment.path().display();
                tracing::error!("{path} stays because the system refuses to read it: {error}");
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

/// Adds the messages of a chunk, as they are now. What is damaged keeps its place, without its bytes.
fn copy(
    log: LogId,
    chunk: &Chunk,
    segment: &Segment,
    buffer: &mut Vec<u8>,
    batch: &mut Batch,
) -> io::Result<()> {
    load(chunk, segment, buffer)?;
    let copied: Vec<_> = messages(log, chunk, chunk.first(), buffer)
        .into_iter()
        .map(|found| {
            let sequence = found.sequence;
            match found.content {
                Content::Whole(payload) if found.entry.head_crc == 0 => {
                    let entry = found.entry.checked(log, sequence, payload);
                    (sequence, entry, payload.to_vec())
                }
                Content::Whole(payload) => (sequence, found.entry, payload.to_vec()),
                Content::Head(head) => (
                    sequence,
                    found.entry.without_body(log, sequence, head),
                    head.to_vec(),
                ),
                Content::Nothing => (sequence, EntryHeader::unreadable(log, sequence), Vec::new()),
            }
        })
        .collect();
    batch.bytes += copied
        .iter()
        .map(|(_, _, payload)| payload.len())
        .sum::<usize>();
    batch.pieces.push(Copied {
        log,
        segment: segment.number(),
        transient: chunk.is_transient(),
        messages: copied,
    });
    Ok(())
}
