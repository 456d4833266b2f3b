//! Files that hold the run of one large message each, written before the record that refers to it.
//! Owns the layout of such a file, and the check of what is in it. Such a file has a segment's name and
//! number, and the run lies in it as it would lie in a record.

use std::io;

use super::run::{ENTRY_BYTES, EntryHeader, RUN_BYTES, RunHeader};
use super::segment::Segment;
use crate::bytes::Cursor;

/// Bytes of the mark at the start of such a file.
pub(crate) const MARK_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"LVRB";
/// The message's second part begins at a multiple of this.
const PAGE: u64 = 4096;
/// So much of a run is read and checked at a time.
const CHECK_BYTES: usize = 1 << 20;

/// What such a file begins with: which number it had when it was written, and where its run is. A file that
/// is used again under another number is not mistaken for one.
pub(crate) fn mark(segment: u32, store: u32, run: u32) -> [u8; MARK_BYTES] {
    let mut out = [0; MARK_BYTES];
    let mut fields = Vec::with_capacity(20);
    fields.extend_from_slice(&MAGIC);
    for field in [segment, store, run] {
        fields.extend_from_slice(&field.to_le_bytes());
    }
    fields.extend_from_slice(&crc32c::crc32c(&fields).to_le_bytes());
    if let Some(place) = out.get_mut(..fields.len()) {
        place.copy_from_slice(&fields);
    }
    out
}

/// Where the run is, if these bytes are the mark of such a file under its present number.
pub(crate) fn marked_run(bytes: &[u8], segment: u32) -> Option<u32> {
    let mut cursor = Cursor::new(bytes.get(8..)?);
    let (store, run) = (cursor.u32()?, cursor.u32()?);
    (bytes == mark(segment, store, run)).then_some(run)
}

/// The run that a file says it holds, and its place; `None` if its message was never committed.
pub(crate) fn run_of(segment: &Segment) -> io::Result<Option<(u32, RunHeader)>> {
    let mut mark = [0; MARK_BYTES];
    let mut header = [0; RUN_BYTES];
    segment.file.read_at(&mut mark, 0)?;
    let Some(offset) = marked_run(&mark, segment.number()) else {
        return Ok(None);
    };
    segment.file.read_at(&mut header, u64::from(offset))?;
    Ok(RunHeader::decode(&header).map(|header| (offset, header)))
}

/// Where things are in such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The run: its header, the entry, the message's first part.
    pub(crate) run: u64,
    /// The message's second part.
    pub(crate) body: u64,
    pub(crate) end: u64,
}

impl Layout {
    /// For a message whose parts have these lengths; `None` if it is too large for one run.
    pub(crate) fn of(head_bytes: usize, body_bytes: usize) -> Option<Layout> {
        let front = (RUN_BYTES + ENTRY_BYTES + head_bytes) as u64;
        let body = (MARK_BYTES as u64 + front).div_ceil(PAGE) * PAGE;
        let end = body + body_bytes as u64;
        (end <= u64::from(u32::MAX) / 2).then_some(Layout {
            run: body - front,
            body,
            end,
        })
    }
}

/// What is where a record says that a run lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The run, as it was written.
    Right,
    /// Its header, and behind it something else.
    Wrong,
    /// Not this run.
    Nothing,
}

impl Found {
    fn of(is_right: bool) -> Found {
        if is_right { Found::Right } else { Found::Wrong }
    }
}

/// Looks for the run with this header.
pub(crate) fn find_run(segment: &Segment, offset: u64, header: &RunHeader) -> io::Result<Found> {
    let mut buffer = vec![0; CHECK_BYTES];
    let Some(front) = buffer.get_mut(..RUN_BYTES) else {
        return Ok(Found::Nothing);
    };
    if segment.file.read_at(front, offset)? < RUN_BYTES || *front != header.encode() {
        return Ok(Found::Nothing);
    }
    let start = offset + RUN_BYTES as u64;
    let all = u64::from(header.entries_bytes);
    if !header.checked {
        let crc = sum(segment, start, all, header.crc_of_header(), &mut buffer)?;
        return Ok(Found::of(crc == Some(header.crc)));
    }
    let front = buffer.get_mut(..ENTRY_BYTES).unwrap_or_default();
    segment.file.read_at(front, start)?;
    let Some(entry) = EntryHeader::decode(front) else {
        return Ok(Found::Wrong);
    };
    let own = ENTRY_BYTES as u64 + u64::from(entry.head_bytes);
    let is_outline = header.crc_behind(crc32c::crc32c(front)) == header.crc
        && ENTRY_BYTES as u64 + u64::from(entry.payload_bytes) == all
        && own <= all;
    if !is_outline {
        return Ok(Found::Wrong);
    }
    let mut head = vec![0; entry.head_bytes as usize];
    segment
        .file
        .read_at(&mut head, start + ENTRY_BYTES as u64)?;
    let body_crc = sum(segment, start + own, all - own, 0, &mut buffer)?;
    Ok(Found::of(
        entry.has_head(header.log, header.first, &head) && body_crc == Some(entry.body_crc),
    ))
}

/// The checksum that begins as `crc` and goes on over these bytes; `None` if the file ends before.
fn sum(
    segment: &Segment,
    mut at: u64,
    mut left: u64,
    mut crc: u32,
    buffer: &mut [u8],
) -> io::Result<Option<u32>> {
    while left > 0 {
        let some = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let piece = buffer.get_mut(..some).unwrap_or_default();
        if segment.file.read_at(piece, at)? < some {
            return Ok(None);
        }
        crc = crc32c::crc32c_append(crc, piece);
        left -= some as u64;
        at += some as u64;
    }
    Ok(Some(crc))
}
