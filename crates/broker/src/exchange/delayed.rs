//! `x-delayed-message`: the messages that wait, with the lock around [`DelayedMessages`] and the log they are in.

use leveret_codec::RawTable;
use leveret_message::{Message, Store, Timestamp, damaged};
use leveret_routing::ExchangeKind;
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, Enqueue, LogId, Sequence, StoredMessage,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::delay;
use super::delayed_messages::{DelayedMessages, Due, Search, Todo};
use super::keeper::{Keeper, KeeperType, Opinion};
use super::logs::ExchangeLogs;
use crate::exchange::delayed_messages::DelayedId;

/// A message that waits for its time.
#[derive(Clone, Debug)]
pub struct DelayedMessage<T> {
    /// When it is due, and its identity.
    pub place: DelayedId,
    /// What was asked about it; None if it went on while the list was made, or is not in the store
    /// yet.
    pub seen: Option<T>,
}

/// A part of the messages that wait.
#[derive(Clone, Debug)]
pub struct DelayedPage<T> {
    /// The earliest first.
    pub messages: Vec<DelayedMessage<T>>,
    /// There are more behind them.
    pub more: bool,
}

/// Bytes read from the store at once.
const READ_BYTES: usize = 1 << 20;
/// Wanted messages no farther apart than this are read in one go, with what lies between them.
const GAP_MAX: u64 = 16;
/// Messages read at a time for a list.
const LIST_CHUNK: usize = 32;
/// Bytes of messages read for one list.
const LIST_BYTES: usize = 32 << 20;

/// What was read of the log.
#[derive(Default)]
struct Read {
    found: Vec<StoredMessage<Message>>,
    /// The store does not have these.
    absent: Vec<u64>,
    damaged: Vec<DamagedMessage<Message>>,
    /// Not everything that was asked for could be looked at.
    failed: bool,
}

/// The messages one exchange holds back.
pub(crate) struct Delayed {
    log: LogId,
    /// They survive a restart.
    durable: bool,
    held: Mutex<DelayedMessages>,
}

pub(super) static DELAYED_MESSAGE: KeeperType = KeeperType {
    kind: ExchangeKind::DelayedMessage,
    check: |_| Ok(()),
    logs: |_, store| ExchangeLogs {
        delayed: Some(store.allocate_log().0),
        ..ExchangeLogs::default()
    },
    keeper: |exchange, logs, store| {
        let log = logs.delayed.map(LogId)?;
        let volatile = store.is_volatile();
        Some(Box::new(Delayed::new(log, exchange.durable, volatile)))
    },
};

impl Keeper for Delayed {
    /// Learns from the log which messages wait for what time. Keeps no bodies.
    fn recover(&self, store: &Store, exchange: &str) -> u64 {
        let mut damaged_count = 0;
        let mut places = Vec::new();
        let mut next = 0;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let from = Sequence(next);
            let damaged = match store.read(self.log, from, usize::MAX, READ_BYTES, &mut buffer) {
                Ok(damaged) => damaged,
                Err(error) => {
                    tracing::error!(exchange, %error, "cannot read delayed messages back from the store");
                    break;
                }
            };
            let Some(last) = damaged::last_of(&buffer, &damaged) else {
                break;
            };
            next = last.0 + 1;
            damaged_count += damaged.len() as u64;
            damaged::forget(store, self.log, &damaged);
            places.extend(buffer.iter().map(|stored| DelayedId {
                due: Timestamp(stored.time_ms),
                sequence: stored.sequence.0,
            }));
        }
        places.shrink_to_fit();
        let next = store
            .log_state(self.log)
            .map_or(next, |state| state.next.0.max(next));
        self.held.lock().recover(places, next);
        damaged_count
    }

    fn look(&self, headers: Option<RawTable<'_>>, now: Timestamp) -> Opinion {
        match delay::delay_ms(headers) {
            Some(delay_ms) => Opinion::Waits(now + delay_ms),
            None => Opinion::GoesOn,
        }
    }

    fn keep(
        &self,
        message: &Message,
        opinion: Opinion,
        changes: &mut Vec<Change<Message>>,
    ) -> Option<DelayedId> {
        let Opinion::Waits(due) = opinion else {
            return None;
        };
        let (place, change) = self.reserve(message, due);
        changes.push(change);
        Some(place)
    }

    fn delayed(&self) -> Option<&Delayed> {
        Some(self)
    }

    fn delete(&self) {
        self.held.lock().delete();
    }
}

impl Delayed {
    fn new(log: LogId, durable: bool, volatile: bool) -> Delayed {
        Delayed {
            log,
            durable,
            held: Mutex::new(DelayedMessages::new(volatile)),
        }
    }

    /// A place for a message that is due at `due`, and the change that makes it durable there.
    fn reserve(&self, message: &Message, due: Timestamp) -> (DelayedId, Change<Message>) {
        let sequence = self.held.lock().next_sequence();
        let change = Change::Enqueue(Enqueue {
            log: self.log,
            sequence: Sequence(sequence),
            flags: 0,
            time_ms: due.0,
            transient: !self.durable,
            payload: message.clone(),
        });
        (DelayedId { due, sequence }, change)
    }

    /// Holds back a message that is staged at `point`. None: the exchange is gone.
    pub(crate) fn begin(
        &self,
        place: DelayedId,
        message: Message,
        point: CommitPoint,
        now: Timestamp,
        durable: CommitPoint,
    ) -> Option<Todo> {
        let mut held = self.held.lock();
        held.insert(place, message, point, now)
            .then(|| held.todo(now, durable))
    }

    /// The change that takes a message out of the log.
    pub(crate) fn settle(&self, sequence: u64) -> Change<Message> {
        Change::Acknowledge {
            log: self.log,
            first: Sequence(sequence),
            count: 1,
        }
    }

    /// See [`DelayedMessages::woken`].
    pub(crate) fn woken(&self) {
        self.held.lock().woken();
    }

    /// See [`DelayedMessages::todo`].
    pub(crate) fn todo(&self, now: Timestamp, durable: CommitPoint) -> Todo {
        self.held.lock().todo(now, durable)
    }

    /// See [`DelayedMessages::take_due`].
    pub(crate) fn take_due(&self, now: Timestamp, durable: CommitPoint, max: usize) -> Vec<Due> {
        self.held.lock().take_due(now, durable, max)
    }

    /// See [`DelayedMessages::fired`].
    pub(crate) fn fired(&self) {
        self.held.lock().fired();
    }

    /// Reads the bodies that are wanted; answers how many of them cannot be read. Blocks on files.
    pub(crate) fn load(&self, store: &Store, exchange: &str, now: Timestamp) -> u64 {
        let wanted = self.held.lock().wanted();
        let read = self.read(store, exchange, &wanted);
        let damaged: Vec<u64> = read.damaged.iter().map(|it| it.sequence.0).collect();
        let (gone, set_aside) = {
            let mut held = self.held.lock();
            let set_aside = held.set_aside(&damaged);
            let gone = held.loaded(read.found, &read.absent, now, store.durable_point());
            if read.failed {
                held.read_failed(now);
            }
            (gone, set_aside)
        };
        damaged::forget(store, self.log, &read.damaged);
        if gone > 0 {
            tracing::error!(
                exchange,
                gone,
                "delayed messages are missing from the store"
            );
        }
        set_aside as u64
    }

    /// Reads messages of the log by their ascending sequences, about [`READ_BYTES`] of them.
    fn read(&self, store: &Store, exchange: &str, wanted: &[u64]) -> Read {
        let mut read = Read::default();
        let mut buffer = Vec::new();
        let mut bytes = 0;
        let mut rest = wanted;
        while let Some((&first, _)) = rest.split_first()
            && bytes < READ_BYTES
        {
            let near = near_each_other(rest);
            let (run, _) = rest.split_at(near);
            let last = run.last().copied().unwrap_or(first);
            let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
            buffer.clear();
            let from = Sequence(first);
            let mut damaged = match store.read(self.log, from, count, READ_BYTES, &mut buffer) {
                Ok(damaged) => damaged,
                Err(error) => {
                    tracing::error!(exchange, %error, "cannot read delayed messages back from the store");
                    read.failed = true;
                    break;
                }
            };
            // Without any message there is nothing at all from `first` on.
            let seen = damaged::last_of(&buffer, &damaged).map_or(last, |seen| seen.0.min(last));
            let done = run.partition_point(|sequence| *sequence <= seen);
            let (done, _) = run.split_at(done);
            buffer.retain(|stored| done.binary_search(&stored.sequence.0).is_ok());
            damaged.retain(|damaged| done.binary_search(&damaged.sequence.0).is_ok());
            read.absent.extend(done.iter().filter(|sequence| {
                let among = buffer.binary_search_by_key(*sequence, |stored| stored.sequence.0);
                let damaged = damaged.binary_search_by_key(*sequence, |it| it.sequence.0);
                among.is_err() && damaged.is_err()
            }));
            read.damaged.append(&mut damaged);
            bytes += buffer
                .iter()
                .map(|stored| stored.stored_bytes as usize)
                .sum::<usize>();
            read.found.append(&mut buffer);
            rest = rest.split_at(done.len()).1;
        }
        read
    }

    /// How many messages wait.
    pub(crate) fn count(&self) -> usize {
        self.held.lock().count()
    }

    /// See [`DelayedMessages::list`]; each message as `view` sees it. Ends early once about [`LIST_BYTES`] were
    /// read. Blocks on files.
    pub(crate) fn list<T>(
        &self,
        store: &Store,
        exchange: &str,
        after: Option<DelayedId>,
        max: usize,
        view: impl Fn(&Message) -> T,
    ) -> DelayedPage<T> {
        let places = self.held.lock().list(after, max.saturating_add(1));
        let (wanted, _) = places.split_at(places.len().min(max));
        let mut messages = Vec::with_capacity(wanted.len());
        let mut bytes = 0;
        for places in wanted.chunks(LIST_CHUNK) {
            if bytes >= LIST_BYTES {
                break;
            }
            let found = self.messages(store, exchange, places);
            bytes += found
                .values()
                .map(|message| message.memory_bytes())
                .sum::<usize>();
            messages.extend(places.iter().map(|place| DelayedMessage {
                place: *place,
                seen: found.get(&place.sequence).map(&view),
            }));
        }
        DelayedPage {
            more: places.len() > messages.len(),
            messages,
        }
    }

    /// The messages at `places`, from memory or from the store, by their sequences.
    fn messages(
        &self,
        store: &Store,
        exchange: &str,
        places: &[DelayedId],
    ) -> FxHashMap<u64, Message> {
        let mut messages: FxHashMap<u64, Message> = {
            let held = self.held.lock();
            let here = |place: &DelayedId| Some((place.sequence, held.body(place)?));
            places.iter().filter_map(here).collect()
        };
        let mut wanted: Vec<u64> = places.iter().map(|place| place.sequence).collect();
        wanted.retain(|sequence| !messages.contains_key(sequence));
        wanted.sort_unstable();
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let read = self.read(store, exchange, rest);
            let seen = read.found.len() + read.absent.len() + read.damaged.len();
            messages.extend(read.found.into_iter().map(|it| (it.sequence.0, it.payload)));
            // Each call answers for a part of them, from the first on.
            rest = rest.get(seen.max(1)..).unwrap_or_default();
        }
        messages
    }

    /// Takes a message out; false if it is not held (any more). See [`DelayedMessages::cancel`].
    pub(crate) fn cancel(&self, sequence: u64) -> bool {
        let mut after = None;
        loop {
            let search = self.held.lock().cancel(sequence, after);
            match search {
                Search::Found => return true,
                Search::NotHeld => return false,
                Search::GoOn(last) => after = Some(last),
            }
        }
    }
}

/// How many of the first of these ascending sequences lie near each other.
fn near_each_other(sequences: &[u64]) -> usize {
    let apart = sequences
        .iter()
        .zip(sequences.iter().skip(1))
        .position(|(one, next)| next - one > GAP_MAX);
    apart.map_or(sequences.len(), |at| at + 1)
}
