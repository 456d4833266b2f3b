//! One message: its names, its content header and its body, exactly as they came off the wire.
//!
//! A small message is one allocation. A large body sits in a buffer of its own beside it, so that
//! it can be chained into vectored writes instead of being copied. Bytes are never rewritten here;
//! dead-lettering composes a new message instead.

use bytes::Bytes;
use leveret_codec::{ContentHeader, HeaderError, decode_header, split_names};
use leveret_store_api::Payload;
use std::slice::SliceIndex;
use triomphe::ThinArc;

use crate::arguments::MILLISECONDS_MAX;
use crate::large_body;
use crate::marks::{self, Marks};
use crate::time::Timestamp;

/// Bodies from this size on live in a buffer of their own.
pub const LARGE_BODY_BYTES: usize = 4096;

/// Stands for a message without an `expiration` of its own, in eight bytes.
const NO_EXPIRATION: u64 = u64::MAX;

/// Length of the prefix that says how long the names and the content header are.
const PREFIX_BYTES: usize = 6;

/// Where in a content header's payload the size of the body stands: behind class and weight.
const BODY_SIZE_AT: usize = 4;

/// What queues and routing need to know of a message without parsing it again.
#[derive(Clone, Debug)]
struct Head {
    names_len: u16,
    /// Where the content header starts in the slice; what stands between it and the names is [`Marks`].
    header_start: u32,
    /// Where the body starts in the slice, unless it is a large one.
    body_start: u32,
    /// See [`Marks::died`].
    died: bool,
    persistent: bool,
    has_headers: bool,
    priority: Option<u8>,
    /// Per-message time to live in milliseconds (the `expiration` property); [`NO_EXPIRATION`]: none.
    expiration_ms: u64,
    large_body: Option<Box<Bytes>>,
}

/// A message as published; cheap to clone, immutable.
///
/// Layout of the slice, which is also the stored form (a large body follows it):
/// `names length u16 | header length u32 | names | marks | content header payload | small body`. The two
/// highest bits of the names' length say which marks there are, see [`crate::marks`].
#[derive(Clone)]
pub struct Message(ThinArc<Head, u8>);

/// Scratch space for composing messages; reuse it to avoid allocations.
#[derive(Debug, Default)]
pub struct MessageScratch(Vec<u8>);

/// A part of a message, which is whole.
#[inline]
fn part<P: SliceIndex<[u8], Output = [u8]>>(bytes: &[u8], place: P) -> &[u8] {
    let part = bytes.get(place);
    debug_assert!(part.is_some(), "a message is whole");
    part.unwrap_or_default()
}

impl Message {
    /// Bookkeeping, which every message has.
    pub const MEMORY_MIN: usize = 96;

    /// Composes a message from the names (exchange and routing key, as short strings on the wire),
    /// a decoded content header and the whole body.
    #[must_use]
    pub fn compose(
        scratch: &mut MessageScratch,
        names: &[u8],
        header: &ContentHeader<'_>,
        body: Body<'_>,
    ) -> Message {
        Message::compose_marked(scratch, names, Marks::default(), header, body)
    }

    /// Composes a message as [`Message::compose`] does, with the broker's own marks on it.
    #[inline]
    #[must_use]
    pub fn compose_marked(
        scratch: &mut MessageScratch,
        names: &[u8],
        marks: Marks<'_>,
        header: &ContentHeader<'_>,
        body: Body<'_>,
    ) -> Message {
        let bytes = &mut scratch.0;
        bytes.clear();
        let names_len = u16::try_from(names.len()).unwrap_or(marks::LENGTH_MAX);
        let header_len = u32::try_from(header.payload.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&(names_len | marks.bits()).to_be_bytes());
        bytes.extend_from_slice(&header_len.to_be_bytes());
        bytes.extend_from_slice(names);
        marks.write(bytes);
        let header_start = offset(bytes.len());
        bytes.extend_from_slice(header.payload);
        let body_start = offset(bytes.len());
        let large_body = match body {
            Body::Borrowed(body) if body.len() < LARGE_BODY_BYTES => {
                bytes.extend_from_slice(body);
                None
            }
            Body::Borrowed(body) => Some(Box::new(Bytes::copy_from_slice(body))),
            Body::Owned(body) if body.len() < LARGE_BODY_BYTES => {
                bytes.extend_from_slice(&body);
                None
            }
            Body::Owned(body) => Some(Box::new(body)),
        };
        let properties = &header.properties;
        let head = Head {
            names_len,
            header_start,
            body_start,
            died: marks.died,
            persistent: properties.delivery_mode == Some(2),
            has_headers: properties.headers.is_some(),
            priority: properties.priority,
            expiration_ms: properties
                .expiration
                .and_then(parse_expiration)
                .unwrap_or(NO_EXPIRATION),
            large_body,
        };
        Message(ThinArc::from_header_and_slice(head, bytes))
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    fn slice(&self) -> &[u8] {
        &self.0.slice
    }

    /// Exchange and routing key as two short strings, as `basic.deliver` carries them.
    #[must_use]
    pub fn names(&self) -> &[u8] {
        let end = PREFIX_BYTES + usize::from(self.head().names_len);
        part(self.slice(), PREFIX_BYTES..end)
    }

    /// Exchange and routing key apart.
    #[must_use]
    pub fn exchange_and_key(&self) -> (&[u8], &[u8]) {
        split_names(self.names()).unwrap_or_default()
    }

    /// The payload of the content header frame.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        let head = self.head();
        let place = head.header_start as usize..head.body_start as usize;
        part(self.slice(), place)
    }

    /// What the broker alone knows of it.
    #[must_use]
    pub fn marks(&self) -> Marks<'_> {
        let head = self.head();
        let start = PREFIX_BYTES + usize::from(head.names_len);
        let section = part(self.slice(), start..head.header_start as usize);
        Marks::of_section(head.died, section)
    }

    /// The content header, decoded anew.
    ///
    /// # Errors
    /// Only if the message was stored damaged: headers are checked before a message is composed.
    pub fn decode_header(&self) -> Result<ContentHeader<'_>, HeaderError> {
        decode_header(self.header())
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        let head = self.head();
        match &head.large_body {
            Some(body) => body,
            None => {
                let start = head.body_start as usize;
                part(self.slice(), start..)
            }
        }
    }

    /// The body when it has a buffer of its own.
    #[must_use]
    pub fn large_body(&self) -> Option<&Bytes> {
        self.head().large_body.as_deref()
    }

    /// Whether the publisher asked for delivery mode 2.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.head().persistent
    }

    /// Whether the properties carry a headers table.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.head().has_headers
    }

    /// The `priority` property.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.head().priority
    }

    /// The `expiration` property in milliseconds.
    #[must_use]
    pub fn expiration_ms(&self) -> Option<u64> {
        Some(self.head().expiration_ms).filter(|&ms| ms != NO_EXPIRATION)
    }

    /// Bytes of body, as `x-max-length-bytes` counts them.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        let head = self.head();
        let length = match &head.large_body {
            Some(body) => body.len(),
            None => self.slice().len() - head.body_start as usize,
        };
        length as u64
    }

    /// Memory this message occupies, bookkeeping included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slice().len() + self.large_body().map_or(0, Bytes::len) + Message::MEMORY_MIN
    }

    /// The message with an empty body; None: its header cannot be read.
    pub fn without_body(&self) -> Option<Message> {
        Message::from_head(self.slice().get(..self.head_bytes())?)
    }

    /// Has the processor fetch the message, which is to be written soon; answers about how many bytes of output it
    /// will be. Those of a queue that many consume lie far apart, and the processor waits for several at a time as
    /// long as for one.
    #[inline]
    pub fn fetch(&self) -> usize {
        const FRAMES: usize = 48;
        let slice = self.slice();
        std::hint::black_box(slice.last());
        slice.len() + FRAMES
    }

    /// When a message published at `published` expires, given the queue's time to live.
    #[must_use]
    pub fn expires_at(&self, published: Timestamp, queue_ttl_ms: Option<u64>) -> Option<Timestamp> {
        let ttl = match (self.expiration_ms(), queue_ttl_ms) {
            (Some(own), Some(queue)) => Some(own.min(queue)),
            (own, queue) => own.or(queue),
        };
        ttl.map(|ttl| published + ttl)
    }
}

/// What messages have in common that differ in their bodies alone.
#[derive(Debug)]
pub struct MessageForm {
    head: Head,
    /// The slice of such a message as far as its body; behind it, whatever the last one had.
    bytes: Vec<u8>,
    /// How much of `bytes` they have in common, but for the size of the body.
    common: usize,
    body_size: usize,
}

impl MessageForm {
    /// The form of `message`.
    pub fn of(message: &Message) -> MessageForm {
        let common = message.head().body_start as usize;
        let slice = message.slice();
        MessageForm {
            head: Head {
                large_body: None,
                ..message.head().clone()
            },
            bytes: slice.get(..common).unwrap_or(slice).to_vec(),
            common,
            body_size: message.body().len(),
        }
    }

    /// As [`Message::names`].
    pub fn names(&self) -> &[u8] {
        let end = PREFIX_BYTES + usize::from(self.head.names_len);
        part(&self.bytes, PREFIX_BYTES..end)
    }

    /// The properties in the payload of the content header frame, encoded.
    pub fn properties(&self) -> &[u8] {
        let start = self.body_size_at() + size_of::<u64>();
        part(&self.bytes, start..self.common)
    }

    /// Where the content header says how long the body is.
    fn body_size_at(&self) -> usize {
        self.head.header_start as usize + BODY_SIZE_AT
    }

    /// The body of `message` if it is of this form, too, and has no buffer of its own.
    #[inline]
    pub fn small_body<'m>(&mut self, message: &'m Message) -> Option<&'m [u8]> {
        let (before, body) = message.slice().split_at_checked(self.common)?;
        if message.head().large_body.is_some() {
            return None;
        }
        self.set_body_size(body.len());
        (before == self.bytes).then_some(body)
    }

    /// Makes the size of the body in the content header this one.
    #[inline]
    fn set_body_size(&mut self, size: usize) {
        if self.body_size != size {
            self.body_size = size;
            let at = self.body_size_at();
            let place = self.bytes.get_mut(at..);
            if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
                *place = (size as u64).to_be_bytes();
            }
        }
    }

    /// A message of this form.
    #[inline]
    pub fn compose(&mut self, body: &[u8]) -> Message {
        self.bytes.truncate(self.common);
        self.set_body_size(body.len());
        let mut large_body = None;
        if body.len() < LARGE_BODY_BYTES {
            self.bytes.extend_from_slice(body);
        } else {
            large_body = Some(Box::new(Bytes::copy_from_slice(body)));
        }
        let head = Head {
            large_body,
            ..self.head
        };
        Message(ThinArc::from_header_and_slice(head, &self.bytes))
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} bytes)", self.body().len())
    }
}

/// Where the body of a message comes from.
#[derive(Debug)]
pub enum Body<'a> {
    /// One frame's payload, still in the read buffer.
    Borrowed(&'a [u8]),
    /// Assembled from several frames.
    Owned(Bytes),
}

/// A place within a message's slice: names, marks and a content header are shorter than a frame each.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// `expiration` as RabbitMQ reads it: a decimal number of milliseconds, no more than ten years of them.
#[must_use]
pub fn parse_expiration(text: &[u8]) -> Option<u64> {
    let milliseconds: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (milliseconds <= MILLISECONDS_MAX.unsigned_abs()).then_some(milliseconds)
}

/// Where things are in a stored message.
struct StoredParts {
    bits: u16,
    names_len: u16,
    header_start: usize,
    body_start: usize,
}

impl StoredParts {
    fn of(bytes: &[u8]) -> Option<StoredParts> {
        let bits = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
        let names_len = bits & marks::LENGTH_MAX;
        let header_len = u32::from_be_bytes(bytes.get(2..PREFIX_BYTES)?.try_into().ok()?);
        let marks_start = PREFIX_BYTES + usize::from(names_len);
        let marks_len = marks::section_len(bits, bytes.get(marks_start..)?)?;
        let header_start = marks_start.checked_add(marks_len as usize)?;
        let body_start = header_start.checked_add(header_len as usize)?;
        Some(StoredParts {
            bits,
            names_len,
            header_start,
            body_start,
        })
    }
}

impl Payload for Message {
    fn parts(&self) -> [&[u8]; 2] {
        [self.slice(), self.large_body().map_or(&[], |body| body)]
    }

    fn head_bytes(&self) -> usize {
        self.head().body_start as usize
    }

    fn from_head(bytes: &[u8]) -> Option<Message> {
        let StoredParts {
            header_start,
            body_start,
            ..
        } = StoredParts::of(bytes)?;
        let mut head = bytes.get(..body_start)?.to_vec();
        let body_size = head.get_mut(header_start + BODY_SIZE_AT..)?;
        *body_size.first_chunk_mut()? = 0u64.to_be_bytes();
        Message::from_stored(&head)
    }

    fn from_stored(bytes: &[u8]) -> Option<Message> {
        let StoredParts {
            bits,
            names_len,
            header_start,
            body_start,
        } = StoredParts::of(bytes)?;
        let header = decode_header(bytes.get(header_start..body_start)?).ok()?;
        let body = bytes.get(body_start..)?;
        let large_body = (body.len() >= LARGE_BODY_BYTES).then(|| Box::new(large_body::copy(body)));
        let kept = if large_body.is_some() {
            bytes.get(..body_start)?
        } else {
            bytes
        };
        let properties = &header.properties;
        let head = Head {
            names_len,
            header_start: offset(header_start),
            body_start: offset(body_start),
            died: bits & marks::DIED != 0,
            persistent: properties.delivery_mode == Some(2),
            has_headers: properties.headers.is_some(),
            priority: properties.priority,
            expiration_ms: properties
                .expiration
                .and_then(parse_expiration)
                .unwrap_or(NO_EXPIRATION),
            large_body,
        };
        Some(Message(ThinArc::from_header_and_slice(head, kept)))
    }
}
