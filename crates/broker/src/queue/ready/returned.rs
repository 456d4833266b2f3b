//! What went out of a level and came back: before all that never went out, by sequence.
//!
//! Messages come back a part at a time, in any order, and go out again from the front; neither costs more
//! for there being many.

use std::collections::BTreeMap;

use leveret_store::Sequence;

use super::Entry;

/// Messages that came back, the next to deliver first.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    entries: BTreeMap<Sequence, Entry>,
    /// Bytes of these messages.
    memory: usize,
    /// How many of them the store has.
    stored: usize,
}

impl Returned {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
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

    /// The sequence of the first of them.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.entries
            .first_key_value()
            .map(|(&sequence, _)| sequence)
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.first_key_value().map(|(_, entry)| entry)
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let (_, entry) = self.entries.pop_first()?;
        self.memory -= entry.message.memory_bytes();
        self.stored -= usize::from(entry.stored);
        Some(entry)
    }

    /// Takes everything out. What the store has of it is acknowledged through `acknowledge(first, count)`.
    pub(super) fn clear(
        &mut self,
        mut acknowledge: impl FnMut(Sequence, u64),
    ) -> BTreeMap<Sequence, Entry> {
        let Returned {
            entries, stored, ..
        } = std::mem::take(self);
        if stored > 0 {
            for entry in entries.values().filter(|entry| entry.stored) {
                acknowledge(entry.sequence, 1);
            }
        }
        entries
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}
