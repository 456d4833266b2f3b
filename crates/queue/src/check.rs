//! What must balance, counted anew: tests do so after each of their steps. It costs as much as there is in memory,
//! and is there in debug builds alone.

use std::fmt::Debug;

use leveret_store_api::Sequence;
use rustc_hash::FxHashMap;

use crate::queue::consumers::ConsumerRef;

/// What does not balance.
#[derive(Debug, Default)]
pub struct Faults {
    whose: String,
    /// In words.
    pub found: Vec<String>,
    /// How many things were looked at.
    pub looked_at: usize,
}

impl Faults {
    /// All that was found.
    #[cfg(test)]
    pub(crate) fn into_found(self) -> Vec<String> {
        self.found
    }

    /// From now on it is about this.
    pub fn look_at(&mut self, whose: String) {
        self.whose = whose;
        self.looked_at += 1;
    }

    /// So many more things were looked at.
    pub fn count(&mut self, more: usize) {
        self.looked_at += more;
    }

    /// What is kept is what was counted.
    pub fn same<T: PartialEq + Debug>(&mut self, what: &str, kept: T, counted: T) {
        if kept != counted {
            let whose = &self.whose;
            self.found
                .push(format!("{whose}: {what}: {kept:?}, counted {counted:?}"));
        }
    }

    /// This is always so.
    pub fn holds(&mut self, what: &str, holds: bool) {
        self.same(what, holds, true);
    }

    /// These rise.
    pub fn rise<T: PartialOrd + Debug>(&mut self, what: &str, values: impl Iterator<Item = T>) {
        let values: Vec<T> = values.collect();
        if !values.is_sorted_by(|one, other| one < other) {
            self.same(what, Some(values), None);
        }
    }
}

/// What sessions hold of the messages of one queue.
#[derive(Debug, Default)]
pub struct OfQueue {
    /// How many deliveries are not settled.
    pub in_flight: u64,
    /// Of those with credit of a consumer.
    pub by_consumer: FxHashMap<ConsumerRef, u32>,
    /// Where these stood, and whether the store has them.
    pub places: Vec<(u8, Sequence, bool)>,
}
