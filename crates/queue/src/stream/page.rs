//! What a stream wants read from the store, how it is read, and what comes of it. The reading is done
//! by the pager, outside the stream's lock.

use leveret_message::{Message, Store, Timestamp};
use leveret_store_api::{LogId, Sequence, StoreError, StoredMessage};

use crate::queue::consumers::ConsumerRef;

/// A run of messages read from the store; readers that are at the same place share it.
#[derive(Debug)]
pub struct Page {
    first: u64,
    end: u64,
    messages: Vec<(u64, Message)>,
    /// The offsets of messages in it that cannot be read.
    damaged: Vec<u64>,
}

impl Page {
    /// The message at a place, with its offset.
    pub(crate) fn get(&self, place: usize) -> Option<&(u64, Message)> {
        self.messages.get(place)
    }

    /// The offsets of messages that should be in it and cannot be read.
    pub(crate) fn damaged(&self) -> &[u64] {
        &self.damaged
    }

    /// The offset it begins with.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The first offset behind it.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether `offset` lies in it.
    pub(crate) fn holds(&self, offset: u64) -> bool {
        (self.first..self.end).contains(&offset)
    }

    /// Where the first message from `offset` on is.
    pub(crate) fn place_of(&self, offset: u64) -> usize {
        self.messages.partition_point(|(at, _)| *at < offset)
    }

    /// Whether at least half of it lies before `place`.
    pub(crate) fn is_half_read(&self, place: usize) -> bool {
        place * 2 >= self.messages.len()
    }
}

/// Something to be read from the store.
#[derive(Debug)]
pub enum Wish {
    /// Messages for a reader, from an offset on; all below `until` are in the store.
    Page {
        reader: ConsumerRef,
        log: LogId,
        from: u64,
        until: u64,
        bytes_max: usize,
    },
    /// The first message from `low` up to `high` that is not older than `time`.
    Seek {
        reader: ConsumerRef,
        log: LogId,
        time: Timestamp,
        low: u64,
        high: u64,
    },
    /// When the message at an offset was published.
    Date { log: LogId, offset: u64 },
}

/// What was read.
#[derive(Debug)]
pub enum Answer {
    Page(Page),
    Found(u64),
    Date(Option<Timestamp>),
}

type Buffer = Vec<StoredMessage<Message>>;

impl Wish {
    /// Reads it; blocks on files.
    pub fn carry_out(&self, store: &Store, buffer: &mut Buffer) -> Result<Answer, StoreError> {
        match *self {
            Wish::Page {
                log,
                from,
                until,
                bytes_max,
                ..
            } => read_page(store, log, (from, until), bytes_max, buffer).map(Answer::Page),
            Wish::Seek {
                log,
                time,
                low,
                high,
                ..
            } => seek(store, log, time, (low, high), buffer).map(Answer::Found),
            Wish::Date { log, offset } => {
                let found = read_one(store, log, offset, buffer)?;
                Ok(Answer::Date(found.map(|(_, time)| time)))
            }
        }
    }
}

fn read_page(
    store: &Store,
    log: LogId,
    (from, until): (u64, u64),
    bytes_max: usize,
    buffer: &mut Buffer,
) -> Result<Page, StoreError> {
    buffer.clear();
    let damaged = store.read(log, Sequence(from), usize::MAX, bytes_max, buffer)?;
    let damaged: Vec<u64> = damaged
        .iter()
        .map(|damaged| damaged.sequence.0)
        .filter(|offset| *offset < until)
        .collect();
    let messages: Vec<_> = buffer
        .drain(..)
        .map(|stored| (stored.sequence.0, stored.payload))
        .filter(|(offset, _)| *offset < until)
        .collect();
    let last = messages.last().map(|(offset, _)| *offset);
    let end = last.max(damaged.last().copied());
    Ok(Page {
        first: from,
        end: end.map_or(until, |offset| offset + 1),
        messages,
        damaged,
    })
}

/// The first message from `offset` on of which that is known: its offset and its time.
fn read_one(
    store: &Store,
    log: LogId,
    offset: u64,
    buffer: &mut Buffer,
) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let mut from = Sequence(offset);
    loop {
        buffer.clear();
        let damaged = store.read(log, from, 1, 0, buffer)?;
        if let Some(stored) = buffer.pop() {
            return Ok(Some((stored.sequence.0, Timestamp(stored.time_ms))));
        }
        let Some(damaged) = damaged.last() else {
            return Ok(None);
        };
        if let Some(head) = &damaged.head {
            return Ok(Some((damaged.sequence.0, Timestamp(head.time_ms))));
        }
        from = Sequence(damaged.sequence.0 + 1);
    }
}

/// Times never go down along a stream, so that looking at few messages is enough.
fn seek(
    store: &Store,
    log: LogId,
    time: Timestamp,
    (mut low, mut high): (u64, u64),
    buffer: &mut Buffer,
) -> Result<u64, StoreError> {
    while low < high {
        let middle = low + (high - low) / 2;
        match read_one(store, log, middle, buffer)? {
            Some((offset, found)) if found < time => low = offset + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
