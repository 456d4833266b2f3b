//! A store in memory that commits when it is told to: for tests of what lies above the store, and
//! the model that the journal is tested against. Owns messages as a plain map.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::{
    Change, CommitPoint, DamagedHead, DamagedMessage, DefinitionStore, Definitions, Delivered,
    Done, Enqueue, LogId, LogState, MessageLog, Numbered, Payload, Sequence, StoreError,
    StoreStatus, StoredMessage, Waiters, WriteAhead,
};

/// Keeps messages and definitions in memory. Nothing becomes durable, or visible to reads, before
/// [`commit`](SteppedStore::commit), so that a test decides what happens in which order.
#[derive(Debug)]
pub struct SteppedStore<P> {
    inner: Mutex<Inner<P>>,
    waiters: Waiters,
}

#[derive(Debug)]
struct Inner<P> {
    /// What was staged and is not durable, a unit for each call, the oldest first.
    staged: VecDeque<Unit<P>>,
    staged_bytes: u64,
    point: CommitPoint,
    next_log: u64,
    logs: BTreeMap<LogId, Log<P>>,
    deleted: BTreeSet<LogId>,
    damaged: BTreeMap<(LogId, Sequence), Damage>,
    delivered: BTreeMap<LogId, Delivered>,
    definitions: BTreeMap<Vec<u8>, Vec<u8>>,
    status: StoreStatus,
    status_waker: Option<Waker>,
    write_ahead_bytes_min: usize,
    /// What is being written ahead.
    ahead: Vec<(Arc<Done>, Waker)>,
}

/// What a read finds of a message that a test has damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its body is not what was written.
    Body,
    /// Nothing of it is.
    All,
    /// It is as it was, but cannot be read until the next start.
    Refused,
}

/// What one call staged.
#[derive(Debug)]
struct Unit<P> {
    point: CommitPoint,
    changes: Vec<Change<P>>,
}

#[derive(Debug, Clone)]
struct Log<P> {
    next: Sequence,
    messages: BTreeMap<Sequence, StoredMessage<P>>,
}

impl<P: Payload> SteppedStore<P> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        SteppedStore {
            inner: Mutex::new(Inner {
                staged: VecDeque::new(),
                staged_bytes: 0,
                point: CommitPoint::NONE,
                next_log: 1,
                logs: BTreeMap::new(),
                deleted: BTreeSet::new(),
                damaged: BTreeMap::new(),
                delivered: BTreeMap::new(),
                definitions: BTreeMap::new(),
                status: StoreStatus::Running,
                status_waker: None,
                write_ahead_bytes_min: usize::MAX,
                ahead: Vec::new(),
            }),
            waiters: Waiters::default(),
        }
    }

    /// Makes everything staged so far durable and wakes who waits for it.
    pub fn commit(&self) {
        let point = self.staged_point();
        self.commit_up_to(point);
    }

    /// Makes durable what was staged up to `point`, and nothing that was staged later, and wakes who waits
    /// for it.
    pub fn commit_up_to(&self, point: CommitPoint) {
        let durable = {
            let mut inner = self.inner.lock();
            let durable = point.min(inner.point);
            while let Some(unit) = inner.staged.pop_front_if(|unit| unit.point <= durable) {
                inner.staged_bytes -= enqueued_bytes(&unit.changes);
                for change in unit.changes {
                    inner.apply(change);
                }
            }
            durable
        };
        self.waiters.advance(durable);
    }

    /// The commit point of what was staged last.
    #[must_use]
    pub fn staged_point(&self) -> CommitPoint {
        self.inner.lock().point
    }

    /// The store as a restart would find it: what is staged and all transient messages are lost.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let inner = self.inner.lock();
        let delivered = inner.delivered.iter().map(|(log, delivered)| {
            let next = inner.logs.get(log).map_or(Sequence(0), |log| log.next);
            let delivered = Delivered {
                below: delivered.below.min(next),
                uncertain_below: delivered.uncertain_below.min(next),
            };
            (*log, delivered)
        });
        inner.restarted(delivered.collect())
    }

    /// The store as a start after a crash of the system would find it: as [`restarted`](Self::restarted), and
    /// nobody knows what was delivered.
    #[must_use]
    pub fn restarted_after_power_cut(&self) -> Self {
        let inner = self.inner.lock();
        let unknown = inner.logs.iter().map(|(log, kept)| {
            let delivered = Delivered {
                below: Sequence(0),
                uncertain_below: kept.next,
            };
            (*log, delivered)
        });
        inner.restarted(unknown.collect())
    }

    /// Reads find this message damaged from now on; `None`: they do not.
    pub fn damage(&self, log: LogId, sequence: Sequence, damage: Option<Damage>) {
        let mut inner = self.inner.lock();
        match damage {
            Some(damage) => inner.damaged.insert((log, sequence), damage),
            None => inner.damaged.remove(&(log, sequence)),
        };
    }

    /// Payloads of at least so many bytes are to be written ahead, which takes until
    /// [`finish_write_ahead`](SteppedStore::finish_write_ahead).
    pub fn set_write_ahead_bytes_min(&self, bytes: usize) {
        self.inner.lock().write_ahead_bytes_min = bytes;
    }

    /// Ends all writing ahead; answers how much there was.
    pub fn finish_write_ahead(&self) -> usize {
        let ahead = mem::take(&mut self.inner.lock().ahead);
        for (done, waker) in &ahead {
            done.set();
            waker.wake_by_ref();
        }
        ahead.len()
    }

    /// Reports `status` from now on and wakes who listens for it.
    pub fn set_status(&self, status: StoreStatus) {
        let waker = {
            let mut inner = self.inner.lock();
            inner.status = status;
            inner.status_waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<P: Payload> Default for SteppedStore<P> {
    fn default() -> Self {
        SteppedStore::new()
    }
}

impl<P: Payload> Inner<P> {
    fn restarted(&self, delivered: BTreeMap<LogId, Delivered>) -> SteppedStore<P> {
        let mut logs = BTreeMap::new();
        for (id, log) in &self.logs {
            let mut log = log.clone();
            log.messages.retain(|_, message| !message.transient);
            logs.insert(*id, log);
        }
        let store = SteppedStore::new();
        {
            let mut restarted = store.inner.lock();
            restarted.logs = logs;
            restarted.delivered = delivered;
            restarted.damaged = self.damaged.clone();
            restarted
                .damaged
                .retain(|_, damage| *damage != Damage::Refused);
            restarted.definitions = self.committed_definitions();
            restarted.next_log = self.next_log;
        }
        store
    }

    fn apply(&mut self, change: Change<P>) {
        match change {
            Change::Enqueue(enqueue) => self.enqueue(enqueue),
            Change::Acknowledge { log, first, count } => {
                if let Some(log) = self.logs.get_mut(&log) {
                    let end = Sequence(first.0.saturating_add(count));
                    log.messages
                        .retain(|sequence, _| *sequence < first || *sequence >= end);
                }
            }
            Change::SetCount {
                log,
                first,
                length,
                count,
                synced: _,
            } => {
                let end = Sequence(first.0.saturating_add(length));
                let log = self.logs.get_mut(&log).into_iter();
                let range = log.flat_map(|log| log.messages.range_mut(first..end));
                for (_, message) in range.filter(|(_, message)| !message.transient) {
                    message.count = count;
                }
            }
            Change::DeleteLog { log } => {
                self.logs.remove(&log);
                self.deleted.insert(log);
                self.delivered.remove(&log);
            }
            Change::PutDefinition { key, value } => {
                self.definitions.insert(key, value);
            }
            Change::RemoveDefinition { key } => {
                self.definitions.remove(&key);
            }
        }
    }

    fn enqueue(&mut self, enqueue: Enqueue<P>) {
        if self.deleted.contains(&enqueue.log) {
            return;
        }
        let sequence = enqueue.sequence;
        let log = self.logs.entry(enqueue.log).or_insert_with(|| Log {
            next: Sequence(0),
            messages: BTreeMap::new(),
        });
        log.next = log.next.max(Sequence(sequence.0.saturating_add(1)));
        let count = log.messages.get(&sequence).map_or(0, |before| before.count);
        log.messages.insert(
            sequence,
            StoredMessage {
                count,
                sequence,
                flags: enqueue.flags,
                time_ms: enqueue.time_ms,
                transient: enqueue.transient,
                stored_bytes: stored_bytes(&enqueue.payload),
                payload: enqueue.payload,
            },
        );
    }

    fn committed_definitions(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.definitions.clone()
    }

    fn all_definitions(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut definitions = self.definitions.clone();
        for change in self.staged.iter().flat_map(|unit| &unit.changes) {
            match change {
                Change::PutDefinition { key, value } => {
                    definitions.insert(key.clone(), value.clone());
                }
                Change::RemoveDefinition { key } => {
                    definitions.remove(key);
                }
                Change::Enqueue(_)
                | Change::Acknowledge { .. }
                | Change::SetCount { .. }
                | Change::DeleteLog { .. } => {}
            }
        }
        definitions
    }
}

fn as_damaged<P: Payload>(message: &StoredMessage<P>, damage: Damage) -> DamagedMessage<P> {
    let [first, _] = message.payload.parts();
    let head = first
        .get(..message.payload.head_bytes())
        .unwrap_or_default();
    let head = Some(head).filter(|_| damage == Damage::Body);
    DamagedMessage {
        sequence: message.sequence,
        head: head.and_then(P::from_head).map(|payload| DamagedHead {
            flags: message.flags,
            time_ms: message.time_ms,
            count: message.count,
            payload,
        }),
        is_lasting: damage != Damage::Refused,
    }
}

fn enqueued_bytes<P: Payload>(changes: &[Change<P>]) -> u64 {
    let enqueued = changes.iter().map(|change| match change {
        Change::Enqueue(enqueue) => u64::from(stored_bytes(&enqueue.payload)),
        Change::Acknowledge { .. }
        | Change::SetCount { .. }
        | Change::PutDefinition { .. }
        | Change::RemoveDefinition { .. }
        | Change::DeleteLog { .. } => 0,
    });
    enqueued.sum()
}

fn stored_bytes<P: Payload>(payload: &P) -> u32 {
    let [head, body] = payload.parts();
    u32::try_from(head.len() + body.len()).unwrap_or(u32::MAX)
}

impl<P: Payload> MessageLog<P> for SteppedStore<P> {
    fn stage(&self, changes: &mut Vec<Change<P>>) -> CommitPoint {
        let mut inner = self.inner.lock();
        let point = CommitPoint(inner.point.0 + 1);
        inner.point = point;
        inner.staged_bytes += enqueued_bytes(changes);
        let changes = mem::take(changes);
        inner.staged.push_back(Unit { point, changes });
        point
    }

    fn write_ahead_bytes_min(&self) -> usize {
        self.inner.lock().write_ahead_bytes_min
    }

    fn write_ahead(&self, payload: &P, _copies: usize, waker: &Waker) -> Option<WriteAhead> {
        let mut inner = self.inner.lock();
        if payload.parts()[1].len() < inner.write_ahead_bytes_min {
            return None;
        }
        let done = Arc::new(Done::default());
        inner.ahead.push((Arc::clone(&done), waker.clone()));
        Some(WriteAhead::new(done, Box::new(())))
    }

    fn durable_point(&self) -> CommitPoint {
        self.waiters.durable_point()
    }

    fn wake_at(&self, point: CommitPoint, waker: &Waker) -> bool {
        self.waiters.wake_at(point, waker)
    }

    fn allocate_log(&self) -> LogId {
        let mut inner = self.inner.lock();
        let id = LogId(inner.next_log);
        inner.next_log += 1;
        id
    }

    fn read(
        &self,
        log: LogId,
        from: Sequence,
        count_max: usize,
        bytes_max: usize,
        out: &mut Vec<StoredMessage<P>>,
    ) -> Result<Vec<DamagedMessage<P>>, StoreError> {
        let inner = self.inner.lock();
        let id = log;
        let Some(log) = inner.logs.get(&id) else {
            return Ok(Vec::new());
        };
        let mut bytes = 0;
        let mut damaged = Vec::new();
        for (count, message) in log
            .messages
            .range(from..)
            .map(|(_, message)| message)
            .enumerate()
        {
            bytes += message.stored_bytes as usize;
            if count >= count_max.max(1) || (count > 0 && bytes > bytes_max) {
                break;
            }
            match inner.damaged.get(&(id, message.sequence)) {
                None => out.push(message.clone()),
                Some(damage) => damaged.push(as_damaged(message, *damage)),
            }
        }
        Ok(damaged)
    }

    fn log_state(&self, log: LogId) -> Option<LogState> {
        let inner = self.inner.lock();
        let log = inner.logs.get(&log)?;
        Some(LogState {
            live: log.messages.len() as u64,
            bytes: log
                .messages
                .values()
                .map(|message| u64::from(message.stored_bytes))
                .sum(),
            first: log.messages.keys().next().copied().unwrap_or(log.next),
            next: log.next,
        })
    }

    fn numbered(&self, log: LogId, least: u32) -> Vec<Numbered> {
        let inner = self.inner.lock();
        let messages = inner.logs.get(&log).map(|log| log.messages.values());
        let mut runs: Vec<Numbered> = Vec::new();
        for message in messages.into_iter().flatten() {
            let StoredMessage {
                sequence, count, ..
            } = *message;
            match runs.last_mut() {
                Some(run) if run.first.0 + run.length == sequence.0 && run.count == count => {
                    run.length += 1;
                }
                _ if count >= least => runs.push(Numbered {
                    first: sequence,
                    length: 1,
                    count,
                }),
                _ => {}
            }
        }
        runs
    }

    fn logs(&self) -> Vec<LogId> {
        self.inner.lock().logs.keys().copied().collect()
    }

    fn staged_bytes(&self) -> u64 {
        self.inner.lock().staged_bytes
    }

    fn delivered(&self, log: LogId) -> Delivered {
        let inner = self.inner.lock();
        inner.delivered.get(&log).copied().unwrap_or_default()
    }

    fn record_delivered(&self, log: LogId, below: Sequence) {
        let mut inner = self.inner.lock();
        let delivered = inner.delivered.entry(log).or_default();
        delivered.below = delivered.below.max(below);
    }

    fn status(&self) -> StoreStatus {
        self.inner.lock().status.clone()
    }

    fn on_status(&self, waker: Waker) {
        self.inner.lock().status_waker = Some(waker);
    }

    fn is_volatile(&self) -> bool {
        false
    }
}

impl<P: Payload> DefinitionStore for SteppedStore<P> {
    fn definitions(&self) -> Result<Definitions, StoreError> {
        Ok(self.inner.lock().all_definitions().into_iter().collect())
    }
}
