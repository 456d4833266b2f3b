//! A chunk: consecutive messages of one log that lie near each other in one segment. Owns the packed
//! representation, on which the memory per message on disk depends.

/// Messages of a chunk lie within this many bytes, unless one message alone is larger.
const SPAN_MAX: u32 = 256 * 1024;

const TRANSIENT: u32 = 1 << 31;

/// `count` messages from sequence `first` on, somewhere in `span` bytes from `offset` of `segment`,
/// with whatever lies between them there. 28 bytes: a backlog has one of these for hundreds of
/// messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    first_low: u32,
    first_high: u32,
    /// With the mark of transient messages in the highest bit.
    count: u32,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) span: u32,
    /// Payload bytes: exact for a whole chunk, an estimate for the rest of one.
    pub(crate) bytes: u32,
}

/// Where a chunk's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) span: u32,
}

impl Chunk {
    pub(crate) fn new(first: u64, count: u32, transient: bool, place: Extent, bytes: u32) -> Self {
        let mut chunk = Chunk {
            first_low: 0,
            first_high: 0,
            count: (count & !TRANSIENT) | if transient { TRANSIENT } else { 0 },
            segment: place.segment,
            offset: place.offset,
            span: place.span,
            bytes,
        };
        chunk.set_first(first);
        chunk
    }

    pub(crate) fn first(&self) -> u64 {
        u64::from(self.first_low) | (u64::from(self.first_high) << 32)
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the two halves of the number"
    )]
    fn set_first(&mut self, first: u64) {
        self.first_low = first as u32;
        self.first_high = (first >> 32) as u32;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count & !TRANSIENT
    }

    fn set_count(&mut self, count: u32) {
        self.count = (self.count & TRANSIENT) | (count & !TRANSIENT);
    }

    /// One more than its last sequence.
    pub(crate) fn end(&self) -> u64 {
        self.first().saturating_add(u64::from(self.count()))
    }

    pub(crate) fn is_transient(&self) -> bool {
        self.count & TRANSIENT != 0
    }

    /// Takes `next` in, if it goes on where this one ends, in sequence and nearly so in the segment.
    pub(crate) fn try_merge(&mut self, next: &Chunk) -> bool {
        let near = next.segment == self.segment
            && next.is_transient() == self.is_transient()
            && next.first() == self.end()
            && next.offset >= self.offset;
        let Some(span) = (u64::from(next.offset) + u64::from(next.span))
            .checked_sub(u64::from(self.offset))
            .and_then(|span| u32::try_from(span).ok())
            .filter(|span| near && *span <= SPAN_MAX)
        else {
            return false;
        };
        self.span = self.span.max(span);
        self.set_count(self.count() + next.count());
        self.bytes = self.bytes.saturating_add(next.bytes);
        true
    }

    /// Cuts off everything below `first`; answers the count and bytes that went.
    pub(crate) fn trim_front(&mut self, first: u64) -> (u32, u32) {
        let gone = self.cut(first.saturating_sub(self.first()));
        self.set_first(first);
        gone
    }

    /// Cuts off everything from `end` on; answers the count and bytes that went.
    pub(crate) fn trim_back(&mut self, end: u64) -> (u32, u32) {
        self.cut(self.end().saturating_sub(end))
    }

    fn cut(&mut self, gone: u64) -> (u32, u32) {
        let count = self.count();
        let gone = u32::try_from(gone).unwrap_or(u32::MAX).min(count);
        let bytes = share(self.bytes, gone, count);
        self.set_count(count - gone);
        self.bytes -= bytes;
        (gone, bytes)
    }
}

/// The part of `bytes` that belongs to `some` of `all` messages, taking them as equal.
fn share(bytes: u32, some: u32, all: u32) -> u32 {
    if some >= all {
        return bytes;
    }
    let share = u64::from(bytes) * u64::from(some) / u64::from(all.max(1));
    u32::try_from(share).unwrap_or(bytes)
}
