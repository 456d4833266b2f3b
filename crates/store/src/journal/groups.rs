//! The changes of one record sorted by log, the cancelling of messages that were acknowledged before
//! they were written, and the dropping of what comes after a log's deletion. Owns the order of a log's operations;
//! writes no bytes.

use std::ops::Range;

use leveret_store_api::{Change, LogId};
use rustc_hash::FxHashMap;

use super::deleted::DeletedLogs;

/// The operations of each log in a record, in order.
#[derive(Default)]
pub(super) struct Groups {
    slots: FxHashMap<LogId, usize>,
    lists: Vec<Group>,
    used: usize,
    /// The changes of definitions, in order.
    pub(super) definitions: Vec<usize>,
}

/// One log's.
pub(super) struct Group {
    pub(super) log: LogId,
    pub(super) operations: Vec<LogOperation>,
    /// The enqueues among the operations: their sequence and their place in `operations`.
    enqueues: Vec<(u64, usize)>,
    ascending: bool,
    /// The newest acknowledgement among the operations.
    last_acknowledge: Option<usize>,
    /// Messages were given numbers.
    pub(super) has_counts: bool,
    /// One above the highest sequence enqueued.
    pub(super) next: u64,
    /// The log was deleted, in this record or before: nothing more comes of it.
    is_over: bool,
}

/// What is to be done to a log.
#[derive(Clone, Copy)]
pub(super) enum LogOperation {
    /// By the number of the change.
    Enqueue(usize),
    /// From a sequence on, so many.
    Acknowledge(u64, u64),
    /// By the number of the change.
    SetCount(usize),
    /// All of it.
    Delete,
    /// Nothing: it was acknowledged in the same record.
    Cancelled,
}

impl Groups {
    /// Sorts the changes with these numbers, without those of logs that were `deleted` before.
    pub(super) fn sort<P>(
        &mut self,
        changes: &[Change<P>],
        range: Range<usize>,
        deleted: &DeletedLogs,
    ) {
        self.clear();
        for (number, change) in changes.iter().enumerate().take(range.end).skip(range.start) {
            match change {
                Change::Enqueue(enqueue) => {
                    self.of(enqueue.log, deleted)
                        .enqueue(enqueue.sequence.0, number);
                }
                Change::Acknowledge { log, first, count } => {
                    self.of(*log, deleted).acknowledge(first.0, *count);
                }
                Change::SetCount { log, .. } => {
                    self.of(*log, deleted).set_count(number);
                }
                Change::DeleteLog { log } => self.of(*log, deleted).delete(),
                Change::PutDefinition { .. } | Change::RemoveDefinition { .. } => {
                    self.definitions.push(number);
                }
            }
        }
    }

    /// What was sorted, log by log.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.lists.iter().take(self.used)
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.used = 0;
        self.definitions.clear();
    }

    fn of(&mut self, log: LogId, deleted: &DeletedLogs) -> &mut Group {
        let used = &mut self.used;
        let lists = &mut self.lists;
        // Publishes of one connection come in long rows for the same queue.
        let slot = match used.checked_sub(1).filter(|last| lists[*last].log == log) {
            Some(last) => last,
            None => *self.slots.entry(log).or_insert_with(|| {
                if *used == lists.len() {
                    lists.push(Group::new());
                }
                lists[*used].restart(log, deleted.contains(log));
                *used += 1;
                *used - 1
            }),
        };
        &mut lists[slot]
    }
}

impl Group {
    fn new() -> Self {
        Group {
            log: LogId(0),
            operations: Vec::new(),
            enqueues: Vec::new(),
            ascending: true,
            last_acknowledge: None,
            has_counts: false,
            next: 0,
            is_over: false,
        }
    }

    fn restart(&mut self, log: LogId, is_over: bool) {
        self.log = log;
        self.operations.clear();
        self.enqueues.clear();
        self.ascending = true;
        self.last_acknowledge = None;
        self.has_counts = false;
        self.next = 0;
        self.is_over = is_over;
    }

    fn enqueue(&mut self, sequence: u64, change: usize) {
        if self.is_over {
            return;
        }
        self.ascending &= self
            .enqueues
            .last()
            .is_none_or(|(last, _)| *last < sequence);
        self.enqueues.push((sequence, self.operations.len()));
        self.operations.push(LogOperation::Enqueue(change));
        self.next = self.next.max(sequence.saturating_add(1));
    }

    /// Cancels the enqueues in the range; the acknowledgement stays for what was written before.
    fn acknowledge(&mut self, first: u64, count: u64) {
        if self.is_over {
            return;
        }
        let end = first.saturating_add(count);
        let candidates = if self.ascending {
            let from = self
                .enqueues
                .partition_point(|(sequence, _)| *sequence < first);
            let to = self
                .enqueues
                .partition_point(|(sequence, _)| *sequence < end);
            from..to
        } else {
            0..self.enqueues.len()
        };
        for (sequence, at) in self.enqueues.get(candidates).unwrap_or_default() {
            if (first..end).contains(sequence) {
                let operation = &mut self.operations[*at];
                if matches!(operation, LogOperation::Enqueue(_)) {
                    *operation = LogOperation::Cancelled;
                }
            }
        }
        // It may join an earlier one: what was enqueued in between and is in its range is cancelled.
        if let Some(LogOperation::Acknowledge(last_first, last_count)) = self
            .last_acknowledge
            .and_then(|at| self.operations.get_mut(at))
            && last_first.saturating_add(*last_count) == first
        {
            *last_count = last_count.saturating_add(count);
            return;
        }
        self.last_acknowledge = Some(self.operations.len());
        self.operations
            .push(LogOperation::Acknowledge(first, count));
    }

    /// What is acknowledged from here on is acknowledged after it.
    fn set_count(&mut self, change: usize) {
        if self.is_over {
            return;
        }
        self.operations.push(LogOperation::SetCount(change));
        self.last_acknowledge = None;
        self.has_counts = true;
    }

    fn delete(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.operations.clear();
        self.enqueues.clear();
        self.last_acknowledge = None;
        self.has_counts = false;
        self.next = 0;
        self.operations.push(LogOperation::Delete);
    }
}
