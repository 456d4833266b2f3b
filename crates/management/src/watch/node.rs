//! What may be wrong with the node.

use std::collections::VecDeque;

use crate::view::{Figures, Timestamp, View};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// A disk that is full within this time is told of.
const FULL_WITHIN_HOURS: f64 = 24.0;
/// A line needs so much time to be one.
const LINE_OVER: u64 = 5 * MINUTE;
/// More descriptors than this share are told of.
const DESCRIPTORS: f64 = 0.8;

/// What is wrong with the node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// Publishers wait, for this reason.
    Blocked(String),
    /// At this rate publishers wait in so many hours, if it is known; so much is free.
    Disk {
        full_in_hours: Option<f64>,
        free: u64,
        reserve: u64,
    },
    /// So many of so many.
    Descriptors { used: usize, total: usize },
}

/// What was free on the disk, once a minute for an hour.
#[derive(Debug, Default)]
pub(super) struct NodeRecord {
    free: VecDeque<(Timestamp, u64)>,
}

impl NodeRecord {
    pub(super) fn look(&mut self, view: &View, figures: &Figures, now: Timestamp) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        troubles.extend(view.alarm().map(Trouble::Blocked));
        if let Some(disk) = figures.disk {
            self.mark(disk.free, now);
            let full_in_hours = self.full_in_hours(disk.free, disk.reserve, now);
            let is_short = disk.free < disk.reserve.saturating_mul(2);
            if is_short || full_in_hours.is_some_and(|hours| hours < FULL_WITHIN_HOURS) {
                let (free, reserve) = (disk.free, disk.reserve);
                troubles.push(Trouble::Disk {
                    full_in_hours,
                    free,
                    reserve,
                });
            }
        }
        let (used, total) = (figures.descriptors_used, figures.descriptors_total);
        if used as f64 > total as f64 * DESCRIPTORS {
            troubles.push(Trouble::Descriptors { used, total });
        }
        troubles
    }

    fn mark(&mut self, free: u64, now: Timestamp) {
        if self.free.back().is_none_or(|(at, _)| now - *at >= MINUTE) {
            self.free.push_back((now, free));
        }
        while self.free.front().is_some_and(|(at, _)| now - *at > HOUR) {
            self.free.pop_front();
        }
    }

    /// By the line from what was free an hour ago.
    fn full_in_hours(&self, free: u64, reserve: u64, now: Timestamp) -> Option<f64> {
        let (at, before) = self.free.front()?;
        let elapsed = now - *at;
        let lost = before.checked_sub(free).filter(|lost| *lost > 0)?;
        let left = free.saturating_sub(reserve);
        (elapsed >= LINE_OVER).then(|| left as f64 / lost as f64 * elapsed as f64 / HOUR as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_where_its_line_ends() {
        let mut record = NodeRecord::default();
        let gigabytes = |count: u64| count << 30;
        for minute in 0..=60 {
            let now = Timestamp(minute * MINUTE);
            record.mark(gigabytes(200) - minute * gigabytes(1), now);
        }
        let hours = record.full_in_hours(gigabytes(140), gigabytes(20), Timestamp(HOUR));
        assert_eq!(hours, Some(2.0));
        // One that gets emptier is never full.
        assert_eq!(
            record.full_in_hours(gigabytes(201), 0, Timestamp(HOUR)),
            None
        );
        let mut young = NodeRecord::default();
        young.mark(100, Timestamp(0));
        assert_eq!(young.full_in_hours(90, 0, Timestamp(MINUTE)), None);
    }
}
