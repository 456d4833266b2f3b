//! The bytes of runs: messages of one log one behind the other, with what tells of each whether it is what was
//! written. Knows neither files nor the index. Reading trusts nothing.

use leveret_store_api::{Enqueue, LogId, Payload, Sequence};

use crate::bytes::Cursor;

pub(crate) const TAG_RUN: u8 = 1;
pub(crate) const TAG_CHECKED_RUN: u8 = 9;
const RUN_TRANSIENT: u8 = 1;

/// Bytes of a run's header.
pub(crate) const RUN_BYTES: usize = 40;
/// Bytes before each message of a run.
pub(crate) const ENTRY_BYTES: usize = 24;
/// So many of them had no checksums, before format version 4.
const PLAIN_ENTRY_BYTES: usize = 16;
/// A head of more bytes than an entry can say counts as body.
const HEAD_BYTES_MAX: usize = 0x00ff_ffff;

/// A run: messages of one log with consecutive sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunHeader {
    /// Each message has checksums of its own. Those of older programs have one for all of them.
    pub(crate) checked: bool,
    pub(crate) log: LogId,
    pub(crate) first: Sequence,
    pub(crate) count: u32,
    pub(crate) transient: bool,
    /// Bytes of its entries.
    pub(crate) entries_bytes: u32,
    /// Bytes of the payloads among them.
    pub(crate) payload_bytes: u32,
    /// Checksum of what is above and of the heads of its entries, or of the entries with their messages where
    /// these are not checked.
    pub(crate) crc: u32,
}

/// What is right about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sound {
    /// Everything.
    Whole,
    /// Where its messages are; not all of them are what was written.
    Outline,
    /// Nothing that can be relied on.
    Nothing,
}

/// Bytes of a run's header that come before its checksum.
const RUN_CHECKED_BYTES: usize = 32;

impl RunHeader {
    pub(crate) fn encode(&self) -> [u8; RUN_BYTES] {
        let mut bytes = [0; RUN_BYTES];
        let mut out = Vec::with_capacity(RUN_BYTES);
        out.push(if self.checked {
            TAG_CHECKED_RUN
        } else {
            TAG_RUN
        });
        out.push(if self.transient { RUN_TRANSIENT } else { 0 });
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.log.0.to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.entries_bytes.to_le_bytes());
        out.extend_from_slice(&self.payload_bytes.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        bytes.copy_from_slice(&out);
        bytes
    }

    /// The header in these bytes, if it may be one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<RunHeader> {
        parse_run_header(&mut Cursor::new(bytes))
    }

    /// The checksum of this header, which goes on over the entries that are not checked.
    pub(crate) fn crc_of_header(&self) -> u32 {
        self.crc_behind(0)
    }

    /// The checksum of this header behind that of the heads of its entries.
    pub(crate) fn crc_behind(&self, heads: u32) -> u32 {
        let encoded = self.encode();
        crc32c::crc32c_append(heads, encoded.get(..RUN_CHECKED_BYTES).unwrap_or_default())
    }

    /// Whether these are its entries as they were written.
    pub(crate) fn look_at(&self, entries: &[u8]) -> Sound {
        if !self.checked {
            let crc = crc32c::crc32c_append(self.crc_of_header(), entries);
            return if crc == self.crc {
                Sound::Whole
            } else {
                Sound::Nothing
            };
        }
        let (mut heads, mut all, mut count, mut bytes) = (0, true, 0, 0);
        for (entry, payload) in Entries::new(self, entries) {
            heads = crc32c::crc32c_append(heads, &entry.encode());
            let sequence = Sequence(self.first.0.saturating_add(u64::from(count)));
            all &= entry.has_head(self.log, sequence, payload) && entry.has_body(payload);
            count += 1;
            bytes += ENTRY_BYTES + payload.len();
        }
        let is_outline = (count, bytes) == (self.count, entries.len());
        match (is_outline && self.crc_behind(heads) == self.crc, all) {
            (false, _) => Sound::Nothing,
            (true, false) => Sound::Outline,
            (true, true) => Sound::Whole,
        }
    }

    /// One more than its last sequence.
    pub(crate) fn end(&self) -> u64 {
        self.first.0.saturating_add(u64::from(self.count))
    }

    /// Its bytes, header included.
    #[allow(clippy::cast_possible_truncation, reason = "a small constant")]
    pub(crate) fn total_bytes(&self) -> u32 {
        self.entries_bytes.saturating_add(RUN_BYTES as u32)
    }
}

/// What precedes each message of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub(crate) time_ms: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) flags: u8,
    /// Bytes at the front of the payload by which the message is known without the rest, its body.
    pub(crate) head_bytes: u32,
    /// Checksum of what is above, of the head, and of the message's log and sequence.
    pub(crate) head_crc: u32,
    /// Checksum of the body.
    pub(crate) body_crc: u32,
}

impl EntryHeader {
    /// Of a message with these parts, the checksum of the second of which is known. `None`: it is too large.
    pub(crate) fn of<P: Payload>(enqueue: &Enqueue<P>, second_crc: Option<u32>) -> Option<Self> {
        let [first, second] = enqueue.payload.parts();
        let head_bytes = enqueue.payload.head_bytes();
        let head_bytes = if head_bytes > HEAD_BYTES_MAX {
            0
        } else {
            head_bytes
        };
        let (head, body) = first.split_at_checked(head_bytes)?;
        let body_crc = match second_crc {
            Some(crc) if body.is_empty() => crc,
            Some(crc) => crc32c::crc32c_combine(crc32c::crc32c(body), crc, second.len()),
            None => crc32c::crc32c_append(crc32c::crc32c(body), second),
        };
        let mut entry = EntryHeader {
            time_ms: enqueue.time_ms,
            payload_bytes: u32::try_from(first.len() + second.len()).ok()?,
            flags: enqueue.flags,
            head_bytes: u32::try_from(head_bytes).ok()?,
            head_crc: 0,
            body_crc,
        };
        entry.head_crc = entry.crc_of_head(head, enqueue.log, enqueue.sequence);
        Some(entry)
    }

    /// The same, of a message that had no checksums.
    pub(crate) fn checked(mut self, log: LogId, sequence: Sequence, payload: &[u8]) -> Self {
        self.head_bytes = 0;
        self.head_crc = self.crc_of_head(&[], log, sequence);
        self.body_crc = crc32c::crc32c(payload);
        self
    }

    /// The same, of a message of which only the head is left.
    pub(crate) fn without_body(mut self, log: LogId, sequence: Sequence, head: &[u8]) -> Self {
        self.payload_bytes = self.head_bytes;
        self.head_crc = self.crc_of_head(head, log, sequence);
        self.body_crc = !crc32c::crc32c(&[]);
        self
    }

    /// The place of a message of which nothing can be read, and never will be.
    pub(crate) fn unreadable(log: LogId, sequence: Sequence) -> Self {
        let mut entry = EntryHeader::default();
        entry.head_crc = !entry.crc_of_head(&[], log, sequence);
        entry
    }

    fn crc_of_head(&self, head: &[u8], log: LogId, sequence: Sequence) -> u32 {
        self.crc_at(self.crc_before_place(head), log, sequence)
    }

    /// The part of the head's checksum that does not depend on where the message belongs.
    pub(crate) fn crc_before_place(&self, head: &[u8]) -> u32 {
        let encoded = self.encode();
        let own = encoded.get(..PLAIN_ENTRY_BYTES).unwrap_or_default();
        crc32c::crc32c_append(crc32c::crc32c(own), head)
    }

    /// The rest of it.
    pub(crate) fn crc_at(&self, before: u32, log: LogId, sequence: Sequence) -> u32 {
        let mut place = [0; 16];
        let (first, second) = place.split_at_mut(8);
        first.copy_from_slice(&log.0.to_le_bytes());
        second.copy_from_slice(&sequence.0.to_le_bytes());
        crc32c::crc32c_append(before, &place)
    }

    /// The part of the payload by which the message is known.
    pub(crate) fn head<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        payload.get(..self.head_bytes as usize).unwrap_or_default()
    }

    /// Everything but the body is what was written, for this place.
    pub(crate) fn has_head(&self, log: LogId, sequence: Sequence, payload: &[u8]) -> bool {
        self.head_bytes as usize <= payload.len()
            && self.crc_of_head(self.head(payload), log, sequence) == self.head_crc
    }

    /// So is the body.
    pub(crate) fn has_body(&self, payload: &[u8]) -> bool {
        let body = payload.get(self.head_bytes as usize..);
        body.is_some_and(|body| crc32c::crc32c(body) == self.body_crc)
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let (time, rest) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.time_ms.to_le_bytes());
        let (length, rest) = rest.split_at_mut(4);
        length.copy_from_slice(&self.payload_bytes.to_le_bytes());
        let (head, rest) = rest.split_at_mut(4);
        // The head's length has three bytes, the flags have the one before.
        head.copy_from_slice(&(self.head_bytes << 8 | u32::from(self.flags)).to_le_bytes());
        let (head_crc, body_crc) = rest.split_at_mut(4);
        head_crc.copy_from_slice(&self.head_crc.to_le_bytes());
        body_crc.copy_from_slice(&self.body_crc.to_le_bytes());
        bytes
    }

    /// The entry at the start of these bytes, if its run is checked.
    pub(crate) fn decode(bytes: &[u8]) -> Option<EntryHeader> {
        parse_entry(&mut Cursor::new(bytes), true)
    }
}

pub(crate) fn parse_run_header(cursor: &mut Cursor<'_>) -> Option<RunHeader> {
    let checked = match cursor.u8()? {
        TAG_RUN => false,
        TAG_CHECKED_RUN => true,
        _ => return None,
    };
    let transient = cursor.u8()? & RUN_TRANSIENT != 0;
    cursor.skip(2)?;
    let header = RunHeader {
        checked,
        count: cursor.u32()?,
        log: LogId(cursor.u64()?),
        first: Sequence(cursor.u64()?),
        entries_bytes: cursor.u32()?,
        payload_bytes: cursor.u32()?,
        crc: cursor.u32()?,
        transient,
    };
    cursor.skip(4)?;
    Some(header)
}

/// The messages of a run, in sequence order.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    cursor: Cursor<'a>,
    checked: bool,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(header: &RunHeader, entries: &'a [u8]) -> Self {
        Entries {
            cursor: Cursor::new(entries),
            checked: header.checked,
        }
    }
}

fn parse_entry(cursor: &mut Cursor<'_>, checked: bool) -> Option<EntryHeader> {
    let (time_ms, payload_bytes) = (cursor.u64()?, cursor.u32()?);
    let head_and_flags = cursor.u32()?;
    let [flags, ..] = head_and_flags.to_le_bytes();
    let mut entry = EntryHeader {
        time_ms,
        payload_bytes,
        flags,
        ..EntryHeader::default()
    };
    if checked {
        entry.head_bytes = head_and_flags >> 8;
        entry.head_crc = cursor.u32()?;
        entry.body_crc = cursor.u32()?;
    }
    Some(entry)
}

impl<'a> Iterator for Entries<'a> {
    type Item = (EntryHeader, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = parse_entry(&mut self.cursor, self.checked)?;
        let payload = self.cursor.take(entry.payload_bytes as usize)?;
        Some((entry, payload))
    }
}
