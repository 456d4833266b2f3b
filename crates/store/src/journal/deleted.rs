//! Which logs have been deleted since the journal was opened. Ids are given in order and never used again, so those
//! that follow each other are one entry: there are no more entries than ids that have not been deleted.

use std::collections::BTreeMap;

use leveret_store_api::LogId;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct DeletedLogs {
    /// From a first id up to but not including an end.
    ranges: BTreeMap<u64, u64>,
}

impl DeletedLogs {
    pub(super) fn contains(&self, log: LogId) -> bool {
        let before = self.ranges.range(..=log.0).next_back();
        before.is_some_and(|(_, end)| log.0 < *end)
    }

    pub(super) fn insert(&mut self, log: LogId) {
        if self.contains(log) {
            return;
        }
        let end = log.0.saturating_add(1);
        let end = self.ranges.remove(&end).unwrap_or(end);
        match self.ranges.range_mut(..log.0).next_back() {
            Some((_, before)) if *before == log.0 => *before = end,
            _ => {
                self.ranges.insert(log.0, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn those_that_were_deleted_are_known_in_as_few_ranges_as_can_be(logs in prop::collection::vec(0u64..40, 0..60)) {
            let mut deleted = DeletedLogs::default();
            let mut expected = BTreeSet::new();
            for log in logs {
                deleted.insert(LogId(log));
                expected.insert(log);
            }
            for log in 0..41 {
                prop_assert_eq!(deleted.contains(LogId(log)), expected.contains(&log));
            }
            let starts = expected.iter().filter(|log| log.checked_sub(1).is_none_or(|before| !expected.contains(&before)));
            prop_assert_eq!(deleted.ranges.len(), starts.count());
        }
    }
}
