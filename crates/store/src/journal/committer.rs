//! The commit thread: the only writer of the journal. Owns the order of things: take what is staged,
//! encode, write, sync, index, advance the durable point.

use std::io::{self, IoSlice};
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leveret_store_api::broken::broken;
use leveret_store_api::failpoint::{self, Failpoint};
use leveret_store_api::{Change, LogId, Payload, Shortage, StoreStatus};

use super::deleted::DeletedLogs;
use super::directory::raise_format;
use super::encoder::Encoder;
use super::format::{HEADER_BYTES, RecordHeader};
use super::newest::NewestDurable;
use super::pending::{Due, Pending};
use super::shared::{Internal, Shared, WriteTo};
use super::written::Claimed;
use crate::clock;
use crate::files::{StoreFile, shortage};
use crate::index::Position;
use crate::segments::segment::{Segment, Writable};

/// A record below this size that reaches fresh ground takes some of the ground behind it along, so
/// that the following records are written over written blocks.
const SMALL_RECORD_BYTES: u64 = 64 * 1024;
const FILL_BYTES: u64 = 256 * 1024;
const RETRY: Duration = Duration::from_millis(200);
const SPACE_CHECK: Duration = Duration::from_secs(1);
/// A group of so many changes is large: the next one may gather for a moment.
const LARGE_GROUP: usize = 64;

/// The time between two looks at what may be acknowledged before it is written.
const LOOK: Duration = Duration::from_micros(100);

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Where the journal goes on after recovery.
pub(crate) struct Resume {
    pub(crate) current: Option<Writable>,
    pub(crate) epoch: u32,
}

/// The commit thread's own state.
pub(crate) struct Committer<P: Payload> {
    shared: Arc<Shared<P>>,
    current: Option<Writable>,
    offset: u64,
    lsn: u64,
    durable_lsn: u64,
    newest: NewestDurable,
    epoch: u32,
    /// The file `format` says this version at least.
    version: u64,
    /// The current segment holds records that were written without a sync.
    unsynced: bool,
    /// The next record goes to another segment.
    turns: bool,
    encoder: Encoder,
    deleted: DeletedLogs,
    grown: u64,
    asked: Asked,
    space_checked: Instant,
    /// Nothing will be staged any more.
    closing: bool,
}

/// What the checkpoint thread has been told already.
#[derive(Default)]
struct Asked {
    prepare_for: u32,
}

/// The thread has to end: the store failed, or it closes while the disk is full.
struct Stop;

impl<P: Payload> Committer<P> {
    pub(super) fn new(shared: Arc<Shared<P>>, resume: Resume, newest: NewestDurable) -> Self {
        let Position { lsn, offset, .. } = shared.index.lock().position;
        let version = *shared.format.lock();
        Committer {
            shared,
            current: resume.current,
            offset,
            lsn,
            durable_lsn: lsn,
            newest,
            epoch: resume.epoch,
            version,
            unsynced: false,
            turns: false,
            encoder: Encoder::new(),
            deleted: DeletedLogs::default(),
            grown: 0,
            asked: Asked::default(),
            space_checked: clock::now(),
            closing: false,
        }
    }

    pub(crate) fn run(mut self) {
        self.check_space();
        let mut pending = Pending::new(clock::now());
        while self.take(&mut pending) {
            if self.commit_due(&mut pending).is_err() {
                break;
            }
        }
        let mut duties = self.shared.duties.lock();
        duties.stopped = true;
        self.shared.duties_changed.notify_all();
    }

    /// Takes all that is staged, and waits for something if nothing that is pending is due before; `false` when
    /// there is nothing and never will be.
    fn take(&mut self, pending: &mut Pending<P>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut staging = shared.staging.lock();
        while staging.units.is_empty() && staging.internal.is_empty() {
            if !pending.is_empty() {
                let left = pending
                    .gathers_until
                    .saturating_duration_since(clock::now());
                if left.is_zero() || staging.closing {
                    break;
                }
                (staging.idle, staging.gathering) = (true, true);
                shared.staged.wait_for(&mut staging, left);
                staging.gathering = false;
                continue;
            }
            if staging.closing {
                return false;
            }
            if let Some(errand) = staging.errand.take() {
                staging.changes = Vec::new();
                drop(staging);
                pending.shrink();
                self.encoder.shrink();
                errand();
                staging = shared.staging.lock();
                continue;
            }
            staging.idle = true;
            if matches!(shared.status.get(), StoreStatus::Full { .. }) {
                // Nobody stages while the disk is full: find out ourselves when that has passed.
                let waited = shared.staged.wait_for(&mut staging, RETRY);
                if waited.timed_out() {
                    drop(staging);
                    self.check_space();
                    staging = shared.staging.lock();
                }
            } else {
                shared.staged.wait(&mut staging);
            }
        }
        staging.idle = false;
        self.closing = staging.closing;
        pending.take(&mut staging, clock::now());
        true
    }

    /// Leaves out what has been acknowledged, and commits what should wait no longer.
    fn commit_due(&mut self, pending: &mut Pending<P>) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let large = pending.taken >= LARGE_GROUP;
        let before = pending.done();
        let saved = pending.elide(&shared.index);
        if saved > 0 {
            shared.staged_bytes.fetch_sub(saved, Ordering::Relaxed);
        }
        if pending.raise_next(&shared.index) {
            self.count_growth(0, true);
        }
        if pending.done() > before {
            shared.waiters.advance(pending.done());
            failpoint::reached(Failpoint::AfterConfirm);
        }
        match pending.due(clock::now(), self.patience()) {
            Due::Later => clock::pause(LOOK),
            Due::Gathering => {}
            Due::Units(count) => self.commit_units(pending, count)?,
        }
        pending.judge(clock::now());
        if large && pending.is_empty() && shared.options.gap_us > 0 {
            clock::pause(Duration::from_micros(shared.options.gap_us));
        }
        Ok(())
    }

    /// How long a message may wait for its acknowledgement.
    fn patience(&self) -> Duration {
        if self.closing || self.shared.status.get() != StoreStatus::Running {
            return Duration::ZERO;
        }
        Duration::from_micros(self.shared.options.patience_us)
    }

    /// Commits the first `count` units, in as many records as their size asks for, and internal work.
    fn commit_units(&mut self, pending: &mut Pending<P>, count: usize) -> Result<(), Stop> {
        let (mut unit, mut change) = (0, 0);
        while unit < count || !pending.internal.is_empty() {
            let record = pending.record(unit, count, self.shared.options.record_bytes_max);
            let internal = pending.internal.pop_front();
            let end = record.change.max(change);
            let claimed = &mut pending.claimed;
            self.commit(&pending.changes, change..end, claimed, internal.as_ref())?;
            self.shared
                .staged_bytes
                .fetch_sub(record.bytes, Ordering::Relaxed);
            (unit, change) = (record.end, end);
            self.shared.waiters.advance(pending.point(unit));
            failpoint::reached(Failpoint::AfterConfirm);
            if internal.is_some() {
                self.shared.duties.lock().internal_done += 1;
                self.shared.duties_changed.notify_all();
            }
        }
        pending.forget(count);
        Ok(())
    }

    /// Writes one record, if there is anything to write, and brings the index up to it.
    fn commit(
        &mut self,
        changes: &[Change<P>],
        range: Range<usize>,
        claimed: &mut Claimed,
        internal: Option<&Internal>,
    ) -> Result<(), Stop> {
        let units_were_committed = !range.is_empty();
        self.encoder.begin();
        match internal {
            Some(Internal::Copied(copied)) => {
                let index = self.shared.index.lock();
                for copied in copied {
                    self.encoder.copy_forward(copied, &index);
                }
            }
            Some(Internal::Snapshot(part, place)) => {
                self.encoder.snapshot(part);
                self.turns |= *place == WriteTo::NewSegment;
            }
            None => {}
        }
        self.encoder.changes(
            changes,
            range,
            claimed,
            &mut self.deleted,
            &self.shared.index,
        );
        if self.encoder.is_empty() {
            if self.encoder.has_effects() {
                let mut index = self.shared.index.lock();
                self.encoder.apply(&mut index, 0, 0);
                let gone = mem::take(&mut index.gone_logs);
                drop(index);
                self.forget_logs(&gone);
                self.count_growth(0, true);
            }
            return Ok(());
        }
        let (body_bytes, body_crc) = self.encoder.finish();
        let total = super::format::aligned(HEADER_BYTES as u64 + body_bytes);
        if total > u64::from(u32::MAX) / 2 {
            return Err(self.fail(&format!(
                "one unit of {total} bytes is more than a record can hold"
            )));
        }
        failpoint::reached(Failpoint::BeforeWrite);
        self.raise_format()?;
        let elsewhere = self.write_fronts()?;
        self.make_room(total)?;
        let Some(current) = &self.current else {
            return Err(self.fail("no segment to write to"));
        };
        let segment = Arc::clone(&current.segment);
        self.encoder.set_header(
            RecordHeader {
                lsn: self.lsn + 1,
                durable_lsn: self.durable_lsn,
                body_bytes,
                next_log: self.shared.next_log.load(Ordering::Relaxed),
                epoch: self.epoch,
                segment: segment.number(),
                store: self.shared.store,
                body_crc,
            }
            .encode(),
        );
        self.write(changes, total)?;
        self.check_name(&segment)?;
        failpoint::reached(Failpoint::AfterWrite);
        self.lsn += 1;
        if self.encoder.is_durable() {
            self.durable_lsn = self.lsn;
            self.newest.write(self.lsn);
        }
        let start = self.offset;
        self.offset += total;
        let mut index = self.shared.index.lock();
        self.encoder.apply(&mut index, segment.number(), start);
        index.position = Position {
            lsn: self.lsn,
            segment: segment.number(),
            offset: self.offset,
        };
        if let Some(entry) = index.segments.entries.get_mut(&segment.number()) {
            entry.used = self.offset;
        }
        let gone = mem::take(&mut index.gone_logs);
        drop(index);
        self.forget_logs(&gone);
        // A snapshot belongs to a checkpoint; it is no reason for the next one.
        let is_change = !matches!(internal, Some(Internal::Snapshot(..))) || units_were_committed;
        self.count_growth(total + elsewhere, is_change);
        Ok(())
    }

    /// Nothing is left of these logs.
    fn forget_logs(&self, gone: &[LogId]) {
        if !gone.is_empty() {
            self.shared.delivered.free(gone);
        }
    }

    /// Completes the runs that lie in files of their own; answers how many bytes lie there.
    fn write_fronts(&mut self) -> Result<u64, Stop> {
        let mut bytes = 0;
        for place in 0..self.encoder.fronts().len() {
            while let Some(front) = self.encoder.fronts().get(place) {
                let mut slices = [IoSlice::new(&front.bytes)];
                match front.segment.file.write_at(&mut slices, front.offset, true) {
                    Ok(()) => {
                        bytes += u64::from(front.header.total_bytes());
                        break;
                    }
                    Err(error) => self.wait_for_room(&error)?,
                }
            }
            failpoint::reached(Failpoint::AfterFront);
        }
        Ok(bytes)
    }

    /// Makes sure that no program reads the record that is too old for it.
    fn raise_format(&mut self) -> Result<(), Stop> {
        let version = self.encoder.version();
        while version > self.version {
            match raise_format(&self.shared, version) {
                Ok(()) => self.version = version,
                Err(error) => self.wait_for_room(&error)?,
            }
        }
        Ok(())
    }

    /// Makes sure that a record of `total` bytes has its place, in this segment or the next.
    fn make_room(&mut self, total: u64) -> Result<(), Stop> {
        loop {
            match self.try_make_room(total) {
                Ok(()) => return Ok(()),
                Err(error) => self.wait_for_room(&error)?,
            }
        }
    }

    fn try_make_room(&mut self, total: u64) -> io::Result<()> {
        if let Some(current) = &mut self.current
            && !self.turns
            && self.offset + total <= current.segment.capacity
        {
            return current.allocate(self.offset + total);
        }
        let next = self.shared.segments.next(total)?;
        if self.unsynced
            && let Some(current) = &self.current
        {
            current.segment.file.sync()?;
            self.unsynced = false;
        }
        self.shared
            .index
            .lock()
            .segments
            .insert(Arc::clone(&next.segment));
        self.current = Some(next);
        self.turns = false;
        self.offset = 0;
        self.check_space();
        self.current
            .as_mut()
            .map_or(Ok(()), |current| current.allocate(total))
    }

    fn write(&mut self, changes: &[Change<P>], total: u64) -> Result<(), Stop> {
        loop {
            match self.try_write(changes, total) {
                Ok(()) => return Ok(()),
                Err(error) => self.wait_for_room(&error)?,
            }
        }
    }

    fn try_write(&mut self, changes: &[Change<P>], total: u64) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            broken(&"a record has no segment to go to");
            return Err(io::ErrorKind::NotFound.into());
        };
        let durable = self.encoder.is_durable();
        let end = self.offset + total;
        let mut slices = self.encoder.slices(changes);
        let mut filled = end;
        if total < SMALL_RECORD_BYTES && end > current.filled {
            filled = (end.div_ceil(FILL_BYTES) * FILL_BYTES)
                .min(current.allocated)
                .max(end);
            push_zeros(&mut slices, filled - end);
        }
        die_writing(&*current.segment.file, &mut slices, self.offset);
        // A synchronous write vouches for its own bytes only, not for what was written before it.
        let alone = durable && !self.unsynced;
        current
            .segment
            .file
            .write_at(&mut slices, self.offset, alone)?;
        if durable && !alone {
            current.segment.file.sync()?;
        }
        self.unsynced = !durable;
        current.filled = current.filled.max(filled);
        Ok(())
    }

    /// After a write that failed: waits a little if something has run out, fails for good otherwise.
    fn wait_for_room(&mut self, error: &io::Error) -> Result<(), Stop> {
        let Some(lacks) = shortage(error) else {
            let path = self
                .current
                .as_ref()
                .map_or(self.shared.segments.directory(), |current| {
                    current.segment.path()
                });
            let reason = format!("writing {}: {error}", path.display());
            return Err(self.fail(&reason));
        };
        self.shared.status.set(StoreStatus::Full {
            path: self.shared.segments.directory().to_path_buf(),
            free_bytes: self.shared.segments.free_bytes().unwrap_or(0),
            lacks,
        });
        if matches!(lacks, Shortage::Disk | Shortage::Quota) && self.shared.ballast.give_up() {
            return Ok(());
        }
        // Forces a look as soon as something could be written again.
        self.space_checked = clock::now()
            .checked_sub(SPACE_CHECK)
            .unwrap_or_else(clock::now);
        let mut staging = self.shared.staging.lock();
        if staging.closing {
            return Err(Stop);
        }
        self.shared.staged.wait_for(&mut staging, RETRY);
        Ok(())
    }

    /// What was written is where the next start looks for it. Nothing else tells that somebody has removed the data
    /// directory: writing goes on into files that have no names.
    fn check_name(&self, segment: &Segment) -> Result<(), Stop> {
        let path = segment.path();
        let reason = match segment.file.is_named(path) {
            Ok(true) => return Ok(()),
            Ok(false) => "it was removed or replaced while the broker ran".to_owned(),
            // Not to be able to look is not to know.
            Err(error) if shortage(&error).is_some() => return Ok(()),
            Err(error) => error.to_string(),
        };
        Err(self.fail(&format!("{}: {reason}", path.display())))
    }

    fn fail(&self, reason: &str) -> Stop {
        self.shared
            .status
            .set(StoreStatus::Failed(reason.to_owned()));
        Stop
    }

    /// Compares what is free on the disk with what should be.
    fn check_space(&mut self) {
        self.space_checked = clock::now();
        let Ok(free_bytes) = self.shared.segments.free_bytes() else {
            return;
        };
        let least = self.shared.options.disk_free_bytes_min;
        let is_low = matches!(self.shared.status.get(), StoreStatus::Full { .. });
        if free_bytes < least {
            let path = self.shared.segments.directory().to_path_buf();
            self.shared.status.set(StoreStatus::Full {
                path,
                free_bytes,
                lacks: Shortage::Disk,
            });
        } else if is_low && free_bytes >= least + least / 16 {
            self.shared.status.set(StoreStatus::Running);
        }
    }

    /// Tells the checkpoint thread what there is to do.
    fn count_growth(&mut self, bytes: u64, is_change: bool) {
        self.grown += bytes;
        let now = clock::now();
        if now.duration_since(self.space_checked) >= SPACE_CHECK {
            self.check_space();
        }
        let number = self
            .current
            .as_ref()
            .map_or(0, |current| current.segment.number());
        let capacity = self
            .current
            .as_ref()
            .map_or(u64::MAX, |current| current.segment.capacity);
        let prepare = self.offset > capacity / 2 && self.asked.prepare_for != number;
        let emptied = self.shared.index.lock().segments.emptied;
        let checkpoint = self.grown >= self.shared.options.checkpoint_bytes
            || emptied >= super::checkpoint::EMPTIED;
        let mut duties = self.shared.duties.lock();
        if (duties.dirty || !is_change) && !prepare && (!checkpoint || duties.checkpoint) {
            return;
        }
        duties.dirty |= is_change;
        duties.prepare |= prepare;
        if checkpoint {
            duties.checkpoint = true;
            self.grown = 0;
        }
        self.asked.prepare_for = if prepare {
            number
        } else {
            self.asked.prepare_for
        };
        self.shared.duties_changed.notify_all();
    }
}

/// Ends the process with a torn or an unsynced record behind it, if a test asked for that.
fn die_writing(file: &dyn StoreFile, slices: &mut [IoSlice<'_>], offset: u64) {
    if failpoint::is_due(Failpoint::InWrite) {
        let half = slices.iter().map(|slice| slice.len()).sum::<usize>() / 2;
        let mut bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        bytes.truncate(half);
        let _ = file.write_at(&mut [IoSlice::new(&bytes)], offset, false);
        failpoint::end();
    }
    if failpoint::is_due(Failpoint::BeforeSync) {
        let _ = file.write_at(slices, offset, false);
        failpoint::end();
    }
}

fn push_zeros<'a>(slices: &mut Vec<IoSlice<'a>>, mut bytes: u64) {
    while bytes > 0 {
        let some = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        slices.push(IoSlice::new(ZEROS.get(..some).unwrap_or_default()));
        bytes -= some as u64;
    }
}
