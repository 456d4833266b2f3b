//! The bytes of the journal: record headers and operations, written and read. Owns, with
//! [`crate::segments::run`], the layout that docs/STORE.md describes; knows neither files nor threads. Reading trusts nothing.

use leveret_store_api::{LogId, Sequence};

use crate::bytes::{Cursor, push_bytes};
use crate::segments::run::{RUN_BYTES, RunHeader, TAG_CHECKED_RUN, TAG_RUN, parse_run_header};

/// From this version of a store's format on messages bear numbers …
pub(crate) const FORMAT_VERSION_COUNTS: u64 = 3;
/// … and from this one on each has checksums of its own. It is that of a new store. An older program must not
/// read what it does not know.
pub(crate) const FORMAT_VERSION_CHECKS: u64 = 4;

/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 64;
/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 64;
/// The newest record version this code reads, and the one it writes.
const RECORD_VERSION: u16 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"LVRJ");

const TAG_END: u8 = 0;
const TAG_ACKNOWLEDGE: u8 = 2;
const TAG_DELETE_LOG: u8 = 3;
const TAG_PUT: u8 = 4;
const TAG_REMOVE: u8 = 5;
const TAG_SNAPSHOT: u8 = 6;
const TAG_ELSEWHERE: u8 = 7;
const TAG_SET_COUNT: u8 = 8;

/// The place after `offset` where a record may begin.
pub(crate) fn aligned(offset: u64) -> u64 {
    offset.div_ceil(ALIGNMENT) * ALIGNMENT
}

/// The head of a record: one group commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Its number: one more than the record before it.
    pub(crate) lsn: u64,
    /// The number of the newest record known to be on stable storage when this one was written.
    pub(crate) durable_lsn: u64,
    /// Bytes of operations that follow, the end mark included.
    pub(crate) body_bytes: u64,
    /// Log ids below this one have been given out.
    pub(crate) next_log: u64,
    /// Counts the times the journal was opened: tells what a crash left over from what came after.
    pub(crate) epoch: u32,
    /// The segment it was written to: tells what a recycled file held before.
    pub(crate) segment: u32,
    /// A random number of the store, which no client can know.
    pub(crate) store: u32,
    /// Checksum of the operations without the messages, which have their own.
    pub(crate) body_crc: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&RECORD_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(&self.durable_lsn.to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&self.next_log.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.store.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        bytes.copy_from_slice(&out);
        bytes
    }

    /// The header in these bytes, if it is one and undamaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let mut cursor = Cursor::new(bytes);
        if cursor.u32()? != MAGIC {
            return None;
        }
        let version = cursor.u16()?;
        cursor.skip(2)?;
        let header = RecordHeader {
            lsn: cursor.u64()?,
            durable_lsn: cursor.u64()?,
            body_bytes: cursor.u64()?,
            next_log: cursor.u64()?,
            epoch: cursor.u32()?,
            segment: cursor.u32()?,
            store: cursor.u32()?,
            body_crc: {
                cursor.skip(4)?;
                cursor.u32()?
            },
        };
        let checked = bytes.get(..HEADER_BYTES - 4)?;
        (version == RECORD_VERSION && cursor.u32()? == crc32c::crc32c(checked)).then_some(header)
    }

    /// Bytes from the start of this record to the earliest start of the next.
    pub(crate) fn total_bytes(&self) -> u64 {
        aligned(
            (HEADER_BYTES as u64)
                .saturating_add(self.body_bytes)
                .min(u64::MAX - ALIGNMENT),
        )
    }
}

/// One operation of a record, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    /// Messages appended.
    Run {
        header: RunHeader,
        entries: &'a [u8],
    },
    Acknowledge {
        log: LogId,
        first: Sequence,
        count: u64,
    },
    SetCount {
        log: LogId,
        first: Sequence,
        length: u64,
        count: u32,
    },
    DeleteLog {
        log: LogId,
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Remove {
        key: &'a [u8],
    },
    /// A message appended whose run lies in a file of its own, at this offset.
    Elsewhere {
        header: RunHeader,
        segment: u32,
        offset: u32,
    },
    /// One part of the definitions and bounds of all logs; see [`super::snapshot`].
    Snapshot {
        part: &'a [u8],
    },
}

pub(crate) fn push_acknowledge(out: &mut Vec<u8>, log: LogId, first: Sequence, count: u64) {
    push_head(out, TAG_ACKNOWLEDGE);
    out.extend_from_slice(&log.0.to_le_bytes());
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
}

pub(crate) fn push_set_count(
    out: &mut Vec<u8>,
    log: LogId,
    first: Sequence,
    length: u64,
    count: u32,
) {
    push_head(out, TAG_SET_COUNT);
    out.extend_from_slice(&log.0.to_le_bytes());
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
}

pub(crate) fn push_delete_log(out: &mut Vec<u8>, log: LogId) {
    push_head(out, TAG_DELETE_LOG);
    out.extend_from_slice(&log.0.to_le_bytes());
}

pub(crate) fn push_put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    push_head(out, TAG_PUT);
    push_bytes(out, key);
    push_bytes(out, value);
}

pub(crate) fn push_remove(out: &mut Vec<u8>, key: &[u8]) {
    push_head(out, TAG_REMOVE);
    push_bytes(out, key);
}

pub(crate) fn push_snapshot(out: &mut Vec<u8>, part: &[u8]) {
    push_head(out, TAG_SNAPSHOT);
    push_bytes(out, part);
}

/// A run that lies at `offset` of another segment.
pub(crate) fn push_elsewhere(out: &mut Vec<u8>, header: &RunHeader, segment: u32, offset: u32) {
    push_head(out, TAG_ELSEWHERE);
    out.extend_from_slice(&segment.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&header.encode());
}

pub(crate) fn push_end(out: &mut Vec<u8>) {
    out.push(TAG_END);
}

fn push_head(out: &mut Vec<u8>, tag: u8) {
    out.extend_from_slice(&[tag, 0, 0, 0, 0, 0, 0, 0]);
}

/// Walks the operations of one record, or of a part of a segment that begins at an operation.
#[derive(Debug)]
pub(crate) struct Operations<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Checksum of everything walked over but the runs' entries.
    crc: u32,
}

/// What a walk over operations came to.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// An operation and where it begins in the walked bytes.
    Operation(usize, Operation<'a>),
    /// The end mark, or the end of the bytes.
    End,
    /// Not an operation.
    Bad,
}

impl<'a> Operations<'a> {
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Operations { bytes, at, crc: 0 }
    }

    /// Where the next operation begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Goes on from another place.
    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    pub(crate) fn step(&mut self) -> Step<'a> {
        let start = self.at;
        let Some(rest) = self.bytes.get(start..).filter(|rest| !rest.is_empty()) else {
            return Step::End;
        };
        if rest.first() == Some(&TAG_END) {
            self.at += 1;
            return Step::End;
        }
        let Some((operation, length, checked)) = parse(rest) else {
            return Step::Bad;
        };
        self.at += length;
        self.crc = crc32c::crc32c_append(self.crc, checked);
        Step::Operation(start, operation)
    }
}

/// The operation at the start of `rest`, its length, and the bytes that the record's checksum covers.
fn parse(rest: &[u8]) -> Option<(Operation<'_>, usize, &[u8])> {
    let mut cursor = Cursor::new(rest);
    if matches!(rest.first(), Some(&(TAG_RUN | TAG_CHECKED_RUN))) {
        let header = parse_run_header(&mut cursor)?;
        let entries = cursor.take(header.entries_bytes as usize)?;
        let checked = rest.get(..RUN_BYTES)?;
        return Some((
            Operation::Run { header, entries },
            RUN_BYTES + entries.len(),
            checked,
        ));
    }
    let tag = cursor.u8()?;
    cursor.skip(7)?;
    let operation = match tag {
        TAG_ACKNOWLEDGE => Operation::Acknowledge {
            log: LogId(cursor.u64()?),
            first: Sequence(cursor.u64()?),
            count: cursor.u64()?,
        },
        TAG_SET_COUNT => Operation::SetCount {
            log: LogId(cursor.u64()?),
            first: Sequence(cursor.u64()?),
            length: cursor.u64()?,
            count: {
                let count = cursor.u32()?;
                cursor.skip(4)?;
                count
            },
        },
        TAG_DELETE_LOG => Operation::DeleteLog {
            log: LogId(cursor.u64()?),
        },
        TAG_PUT => Operation::Put {
            key: cursor.bytes()?,
            value: cursor.bytes()?,
        },
        TAG_REMOVE => Operation::Remove {
            key: cursor.bytes()?,
        },
        TAG_SNAPSHOT => Operation::Snapshot {
            part: cursor.bytes()?,
        },
        TAG_ELSEWHERE => {
            let (segment, offset) = (cursor.u32()?, cursor.u32()?);
            let header = parse_run_header(&mut cursor)?;
            Operation::Elsewhere {
                header,
                segment,
                offset,
            }
        }
        _ => return None,
    };
    let length = rest.len() - cursor.rest().len();
    Some((operation, length, rest.get(..length)?))
}
