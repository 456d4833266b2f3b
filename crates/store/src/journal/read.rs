//! Reading messages back: a look into the index, then whole chunks at a time. Owns nothing; runs on
//! any thread beside the commit thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leveret_store_api::{DamagedHead, DamagedMessage, LogId, Payload, Sequence, StoredMessage};
use parking_lot::Mutex;

use super::aside::{Aside, SetAside};
use super::format::{HEADER_BYTES, Operation, Operations, RecordHeader, Step, aligned};
use super::found::{Content, Found, add_run};
use super::salvage::salvage;
use crate::clock;
use crate::index::{Chunk, CountRun, Index};
use crate::segments::run::EntryHeader;
use crate::segments::segment::Segment;

/// A look into the index takes so many chunks at a time.
const CHUNKS_MAX: usize = 16;
/// A read that has found so many damaged messages ends with their chunk.
const DAMAGED_MAX: usize = 1024;
/// What the system refuses to read is asked for again after each of these pauses …
const READ_AGAIN: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(2)];
/// … and then so many bytes at a time, so that what lies beside it is had.
const PIECE_BYTES: usize = 4096;

/// See [`MessageLog::read`](leveret_store_api::MessageLog::read).
pub(super) fn read<P: Payload>(
    index: &Mutex<Index>,
    aside: &SetAside,
    log: LogId,
    from: Sequence,
    count_max: usize,
    bytes_max: usize,
    out: &mut Vec<StoredMessage<P>>,
) -> Vec<DamagedMessage<P>> {
    let mut from = from.0;
    let mut room = Room {
        count: count_max.max(1),
        bytes: bytes_max,
        any: false,
    };
    let mut buffer = Vec::new();
    let mut damaged = Vec::new();
    loop {
        let chunks = chunks_from(&index.lock(), log, from, room.count);
        let Some(last) = chunks.last() else {
            return damaged;
        };
        let end = last.chunk.end();
        for looked in &chunks {
            let before = damaged.len();
            let has_room = read_chunk(log, looked, from, &mut buffer, &mut room, out, &mut damaged);
            if let Some(new) = damaged.get(before..).filter(|new| !new.is_empty()) {
                aside.note(
                    &new.iter()
                        .map(|it| looked.aside(log, it))
                        .collect::<Vec<_>>(),
                );
            }
            if !has_room || damaged.len() >= DAMAGED_MAX {
                return damaged;
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

impl Looked {
    /// What is told about a message of it that cannot be read.
    fn aside<P>(&self, log: LogId, damaged: &DamagedMessage<P>) -> Aside {
        Aside {
            log,
            sequence: damaged.sequence,
            path: self.segment.path().to_path_buf(),
            offset: self.chunk.offset,
            is_lasting: damaged.is_lasting,
        }
    }
}

/// Reads one chunk; `false` if there is no more room.
fn read_chunk<P: Payload>(
    log: LogId,
    looked: &Looked,
    from: u64,
    buffer: &mut Vec<u8>,
    room: &mut Room,
    out: &mut Vec<StoredMessage<P>>,
    damaged: &mut Vec<DamagedMessage<P>>,
) -> bool {
    let Looked {
        chunk,
        segment,
        counts,
    } = looked;
    let mut counts = counts.iter().peekable();
    let is_lasting = load(chunk, segment, buffer).is_ok();
    for found in messages(log, chunk, from, buffer) {
        let (sequence, entry) = (found.sequence, found.entry);
        if !room.take(found.content.bytes().len()) {
            return false;
        }
        while counts.next_if(|run| run.end <= sequence.0).is_some() {}
        let count = counts.peek().filter(|run| run.first <= sequence.0);
        let count = count.map_or(0, |run| run.count);
        if let Content::Whole(payload) = found.content
            && let Some(payload) = P::from_stored(payload)
        {
            out.push(StoredMessage {
                count,
                sequence,
                flags: entry.flags,
                time_ms: entry.time_ms,
                transient: chunk.is_transient(),
                payload,
                stored_bytes: entry.payload_bytes,
            });
            continue;
        }
        let head = match found.content {
            Content::Whole(_) | Content::Nothing => None,
            Content::Head(head) => P::from_head(head),
        };
        damaged.push(DamagedMessage {
            sequence,
            head: head.map(|payload| DamagedHead {
                flags: entry.flags,
                time_ms: entry.time_ms,
                count,
                payload,
            }),
            is_lasting,
        });
    }
    true
}

/// The live messages of a chunk from `from` on, in sequence order, out of the chunk's bytes: all of them, whatever
/// can be read of each.
pub(super) fn messages<'a>(
    log: LogId,
    chunk: &Chunk,
    from: u64,
    bytes: &'a [u8],
) -> Vec<Found<'a>> {
    let low = chunk.first().max(from);
    let wanted = usize::try_from(chunk.end().saturating_sub(low)).unwrap_or(usize::MAX);
    let mut found = Vec::with_capacity(wanted.min(bytes.len() / 16));
    let mut walk = Operations::new(bytes, 0);
    loop {
        match walk.step() {
            Step::Operation(_, Operation::Run { header, entries })
                if header.log == log && header.first.0 < chunk.end() && header.end() > low =>
            {
                add_run(
                    &header,
                    entries,
                    &|sequence| (low..chunk.end()).contains(&sequence),
                    &mut found,
                );
            }
            Step::Operation(..) => {}
            Step::Bad => break,
            Step::End => match next_record(bytes, chunk.offset, walk.position()) {
                Some(next) => walk.seek(next),
                None => break,
            },
        }
    }
    settle(&mut found);
    if found.len() != wanted {
        let mut missing: Vec<u64> = (low..chunk.end()).collect();
        missing.retain(|sequence| find(&found, *sequence).is_err());
        salvage(log, &mut missing, bytes, &mut found);
        found.extend(missing.into_iter().map(|sequence| Found {
            sequence: Sequence(sequence),
            entry: EntryHeader::default(),
            content: Content::Nothing,
        }));
        settle(&mut found);
    }
    found
}

/// Into sequence order, each once: what was written later within the chunk counts.
fn settle(found: &mut Vec<Found<'_>>) {
    if !found.is_sorted_by(|one, next| one.sequence < next.sequence) {
        found.reverse();
        found.sort_by_key(|found| found.sequence);
        found.dedup_by_key(|found| found.sequence);
    }
}

fn find(found: &[Found<'_>], sequence: u64) -> Result<usize, usize> {
    found.binary_search_by_key(&sequence, |found| found.sequence.0)
}

/// Where the operations of the record after this one begin, if it begins within the chunk.
fn next_record(bytes: &[u8], offset: u32, position: usize) -> Option<usize> {
    let start = aligned(u64::from(offset) + position as u64) - u64::from(offset);
    let start = usize::try_from(start).ok()?;
    RecordHeader::decode(bytes.get(start..)?)?;
    Some(start + HEADER_BYTES)
}

/// Reads the bytes of a chunk. Where the file has none, there are zeros.
///
/// # Errors
/// The system refuses to read some of them, which are zeros as well.
pub(super) fn load(chunk: &Chunk, segment: &Segment, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.resize(chunk.span as usize, 0);
    let offset = u64::from(chunk.offset);
    let mut refused = match segment.file.read_at(buffer, offset) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    for pause in READ_AGAIN {
        clock::pause(pause);
        match segment.file.read_at(buffer, offset) {
            Ok(_) => return Ok(()),
            Err(error) => refused = error,
        }
    }
    let mut result = Ok(());
    for (piece, at) in buffer
        .chunks_mut(PIECE_BYTES)
        .zip((offset..).step_by(PIECE_BYTES))
    {
        if segment.file.read_at(piece, at).is_err() {
            piece.fill(0);
            result = Err(());
        }
    }
    result.map_err(|()| refused)
}
