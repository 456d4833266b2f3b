//! What went out of a level and came back: before all that never went out, by sequence.
//!
//! Messages come back a part at a time, in any order, and go out again from the front; neither costs more
//! for there being many. What is more than the head's window leaves memory once the store has it: of a run
//! of messages that follow each other and came back equally often, a few bytes stay.

#[cfg(debug_assertions)]
mod check;

use std::collections::{BTreeMap, VecDeque};

use leveret_store_api::{CommitPoint, Sequence};

use super::{Entry, Lost};
use crate::queue::delivery_count::DeliveryCount;
use crate::queue::reference::Reference;

/// Messages that came back and that only the store has.
#[derive(Clone, Copy, Debug)]
struct Run {
    length: u64,
    memory: u64,
    body_bytes: u64,
    came: Came,
}

/// What is known of messages that came back, and not by the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Came {
    pub(super) delivery_count: DeliveryCount,
    pub(super) retries: u8,
    pub(super) redelivered: bool,
}

impl Run {
    fn is_like(&self, other: &Run) -> bool {
        self.came == other.came
    }

    fn of(entry: &Entry) -> Run {
        Run {
            length: 1,
            memory: entry.message.memory_bytes() as u64,
            body_bytes: entry.message.body_bytes(),
            came: Came {
                delivery_count: entry.delivery_count,
                retries: entry.retries,
                redelivered: entry.redelivered,
            },
        }
    }

    fn of_reference(reference: &Reference) -> Run {
        Run {
            length: 1,
            memory: u64::from(reference.memory),
            body_bytes: u64::from(reference.body_bytes),
            came: Came {
                delivery_count: reference.delivery_count,
                retries: reference.retries,
                redelivered: reference.redelivered,
            },
        }
    }

    fn add(&mut self, other: &Run) {
        self.length += other.length;
        self.memory += other.memory;
        self.body_bytes += other.body_bytes;
    }

    fn count_lost(&self, lost: &mut Lost) {
        lost.messages += self.length;
        lost.memory += self.memory;
        lost.body_bytes += self.body_bytes;
    }

    /// Takes `length` messages off: of the bytes, as many as they have in the mean.
    fn split(&mut self, length: u64) -> Run {
        let length = length.min(self.length);
        let part = |all: u64| {
            let part = u128::from(all) * u128::from(length) / u128::from(self.length.max(1));
            u64::try_from(part).unwrap_or(all)
        };
        let taken = Run {
            length,
            memory: part(self.memory),
            body_bytes: part(self.body_bytes),
            ..*self
        };
        self.length -= taken.length;
        self.memory -= taken.memory;
        self.body_bytes -= taken.body_bytes;
        taken
    }
}

/// Messages that came back, the next to deliver first.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    entries: BTreeMap<Sequence, Entry>,
    /// Bytes of these messages.
    memory: usize,
    /// How many of them the store has.
    stored: usize,
    /// By the first of each; none of them is among the entries.
    runs: BTreeMap<Sequence, Run>,
    /// Entries that are to leave memory, in the order they were staged, and at which commit point at the latest.
    leaving: VecDeque<(CommitPoint, Sequence)>,
    /// How many of `leaving`, the latest, have no commit point yet.
    unstaged: usize,
}

impl Returned {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.runs.is_empty()
    }

    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.memory += entry.message.memory_bytes();
        self.stored += usize::from(entry.stored);
        let before = self.entries.insert(entry.sequence, entry);
        debug_assert!(before.is_none(), "a message came back twice");
    }

    /// Adds an entry that is to leave memory: the store has it, or will with what is staged next.
    pub(super) fn insert_leaving(&mut self, entry: Entry) {
        self.leaving.push_back((CommitPoint::NONE, entry.sequence));
        self.unstaged += 1;
        self.insert(entry);
    }

    /// Adds a message of which only the store has the bytes.
    pub(super) fn insert_reference(&mut self, reference: &Reference) {
        self.insert_run(reference.sequence, Run::of_reference(reference));
    }

    fn insert_run(&mut self, mut first: Sequence, mut run: Run) {
        let end = Sequence(first.0 + run.length);
        if let Some(next) = self.runs.get(&end).copied()
            && next.is_like(&run)
        {
            self.runs.remove(&end);
            run.add(&next);
        }
        if let Some((&before, earlier)) = self.before(first)
            && before.0 + earlier.length == first.0
            && earlier.is_like(&run)
        {
            run.add(&earlier);
            first = before;
        }
        self.runs.insert(first, run);
    }

    /// The run that begins before `sequence`.
    fn before(&self, sequence: Sequence) -> Option<(&Sequence, Run)> {
        let (first, run) = self.runs.range(..sequence).next_back()?;
        Some((first, *run))
    }

    /// What was added to leave memory is staged at `point`.
    pub(super) fn staged_at(&mut self, point: CommitPoint) {
        let staged = self.leaving.len() - self.unstaged;
        for (at, _) in self.leaving.range_mut(staged..) {
            *at = point;
        }
        self.unstaged = 0;
    }

    #[inline]
    pub(super) fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether something was added to leave memory since the last [`Returned::staged_at`].
    pub(super) fn awaits_staging(&self) -> bool {
        self.unstaged > 0
    }

    /// Whether more than `window` is in memory, and some of it is to leave.
    pub(super) fn is_crowded(&self, window: usize) -> bool {
        self.memory > window && !self.leaving.is_empty()
    }

    /// Lets what is durable and is to leave go out of memory while there is more than `window`.
    pub(super) fn page_out(&mut self, durable: CommitPoint, window: usize) {
        while self.leaving.len() > self.unstaged
            && let Some(&(point, sequence)) = self.leaving.front()
            && point <= durable
        {
            if self.memory <= window {
                break;
            }
            self.leaving.pop_front();
            if let Some(entry) = self.take(sequence) {
                self.insert_run(sequence, Run::of(&entry));
            }
        }
        if self.entries.is_empty() {
            self.leaving = VecDeque::new();
            self.unstaged = 0;
        }
    }

    fn take(&mut self, sequence: Sequence) -> Option<Entry> {
        let entry = self.entries.remove(&sequence)?;
        self.count_out(&entry);
        Some(entry)
    }

    fn count_out(&mut self, entry: &Entry) {
        self.memory -= entry.message.memory_bytes();
        self.stored -= usize::from(entry.stored);
    }

    fn first_entry(&self) -> Option<Sequence> {
        self.entries
            .first_key_value()
            .map(|(&sequence, _)| sequence)
    }

    fn first_run(&self) -> Option<Sequence> {
        self.runs.first_key_value().map(|(&sequence, _)| sequence)
    }

    /// Whether the first of them must be read before it can go out.
    pub(super) fn first_is_on_disk(&self) -> bool {
        match (self.first_run(), self.first_entry()) {
            (Some(run), Some(entry)) => run < entry,
            (run, _) => run.is_some(),
        }
    }

    /// The sequence of the first of them.
    pub(super) fn first(&self) -> Option<Sequence> {
        let (run, entry) = (self.first_run(), self.first_entry());
        run.into_iter().chain(entry).min()
    }

    /// The first of them, if it is in memory.
    pub(super) fn front(&self) -> Option<&Entry> {
        if self.first_is_on_disk() {
            return None;
        }
        self.entries.first_key_value().map(|(_, entry)| entry)
    }

    /// Takes the first of them, if it is in memory.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.first_is_on_disk() {
            return None;
        }
        let (_, entry) = self.entries.pop_first()?;
        self.count_out(&entry);
        Some(entry)
    }

    /// The first run of which only the store has the bytes: its first message, and how many there are.
    pub(super) fn first_on_disk(&self) -> Option<(Sequence, u64)> {
        let (&first, run) = self.runs.first_key_value()?;
        Some((first, run.length))
    }

    /// A message was read back, or cannot be: what is known of it.
    /// `bytes` are those of its memory and body, where they are known; what it was counted with is added to
    /// `lost` otherwise. None if it is not one of those that only the store has.
    pub(super) fn read_back(
        &mut self,
        sequence: Sequence,
        bytes: Option<(u64, u64)>,
        lost: &mut Lost,
    ) -> Option<Came> {
        let (&first, &run) = self.runs.range(..=sequence).next_back()?;
        if sequence.0 >= first.0 + run.length {
            return None;
        }
        self.runs.remove(&first);
        let mut rest = run;
        let before = rest.split(sequence.0 - first.0);
        match bytes {
            Some((memory, body_bytes)) => {
                rest.length -= 1;
                let counted = (rest.memory, rest.body_bytes);
                (rest.memory, rest.body_bytes) = lost.read(counted, memory, body_bytes);
            }
            None => rest.split(1).count_lost(lost),
        }
        self.keep(first, before, lost);
        self.keep(Sequence(sequence.0 + 1), rest, lost);
        Some(run.came)
    }

    /// Of a run without messages nothing is left.
    fn keep(&mut self, first: Sequence, run: Run, lost: &mut Lost) {
        if run.length > 0 {
            self.runs.insert(first, run);
        } else {
            run.count_lost(lost);
        }
    }

    /// The store has none of these: they are forgotten.
    pub(super) fn forget(&mut self, from: Sequence, until: Sequence, lost: &mut Lost) {
        while let Some((&first, &run)) = self.runs.range(..until).next_back() {
            if first.0 + run.length <= from.0 {
                break;
            }
            self.runs.remove(&first);
            let mut rest = run;
            let before = rest.split(from.0.saturating_sub(first.0));
            let gone = rest.split(until.0 - first.0.max(from.0));
            self.keep(first, before, lost);
            self.keep(until, rest, lost);
            gone.count_lost(lost);
        }
    }

    /// Takes everything out. What the store has of it is acknowledged through `acknowledge(first, count)`.
    pub(super) fn clear(
        &mut self,
        mut acknowledge: impl FnMut(Sequence, u64),
    ) -> BTreeMap<Sequence, Entry> {
        let Returned {
            entries,
            stored,
            runs,
            ..
        } = std::mem::take(self);
        if stored > 0 {
            for entry in entries.values().filter(|entry| entry.stored) {
                acknowledge(entry.sequence, 1);
            }
        }
        for (first, run) in runs {
            acknowledge(first, run.length);
        }
        entries
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(delivered: u16) -> Run {
        Run {
            length: 1,
            memory: 10,
            body_bytes: 1,
            came: Came {
                delivery_count: DeliveryCount::of(delivered),
                retries: 0,
                redelivered: true,
            },
        }
    }

    fn stored(sequences: impl IntoIterator<Item = u64>) -> Returned {
        let mut returned = Returned::default();
        for sequence in sequences {
            returned.insert_run(Sequence(sequence), run(1));
        }
        returned
    }

    fn runs(returned: &Returned) -> Vec<(u64, u64)> {
        let runs = returned.runs.iter();
        runs.map(|(first, run)| (first.0, run.length)).collect()
    }

    #[test]
    fn those_that_follow_each_other_are_one_run_in_whatever_order_they_come() {
        for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 3, 5, 4, 2]] {
            assert_eq!(runs(&stored(order)), [(1, 5)], "{order:?}");
        }
        assert_eq!(runs(&stored([1, 2, 4, 5])), [(1, 2), (4, 2)]);
    }

    #[test]
    fn those_that_came_back_more_often_are_a_run_of_their_own() {
        let mut returned = stored([1, 2, 4]);
        returned.insert_run(Sequence(3), run(2));
        assert_eq!(runs(&returned), [(1, 2), (3, 1), (4, 1)]);
    }

    #[test]
    fn what_is_read_back_leaves_the_rest_of_its_run() {
        let mut returned = stored(1..=5);
        let mut lost = Lost::default();
        let bytes = Some((10, 1));
        let mut read = |sequence| {
            let found = returned.read_back(Sequence(sequence), bytes, &mut lost);
            found.is_some()
        };
        assert_eq!([9, 1, 3, 3].map(&mut read), [false, true, true, false]);
        assert_eq!(lost.messages, 0);
        assert_eq!(runs(&returned), [(2, 1), (4, 2)]);
        let bytes: Vec<u64> = returned.runs.values().map(|run| run.memory).collect();
        assert_eq!(bytes, [10, 20]);
    }

    #[test]
    fn what_cannot_be_read_is_counted_as_lost() {
        let mut returned = stored(1..=3);
        let mut lost = Lost::default();
        assert!(returned.read_back(Sequence(2), None, &mut lost).is_some());
        assert_eq!((lost.messages, lost.memory, lost.body_bytes), (1, 10, 1));
    }

    #[test]
    fn what_the_store_does_not_have_is_forgotten() {
        let mut returned = stored([1, 2, 3, 5, 6, 9]);
        let mut lost = Lost::default();
        returned.forget(Sequence(2), Sequence(6), &mut lost);
        assert_eq!((lost.messages, lost.memory, lost.body_bytes), (3, 30, 3));
        assert_eq!(runs(&returned), [(1, 1), (6, 1), (9, 1)]);
        returned.forget(Sequence(20), Sequence(30), &mut lost);
        assert_eq!(lost.messages, 3);
    }
}
