//! Which messages that were taken have been acknowledged by their readers before they were written: they never
//! need to be. Owns what is known of each log for that, and the judgement whether waiting for acknowledgements
//! is worth it. Changes no unit and writes nothing.
//!
//! It is there for speed: with quick consumers 40 to 55 bytes are written for a message in place of 1,320, and it costs
//! 1.0 to 1.1 µs in place of 1.5 (docs/decisions/0003). The ordinary way writes all that is staged, as it does where
//! nobody calls `stage_settled`; readers find the same (tests/store/ways.rs).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use leveret_store_api::LogId;
use rustc_hash::FxHashMap;

/// So many messages of a log are looked at for each judgement.
const JUDGED: u32 = 1024;
/// A log that takes longer than this for them is not worth a wait.
const JUDGED_WITHIN: Duration = Duration::from_millis(16);
/// One in so many acknowledged in time without a wait: with one, it may be most.
const PROMISING: u32 = 32;
/// After so many judgements in a row at which less than half was saved, a longer wait is tried, or none.
const POOR_MAX: u8 = 8;
/// The first pause between two attempts; each that fails doubles it, up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// With more logs than this, what is known of them is forgotten when nothing is pending.
const LOGS_MAX: usize = 4096;

/// Where a message lies among what is pending, by numbers that go on for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The commit point of its unit.
    pub(super) unit: u64,
    pub(super) change: u64,
}

/// All logs that something was taken for.
#[derive(Default)]
pub(super) struct Elision {
    slots: FxHashMap<LogId, usize>,
    logs: Vec<Log>,
    /// Where the last one asked for lies: changes come in long rows for the same log.
    last: usize,
    /// Those that messages were taken for since the last judgement, and how many messages.
    touched: Vec<usize>,
    taken: u32,
    /// Those of which messages were passed over.
    passed_over: Vec<usize>,
}

/// One log.
struct Log {
    id: LogId,
    /// One above the highest sequence taken: what is below may be written already.
    next: u64,
    /// Messages taken and not known to be written, in sequence order.
    waiting: VecDeque<Waiting>,
    /// While this unit is pending, acknowledgements stay as they are: what they refer to is not plain.
    barrier: u64,
    /// Messages of it were passed over since `next` was last told to the index.
    passed_over: bool,
    touched: bool,
    hope: Hope,
}

struct Waiting {
    sequence: u64,
    spot: Spot,
    /// Neither acknowledged nor replaced.
    open: bool,
}

/// How long an acknowledgement is worth a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// Not at all.
    None,
    Short,
    Long,
}

/// Whether acknowledgements have been coming soon enough to wait for them.
struct Hope {
    wait: Wait,
    taken: u32,
    saved: u32,
    /// The last judgement.
    since: Option<Instant>,
    poor: u8,
    again_at: Option<Instant>,
    pause: Duration,
}

impl Elision {
    /// A message was taken. `done` is the last unit that is not pending; `next_written` tells the next sequence
    /// of a log that was not seen before. Answers which wait its acknowledgement is worth.
    pub(super) fn enqueue(
        &mut self,
        log: LogId,
        sequence: u64,
        spot: Spot,
        done: u64,
        next_written: impl FnOnce() -> u64,
    ) -> Wait {
        let slot = self.slot(log, next_written);
        self.taken = self.taken.saturating_add(1);
        let log = &mut self.logs[slot];
        log.forget(done);
        if !log.touched {
            log.touched = true;
            self.touched.push(slot);
        }
        log.hope.taken = log.hope.taken.saturating_add(1);
        if sequence < log.next {
            // It replaces one that may be written.
            log.barrier = spot.unit;
            return Wait::None;
        }
        log.next = sequence.saturating_add(1);
        log.waiting.push_back(Waiting {
            sequence,
            spot,
            open: true,
        });
        log.hope.wait
    }

    /// Until unit `unit` is no longer pending, the log's acknowledgements refer to more than its messages.
    pub(super) fn bar(&mut self, log: LogId, unit: u64, next_written: impl FnOnce() -> u64) {
        let slot = self.slot(log, next_written);
        self.logs[slot].barrier = unit;
    }

    /// Readers acknowledged a range of sequences: each message among them that is pending still is reported to
    /// `passed_over`. `done` is the last unit that is not pending. Answers whether that was all of the range.
    pub(super) fn acknowledge(
        &mut self,
        log: LogId,
        first: u64,
        count: u64,
        done: u64,
        mut passed_over: impl FnMut(Spot),
    ) -> bool {
        let Some(slot) = self.find(log) else {
            return false;
        };
        let log = &mut self.logs[slot];
        log.forget(done);
        if log.barrier > done {
            return false;
        }
        let end = first.saturating_add(count);
        let from = log
            .waiting
            .partition_point(|waiting| waiting.sequence < first);
        let to = log
            .waiting
            .partition_point(|waiting| waiting.sequence < end);
        let mut saved = 0;
        for waiting in log.waiting.range_mut(from..to) {
            if waiting.open && waiting.spot.unit > done {
                waiting.open = false;
                saved += 1;
                passed_over(waiting.spot);
            }
        }
        if saved > 0 && !log.passed_over {
            log.passed_over = true;
            self.passed_over.push(slot);
        }
        log.hope.saved = log
            .hope
            .saved
            .saturating_add(u32::try_from(saved).unwrap_or(u32::MAX));
        saved == count
    }

    /// Tells the next sequences of those logs of which messages were passed over since the last time.
    pub(super) fn passed_over(&mut self) -> impl Iterator<Item = (LogId, u64)> {
        let logs = &mut self.logs;
        self.passed_over.drain(..).map(|slot| {
            let log = &mut logs[slot];
            log.passed_over = false;
            (log.id, log.next)
        })
    }

    /// Judges the logs that many messages were taken for, whenever many were taken.
    pub(super) fn judge(&mut self, now: Instant) {
        if self.taken < JUDGED {
            return;
        }
        self.taken = 0;
        self.touched.retain(|slot| {
            let log = &mut self.logs[*slot];
            log.touched = log.hope.judge(now);
            log.touched
        });
    }

    /// Nothing is pending.
    pub(super) fn rest(&mut self) {
        if self.logs.len() > LOGS_MAX {
            *self = Elision::default();
        }
    }

    fn find(&mut self, log: LogId) -> Option<usize> {
        if self.logs.get(self.last).is_none_or(|last| last.id != log) {
            self.last = *self.slots.get(&log)?;
        }
        Some(self.last)
    }

    fn slot(&mut self, log: LogId, next_written: impl FnOnce() -> u64) -> usize {
        if let Some(slot) = self.find(log) {
            return slot;
        }
        self.last = self.logs.len();
        self.slots.insert(log, self.last);
        self.logs.push(Log {
            id: log,
            next: next_written(),
            waiting: VecDeque::new(),
            barrier: 0,
            passed_over: false,
            touched: false,
            hope: Hope {
                wait: Wait::None,
                taken: 0,
                saved: 0,
                since: None,
                poor: 0,
                again_at: None,
                pause: PAUSE,
            },
        });
        self.last
    }
}

impl Log {
    /// Lets go of what is not pending any more.
    fn forget(&mut self, done: u64) {
        let is_over = |waiting: &Waiting| !waiting.open || waiting.spot.unit <= done;
        while self.waiting.front().is_some_and(is_over) {
            self.waiting.pop_front();
        }
    }
}

impl Hope {
    /// Answers `false` once it has judged; before that, more messages are to be seen.
    fn judge(&mut self, now: Instant) -> bool {
        if self.taken < JUDGED {
            return true;
        }
        let soon = (self.since).is_some_and(|since| now.duration_since(since) <= JUDGED_WITHIN);
        if self.wait == Wait::None {
            let may = self.again_at.is_none_or(|at| now >= at);
            if soon && may && self.saved >= self.taken / PROMISING && self.saved > 0 {
                (self.wait, self.poor) = (Wait::Short, 0);
            }
        } else if soon && self.saved >= self.taken / 2 {
            self.poor = 0;
            self.pause = PAUSE;
        } else {
            self.poor += 1;
            if !soon || self.poor >= POOR_MAX && self.wait == Wait::Long {
                self.wait = Wait::None;
                self.again_at = Some(now + self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            } else if self.poor >= POOR_MAX {
                (self.wait, self.poor) = (Wait::Long, 0);
            }
        }
        (self.taken, self.saved, self.since) = (0, 0, Some(now));
        false
    }
}
