//! Files that hold the run of one large message each, written before the record that refers to it.
//! Owns the layout of such a file, and the check of what is in it. Such a file has a segment's name and
//! number, and the run lies in it as it would lie in a record.

use std::io;
use std::sync::{Arc, Weak};

use super::format::Cursor;
use super::run::{ENTRY_BYTES, EntryHeader, RUN_BYTES, RunHeader};
use super::segment::Segment;
use crate::{Enqueue, Payload};

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

/// Takes back a file that nothing refers to.
pub(crate) trait Discards: Send + Sync {
    /// The file is not needed any more.
    fn discard(&self, segment: Arc<Segment>);
}

/// A large message's second part on stable storage, which nothing refers to yet. What is not used is
/// given back.
pub(crate) struct WrittenBody {
    segment: Option<Arc<Segment>>,
    layout: Layout,
    body_bytes: usize,
    /// Checksum of the second part.
    crc: u32,
    owner: Weak<dyn Discards>,
}

/// The first bytes of a run whose last bytes are there already.
pub(crate) struct Front {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: RunHeader,
}

impl WrittenBody {
    pub(crate) fn new(
        segment: Arc<Segment>,
        layout: Layout,
        body_bytes: usize,
        crc: u32,
        owner: Weak<dyn Discards>,
    ) -> Self {
        WrittenBody {
            segment: Some(segment),
            layout,
            body_bytes,
            crc,
            owner,
        }
    }

    /// Bytes that need not be written any more.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes as u64
    }

    /// Uses it for this message, whose second part it is: what is still to be written of the run.
    pub(crate) fn front<P: Payload>(mut self, enqueue: &Enqueue<P>) -> Option<Front> {
        let [head, body] = enqueue.payload.parts();
        let entry = EntryHeader::of(enqueue, Some(self.crc))?;
        let mut entries = Vec::with_capacity(ENTRY_BYTES + head.len());
        entries.extend_from_slice(&entry.encode());
        entries.extend_from_slice(head);
        let mut header = RunHeader {
            checked: true,
            log: enqueue.log,
            first: enqueue.sequence,
            count: 1,
            transient: false,
            entries_bytes: u32::try_from(entries.len() + body.len()).ok()?,
            payload_bytes: entry.payload_bytes,
            crc: 0,
        };
        header.crc = header.crc_behind(crc32c::crc32c(&entry.encode()));
        let mut bytes = Vec::with_capacity(RUN_BYTES + entries.len());
        bytes.extend_from_slice(&header.encode());
        bytes.append(&mut entries);
        let is_in_place = self.layout.run + bytes.len() as u64 == self.layout.body;
        Some(Front {
            segment: self.segment.take().filter(|_| is_in_place)?,
            offset: self.layout.run,
            bytes,
            header,
        })
    }
}

impl Drop for WrittenBody {
    fn drop(&mut self) {
        if let Some(segment) = self.segment.take()
            && let Some(owner) = self.owner.upgrade()
        {
            owner.discard(segment);
        }
    }
}

/// What was written ahead for changes that are staged, by the number of the change, ascending.
#[derive(Default)]
pub(crate) struct Claimed(Vec<(usize, Option<WrittenBody>)>);

impl Claimed {
    pub(crate) fn push(&mut self, change: usize, body: WrittenBody) {
        self.0.push((change, Some(body)));
    }

    /// Takes over another's, whose changes come behind `before` of this one's.
    pub(crate) fn append(&mut self, other: &mut Claimed, before: usize) {
        let moved = other.0.drain(..);
        self.0
            .extend(moved.map(|(change, body)| (before + change, body)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, change: usize) -> Option<WrittenBody> {
        let place = self.0.binary_search_by_key(&change, |(number, _)| *number);
        self.0.get_mut(place.ok()?)?.1.take()
    }

    /// Gives back what was not used: its message was acknowledged first.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
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
