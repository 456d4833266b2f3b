//! `x-retry-delays`: what a client puts back comes back after the next delay of the list.
//!
//! A message that waits stands in a map by the time it is due, beside the ready ones; of its place in
//! the queue it keeps the sequence. In the store it stays where it is: the same sequence is written
//! again with the number of its retries as flags and the time it is due as time, which one commit
//! makes durable. Its time to live starts anew when it comes back.
//!
//! ```text
//!  put back ──> waiting, in memory ──due──────────────────────────────> ready
//!                  │ durable, and beyond the window                       ^
//!                  └──> waiting, on disk ──due──> due ──read back─────────┘
//! ```
//! Of those of a level that are due, what is in memory waits for what is before it and must be read.

#[cfg(debug_assertions)]
mod check;

use std::collections::{BTreeMap, VecDeque};

use leveret_message::{Message, Timestamp};
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, Enqueue, LogId, Sequence, StoredMessage,
};

use super::Queue;
use super::delivery_count::DeliveryCount;
use super::effects::{DeadLetterReason, Effects};
use super::ready::{Entry, PageIn, Whose};
use crate::mailbox::InFlight;

/// How many retries that are due are read back with one call.
const READ_TOGETHER_MAX: usize = 1024;

/// Where a waiting message stands: by the time it is due, then by its place in the queue.
type RetryKey = (Timestamp, u8, Sequence);

/// What is kept of a message of which only the store has the bytes.
#[derive(Clone, Copy, Debug)]
struct OnDisk {
    delivery_count: DeliveryCount,
    retries: u8,
}

/// A message that waits for its next delivery.
#[derive(Debug)]
enum Waiting {
    /// With its number in [`Retries::leaving`], if the store has it too.
    InMemory(InFlight, Option<u64>),
    OnDisk(OnDisk),
}

/// All messages of a queue that wait for their next delivery, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    waiting: BTreeMap<RetryKey, Waiting>,
    /// Due since when, and not back yet; by level and sequence. The first of each level must be read.
    due: BTreeMap<(u8, Sequence), (Timestamp, Waiting)>,
    /// Bytes of those in memory.
    memory: usize,
    /// Those in memory that the store has too, numbered in the order they were staged, and at which commit point.
    leaving: BTreeMap<u64, (CommitPoint, RetryKey)>,
    /// The number of the next of them.
    next: u64,
    /// Those with lower numbers are staged.
    staged_below: u64,
    reading: bool,
}

impl Retries {
    pub(crate) fn count(&self) -> u64 {
        (self.waiting.len() + self.due.len()) as u64
    }

    /// Memory of those that wait, as far as they are in memory, and of their places.
    pub(crate) fn memory_bytes(&self) -> usize {
        let places = self.waiting.len() + self.due.len();
        self.memory
            + places * size_of::<(RetryKey, Waiting)>()
            + self.leaving.len() * size_of::<(u64, (CommitPoint, RetryKey))>()
    }

    /// When the first one that waits is due.
    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        let ((due, ..), _) = self.waiting.first_key_value()?;
        Some(*due)
    }

    /// Adds one that waits; `is_written`: the store has it, or will with what is staged next.
    fn push(&mut self, due: Timestamp, in_flight: InFlight, is_written: bool) {
        let place = (due, in_flight.level, in_flight.sequence);
        self.memory += in_flight.message.memory_bytes();
        let number = is_written.then_some(self.next);
        if let Some(number) = number {
            self.leaving.insert(number, (CommitPoint::NONE, place));
            self.next += 1;
        }
        self.waiting
            .insert(place, Waiting::InMemory(in_flight, number));
    }

    /// What was added since the last call is staged at `point`.
    pub(crate) fn staged_at(&mut self, point: CommitPoint) {
        for (_, (at, _)) in self.leaving.range_mut(self.staged_below..) {
            *at = point;
        }
        self.staged_below = self.next;
    }

    /// Leaves the bytes of durable ones to the store while more than `window` bytes are in memory.
    pub(crate) fn page_out(&mut self, durable: CommitPoint, window: usize) {
        while self.memory > window
            && let Some((&number, &(point, place))) = self.leaving.first_key_value()
            && number < self.staged_below
            && point <= durable
        {
            self.leaving.pop_first();
            let waiting = match self.waiting.get_mut(&place) {
                Some(waiting) => Some(waiting),
                None => self
                    .due
                    .get_mut(&(place.1, place.2))
                    .map(|(_, waiting)| waiting),
            };
            if let Some(waiting) = waiting
                && let Waiting::InMemory(in_flight, _) = waiting
            {
                self.memory -= in_flight.message.memory_bytes();
                *waiting = Waiting::OnDisk(OnDisk {
                    delivery_count: in_flight.delivery_count,
                    retries: in_flight.retries,
                });
            }
        }
    }

    /// Whether some could leave memory once they are durable.
    pub(crate) fn is_crowded(&self, window: usize) -> bool {
        self.memory > window && !self.leaving.is_empty()
    }

    /// What is due at `now` waits no longer.
    fn end_waiting(&mut self, now: Timestamp) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let ((due, level, sequence), waiting) = first.remove_entry();
            self.due.insert((level, sequence), (due, waiting));
        }
    }

    /// Those of a level that are due, in the queue's order.
    fn due_of(&self, level: u8) -> impl Iterator<Item = (Sequence, &(Timestamp, Waiting))> + Clone {
        let all = self
            .due
            .range((level, Sequence(0))..=(level, Sequence(u64::MAX)));
        all.map(|(&(_, sequence), due)| (sequence, due))
    }

    /// Takes the first of a level that is due, and since when it is; None if it must be read.
    fn pop_due(&mut self, level: u8) -> Option<(Timestamp, InFlight)> {
        let (sequence, (_, first)) = self.due_of(level).next()?;
        let Waiting::InMemory(..) = first else {
            return None;
        };
        match self.due.remove(&(level, sequence))? {
            (due, Waiting::InMemory(in_flight, number)) => {
                self.memory -= in_flight.message.memory_bytes();
                number.map(|number| self.leaving.remove(&number));
                Some((due, in_flight))
            }
            (_, Waiting::OnDisk(_)) => None,
        }
    }

    /// Takes one that was to be read.
    fn take_read(&mut self, level: u8, sequence: Sequence) -> Option<(Timestamp, OnDisk)> {
        match self.due.get(&(level, sequence))? {
            &(due, Waiting::OnDisk(on_disk)) => {
                self.due.remove(&(level, sequence));
                Some((due, on_disk))
            }
            (_, Waiting::InMemory(..)) => None,
        }
    }

    /// Whether some are due that must be read, and no read is under way.
    fn wants_page_in(&self) -> bool {
        !self.reading && !self.due.is_empty()
    }

    /// The first of a level that must be read, and how many follow it without a gap, itself included.
    fn first_to_read(&self, level: u8) -> Option<(Sequence, usize)> {
        let due = self.due_of(level);
        let (first, _) = due.clone().next()?;
        let run = (first.0..).zip(due).take(READ_TOGETHER_MAX).take_while(
            |(expected, (sequence, (_, waiting)))| {
                sequence.0 == *expected && matches!(waiting, Waiting::OnDisk(_))
            },
        );
        Some((first, run.count()))
    }
}

impl Queue {
    /// Lets a message wait for its next delivery; one that has used up all delays goes to the dead
    /// letters. Answers whether it waits.
    pub(crate) fn retry(
        &mut self,
        mut in_flight: InFlight,
        now: Timestamp,
        effects: &mut Effects,
    ) -> bool {
        let Some(due) = self.next_retry(&mut in_flight, now) else {
            self.dead_letter(in_flight, DeadLetterReason::DeliveryLimit, effects);
            return false;
        };
        let is_written = self.write_retry(&in_flight, due);
        self.statistics.record().totals.requeued += 1;
        self.retries.push(due, in_flight, is_written);
        true
    }

    /// When the message comes back, with one more delay used up; None: there is none left.
    fn next_retry(&self, in_flight: &mut InFlight, now: Timestamp) -> Option<Timestamp> {
        let delays = &self.options.retry_delays_ms;
        let delay_ms = *delays.get(usize::from(in_flight.retries))?;
        in_flight.retries = in_flight.retries.saturating_add(1);
        Some(now + delay_ms)
    }

    /// The message's log, if it survives a restart.
    pub(crate) fn surviving_log(&self, in_flight: &InFlight) -> Option<LogId> {
        let level = self.levels.get(usize::from(in_flight.level))?;
        let survives = in_flight.stored && self.keeps(&in_flight.message);
        level.log.filter(|_| survives)
    }

    /// Writes down how often the message came back and when it is due, if it survives a restart; says
    /// whether it does.
    fn write_retry(&mut self, in_flight: &InFlight, due: Timestamp) -> bool {
        let Some(log) = self.surviving_log(in_flight) else {
            return false;
        };
        self.changes.push(Change::Enqueue(Enqueue {
            log,
            sequence: in_flight.sequence,
            flags: in_flight.retries,
            time_ms: due.0,
            transient: false,
            payload: in_flight.message.clone(),
        }));
        true
    }

    /// Puts back what is due; what is on disk is asked for. Answers whether some came back.
    pub(crate) fn return_due(&mut self, now: Timestamp) -> bool {
        self.retries.end_waiting(now);
        self.bring_back_due()
    }

    /// Puts back what is due, of each level up to the first that must be read; answers whether there was any.
    fn bring_back_due(&mut self) -> bool {
        let before = self.put_back;
        if self.retries.due.is_empty() {
            return false;
        }
        for (level, _) in (0u8..=255).zip(0..self.levels.len()) {
            while let Some((due, in_flight)) = self.retries.pop_due(level) {
                self.come_back(in_flight, due);
            }
        }
        self.put_back > before
    }

    fn come_back(&mut self, mut in_flight: InFlight, due: Timestamp) {
        in_flight.expires_at = in_flight
            .message
            .expires_at(due, self.options.message_ttl_ms)
            .unwrap_or(Timestamp::NEVER);
        self.expiring |= in_flight.expires_at != Timestamp::NEVER;
        self.put_back(in_flight);
    }

    /// Messages read back whose time has not come. They counted as ready.
    pub(crate) fn wait_again(&mut self, level: u8, waiting: Vec<(Timestamp, Entry)>) {
        for (due, entry) in waiting {
            self.forget_ready(&entry);
            self.retries.push(due, entry.into_flight(level), true);
        }
        // They come from the store.
        self.retries.staged_at(CommitPoint::NONE);
        self.page_out_retries();
    }

    /// Lets waiting messages leave memory beyond what a queue may keep there.
    pub(crate) fn page_out_retries(&mut self) {
        let durable = self.store.durable_point();
        self.retries.page_out(durable, self.memory.tail_bytes);
        self.crowded |= self.retries.is_crowded(self.memory.tail_bytes);
    }

    /// Whether messages whose retry is due should be read: the head they come into has room.
    pub(crate) fn wants_retry_page_in(&self) -> bool {
        self.retries.wants_page_in() && self.retries_to_read().is_some()
    }

    /// What is due and must be read, of the highest level whose head has room: level, log, first and how many.
    fn retries_to_read(&self) -> Option<(u8, LogId, Sequence, usize)> {
        let levels = self.levels.iter().zip(0u8..=255).rev();
        levels
            .filter(|(level, _)| level.head_runs_low(self.memory.head_bytes))
            .find_map(|(level, number)| {
                let (first, count) = self.retries.first_to_read(number)?;
                Some((number, level.log?, first, count))
            })
    }

    /// What is to be read because its retry is due.
    pub(crate) fn retry_page_in(&mut self, bytes_max: usize) -> Option<PageIn> {
        if !self.retries.wants_page_in() {
            return None;
        }
        let (level, log, from, messages_max) = self.retries_to_read()?;
        self.retries.reading = true;
        Some(PageIn {
            level,
            log,
            from,
            messages_max,
            bytes_max,
            epoch: 0,
            whose: Whose::Retries,
        })
    }

    /// What [`Queue::retry_page_in`] asked for could not be read; it is asked for again at the next
    /// occasion.
    pub(crate) fn retry_read_failed(&mut self) {
        self.retries.reading = false;
    }

    /// Puts back what was read because its retry is due.
    pub(crate) fn retries_loaded(
        &mut self,
        request: &PageIn,
        messages: &mut Vec<StoredMessage<Message>>,
        damaged: Vec<DamagedMessage<Message>>,
        effects: &mut Effects,
    ) {
        self.retries.reading = false;
        let level = request.level;
        // If the store does not have it, nothing has: it is not asked for again.
        let mut missing = self.retries.due.contains_key(&(level, request.from));
        for stored in messages.drain(..) {
            let Some((due, on_disk)) = self.retries.take_read(level, stored.sequence) else {
                continue;
            };
            missing &= stored.sequence != request.from;
            let in_flight = InFlight {
                message: stored.payload,
                sequence: stored.sequence,
                expires_at: Timestamp::NEVER,
                delivery_count: on_disk.delivery_count,
                level,
                retries: on_disk.retries,
                redelivered: true,
                stored: true,
            };
            self.come_back(in_flight, due);
        }
        for damaged in damaged {
            let Some((_, on_disk)) = self.retries.take_read(level, damaged.sequence) else {
                continue;
            };
            missing &= damaged.sequence != request.from;
            let OnDisk {
                delivery_count,
                retries,
            } = on_disk;
            self.set_aside(level, damaged, delivery_count, retries, effects);
        }
        if missing {
            self.retries.take_read(level, request.from);
        }
        self.bring_back_due();
    }

    /// Takes out everything that waits; what the store has of it is acknowledged.
    pub(crate) fn purge_retries(&mut self) -> (u64, VecDeque<InFlight>) {
        let retries = std::mem::take(&mut self.retries);
        let count = retries.count();
        let mut freed = VecDeque::new();
        let waiting = retries
            .waiting
            .into_iter()
            .map(|((_, level, sequence), waiting)| (level, sequence, waiting));
        let due = retries
            .due
            .into_iter()
            .map(|((level, sequence), (_, waiting))| (level, sequence, waiting));
        for (level, sequence, waiting) in due.chain(waiting) {
            let stored = match waiting {
                Waiting::OnDisk(_) => true,
                Waiting::InMemory(in_flight, _) => {
                    let stored = in_flight.stored;
                    freed.push_back(in_flight);
                    stored
                }
            };
            if stored {
                self.acknowledge_stored(level, sequence);
            }
        }
        (count, freed)
    }
}

#[cfg(test)]
mod tests {
    use leveret_codec::{ContentHeader, write_names};
    use leveret_message::{Body, MessageScratch};

    use super::*;

    fn in_flight(sequence: u64) -> InFlight {
        let mut names = Vec::new();
        write_names(&mut names, b"", b"q");
        let scratch = &mut MessageScratch::default();
        let header = ContentHeader::default();
        InFlight {
            message: Message::compose(scratch, &names, &header, Body::Borrowed(&[])),
            sequence: Sequence(sequence),
            expires_at: Timestamp::NEVER,
            delivery_count: DeliveryCount::NONE,
            level: 0,
            retries: 1,
            redelivered: true,
            stored: true,
        }
    }

    #[test]
    fn nothing_stays_of_those_that_came_back_while_another_waits_for_long() {
        let mut retries = Retries::default();
        retries.push(Timestamp(u64::MAX / 2), in_flight(0), true);
        for sequence in 1..=10_000 {
            retries.push(Timestamp(sequence), in_flight(sequence), true);
            retries.staged_at(CommitPoint(sequence));
            retries.page_out(CommitPoint(sequence), usize::MAX);
            retries.end_waiting(Timestamp(sequence));
            assert!(retries.pop_due(0).is_some());
        }
        assert_eq!((retries.leaving.len(), retries.count()), (1, 1));
        retries.page_out(CommitPoint(10_000), 0);
        assert_eq!((retries.leaving.len(), retries.memory), (0, 0));
    }
}
