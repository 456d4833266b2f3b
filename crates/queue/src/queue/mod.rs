//! One queue: ready messages, consumers and limits as a plain `&mut self` machine.
//!
//! Nothing here knows sockets, sessions, routing or another queue. Verbs do what they can under the
//! lock that `QueueHandle` holds and leave the rest in [`effects::Effects`].
//!
//! ```text
//!  publish ──> ready ──dispatch──> in flight (the session's ledger) ──ack──> gone
//!                ^ │                    │ requeue
//!                │ └─ expired, over the limit, rejected ──> dead letter
//!                └──────────────────────┘
//! ```

pub mod answers;
mod bundles;
#[cfg(debug_assertions)]
mod check;
pub mod consumers;
pub mod counts;
mod decided;
mod deduplicate;
pub mod delivery_count;
pub mod dispatch;
pub mod effects;
mod givers;
pub mod hidden;
pub mod identity;
pub mod kind;
mod limits;
pub mod machine;
pub mod memory;
pub mod options;
pub mod outbox;
mod past_ready;
pub mod publish;
pub mod ready;
pub mod reference;
mod retry;
mod rings;
pub mod settle;
pub mod statistics;
mod turns;

use leveret_store_api::broken::without;
use std::sync::Arc;

use leveret_deduplication::KeyLogs;
use leveret_message::{Message, Store, Timestamp, damaged};
use leveret_store_api::{Change, CommitPoint, LogId, Sequence};

use crate::mailbox::Mailbox;
use crate::queue::counts::QueueCounts;
use crate::queue::memory::QueueMemory;
use consumers::Consumers;
use decided::Decided;
use deduplicate::QueueDeduplication;
use effects::Effects;
use givers::Givers;
use hidden::HiddenCounts;
use limits::Dropping;
use options::QueueOptions;
use ready::{Level, Paged};
use retry::Retries;
use settle::QueueSettlement;
use statistics::Statistics;

/// The consumers of a queue that is gone.
pub(crate) type Leaving = Box<dyn Iterator<Item = consumers::ConsumerSpec> + Send>;

/// The state behind a `QueueHandle`.
pub struct Queue {
    options: QueueOptions,
    /// Persistent messages are kept over a restart.
    durable: bool,
    auto_delete: bool,
    store: Store,
    memory: QueueMemory,
    /// By priority; one level where priorities are not used.
    levels: Vec<Level>,
    /// No level above this one has messages.
    top: usize,
    consumers: Consumers,
    /// Those that must not be seen yet are counted too.
    ready: u64,
    hidden: HiddenCounts,
    /// What of it goes on as soon as it shows; counted where a full queue refuses publishes.
    promised: HiddenCounts,
    ready_memory: u64,
    ready_body_bytes: u64,
    /// Bytes of messages that ever left the ready ones.
    taken_memory: u64,
    taken_body_bytes: u64,
    /// Messages that ever left the ready ones.
    taken: u64,
    /// Messages that ever came back to them.
    put_back: u64,
    /// Sequences that were given before the broker was started, or to messages that were put at the end.
    numbered_otherwise: u64,
    statistics: Statistics,
    in_flight: u64,
    retries: Retries,
    /// Where a durable queue keeps the keys of what was published to it.
    key_logs: Option<KeyLogs>,
    deduplication: Option<Box<QueueDeduplication>>,
    changes: Vec<Change<Message>>,
    /// Publishers held back until this queue has drained.
    held_back: Vec<Arc<Mailbox>>,
    /// Its consumers fell behind; publishers are not held for them until it has drained.
    lagging: bool,
    last_used: Timestamp,
    /// The deadline that was asked for last.
    scheduled: Option<Timestamp>,
    had_consumers: bool,
    /// The pager has been asked and has not yet found nothing left to read.
    page_in_asked: bool,
    /// Messages wait in memory for the store to have them, so that they can leave it.
    crowded: bool,
    /// Only some of the messages that are to leave memory have been seen to.
    leaving: bool,
    /// See [`limits`].
    dropping: Option<Dropping>,
    /// Those that give back to it and are not done; see `GivingBack`.
    givers: Givers,
    /// A message that can expire was seen.
    expiring: bool,
    deleted: bool,
}

impl Queue {
    pub(crate) fn new(
        options: QueueOptions,
        durable: bool,
        auto_delete: bool,
        store: Store,
        memory: QueueMemory,
        now: Timestamp,
    ) -> Queue {
        let consumers = Consumers::new(options.single_active_consumer);
        let mut queue = Queue {
            options,
            durable,
            auto_delete,
            store,
            memory,
            levels: vec![Level::default()],
            top: 0,
            consumers,
            ready: 0,
            hidden: HiddenCounts::default(),
            promised: HiddenCounts::default(),
            ready_memory: 0,
            ready_body_bytes: 0,
            taken_memory: 0,
            taken_body_bytes: 0,
            taken: 0,
            put_back: 0,
            numbered_otherwise: 0,
            statistics: Statistics::new(now),
            in_flight: 0,
            retries: Retries::default(),
            key_logs: None,
            deduplication: None,
            changes: Vec::new(),
            held_back: Vec::new(),
            lagging: false,
            last_used: now,
            scheduled: None,
            had_consumers: false,
            page_in_asked: false,
            crowded: false,
            leaving: false,
            dropping: None,
            givers: Givers::default(),
            expiring: false,
            deleted: false,
        };
        queue.apply_deduplication(false);
        queue
    }

    /// Takes over what the store kept of one level. Answers what was decided of its messages and not carried out.
    pub(crate) fn recover_level(&mut self, level: u8, log: LogId) -> Vec<QueueSettlement> {
        let index = usize::from(level);
        while self.levels.len() <= index {
            self.levels.push(Level::default());
        }
        let Some(state) = self.store.log_state(log) else {
            self.levels[index].log = Some(log);
            return Vec::new();
        };
        let numbered = self.store.numbered(log, decided::DECIDED_MIN);
        let mean = state.bytes / state.live.max(1);
        let settlements = decided::settlements(level, &numbered, mean);
        let decided = Decided::from(numbered);
        debug_assert!(decided.count() <= state.live, "what has gone has no number");
        let memory = state.bytes.saturating_sub(mean * decided.count());
        let body_bytes = match self.options.max_length_bytes {
            // No more than the limit has to be read, or a bit over it.
            Some(_) => self.stored_body_bytes(log, state.first, &decided),
            None => memory,
        };
        let paged = Paged {
            from: state.first,
            until: state.next,
            count: state.live.saturating_sub(decided.count()),
            memory,
            body_bytes,
        };
        self.numbered_otherwise += state.next.0;
        self.in_flight += decided.count();
        self.ready += paged.count;
        if paged.count > 0 {
            self.ready_memory += paged.memory;
            self.ready_body_bytes += paged.body_bytes;
            self.top = self.top.max(index);
        }
        let delivered = self.store.delivered(log);
        self.levels[index] = Level::recovered(log, paged, delivered, decided);
        settlements
    }

    /// Bytes of body in a log; headers do not count for `x-max-length-bytes`.
    fn stored_body_bytes(&self, log: LogId, first: Sequence, decided: &Decided) -> u64 {
        const READ_BYTES_MAX: usize = 1 << 20;
        let (mut from, mut total, mut messages) = (first, 0, Vec::new());
        loop {
            messages.clear();
            let read = self
                .store
                .read(log, from, usize::MAX, READ_BYTES_MAX, &mut messages);
            let last = read
                .ok()
                .and_then(|damaged| damaged::last_of(&messages, &damaged));
            let Some(last) = last else {
                return total;
            };
            from = Sequence(last.0 + 1);
            total += messages
                .iter()
                .filter(|stored| !decided.contains(stored.sequence))
                .map(|stored| stored.payload.body_bytes())
                .sum::<u64>();
        }
    }

    /// The log of each level that has one.
    pub(crate) fn logs(&self) -> Vec<(u8, LogId)> {
        self.levels
            .iter()
            .zip(0u8..=255)
            .filter_map(|(level, priority)| level.log.map(|log| (priority, log)))
            .collect()
    }

    pub(crate) fn counts(&self) -> QueueCounts {
        QueueCounts {
            ready: self.visible(),
            unacknowledged: self.in_flight,
            waiting: self.retries.count(),
            consumers: u32::try_from(self.consumers.count()).unwrap_or(u32::MAX),
        }
    }

    /// How many ready messages may be seen.
    fn visible(&self) -> u64 {
        without(self.ready, self.hidden.messages, "ready")
    }

    /// Bytes of the bodies of these.
    fn visible_body_bytes(&self) -> u64 {
        without(
            self.ready_body_bytes,
            self.hidden.body_bytes,
            "bytes of the ready",
        )
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// Stages what this verb collected, under the queue's lock, so that an acknowledgement can
    /// never overtake its message.
    fn stage(&mut self, effects: &mut Effects) {
        if self.changes.is_empty() {
            return;
        }
        let point = self.store.stage(&mut self.changes);
        self.staged_at(point, effects);
    }

    /// As [`stage`](Self::stage), of acknowledgements by consumers and nothing else.
    fn stage_settled(&mut self, effects: &mut Effects) {
        if self.changes.is_empty() {
            return;
        }
        let point = self.store.stage_settled(&mut self.changes);
        self.staged_at(point, effects);
    }

    fn staged_at(&mut self, point: CommitPoint, effects: &mut Effects) {
        effects.point = effects.point.max(point);
        if self.changes.capacity() > 1024 {
            self.changes = Vec::new();
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted
    }

    fn can_spill(&self) -> bool {
        !self.store.is_volatile()
    }

    /// Removes all ready and waiting messages that may be seen, and says how many there were.
    pub(crate) fn purge(&mut self, effects: &mut Effects) -> u64 {
        let (waiting, retries) = self.purge_retries();
        effects.retries = retries;
        let purged = self.visible() + waiting;
        self.statistics.record().totals.purged += purged;
        self.dropping = None;
        let changes = &mut self.changes;
        for level in &mut self.levels {
            let log = level.log;
            let garbage = level.clear(|first, count| {
                if let Some(log) = log {
                    acknowledge(changes, log, first, count);
                }
            });
            effects.garbage.extend(garbage);
        }
        self.count_anew();
        self.forget_keys();
        self.stage(effects);
        self.release_publishers(effects);
        purged
    }

    /// Counts the ready messages when nothing is left of them but what is in memory.
    fn count_anew(&mut self) {
        (self.ready, self.ready_memory, self.ready_body_bytes) = (0, 0, 0);
        self.top = 0;
        for (index, level) in self.levels.iter().enumerate() {
            for entry in level.in_memory() {
                self.ready += 1;
                self.ready_memory += entry.message.memory_bytes() as u64;
                self.ready_body_bytes += entry.message.body_bytes();
                self.top = index;
            }
        }
    }

    /// Empties the queue for good; returns how many ready messages it had and its consumers.
    pub(crate) fn delete(&mut self, effects: &mut Effects) -> (u64, Leaving) {
        self.deleted = true;
        let (waiting, retries) = self.purge_retries();
        effects.retries = retries;
        // Their logs go as a whole.
        self.changes.clear();
        let purged = self.visible() + waiting;
        for level in &mut self.levels {
            effects.garbage.extend(level.clear_all());
            if let Some(log) = level.log.take() {
                self.changes.push(Change::DeleteLog { log });
            }
        }
        self.hidden = HiddenCounts::default();
        self.promised = HiddenCounts::default();
        self.count_anew();
        self.delete_keys();
        self.release_publishers(effects);
        let consumers = self.consumers.take_all();
        (purged, Box::new(consumers))
    }

    /// The changes that remove the queue's logs; staged together with its definition's removal.
    pub(crate) fn take_changes(&mut self) -> Vec<Change<Message>> {
        std::mem::take(&mut self.changes)
    }

    fn release_publishers(&mut self, effects: &mut Effects) {
        effects.releases.append(&mut self.held_back);
        self.lagging = false;
    }
}

/// Adds an acknowledgement, joining it to the run before it where that is possible.
fn acknowledge(changes: &mut Vec<Change<Message>>, log: LogId, first: Sequence, count: u64) {
    if let Some(Change::Acknowledge {
        log: last_log,
        first: last_first,
        count: last_count,
    }) = changes.last_mut()
        && *last_log == log
    {
        if last_first.0 + *last_count == first.0 {
            *last_count += count;
            return;
        }
        if first.0 + count == last_first.0 {
            *last_first = first;
            *last_count += count;
            return;
        }
    }
    changes.push(Change::Acknowledge { log, first, count });
}

/// The commit point of something that needs no commit.
pub const NOTHING_STAGED: CommitPoint = CommitPoint::NONE;
