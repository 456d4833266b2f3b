//! The store on disk: one journal for all logs and definitions, and an index of it. Owns the public
//! type; what its threads share is in `shared`, the work in the modules beside it.

mod ahead;
mod ahead_writer;
mod aside;
mod ballast;
mod checkpoint;
mod committer;
mod compaction;
mod deleted;
mod directory;
mod elision;
mod encoder;
mod format;
mod found;
mod groups;
pub(crate) mod inspect;
mod newest;
mod open;
mod pace;
mod pending;
mod read;
mod recovery;
mod salvage;
mod shared;
mod snapshot;
mod status;
mod written;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::thread::JoinHandle;

use leveret_store_api::broken::without;
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, DefinitionStore, Definitions, Delivered, LogId, LogState,
    MessageLog, Numbered, Payload, Sequence, StoreError, StoreStatus, StoredMessage, WriteAhead,
};

use crate::files::StoreFile;
use crate::metered::IoCounts;
use directory::mark_left;
use shared::{Shared, Unit, change_bytes};

/// A unit of more changes than this is moved as it is, if nothing else is staged.
const MOVED_MAX: usize = 4096;

/// The store on disk. See the crate's documentation and `docs/STORE.md`.
///
/// Dropping it commits what is staged, writes the index and ends its threads.
pub struct Journal<P: Payload> {
    shared: Arc<Shared<P>>,
    committer: Option<JoinHandle<()>>,
    checkpointer: Option<JoinHandle<()>>,
    opened_clean: bool,
    io: Arc<IoCounts>,
    /// Locked against other processes as long as it is open.
    lock: Arc<dyn StoreFile>,
}

impl<P: Payload> Journal<P> {
    /// The last stop was a clean one: nothing was in flight.
    #[must_use]
    pub fn opened_clean(&self) -> bool {
        self.opened_clean
    }

    /// What it has had done with its files, the index apart.
    #[must_use]
    pub fn io(&self) -> Arc<IoCounts> {
        Arc::clone(&self.io)
    }

    /// Commits what is staged, writes the index and ends the threads.
    pub fn close(self) {}

    /// Writes the index now and gives back what is free; waits until that is done.
    pub fn checkpoint(&self) {
        let mut duties = self.shared.duties.lock();
        duties.checkpoint = true;
        // One that is under way may have taken its look before this call.
        let target = duties.completed + 1 + u64::from(duties.running);
        self.shared.duties_changed.notify_all();
        while duties.completed < target && !duties.closing && !duties.stopped {
            self.shared.duties_changed.wait(&mut duties);
        }
    }

    /// Counts the index anew, and stops where something does not balance.
    #[cfg(debug_assertions)]
    pub fn check(&self) {
        self.shared.index.lock().check();
    }

    fn stage_unit(&self, changes: &mut Vec<Change<P>>, settled: bool) -> CommitPoint {
        if changes.is_empty() || self.shared.status.has_failed() {
            changes.clear();
            // Nothing to wait for, or nothing that will ever be reached.
            let point = self.shared.staging.lock().point;
            return CommitPoint(if self.shared.status.has_failed() {
                point + 1
            } else {
                point
            });
        }
        let mut ahead = Vec::new();
        let mut bytes: u64 = 0;
        let mut defines = false;
        for (number, change) in changes.iter().enumerate() {
            let own = change_bytes(change);
            bytes += own;
            defines |= is_definition(change);
            if own >= self.shared.options.write_ahead_bytes_min as u64
                && let Some(written) = self.shared.claim(change)
            {
                bytes = without(bytes, written.body_bytes(), "bytes of a unit");
                ahead.push((number, written));
            }
        }
        self.shared.staged_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut staging = self.shared.staging.lock();
        for change in changes.iter().filter(|_| defines) {
            staging.add_definition(change);
        }
        let before = staging.changes.len();
        for (number, written) in ahead {
            staging.claimed.push(before + number, written);
        }
        if staging.changes.is_empty() && changes.len() > MOVED_MAX {
            mem::swap(&mut staging.changes, changes);
        } else {
            staging.changes.append(changes);
        }
        let end = staging.changes.len();
        staging.units.push(Unit {
            end,
            bytes,
            settled,
        });
        staging.point += 1;
        if staging.idle && !(settled && staging.gathering) {
            staging.idle = false;
            self.shared.staged.notify_one();
        }
        CommitPoint(staging.point)
    }

    fn stop(&mut self) {
        self.shared.ahead.close();
        {
            let mut duties = self.shared.duties.lock();
            duties.closing = true;
            self.shared.duties_changed.notify_all();
        }
        self.shared.staging.lock().closing = true;
        self.shared.staged.notify_one();
        let committed = self
            .committer
            .take()
            .is_some_and(|thread| thread.join().is_ok());
        let checkpointed = self
            .checkpointer
            .take()
            .is_some_and(|thread| thread.join().is_ok());
        #[cfg(debug_assertions)]
        if !std::thread::panicking() {
            self.check();
        }
        if committed && checkpointed && !self.shared.status.has_failed() {
            leave(&self.shared, &self.lock);
        }
    }
}

impl<P: Payload> Drop for Journal<P> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<P: Payload> MessageLog<P> for Journal<P> {
    fn stage(&self, changes: &mut Vec<Change<P>>) -> CommitPoint {
        self.stage_unit(changes, false)
    }

    fn stage_settled(&self, changes: &mut Vec<Change<P>>) -> CommitPoint {
        self.stage_unit(changes, true)
    }

    fn write_ahead_bytes_min(&self) -> usize {
        self.shared.options.write_ahead_bytes_min
    }

    fn write_ahead(&self, payload: &P, copies: usize, waker: &Waker) -> Option<WriteAhead> {
        let is_large = payload.parts()[1].len() >= self.shared.options.write_ahead_bytes_min;
        // Without room, all wait in the order in which they came.
        if !is_large || self.shared.status.get() != StoreStatus::Running {
            return None;
        }
        let writer = || ahead_writer::start(&self.shared);
        self.shared.ahead.begin(payload, copies, waker, writer)
    }

    fn durable_point(&self) -> CommitPoint {
        self.shared.waiters.durable_point()
    }

    fn wake_at(&self, point: CommitPoint, waker: &Waker) -> bool {
        self.shared.waiters.wake_at(point, waker)
    }

    fn allocate_log(&self) -> LogId {
        LogId(self.shared.next_log.fetch_add(1, Ordering::Relaxed))
    }

    fn read(
        &self,
        log: LogId,
        from: Sequence,
        count_max: usize,
        bytes_max: usize,
        out: &mut Vec<StoredMessage<P>>,
    ) -> Result<Vec<DamagedMessage<P>>, StoreError> {
        let Shared { index, aside, .. } = &*self.shared;
        Ok(read::read(
            index, aside, log, from, count_max, bytes_max, out,
        ))
    }

    fn log_state(&self, log: LogId) -> Option<LogState> {
        let index = self.shared.index.lock();
        index.logs.get(&log).map(|log| LogState {
            live: log.live(),
            bytes: log.bytes(),
            first: Sequence(log.first()),
            next: Sequence(log.next()),
        })
    }

    fn numbered(&self, log: LogId, least: u32) -> Vec<Numbered> {
        let index = self.shared.index.lock();
        let log = index.logs.get(&log);
        let mut runs: Vec<Numbered> = Vec::new();
        for run in log.map_or(Vec::new(), |log| log.counts_in(0, u64::MAX)) {
            let length = run.end - run.first;
            match runs.last_mut() {
                // They are cut where their blocks end.
                Some(last)
                    if last.first.0 + last.length == run.first && last.count == run.count =>
                {
                    last.length += length;
                }
                _ if run.count >= least => runs.push(Numbered {
                    first: Sequence(run.first),
                    length,
                    count: run.count,
                }),
                _ => {}
            }
        }
        runs
    }

    fn logs(&self) -> Vec<LogId> {
        let mut logs: Vec<LogId> = self.shared.index.lock().logs.keys().copied().collect();
        logs.sort_unstable();
        logs
    }

    fn staged_bytes(&self) -> u64 {
        self.shared.staged_bytes.load(Ordering::Relaxed)
    }

    fn delivered(&self, log: LogId) -> Delivered {
        self.shared.delivered.of(log)
    }

    fn record_delivered(&self, log: LogId, below: Sequence) {
        self.shared.delivered.note(log, below);
    }

    fn status(&self) -> StoreStatus {
        self.shared.status.get()
    }

    fn on_status(&self, waker: Waker) {
        self.shared.status.tell(waker);
    }

    fn run_at_rest(&self, errand: fn()) {
        self.shared.staging.lock().errand = Some(errand);
        self.shared.staged.notify_one();
        self.shared.duties.lock().errand = Some(errand);
        self.shared.duties_changed.notify_all();
    }

    fn is_volatile(&self) -> bool {
        false
    }
}

fn is_definition<P>(change: &Change<P>) -> bool {
    matches!(
        change,
        Change::PutDefinition { .. } | Change::RemoveDefinition { .. }
    )
}

impl<P: Payload> DefinitionStore for Journal<P> {
    fn definitions(&self) -> Result<Definitions, StoreError> {
        let staging = self.shared.staging.lock();
        Ok(staging
            .definitions
            .iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect())
    }
}

/// Writes the index a last time and marks the directory as left in order. The threads have ended.
fn leave<P: Payload>(shared: &Shared<P>, lock: &Arc<dyn StoreFile>) {
    let lsn = shared.index.lock().position.lsn;
    if lsn > 0
        && shared.saved != Some(lsn)
        && let Err(error) = checkpoint::last(shared)
    {
        // The next start replays the journal instead.
        tracing::warn!("the index cannot be written: {error}");
        return;
    }
    shared.delivered.sync();
    let _ = mark_left(&**lock, shared.epoch);
}
