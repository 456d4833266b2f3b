//! What was written ahead: large messages' second parts, on stable storage and not yet referred to. Owns giving back
//! what is not used.

use std::sync::{Arc, Weak};

use leveret_store_api::{Enqueue, Payload};

use crate::segments::body::Layout;
use crate::segments::run::{ENTRY_BYTES, EntryHeader, RUN_BYTES, RunHeader};
use crate::segments::segment::Segment;

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
