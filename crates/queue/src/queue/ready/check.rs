//! See [`crate::check`].

use leveret_store_api::Sequence;

use super::{Entry, Level, memory_of};
use crate::check::Faults;
use crate::queue::hidden::HiddenCounts;

/// What there is in a level.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) messages: u64,
    pub(crate) memory: u64,
    pub(crate) body_bytes: u64,
    /// How many of them the store has.
    pub(crate) stored: u64,
    pub(crate) hidden: HiddenCounts,
}

impl Counted {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.messages += 1;
        self.memory += entry.message.memory_bytes() as u64;
        self.body_bytes += entry.message.body_bytes();
        self.stored += u64::from(entry.stored);
    }

    /// Those of which only the store has the bytes.
    pub(super) fn add_unread(&mut self, messages: u64, memory: u64, body_bytes: u64) {
        self.messages += messages;
        self.memory += memory;
        self.body_bytes += body_bytes;
        self.stored += messages;
    }
}

impl Level {
    pub(crate) fn check(&self, faults: &mut Faults) -> Counted {
        let mut counted = Counted::default();
        self.returned.check(faults, &mut counted);
        for entry in self.head.iter().chain(&self.tail) {
            counted.add(entry);
        }
        if let Some(paged) = self.paged {
            counted.add_unread(paged.count, paged.memory, paged.body_bytes);
            faults.holds(
                "a paged run has messages, and room for them",
                paged.count > 0 && paged.count <= paged.until.0 - paged.from.0,
            );
        }
        faults.count(self.head.len() + self.tail.len());
        self.check_order(faults);
        faults.same(
            "memory of the head",
            self.head_memory,
            memory_of(self.head.iter()),
        );
        faults.same(
            "memory of the tail",
            self.tail_memory,
            memory_of(self.tail.iter()),
        );
        let unstored = self.tail.iter().filter(|entry| !entry.stored);
        faults.same(
            "memory of the tail that is not stored",
            self.tail_unstored,
            memory_of(unstored),
        );
        faults.holds(
            "what was delivered had a number",
            self.delivered_below <= self.next,
        );
        faults.holds(
            "what is stored is in a log",
            counted.stored == 0 || self.log.is_some(),
        );
        faults.rise(
            "what is staged of the tail",
            self.staged.iter().map(|staged| staged.0),
        );
        self.check_hidden(faults, &mut counted);
        counted
    }

    /// Head, paged run and tail are in the order of their sequences, and so is what came back before them.
    fn check_order(&self, faults: &mut Faults) {
        let head = self.head.iter().map(|entry| entry.sequence.0);
        let tail = self.tail.iter().map(|entry| entry.sequence.0);
        let paged = self.paged.map(|paged| (paged.from.0, paged.until.0 - 1));
        let (from, last) = paged.unzip();
        let last = last.filter(|last| Some(*last) != from);
        let all: Vec<u64> = head.chain(from).chain(last).chain(tail).collect();
        faults.holds(
            "sequences are below the next one",
            all.last().is_none_or(|last| *last < self.next),
        );
        faults.rise("sequences", all.into_iter());
    }

    /// What is hidden is in memory, and in its place.
    fn check_hidden(&self, faults: &mut Faults, counted: &mut Counted) {
        let is_hidden = |entry: &&Entry| self.hidden.contains(entry.sequence);
        for entry in self.head.iter().chain(&self.tail).filter(is_hidden) {
            counted.hidden.add(HiddenCounts {
                messages: 1,
                body_bytes: entry.message.body_bytes(),
            });
        }
        faults.same("hidden in the level", self.hidden.counted(), counted.hidden);
    }

    /// Where those stand that are in memory, or came back.
    pub(crate) fn places(&self) -> impl Iterator<Item = Sequence> {
        let in_memory = self.in_memory().map(|entry| entry.sequence);
        in_memory.chain(self.returned.on_disk())
    }
}
