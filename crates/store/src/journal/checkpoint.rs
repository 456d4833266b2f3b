//! The checkpoint thread: brings the index to disk, frees segments in which nothing lives and gives
//! their files back, prepares the next one. Owns none of the data; holds no lock for long.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leveret_store_api::failpoint::{self, Failpoint};
use leveret_store_api::{LogId, Payload, StoreStatus};
use parking_lot::MutexGuard;

use super::compaction;
use super::pace::{is_short_of_room, prepare};
use super::shared::{Internal, Shared, WriteTo};
use super::snapshot::Snapshot;
use crate::clock;
use crate::files::shortage;
use crate::index::Index;
use crate::index::rows::{self, Checkpoint, Row};
use crate::segments::segment::ALLOCATE_BYTES;

/// So many segments that became empty are worth a checkpoint of their own.
pub(super) const EMPTIED: u32 = 4;
/// After a checkpoint that failed for want of room.
const RETRY: Duration = Duration::from_secs(2);
/// After the last of several checkpoints.
const REST_AFTER: Duration = Duration::from_secs(2);

/// Where room is short, freed segments are given back with pauses so many times shorter.
const HURRY: u32 = 8;

/// What this thread does by the time.
struct Agenda {
    /// The next checkpoint.
    checkpoint: Option<Instant>,
    /// The next piece of freed segments to be given back.
    piece: Option<Instant>,
    /// The index is to rest, if no checkpoint comes before.
    rest: Option<Instant>,
    /// Nothing is kept for what may be written, if nothing is before.
    idle: Option<Instant>,
    /// When all that is free has been given back, so is what the segment in use does not need.
    anew: bool,
}

/// The thread's body.
pub(super) fn run<P: Payload>(shared: &Arc<Shared<P>>) {
    keep_ballast(shared);
    let mut agenda = Agenda {
        checkpoint: None,
        piece: next_piece(shared),
        rest: None,
        idle: None,
        anew: false,
    };
    loop {
        let work = wait(shared, &mut agenda);
        if work.closing {
            return;
        }
        if work.prepare {
            prepare(shared);
        }
        if work.piece {
            give_back(shared);
            agenda.piece = next_piece(shared);
        }
        if work.rest {
            agenda.rest = None;
            let idle = Duration::from_millis(shared.options.idle_ms);
            agenda.idle = Some(clock::now() + idle);
            shared.index_store.lock().rest();
        }
        if work.idle {
            agenda.idle = None;
            agenda.anew = true;
            keep_none(shared);
            agenda.piece = next_piece(shared);
        }
        if agenda.anew && agenda.piece.is_none() && !work.checkpoint {
            agenda.anew = false;
            if let Err(error) = begin_anew(shared) {
                agenda.checkpoint = report(shared, &error);
            }
            agenda.piece = next_piece(shared);
        }
        if work.checkpoint {
            agenda.checkpoint = None;
            agenda.anew = false;
            agenda.rest = Some(clock::now() + REST_AFTER);
            match checkpoint(shared, WriteTo::AnySegment) {
                Ok(()) => keep_ballast(shared),
                Err(error) => agenda.checkpoint = report(shared, &error),
            }
            give_back(shared);
            agenda.piece = next_piece(shared);
            let mut duties = shared.duties.lock();
            duties.completed += 1;
            duties.running = false;
            shared.duties_changed.notify_all();
        }
    }
}

struct Work {
    closing: bool,
    prepare: bool,
    checkpoint: bool,
    piece: bool,
    rest: bool,
    idle: bool,
}

/// Sleeps until there is something to do: without end while nothing has changed.
fn wait<P: Payload>(shared: &Shared<P>, agenda: &mut Agenda) -> Work {
    let interval = Duration::from_millis(shared.options.checkpoint_interval_ms);
    let mut duties = shared.duties.lock();
    loop {
        let now = clock::now();
        if duties.dirty {
            agenda.idle = None;
        }
        if duties.dirty && agenda.checkpoint.is_none() {
            agenda.checkpoint = Some(now + interval);
        }
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let checkpoint = duties.checkpoint || is_due(agenda.checkpoint);
        if std::mem::take(&mut duties.discarded) && agenda.piece.is_none() {
            agenda.piece = Some(now);
        }
        let piece = is_due(agenda.piece);
        let rest = is_due(agenda.rest);
        let idle = is_due(agenda.idle);
        if duties.closing || duties.prepare || checkpoint || piece || rest || idle {
            let work = Work {
                closing: duties.closing,
                prepare: duties.prepare,
                checkpoint,
                piece,
                rest,
                idle,
            };
            duties.prepare = false;
            if checkpoint {
                duties.checkpoint = false;
                duties.dirty = false;
                duties.running = true;
            }
            return work;
        }
        if let Some(errand) = duties.errand.take() {
            MutexGuard::unlocked(&mut duties, errand);
            continue;
        }
        let Agenda {
            checkpoint,
            piece,
            rest,
            idle,
            ..
        } = *agenda;
        match [checkpoint, piece, rest, idle].into_iter().flatten().min() {
            Some(due) => {
                shared.duties_changed.wait_until(&mut duties, due);
            }
            None => shared.duties_changed.wait(&mut duties),
        }
    }
}

/// What to do about a checkpoint that failed: nothing is lost, the journal still has everything.
fn report<P: Payload>(shared: &Shared<P>, error: &io::Error) -> Option<Instant> {
    abandon(shared);
    if shortage(error).is_some() {
        tracing::warn!("the index cannot be written: {error}");
        shared.segments.spent.leave_all();
        shared.duties.lock().dirty = true;
        let pause = if shared.ballast.give_up() {
            Duration::ZERO
        } else {
            RETRY
        };
        return Some(clock::now() + pause);
    }
    shared
        .status
        .set(StoreStatus::Failed(format!("writing the index: {error}")));
    None
}

/// Room is kept for a full disk, if there is more than enough.
fn keep_ballast<P: Payload>(shared: &Shared<P>) {
    if !is_short_of_room(shared) {
        shared.ballast.make();
    }
}

/// When the next piece of freed segments is due; `None`: nothing is left of them.
fn next_piece<P: Payload>(shared: &Shared<P>) -> Option<Instant> {
    let leaving = shared.segments.spent.leaving();
    if leaving.files == 0 || shared.status.has_failed() {
        return None;
    }
    let pause = Duration::from_millis(shared.options.free_pause_ms);
    let hurry = is_short_of_room(shared);
    Some(clock::now() + if hurry { pause / HURRY } else { pause })
}

/// Gives a piece of the freed segments back to the disk.
fn give_back<P: Payload>(shared: &Shared<P>) {
    // What cannot be given back now is given back later.
    if let Err(error) = shared
        .segments
        .spent
        .give_back(shared.options.free_bytes_step)
        && shortage(&error).is_none()
    {
        shared.status.set(StoreStatus::Failed(format!(
            "giving back freed segments: {error}"
        )));
    }
}

/// Gives up a checkpoint: the next one writes everything.
fn abandon<P: Payload>(shared: &Shared<P>) {
    shared.index_unknown.store(true, Ordering::Release);
    shared.index.lock().mark_all();
}

/// Nothing is kept for what may be written next.
fn keep_none<P: Payload>(shared: &Shared<P>) {
    if let Err(error) = shared.segments.leave_prepared() {
        tracing::warn!("a file that is not needed stays: {error}");
    }
    shared.segments.spent.keep_none();
}

/// Nothing has been written for a while: where hardly anything lives in the segment in use, and much room is
/// reserved for it, another is begun, and this one is given back.
fn begin_anew<P: Payload>(shared: &Arc<Shared<P>>) -> io::Result<()> {
    let current = {
        let index = shared.index.lock();
        let entry = index.segments.entries.get(&index.position.segment);
        entry.map(|entry| (Arc::clone(&entry.segment), entry.live_bytes))
    };
    let Some((segment, live_bytes)) = current else {
        return Ok(());
    };
    let length = segment.file.length()?;
    drop(segment);
    let is_worth_it = length > ALLOCATE_BYTES && compaction::is_mostly_dead(live_bytes, length);
    if !is_worth_it || shared.status.get() != StoreStatus::Running {
        return Ok(());
    }
    // The first one begins the new segment, the second one finds the journal there.
    checkpoint(shared, WriteTo::NewSegment)?;
    checkpoint(shared, WriteTo::AnySegment)?;
    keep_none(shared);
    shared.index_store.lock().rest();
    Ok(())
}

/// One checkpoint: look, write, free.
fn checkpoint<P: Payload>(shared: &Arc<Shared<P>>, mut place: WriteTo) -> io::Result<()> {
    let mut plan = {
        let mut index = shared.index.lock();
        Plan::of(&mut index, shared)
    };
    for part in plan.snapshot.encode() {
        let place = std::mem::replace(&mut place, WriteTo::AnySegment);
        if !shared.write_internal(Internal::Snapshot(part, place)) {
            // The journal is being closed or has failed: what was taken for this checkpoint is
            // left to the last one.
            abandon(shared);
            return Ok(());
        }
    }
    plan.definition_rows(&mut |keys, rows| {
        let mut index = shared.index.lock();
        write_definitions(&mut index, keys, rows);
    });
    plan.log_rows(&mut |id, rows| {
        let mut index = shared.index.lock();
        write_log(&mut index, id, rows);
    });
    failpoint::reached(Failpoint::InCheckpoint);
    write(shared, plan.rows, &plan.checkpoint)?;
    failpoint::reached(Failpoint::BeforeFree);
    free(shared, &plan.empty)?;
    compaction::run(shared, plan.checkpoint.position.segment);
    Ok(())
}

/// The index at a clean stop: no other thread is running, nothing follows.
pub(super) fn last<P: Payload>(shared: &Shared<P>) -> io::Result<()> {
    let mut index = shared.index.lock();
    // The last records may have been written without a sync, and the index says that they are there.
    if let Some(entry) = index.segments.entries.get(&index.position.segment) {
        entry.segment.file.sync()?;
    }
    let mut plan = Plan::of(&mut index, shared);
    plan.definition_rows(&mut |keys, rows| write_definitions(&mut index, keys, rows));
    plan.log_rows(&mut |id, rows| write_log(&mut index, id, rows));
    plan.checkpoint.clean = true;
    drop(index);
    write(shared, plan.rows, &plan.checkpoint)
}

/// Rows of so many definitions are made before others may have the index.
const SLICE: usize = 256;

/// What a checkpoint is to write, from one short look at the index. Definitions follow some at a time and logs one by
/// one: they may be newer than the checkpoint says, and replaying what they have already changes nothing.
struct Plan {
    checkpoint: Checkpoint,
    snapshot: Snapshot,
    definitions: Vec<Arc<[u8]>>,
    removed_definitions: Vec<(u64, u16)>,
    logs: Vec<LogId>,
    rows: Vec<Row>,
    /// Segments with nothing live in them.
    empty: Vec<u32>,
}

impl Plan {
    fn of<P: Payload>(index: &mut Index, shared: &Shared<P>) -> Plan {
        let mut rows = Vec::new();
        for (id, parts) in std::mem::take(&mut index.deleted_logs) {
            rows::deleted_log_rows(id, &parts, &mut rows);
        }
        index.segments.emptied = 0;
        let empty = index.dead_segments().collect();
        Plan {
            checkpoint: Checkpoint {
                position: index.position,
                next_log: shared.next_log.load(Ordering::Relaxed),
                epoch: shared.epoch,
                clean: false,
            },
            snapshot: Snapshot::of(index),
            definitions: std::mem::take(&mut index.dirty_definitions)
                .into_iter()
                .collect(),
            removed_definitions: std::mem::take(&mut index.removed_rows),
            logs: std::mem::take(&mut index.dirty_logs),
            rows,
            empty,
        }
    }

    fn definition_rows(&mut self, write: &mut impl FnMut(&[Arc<[u8]>], &mut Vec<Row>)) {
        for keys in std::mem::take(&mut self.definitions).chunks(SLICE) {
            write(keys, &mut self.rows);
        }
        // After the new rows, so that a definition is always in the one or the other.
        for (row, parts) in std::mem::take(&mut self.removed_definitions) {
            rows::removed_definition_rows(row, parts, &mut self.rows);
        }
    }

    fn log_rows(&mut self, write: &mut impl FnMut(LogId, &mut Vec<Row>)) {
        for id in std::mem::take(&mut self.logs) {
            write(id, &mut self.rows);
        }
    }
}

/// One that has gone since the look is removed again by what is replayed.
fn write_definitions(index: &mut Index, keys: &[Arc<[u8]>], rows: &mut Vec<Row>) {
    for key in keys {
        if let Some(definition) = index.definitions.get_mut(key) {
            rows::definition_rows(key, definition, rows);
        }
    }
}

fn write_log(index: &mut Index, id: LogId, rows: &mut Vec<Row>) {
    if let Some(log) = index.logs.get_mut(&id) {
        log.is_dirty = false;
        rows::log_rows(id, log, rows);
    } else if let Some((_, parts)) = index
        .deleted_logs
        .iter()
        .find(|(deleted, _)| *deleted == id)
    {
        // Deleted since the look: its rows must not outlive the segments that the look found empty.
        rows::deleted_log_rows(id, parts, rows);
    }
}

fn write<P: Payload>(
    shared: &Shared<P>,
    mut rows: Vec<Row>,
    checkpoint: &Checkpoint,
) -> io::Result<()> {
    rows.push(rows::checkpoint_row(checkpoint));
    let only = shared.index_unknown.load(Ordering::Acquire);
    shared.index_store.lock().apply(rows, only)?;
    shared.index_unknown.store(false, Ordering::Release);
    Ok(())
}

/// Gives back segments that were empty before the index was written.
fn free<P: Payload>(shared: &Shared<P>, empty: &[u32]) -> io::Result<()> {
    for number in empty {
        let entry = {
            let mut index = shared.index.lock();
            // A transient message may have come to life again only by being written elsewhere.
            index.segments.entries.remove(number)
        };
        if let Some(entry) = entry {
            shared.segments.free(entry.segment)?;
            failpoint::reached(Failpoint::InFree);
        }
    }
    Ok(())
}
