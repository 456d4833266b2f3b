//! Finding messages where nothing says any more where they are: each has checksums that tell whose it is. Does no
//! I/O.

use leveret_store_api::{LogId, Sequence};

use super::found::{Content, Found, add_run};
use crate::segments::run::{ENTRY_BYTES, EntryHeader, RUN_BYTES, RunHeader};

/// So many comparisons are made in one chunk. What is not found by then is not found: these are bytes that somebody
/// has chosen.
const COMPARISONS_MAX: usize = 1 << 22;

/// Looks for messages of `log` everywhere in these bytes; what is found is `missing` no more.
pub(super) fn salvage<'a>(
    log: LogId,
    missing: &mut Vec<u64>,
    bytes: &'a [u8],
    found: &mut Vec<Found<'a>>,
) {
    let mut left = COMPARISONS_MAX;
    for at in 0..bytes.len() {
        if missing.is_empty() || left == 0 {
            return;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let before = found.len();
        match find_run(log, rest) {
            Some((header, entries)) => {
                let is_wanted = |sequence: u64| missing.binary_search(&sequence).is_ok();
                add_run(&header, entries, &is_wanted, found);
            }
            None => found.extend(find_message(log, missing, rest, &mut left)),
        }
        for new in found.get(before..).unwrap_or_default() {
            missing.retain(|sequence| *sequence != new.sequence.0);
        }
    }
}

/// The run of an older program at the start of these bytes, whose messages cannot be told one by one.
fn find_run(log: LogId, bytes: &[u8]) -> Option<(RunHeader, &[u8])> {
    let header = RunHeader::decode(bytes).filter(|header| header.log == log && !header.checked)?;
    let end = RUN_BYTES.checked_add(header.entries_bytes as usize)?;
    Some((header, bytes.get(RUN_BYTES..end)?))
}

/// The message at the start of these bytes, if it is one of those that are missing.
fn find_message<'a>(
    log: LogId,
    missing: &[u64],
    bytes: &'a [u8],
    left: &mut usize,
) -> Option<Found<'a>> {
    // Zeros would be taken for the start of an empty message everywhere.
    let entry = EntryHeader::decode(bytes).filter(|entry| entry.head_crc != 0)?;
    let payload = bytes
        .get(ENTRY_BYTES..)?
        .get(..entry.payload_bytes as usize)?;
    let head = payload.get(..entry.head_bytes as usize)?;
    let before = entry.crc_before_place(head);
    *left = left.saturating_sub(missing.len() + head.len() / 64);
    let is_here =
        |sequence: &&u64| entry.crc_at(before, log, Sequence(**sequence)) == entry.head_crc;
    let sequence = Sequence(*missing.iter().find(is_here)?);
    Some(Found {
        sequence,
        entry,
        content: Content::of(log, sequence, &entry, payload),
    })
}
