//! The ledger of a channel: deliveries that were sent and are not settled.
//!
//! Tags rise by one per delivery; those of deliveries that need no acknowledgement are missing.

use std::collections::VecDeque;

use super::queue_table::QueueNumber;
use crate::mailbox::InFlight;
use crate::queue::consumers::ConsumerRef;
use crate::queue::handle::{Outcome, QueueSettlement};
use crate::time::Timestamp;

/// One delivery that waits for its acknowledgement.
#[derive(Debug)]
pub(super) struct Unacked {
    pub(super) tag: u64,
    pub(super) in_flight: InFlight,
    pub(super) queue: QueueNumber,
    /// None after `basic.get`.
    pub(super) consumer: Option<ConsumerRef>,
    /// When it was delivered.
    pub(super) delivered_at: Timestamp,
    /// When it must be settled at the latest (`x-consumer-timeout`).
    pub(super) due: Timestamp,
}

impl Unacked {
    /// What its queue is to be told.
    pub(super) fn settled(self, outcome: Outcome) -> QueueSettlement {
        QueueSettlement {
            in_flight: self.in_flight,
            consumer: self.consumer,
            outcome,
            delivered_at: self.delivered_at,
        }
    }
}

/// Rising by tag; settled ones leave a gap until everything before them is settled too.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Option<Unacked>>,
    /// The tag of each place: places are contiguous, so the first one's tag says all.
    first_tag: u64,
    count: usize,
    /// The shortest time that any delivery so far was given.
    shortest_ms: Option<u64>,
}

impl Ledger {
    pub(super) fn push(&mut self, unacked: Unacked) {
        if self.entries.is_empty() {
            self.first_tag = unacked.tag;
        }
        // Tags in between belong to deliveries without acknowledgement.
        while self.first_tag + (self.entries.len() as u64) < unacked.tag {
            self.entries.push_back(None);
        }
        if unacked.due != Timestamp::NEVER {
            let given = unacked.due - unacked.delivered_at;
            self.shortest_ms = Some(self.shortest_ms.map_or(given, |least| least.min(given)));
        }
        self.entries.push_back(Some(unacked));
        self.count += 1;
    }

    /// The delivery that must be settled first of all. Where all are given the same time that is the
    /// oldest, and no other is looked at.
    pub(super) fn earliest_due(&self) -> Option<&Unacked> {
        let shortest_ms = self.shortest_ms?;
        let mut earliest: Option<&Unacked> = None;
        for unacked in self.entries.iter().flatten() {
            let due = earliest.map_or(Timestamp::NEVER, |earliest| earliest.due);
            if due <= unacked.delivered_at + shortest_ms {
                break;
            }
            if unacked.due < due {
                earliest = Some(unacked);
            }
        }
        earliest
    }

    /// Takes out deliveries to one consumer of one queue, oldest first: of `most` tags, the first of which is
    /// `from`. Answers the tag to go on with.
    pub(super) fn take_of_consumer(
        &mut self,
        queue: QueueNumber,
        consumer: ConsumerRef,
        from: u64,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> Option<u64> {
        let from = from.max(self.first_tag);
        let start = usize::try_from(from - self.first_tag).unwrap_or(usize::MAX);
        let end = start.saturating_add(most);
        let ends = end >= self.entries.len();
        let end = end.min(self.entries.len());
        for entry in self.entries.range_mut(start.min(end)..end) {
            let theirs = |it: &mut Unacked| it.queue == queue && it.consumer == Some(consumer);
            if let Some(unacked) = entry.take_if(theirs) {
                self.count -= 1;
                each(unacked);
            }
        }
        self.trim();
        (!ends).then_some(from + most as u64)
    }

    /// Takes out one delivery.
    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        let place = usize::try_from(tag.checked_sub(self.first_tag)?).ok()?;
        let unacked = self.entries.get_mut(place)?.take()?;
        self.count -= 1;
        self.trim();
        Some(unacked)
    }

    /// Whether `tag` is in the ledger.
    pub(super) fn contains(&self, tag: u64) -> bool {
        let place = tag
            .checked_sub(self.first_tag)
            .and_then(|place| usize::try_from(place).ok());
        place
            .and_then(|place| self.entries.get(place))
            .is_some_and(Option::is_some)
    }

    /// Takes out what is up to and including `tag`, oldest first, of at most `most` tags. Answers whether
    /// there is more of it.
    pub(super) fn take_some(
        &mut self,
        tag: u64,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> bool {
        for _ in 0..most {
            if self.first_tag > tag {
                break;
            }
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.first_tag += 1;
            if let Some(unacked) = entry {
                self.count -= 1;
                each(unacked);
            }
        }
        self.trim();
        self.first_tag <= tag && !self.entries.is_empty()
    }

    /// Puts back what a transaction took out and did not settle. Called in the order of tags.
    pub(super) fn put_back(&mut self, unacked: Unacked) {
        if self.entries.is_empty() {
            self.push(unacked);
            return;
        }
        while unacked.tag < self.first_tag {
            self.entries.push_front(None);
            self.first_tag -= 1;
        }
        let place = usize::try_from(unacked.tag - self.first_tag).unwrap_or(usize::MAX);
        while self.entries.len() <= place {
            self.entries.push_back(None);
        }
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = Some(unacked);
            self.count += 1;
        }
    }

    /// Passes over settled ones at the front, not over very many at a time.
    fn trim(&mut self) {
        const KEPT: usize = 1024;
        const TRIMMED_MAX: usize = 1 << 16;
        for _ in 0..TRIMMED_MAX {
            let Some(None) = self.entries.front() else {
                break;
            };
            self.entries.pop_front();
            self.first_tag += 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
    }
}
