//! Streams (`x-queue-type: stream`): append-only logs that any number of consumers read, each from a
//! position of its own.
//!
//! ```text
//!                        retention                                     publish
//!                            v                                            v
//!   gone ...   | segment | segment |  ...  | segment ( visible | not yet durable )
//!                  ^ from the store, by pages      ^ from memory: the tail
//!               a reader behind                 readers that keep up
//! ```
//! A stream is a machine like [`crate::queue`]'s, behind the same handle and lock. Its messages are
//! in one log of the store, the sequence being the offset and the time that of publishing. Nothing
//! is ever taken out but by retention, at the front. All messages are durable, and are delivered once
//! they are. Readers that fall behind are served by the pager, outside the lock. With a store that
//! keeps nothing, the stream lives in memory up to [`MEMORY_BYTES_MAX`].

#[cfg(debug_assertions)]
mod check;
mod deliver;
mod page;
mod publish;
mod read;
mod readers;
mod segments;
mod serving;
mod statistics;
mod tail;

use std::collections::BTreeSet;

use leveret_message::{Message, Store, Timestamp};
use leveret_store_api::{Change, LogId};

use crate::credit::Grant;
use crate::queue::answers::ConsumeError;
use crate::queue::consumers::{ConsumerRef, ConsumerSpec};
use crate::queue::counts::QueueCounts;
use crate::queue::effects::Effects;
use crate::queue::memory::QueueMemory;
use crate::queue::options::QueueOptions;
use crate::queue::statistics::Statistics;
pub use read::{StreamFilter, StreamOffset, StreamRead};
use readers::{Position, Reader, Readers};
use segments::{Retention, Segments};
use serving::Serving;
pub(crate) use tail::Kept;
use tail::Tail;

/// Without a disk, and without `x-max-length-bytes`, a stream keeps this many bytes.
pub const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// The state behind the handle of a stream.
pub struct Stream {
    options: QueueOptions,
    store: Store,
    memory: QueueMemory,
    log: Option<LogId>,
    tail: Tail,
    segments: Segments,
    empty: Empty,
    readers: Readers,
    serving: Serving,
    /// What a session grants, while its verb lasts.
    grant: Option<Grant>,
    statistics: Statistics,
    /// Offsets of messages that cannot be read, as far as readers have met them.
    damaged: BTreeSet<u64>,
    /// Messages that were there before the broker was started.
    numbered_before: u64,
    changes: Vec<Change<Message>>,
    /// When the newest message was published: times never go down.
    last_time: Timestamp,
    /// The reader the pager read for last.
    turn: u32,
    /// The pager has been asked and has not yet found nothing left to do.
    page_in_asked: bool,
    /// The store will say when the next messages are durable.
    durable_asked: bool,
    /// The deadline that was asked for last.
    scheduled: Option<Timestamp>,
    deleted: bool,
}

/// Places without a message: a crash took a transaction's, and left what was published behind them.
#[derive(Clone, Copy, Debug, Default)]
struct Empty {
    places: u64,
    below: u64,
}

impl Empty {
    /// How many there are at most in a stream that begins with `first`.
    fn from(self, first: u64) -> u64 {
        self.places.min(self.below.saturating_sub(first))
    }
}

impl Stream {
    pub(crate) fn new(
        options: QueueOptions,
        store: Store,
        memory: QueueMemory,
        now: Timestamp,
    ) -> Stream {
        let retention = retention(&options, &store);
        let readers = Readers::new(options.single_active_consumer);
        Stream {
            options,
            store,
            memory,
            log: None,
            tail: Tail::default(),
            segments: Segments::new(retention),
            empty: Empty::default(),
            readers,
            serving: Serving::default(),
            grant: None,
            statistics: Statistics::new(now),
            damaged: BTreeSet::new(),
            numbered_before: 0,
            changes: Vec::new(),
            last_time: Timestamp::default(),
            turn: 0,
            page_in_asked: false,
            durable_asked: false,
            scheduled: None,
            deleted: false,
        }
    }

    /// Takes over what the store kept.
    pub(crate) fn recover(&mut self, log: LogId) {
        self.log = Some(log);
        if let Some(state) = self.store.log_state(log) {
            self.numbered_before = state.next.0;
            self.tail = Tail::behind(state.next.0);
            self.segments = Segments::recovered(retention(&self.options, &self.store), state);
            self.empty = Empty {
                places: state.next.0 - state.first.0 - state.live,
                below: state.next.0,
            };
        }
    }

    pub(crate) fn logs(&self) -> Vec<(u8, LogId)> {
        self.log.iter().map(|&log| (0, log)).collect()
    }

    pub(crate) fn counts(&self) -> QueueCounts {
        let in_flight = self
            .readers
            .iter()
            .map(|reader| u64::from(reader.in_flight));
        let first = self.segments.first();
        QueueCounts {
            // Empty places may all be gone with what was before `first`.
            ready: (self.tail.next() - first).saturating_sub(self.empty.from(first)),
            unacknowledged: in_flight.sum(),
            waiting: 0,
            consumers: u32::try_from(self.readers.count()).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// Other options, by policy; what they do not allow any more goes at once.
    pub(crate) fn set_options(
        &mut self,
        options: QueueOptions,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if self.deleted || self.options == options {
            return;
        }
        self.options = options;
        let retention = retention(&self.options, &self.store);
        self.segments.set_retention(retention, self.tail.next());
        self.tail.advance(self.store.durable_point());
        self.retain(now, effects);
        // What is not durable yet goes when it is.
        self.ask_durable(effects);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Adds a consumer; it is served once the session has told its client, by a dispatch.
    pub(crate) fn add_reader(
        &mut self,
        spec: ConsumerSpec,
        read: StreamRead,
        effects: &mut Effects,
    ) -> Result<ConsumerRef, ConsumeError> {
        if self.deleted {
            return Err(ConsumeError::Deleted);
        }
        let position = self.position_of(read.offset);
        if matches!(position, Position::Seeking(_)) {
            self.ask_page_in(effects);
        }
        let reader = Reader::new(spec, read.filter, position);
        let who = self.readers.add(reader);
        self.serving.add(who.index);
        Ok(who)
    }

    fn position_of(&self, offset: StreamOffset) -> Position {
        let (first, next) = (self.segments.first(), self.tail.next());
        match offset {
            StreamOffset::First => Position::At(first),
            StreamOffset::Last => Position::At(next.saturating_sub(1).max(first)),
            StreamOffset::Next => Position::At(next),
            StreamOffset::Number(number) => Position::At(number.clamp(first, next)),
            StreamOffset::Time(time) => match self.tail.seek(time) {
                Some(offset) => Position::At(offset),
                None if self.tail.first() <= first => Position::At(first),
                None => Position::Seeking(time),
            },
        }
    }

    pub(crate) fn remove_reader(&mut self, who: ConsumerRef, effects: &mut Effects) {
        if self.remove_one(who).is_some() && self.readers.is_single_active() {
            // Nothing is served but the next active one.
            self.dispatch(effects);
        }
    }

    /// Removes a reader; the next single active one is to be served.
    fn remove_one(&mut self, who: ConsumerRef) -> Option<Reader> {
        let removed = self.readers.remove(who)?;
        if let Some(active) = self.readers.take_elected() {
            self.serving.add(active);
        }
        Some(removed)
    }

    pub(crate) fn is_active(&self, who: ConsumerRef) -> bool {
        self.readers.is_active(who)
    }

    /// Empties the stream for good; returns its consumers.
    pub(crate) fn delete(&mut self, effects: &mut Effects) -> Vec<ConsumerSpec> {
        self.deleted = true;
        effects.kept = self.tail.take();
        if let Some(log) = self.log.take() {
            self.changes.push(Change::DeleteLog { log });
        }
        self.readers.take_all().map(|reader| reader.spec).collect()
    }

    /// The changes that remove the stream's log; staged together with its definition's removal.
    pub(crate) fn take_changes(&mut self) -> Vec<Change<Message>> {
        std::mem::take(&mut self.changes)
    }
}

fn retention(options: &QueueOptions, store: &Store) -> Retention {
    let default_bytes_max = store.is_volatile().then_some(MEMORY_BYTES_MAX);
    Retention::new(options, default_bytes_max)
}
