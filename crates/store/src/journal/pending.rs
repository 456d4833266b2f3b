//! What the commit thread has taken and not committed yet, in the order of staging. Owns the question how much
//! of it is to be committed now: messages whose readers acknowledge them as fast as they come need never be
//! written, if that is waited for. Writes nothing.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use leveret_store_api::{Change, CommitPoint, LogId, Payload, Sequence};
use parking_lot::Mutex;

use super::elision::{Elision, Spot, Wait};
use super::shared::{Internal, Staging, change_bytes};
use super::written::Claimed;
use crate::index::Index;

/// More than this waits for no acknowledgement; in bytes.
const WAITING_BYTES_MAX: u64 = 8 << 20;

/// Taken and not committed.
pub(super) struct Pending<P> {
    pub(super) changes: Vec<Change<P>>,
    pub(super) claimed: Claimed,
    pub(super) internal: VecDeque<Internal>,
    units: Vec<PendingUnit>,
    /// The last unit that is not pending, and how many changes there were up to it.
    done: u64,
    done_changes: u64,
    /// The units that were looked at for acknowledgements, and their changes.
    sorted: usize,
    sorted_changes: usize,
    bytes: u64,
    elision: Elision,
    /// All that is pending are messages whose acknowledgements are worth a wait, and acknowledgements.
    patient: bool,
    /// The longest wait that one of these messages is worth.
    wait: Wait,
    /// Until when acknowledgements by readers, which keep nobody waiting, may wait for something else.
    pub(super) gathers_until: Instant,
    /// How many changes were taken last …
    pub(super) taken: usize,
    /// … when there were any, and when a message was among them.
    taken_at: Instant,
    message_at: Instant,
}

struct PendingUnit {
    /// The end of its changes, as a number that goes on for ever.
    end: u64,
    bytes: u64,
    /// Acknowledgements by readers alone.
    settled: bool,
    taken_at: Instant,
    /// How many of its changes have to be committed.
    open: u32,
}

/// The units of one record.
#[derive(Clone, Copy, Default)]
pub(super) struct RecordUnits {
    pub(super) end: usize,
    pub(super) change: usize,
    pub(super) bytes: u64,
}

/// What is to be done with what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// So many units are to be committed.
    Units(usize),
    /// More acknowledgements are to be waited for, while messages come.
    Later,
    /// Nobody waits for what is pending: it is due at `gathers_until`, or with what comes.
    Gathering,
}

impl<P: Payload> Pending<P> {
    pub(super) fn new(now: Instant) -> Self {
        Pending {
            changes: Vec::new(),
            claimed: Claimed::default(),
            internal: VecDeque::new(),
            units: Vec::new(),
            done: 0,
            done_changes: 0,
            sorted: 0,
            sorted_changes: 0,
            bytes: 0,
            elision: Elision::default(),
            patient: true,
            wait: Wait::None,
            gathers_until: now,
            taken: 0,
            taken_at: now,
            message_at: now,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty() && self.internal.is_empty()
    }

    /// Lets go of its memory while nothing is pending.
    pub(super) fn shrink(&mut self) {
        self.changes = Vec::new();
        self.units = Vec::new();
        self.elision = Elision::default();
    }

    /// Everything up to this point is committed, or need not be.
    pub(super) fn done(&self) -> CommitPoint {
        CommitPoint(self.done)
    }

    /// Takes all that is staged.
    pub(super) fn take(&mut self, staging: &mut Staging<P>, now: Instant) {
        self.taken = staging.changes.len();
        if !staging.units.is_empty() {
            self.taken_at = now;
        }
        let base = self.done_changes + self.changes.len() as u64;
        if self.changes.is_empty() {
            mem::swap(&mut self.changes, &mut staging.changes);
            mem::swap(&mut self.claimed, &mut staging.claimed);
        } else {
            self.claimed
                .append(&mut staging.claimed, self.changes.len());
            self.changes.append(&mut staging.changes);
        }
        self.units
            .extend(staging.units.drain(..).map(|unit| PendingUnit {
                end: base + unit.end as u64,
                bytes: unit.bytes,
                settled: unit.settled,
                taken_at: now,
                open: 0,
            }));
        mem::swap(&mut self.internal, &mut staging.internal);
    }

    /// Looks for messages that have been acknowledged, among what was taken last; answers how many staged bytes
    /// they were.
    pub(super) fn elide(&mut self, index: &Mutex<Index>) -> u64 {
        let mut saved = 0;
        while let Some(unit) = self.units.get(self.sorted) {
            let point = self.done + self.sorted as u64 + 1;
            let end = index_of(unit.end, self.done_changes);
            self.bytes += unit.bytes;
            for at in self.sorted_changes..end {
                saved += self.sort_one(point, at, index);
            }
            self.sorted += 1;
            self.sorted_changes = end;
        }
        self.bytes -= saved;
        let is_done = self.units.iter().take_while(|unit| unit.open == 0).count();
        if is_done > 0 && self.claimed.is_empty() {
            self.forget(is_done);
        }
        saved
    }

    /// Sorts one change of the unit with this point.
    fn sort_one(&mut self, point: u64, at: usize, index: &Mutex<Index>) -> u64 {
        let spot = Spot {
            unit: point,
            change: self.done_changes + at as u64,
        };
        let next_written = |log| {
            let index = index.lock();
            index.logs.get(&log).map_or(0, |log| log.next())
        };
        let (mut is_patient, mut open, mut saved) = (false, true, 0);
        match &self.changes[at] {
            Change::Enqueue(enqueue) => {
                let (log, sequence) = (enqueue.log, enqueue.sequence.0);
                self.message_at = self.taken_at;
                let next = || next_written(log);
                let wait = (self.elision).enqueue(log, sequence, spot, self.done, next);
                is_patient = wait > Wait::None;
                self.wait = self.wait.max(wait);
            }
            &Change::Acknowledge { log, first, count } => {
                is_patient = true;
                if self.units[self.sorted].settled {
                    let all;
                    (all, saved) = self.settle(log, first, count);
                    if all {
                        self.changes[at] = nothing(log);
                        open = false;
                    }
                }
            }
            &(Change::SetCount { log, .. } | Change::DeleteLog { log }) => {
                self.elision.bar(log, point, || next_written(log));
            }
            Change::PutDefinition { .. } | Change::RemoveDefinition { .. } => {}
        }
        self.patient &= is_patient;
        self.units[self.sorted].open += u32::from(open);
        saved
    }

    /// Leaves out the messages that readers acknowledged; answers whether they were all pending, and their bytes.
    fn settle(&mut self, log: LogId, first: Sequence, count: u64) -> (bool, u64) {
        let (done, done_changes) = (self.done, self.done_changes);
        let (changes, units) = (&mut self.changes, &mut self.units);
        let mut saved = 0;
        let all = self.elision.acknowledge(log, first.0, count, done, |spot| {
            let change = &mut changes[index_of(spot.change, done_changes)];
            let unit = &mut units[index_of(spot.unit, done + 1)];
            let bytes = change_bytes(change).min(unit.bytes);
            *change = nothing(log);
            unit.open -= 1;
            unit.bytes -= bytes;
            saved += bytes;
        });
        (all, saved)
    }

    /// What is to be committed now, where units may wait as long as `patience`, and four times that.
    pub(super) fn due(&mut self, now: Instant, patience: Duration) -> Due {
        let all = Due::Units(self.units.len());
        self.gathers_until = now;
        let Some(front) = self.units.first() else {
            return all;
        };
        if !self.internal.is_empty() || !self.claimed.is_empty() || self.bytes > WAITING_BYTES_MAX {
            return all;
        }
        let age = now.duration_since(front.taken_at);
        if self.units.iter().all(|unit| unit.settled) {
            if age >= patience {
                return all;
            }
            self.gathers_until = front.taken_at + patience;
            return Due::Gathering;
        }
        // Publishers may have come to a stop because nothing is confirmed.
        let nothing_comes = now.duration_since(self.message_at) >= patience / 4;
        let wait = match self.wait {
            Wait::None => Duration::ZERO,
            Wait::Short => patience,
            Wait::Long => 4 * patience,
        };
        if !self.patient || nothing_comes || wait.is_zero() {
            return all;
        }
        if age < wait {
            return Due::Later;
        }
        // What came late may still be acknowledged in time.
        let old = |unit: &&PendingUnit| now.duration_since(unit.taken_at) >= wait / 2;
        Due::Units(self.units.iter().take_while(old).count())
    }

    /// The units that go into one record from `from` on, of the first `count`.
    pub(super) fn record(&self, from: usize, count: usize, bytes_max: u64) -> RecordUnits {
        let mut bytes = 0;
        let mut end = from;
        for unit in self.units.get(from..count).unwrap_or_default() {
            if end > from && bytes + unit.bytes > bytes_max {
                break;
            }
            bytes += unit.bytes;
            end += 1;
        }
        let last = end.checked_sub(1).and_then(|last| self.units.get(last));
        RecordUnits {
            end,
            change: last.map_or(0, |last| index_of(last.end, self.done_changes)),
            bytes,
        }
    }

    /// The point of the first `count` units.
    pub(super) fn point(&self, count: usize) -> CommitPoint {
        CommitPoint(self.done + count as u64)
    }

    /// The first `count` units are done.
    pub(super) fn forget(&mut self, count: usize) {
        let Some(last) = count.checked_sub(1).and_then(|last| self.units.get(last)) else {
            return;
        };
        let changes = index_of(last.end, self.done_changes);
        let bytes: u64 = self.units.drain(..count).map(|unit| unit.bytes).sum();
        self.bytes -= bytes;
        self.done += count as u64;
        self.done_changes += changes as u64;
        self.sorted -= count;
        self.sorted_changes -= changes;
        if self.units.is_empty() {
            release(&mut self.changes);
            self.claimed.clear();
            self.patient = true;
            self.wait = Wait::None;
            self.elision.rest();
        } else {
            self.changes.drain(..changes);
        }
    }

    /// Judges what is gained by waiting.
    pub(super) fn judge(&mut self, now: Instant) {
        self.elision.judge(now);
    }

    /// Tells the index of the sequences that were used for what was passed over; answers whether there were any.
    pub(super) fn raise_next(&mut self, index: &Mutex<Index>) -> bool {
        let mut locked = None;
        for (log, next) in self.elision.passed_over() {
            let index = locked.get_or_insert_with(|| index.lock());
            index.raise_next(log, next);
        }
        locked.is_some()
    }
}

/// Stands where a change was that has come to nothing.
fn nothing<P>(log: LogId) -> Change<P> {
    Change::Acknowledge {
        log,
        first: Sequence(0),
        count: 0,
    }
}

fn index_of(number: u64, base: u64) -> usize {
    usize::try_from(number - base).unwrap_or(usize::MAX)
}

/// Drops the changes but keeps the room for the next ones, unless it is out of proportion.
fn release<T>(changes: &mut Vec<T>) {
    changes.clear();
    if changes.capacity() > 16 * 1024 {
        *changes = Vec::new();
    }
}

#[cfg(test)]
mod tests;
