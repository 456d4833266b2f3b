//! The store on disk: one journal for all logs and definitions, and an index of it. Owns the public
//! type and what its two threads share; the work is in the modules below.

mod ahead;
mod aside;
pub(crate) mod body;
mod checkpoint;
mod committer;
mod compaction;
mod elision;
mod encoder;
pub(crate) mod format;
mod groups;
mod inspect;
mod open;
mod pending;
mod read;
mod recovery;
pub(crate) mod run;
mod salvage;
pub(crate) mod segment;
mod snapshot;
mod spent;
mod status;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::delivered::DeliveredFile;
use crate::error::OpenError;
use crate::failpoint;
use crate::files::{DiskFiles, Files, StoreFile};
use crate::index::Index;
use crate::index::disk::{IndexStore, SledIndex};
use crate::waiters::Waiters;
use crate::{
    Ahead, Change, CommitPoint, DamagedMessage, DefinitionStore, Definitions, Delivered, LogId,
    LogState, MessageLog, Payload, Sequence, StoreError, StoreStatus, StoredMessage,
};
use ahead::WritingAhead;
use aside::SetAside;
use body::{Claimed, Discards};
use encoder::Copied;
use segment::{Segment, SegmentFiles};
use status::StatusCell;

pub use inspect::{Rebuilt, Verified, rebuild, verify};

/// So many segments have room on a disk, …
const SEGMENTS_ON_DISK_MIN: u64 = 32;
/// … as long as they need not be smaller than this.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Of a small disk this part stays free.
const RESERVE_SHARE: u64 = 20;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// One record takes no more staged bytes than this, unless one unit alone is larger.
    pub record_bytes_max: u64,
    /// The index is written when the journal has grown by this, in bytes …
    pub checkpoint_bytes: u64,
    /// … or this long after the first change since the last time, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// Segments kept to be written again …
    pub spare_segments: usize,
    /// … until nothing has been written for so long, in milliseconds.
    pub idle_ms: u64,
    /// Bytes of freed segments given back to the disk at a time …
    pub free_bytes_step: u64,
    /// … and the pause between two such times, in milliseconds, while the disk has room.
    pub free_pause_ms: u64,
    /// Pause between two records of messages copied out of mostly dead segments, in milliseconds, while
    /// the disk has room.
    pub copy_pause_ms: u64,
    /// A message whose second part has at least so many bytes is written ahead …
    pub ahead_bytes_min: usize,
    /// … in slices of so many bytes, each of them synced.
    pub ahead_step_bytes: usize,
    /// With less than this free on the disk, the status is [`StoreStatus::Full`]; in bytes.
    pub disk_free_bytes_min: u64,
    /// Pause after a large commit, in which the next group gathers; in microseconds.
    pub gap_us: u64,
    /// Messages of a log whose readers acknowledge most of them soon are written only when they have not been
    /// acknowledged for so long, or four times as long; in microseconds. With 0, all are written at once.
    pub patience_us: u64,
    /// Go on although something is damaged, without what cannot be read.
    pub recover: bool,
}

impl JournalOptions {
    /// The default, for a disk of so many bytes of which so many are to stay free. On a small one, segments are so
    /// small that many have room, and that what stays free is enough for one: acknowledgements must go on.
    #[must_use]
    pub fn for_disk(bytes: u64, reserve: Option<u64>) -> Self {
        let default = JournalOptions::default();
        let usual = default.disk_free_bytes_min.min(bytes / RESERVE_SHARE);
        let reserve = reserve.unwrap_or(usual);
        let share = (bytes / SEGMENTS_ON_DISK_MIN).min(reserve / 2);
        let fitting = 1 << share.max(SEGMENT_BYTES_MIN).ilog2();
        JournalOptions {
            segment_bytes: default.segment_bytes.min(fitting),
            checkpoint_bytes: default.checkpoint_bytes.min(fitting),
            disk_free_bytes_min: reserve,
            ..default
        }
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions {
            segment_bytes: 64 << 20,
            record_bytes_max: 2 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoint_interval_ms: 30_000,
            spare_segments: 1,
            idle_ms: 20_000,
            free_bytes_step: 2 << 20,
            free_pause_ms: 8,
            copy_pause_ms: 4,
            ahead_bytes_min: 16 << 20,
            ahead_step_bytes: 1 << 20,
            disk_free_bytes_min: 256 << 20,
            gap_us: 100,
            patience_us: 1000,
            recover: false,
        }
    }
}

/// The store on disk. See the crate's documentation and `docs/STORE.md`.
///
/// Dropping it commits what is staged, writes the index and ends its threads.
pub struct Journal<P: Payload> {
    shared: Arc<Shared<P>>,
    committer: Option<JoinHandle<()>>,
    checkpointer: Option<JoinHandle<()>>,
    opened_clean: bool,
    /// Locked against other processes as long as it is open.
    lock: Arc<dyn StoreFile>,
}

/// What the threads of a journal and its callers share.
pub(crate) struct Shared<P> {
    pub(crate) options: JournalOptions,
    pub(crate) directory: PathBuf,
    pub(crate) segments: SegmentFiles,
    pub(crate) ahead: WritingAhead<P>,
    /// The version that the file `format` has by now.
    pub(crate) format: Mutex<u64>,
    pub(crate) store: u32,
    pub(crate) epoch: u32,
    /// The index on disk was up to this record when the journal was opened.
    pub(crate) saved: Option<u64>,
    staging: Mutex<Staging<P>>,
    staged: Condvar,
    pub(crate) index: Mutex<Index>,
    pub(crate) index_store: Mutex<Box<dyn IndexStore>>,
    pub(crate) delivered: DeliveredFile,
    pub(crate) aside: SetAside,
    /// Rows in the index may be there that should not: the next checkpoint removes them.
    pub(crate) index_unknown: AtomicBool,
    waiters: Waiters,
    staged_bytes: AtomicU64,
    next_log: AtomicU64,
    pub(crate) status: StatusCell,
    pub(crate) duties: Mutex<Duties>,
    pub(crate) duties_changed: Condvar,
}

/// What was staged and not yet taken by the commit thread.
struct Staging<P> {
    changes: Vec<Change<P>>,
    units: Vec<Unit>,
    internal: VecDeque<Internal>,
    /// What was written ahead for `changes`.
    claimed: Claimed,
    point: u64,
    /// Definitions with all that is staged.
    definitions: DefinitionMap,
    closing: bool,
    /// The commit thread sleeps until it is told.
    idle: bool,
    /// It will look by itself for what readers acknowledge.
    gathering: bool,
    /// What the commit thread is to run before it sleeps again.
    errand: Option<fn()>,
}

type DefinitionMap = std::collections::BTreeMap<Arc<[u8]>, Arc<[u8]>>;

/// What one call of `stage` brought.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// The end of its changes.
    end: usize,
    bytes: u64,
    /// See [`MessageLog::stage_settled`].
    settled: bool,
}

/// What the store itself has to write.
pub(crate) enum Internal {
    Snapshot(Vec<u8>),
    Copied(Vec<Copied>),
}

/// What is to be done beside committing.
#[derive(Default)]
pub(crate) struct Duties {
    /// There is something to write to the index.
    pub(crate) dirty: bool,
    pub(crate) checkpoint: bool,
    pub(crate) prepare: bool,
    pub(crate) closing: bool,
    /// A file is free that no checkpoint has freed.
    pub(crate) discarded: bool,
    /// How many pieces of internal work have been written.
    pub(crate) internal_done: u64,
    /// The commit thread does nothing more.
    pub(crate) stopped: bool,
    /// Checkpoints that have ended, and whether one is under way.
    pub(crate) completed: u64,
    pub(crate) running: bool,
    /// What the checkpoint thread is to run.
    pub(crate) errand: Option<fn()>,
}

impl<P: Payload> Shared<P> {
    /// What was written ahead for a change.
    fn claim(&self, change: &Change<P>) -> Option<body::WrittenBody> {
        match change {
            Change::Enqueue(enqueue) if !enqueue.transient => self.ahead.claim(&enqueue.payload),
            _ => None,
        }
    }

    /// Hands internal work to the commit thread and waits until it is written; `false` if it will not
    /// be any more.
    pub(crate) fn write_internal(&self, work: Internal) -> bool {
        let target = self.duties.lock().internal_done + 1;
        {
            let mut staging = self.staging.lock();
            if staging.closing {
                return false;
            }
            staging.internal.push_back(work);
            self.staged.notify_one();
        }
        let mut duties = self.duties.lock();
        while duties.internal_done < target && !duties.stopped {
            self.duties_changed.wait(&mut duties);
        }
        duties.internal_done >= target
    }
}

impl<P: Payload> Discards for Shared<P> {
    fn discard(&self, segment: Arc<Segment>) {
        if let Err(error) = self.segments.free(segment) {
            // Nothing refers to it: the next start clears it away.
            tracing::warn!("a file that is not needed stays: {error}");
            return;
        }
        self.duties.lock().discarded = true;
        self.duties_changed.notify_all();
    }
}

impl<P: Payload> Journal<P> {
    /// Opens the store in `directory`, makes it if there is none, and starts its threads.
    ///
    /// # Errors
    /// The directory is in use, unusable, of a newer format or damaged. Nothing was changed then.
    pub fn open(directory: &Path, options: JournalOptions) -> Result<Self, OpenError> {
        let index = SledIndex::new(&directory.join("index"));
        let options = failpoint::small(options);
        Journal::open_on(Arc::new(DiskFiles), Box::new(index), directory, options)
    }

    /// Opens a store on other files than the real disk's: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        files: Arc<dyn Files>,
        index: Box<dyn IndexStore>,
        directory: &Path,
        options: JournalOptions,
    ) -> Result<Self, OpenError> {
        open::open(files, index, directory, options)
    }

    /// The last stop was a clean one: nothing was in flight.
    #[must_use]
    pub fn opened_clean(&self) -> bool {
        self.opened_clean
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
        for (number, change) in changes.iter().enumerate() {
            let own = change_bytes(change);
            bytes += own;
            if own >= self.shared.options.ahead_bytes_min as u64
                && let Some(written) = self.shared.claim(change)
            {
                bytes = bytes.saturating_sub(written.body_bytes());
                ahead.push((number, written));
            }
        }
        self.shared.staged_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut staging = self.shared.staging.lock();
        for change in changes.iter() {
            staging.note_definition(change);
        }
        let before = staging.changes.len();
        for (number, written) in ahead {
            staging.claimed.push(before + number, written);
        }
        staging.changes.append(changes);
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
        if committed && checkpointed && !self.shared.status.has_failed() {
            open::leave(&self.shared, &self.lock);
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

    fn ahead_bytes_min(&self) -> usize {
        self.shared.options.ahead_bytes_min
    }

    fn write_ahead(&self, payload: &P, copies: usize, waker: &Waker) -> Option<Ahead> {
        let is_large = payload.parts()[1].len() >= self.shared.options.ahead_bytes_min;
        // Without room, all wait in the order in which they came.
        if !is_large || self.shared.status.get() != StoreStatus::Running {
            return None;
        }
        self.shared
            .ahead
            .begin(&self.shared, payload, copies, waker)
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

    fn note_delivered(&self, log: LogId, below: Sequence) {
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

impl<P> Staging<P> {
    fn new(definitions: DefinitionMap) -> Self {
        Staging {
            changes: Vec::new(),
            units: Vec::new(),
            internal: VecDeque::new(),
            claimed: Claimed::default(),
            point: 0,
            definitions,
            closing: false,
            idle: false,
            gathering: false,
            errand: None,
        }
    }

    fn note_definition(&mut self, change: &Change<P>) {
        match change {
            Change::PutDefinition { key, value } => {
                self.definitions
                    .insert(key.as_slice().into(), value.as_slice().into());
            }
            Change::RemoveDefinition { key } => {
                self.definitions.remove(key.as_slice());
            }
            Change::Enqueue(_)
            | Change::Acknowledge { .. }
            | Change::SetCount { .. }
            | Change::DeleteLog { .. } => {}
        }
    }
}

/// What a change will take in a record, about.
fn change_bytes<P: Payload>(change: &Change<P>) -> u64 {
    let bytes = match change {
        Change::Enqueue(enqueue) => enqueue.payload.parts().iter().map(|part| part.len()).sum(),
        Change::PutDefinition { key, value } => key.len() + value.len(),
        Change::RemoveDefinition { key } => key.len(),
        Change::Acknowledge { .. } | Change::SetCount { .. } | Change::DeleteLog { .. } => 0,
    };
    bytes as u64
}
