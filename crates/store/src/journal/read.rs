//! Reading messages back: a look into the index, then whole chunks at a time. Owns nothing; runs on
//! any thread beside the commit thread.

use std::sync::Arc;

use parking_lot::Mutex;

use super::format::{
    Entries, EntryHeader, HEADER_BYTES, Operation, Operations, RecordHeader, Step, aligned,
};
use super::segment::Segment;
use crate::index::{Chunk, CountRun, Index};
use crate::{LogId, Payload, Sequence, StoreError, StoredMessage};

/// A look into the index takes so many chunks at a time.
const CHUNKS_MAX: usize = 16;

/// See [`MessageLog::read`](crate::MessageLog::read).
pub(super) fn read<P: Payload>(
    index: &Mutex<Index>,
    log: LogId,
    from: Sequence,
    count_max: usize,
    bytes_max: usize,
    out: &mut Vec<StoredMessage<P>>,
) -> Result<(), StoreError> {
    let mut from = from.0;
    let mut room = Room {
        count: count_max.max(1),
        bytes: bytes_max,
        any: false,
    };
    let mut buffer = Vec::new();
    loop {
        let chunks = chunks_from(&index.lock(), log, from, room.count);
        let Some(last) = chunks.last() else {
            return Ok(());
        };
        let end = last.chunk.end();
        for looked in &chunks {
            if !read_chunk(log, looked, from, &mut buffer, &mut room, out)? {
                return Ok(());
            }
        }
        from = end;
    }
}

/// What a read may still take.
struct Room {
    count: usize,
    bytes: usize,
    any: bool,
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        if self.count == 0 || (self.any && bytes > self.bytes) {
            return false;
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.any = true;
        true
    }
}

/// A chunk as a look into the index found it.
struct Looked {
    chunk: Chunk,
    /// Held open.
    segment: Arc<Segment>,
    /// The numbers of its messages.
    counts: Vec<CountRun>,
}

/// The next chunks of a log.
fn chunks_from(index: &Index, log: LogId, from: u64, count: usize) -> Vec<Looked> {
    let Some(entry) = index.logs.get(&log) else {
        return Vec::new();
    };
    let mut messages = 0;
    let mut chunks = Vec::new();
    for chunk in entry.chunks_from(from).take(CHUNKS_MAX) {
        if messages >= count {
            break;
        }
        if let Some(held) = index.segments.entries.get(&chunk.segment) {
            messages +=
                usize::try_from(chunk.end() - chunk.first().max(from)).unwrap_or(usize::MAX);
            chunks.push(Looked {
                chunk: *chunk,
                segment: Arc::clone(&held.segment),
                counts: entry.counts_in(chunk.first(), chunk.end()),
            });
        }
    }
    chunks
}

/// Reads one chunk; `false` if there is no more room.
fn read_chunk<P: Payload>(
    log: LogId,
    looked: &Looked,
    from: u64,
    buffer: &mut Vec<u8>,
    room: &mut Room,
    out: &mut Vec<StoredMessage<P>>,
) -> Result<bool, StoreError> {
    let Looked {
        chunk,
        segment,
        counts,
    } = looked;
    let mut counts = counts.iter().peekable();
    load(chunk, segment, buffer)?;
    let messages =
        messages(log, chunk, from, buffer).map_err(|reason| damaged(segment, chunk, reason))?;
    for found in messages {
        if !room.take(found.payload.len()) {
            return Ok(false);
        }
        let payload = P::from_stored(found.payload).ok_or_else(|| {
            damaged(
                segment,
                chunk,
                format!("message {} cannot be decoded", found.sequence.0),
            )
        })?;
        while counts.next_if(|run| run.end <= found.sequence.0).is_some() {}
        let count = counts.peek().filter(|run| run.first <= found.sequence.0);
        out.push(StoredMessage {
            count: count.map_or(0, |run| run.count),
            sequence: found.sequence,
            flags: found.entry.flags,
            time_ms: found.entry.time_ms,
            transient: chunk.is_transient(),
            payload,
            stored_bytes: found.entry.payload_bytes,
        });
    }
    Ok(true)
}

/// A message found in a chunk.
pub(super) struct Found<'a> {
    pub(super) sequence: Sequence,
    pub(super) entry: EntryHeader,
    pub(super) payload: &'a [u8],
}

/// The live messages of a chunk from `from` on, in sequence order, out of the chunk's bytes. What does
/// not add up is told as text.
pub(super) fn messages<'a>(
    log: LogId,
    chunk: &Chunk,
    from: u64,
    bytes: &'a [u8],
) -> Result<Vec<Found<'a>>, String> {
    let low = chunk.first().max(from);
    let wanted = usize::try_from(chunk.end().saturating_sub(low)).unwrap_or(usize::MAX);
    let mut found = Vec::with_capacity(wanted.min(bytes.len() / 16));
    let mut walk = Operations::new(bytes, 0);
    loop {
        match walk.step() {
            Step::Operation(_, Operation::Run { header, entries })
                if header.log == log && header.first.0 < chunk.end() && header.end() > low =>
            {
                if !header.matches(entries) {
                    return Err(format!("wrong checksum at message {}", header.first.0));
                }
                for (sequence, (entry, payload)) in
                    (header.first.0..header.end()).zip(Entries::new(entries))
                {
                    if (low..chunk.end()).contains(&sequence) {
                        found.push(Found {
                            sequence: Sequence(sequence),
                            entry,
                            payload,
                        });
                    }
                }
            }
            Step::Operation(..) => {}
            Step::Bad => return Err(format!("no operation {} bytes further on", walk.position())),
            Step::End => match next_record(bytes, chunk.offset, walk.position()) {
                Some(next) => walk.seek(next),
                None => break,
            },
        }
    }
    if !found.is_sorted_by(|one, next| one.sequence < next.sequence) {
        // Written more than once within the chunk: the later one counts.
        found.reverse();
        found.sort_by_key(|found| found.sequence);
        found.dedup_by_key(|found| found.sequence);
    }
    if found.len() != wanted {
        return Err(format!(
            "{} messages of {wanted} from {low} on",
            found.len()
        ));
    }
    Ok(found)
}

/// Where the operations of the record after this one begin, if it begins within the chunk.
fn next_record(bytes: &[u8], offset: u32, position: usize) -> Option<usize> {
    let start = aligned(u64::from(offset) + position as u64) - u64::from(offset);
    let start = usize::try_from(start).ok()?;
    RecordHeader::decode(bytes.get(start..)?)?;
    Some(start + HEADER_BYTES)
}

fn damaged(segment: &Segment, chunk: &Chunk, reason: String) -> StoreError {
    let path = segment.path().to_path_buf();
    StoreError::Damaged {
        path,
        offset: u64::from(chunk.offset),
        reason,
    }
}

/// Reads the bytes of a chunk.
pub(super) fn load(
    chunk: &Chunk,
    segment: &Segment,
    buffer: &mut Vec<u8>,
) -> Result<(), StoreError> {
    buffer.resize(chunk.span as usize, 0);
    let offset = u64::from(chunk.offset);
    let read = segment
        .file
        .read_at(buffer, offset)
        .map_err(|source| StoreError::Io {
            path: segment.path().to_path_buf(),
            offset,
            source,
        })?;
    if read < buffer.len() {
        return Err(damaged(
            segment,
            chunk,
            format!("the file ends {} bytes early", buffer.len() - read),
        ));
    }
    Ok(())
}
