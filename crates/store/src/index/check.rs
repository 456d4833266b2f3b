//! What must balance in the index, counted anew: in debug builds, by tests after each commit and as the store is closed.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::Index;
use super::log::Log;

/// What a segment has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Lives {
    count: u64,
    bytes: u64,
}

/// What does not balance.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn same<T: PartialEq + Debug>(&mut self, what: impl Debug, kept: T, counted: T) {
        if kept != counted {
            self.0
                .push(format!("{what:?}: {kept:?}, counted {counted:?}"));
        }
    }
}

impl Index {
    /// Stops where something does not balance.
    pub(crate) fn check(&self) {
        let mut faults = Faults::default();
        let mut segments: BTreeMap<u32, Lives> = BTreeMap::new();
        for (id, log) in &self.logs {
            check_log(log, !self.keeps_all_counts, &mut segments, &mut faults);
            faults.same((id, "is not below the next id"), id.0 < self.next_log, true);
            let is_gone = self.deleted_logs.iter().any(|(gone, _)| gone == id);
            faults.same((id, "is there and deleted"), is_gone, false);
        }
        for (number, entry) in &self.segments.entries {
            let kept = Lives {
                count: entry.live,
                bytes: entry.live_bytes,
            };
            let counted = segments.remove(number).unwrap_or_default();
            faults.same(("lives in segment", number), kept, counted);
        }
        faults.same("segments that are not there", segments.len(), 0);
        let mut rows: Vec<u64> = self.definitions.values().map(|it| it.row).collect();
        rows.sort_unstable();
        let last = rows.last().copied().unwrap_or(0);
        faults.same("rows are numbered", last <= self.next_row, true);
        let before = rows.len();
        rows.dedup();
        faults.same("rows of definitions", rows.len(), before);
        assert!(faults.0.is_empty(), "does not balance: {:#?}", faults.0);
    }
}

fn check_log(
    log: &Log,
    lives_only: bool,
    segments: &mut BTreeMap<u32, Lives>,
    faults: &mut Faults,
) {
    let mut all = Lives::default();
    let mut end = 0;
    for chunk in log.chunks() {
        let lives = Lives {
            count: u64::from(chunk.count()),
            bytes: u64::from(chunk.bytes),
        };
        let of_segment = segments.entry(chunk.segment).or_default();
        for sum in [of_segment, &mut all] {
            sum.count += lives.count;
            sum.bytes += lives.bytes;
        }
        let is_behind = end <= chunk.first() && chunk.count() > 0;
        faults.same("chunks are apart", is_behind, true);
        end = chunk.end();
    }
    let kept = Lives {
        count: log.live(),
        bytes: log.bytes(),
    };
    faults.same("lives in a log", kept, all);
    faults.same("sequences are used", end <= log.next(), true);
    if lives_only {
        for run in log.counts_in(0, u64::MAX) {
            let lives = log.kept_ranges(run.first, run.end);
            let lives: u64 = lives.iter().map(|(first, end)| end - first).sum();
            faults.same("who has a number lives", lives, run.end - run.first);
        }
    }
}
