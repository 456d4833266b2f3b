//! The messages of one priority level that wait to be delivered.
//!
//! ```text
//!   next to deliver                                                             just published
//!   [ returned: came back ][ head: in memory ][ paged: only in the store ][ tail: in memory ]
//! ```
//! Sequences rise from left to right. The head is bounded, the tail is bounded by moving its oldest
//! durable messages into the paged run, and the paged run costs the same whatever its length. What
//! comes back (requeue) is before all that was never out, but for what was not ready when it was read: the
//! next message is the earlier one of the first returned one and the head's. This file knows no consumers, no
//! sockets and does no I/O: what must be read is asked for, and handed in by `Level::loaded`.

#[cfg(debug_assertions)]
pub(crate) mod check;
mod paging;
mod returned;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use leveret_message::{Message, Timestamp};
use leveret_store_api::{CommitPoint, DamagedMessage, Delivered, LogId, Sequence};

use super::decided::Decided;
use super::delivery_count::DeliveryCount;
use super::effects::Garbage;
use super::hidden::{Hidden, HiddenCounts, HiddenTicket};
use super::reference::Reference;
use super::statistics::Arrivals;
use crate::mailbox::InFlight;
pub(crate) use returned::Returned;

/// One ready message in memory.
#[derive(Debug)]
pub struct Entry {
    pub(crate) sequence: Sequence,
    pub(crate) message: Message,
    pub(crate) expires_at: Timestamp,
    pub(crate) delivery_count: DeliveryCount,
    /// Delays of `x-retry-delays` used up.
    pub(crate) retries: u8,
    pub(crate) redelivered: bool,
    pub(crate) stored: bool,
}

impl Entry {
    #[inline]
    pub(crate) fn into_flight(self, level: u8) -> InFlight {
        InFlight {
            message: self.message,
            sequence: self.sequence,
            expires_at: self.expires_at,
            delivery_count: self.delivery_count,
            level,
            retries: self.retries,
            redelivered: self.redelivered,
            stored: self.stored,
        }
    }
}

impl From<InFlight> for Entry {
    fn from(in_flight: InFlight) -> Entry {
        Entry {
            message: in_flight.message,
            sequence: in_flight.sequence,
            expires_at: in_flight.expires_at,
            delivery_count: in_flight.delivery_count,
            retries: in_flight.retries,
            redelivered: in_flight.redelivered,
            stored: in_flight.stored,
        }
    }
}

/// A run of messages of which only the store has the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paged {
    pub(crate) from: Sequence,
    /// First sequence behind the run.
    pub(crate) until: Sequence,
    pub(crate) count: u64,
    pub(crate) memory: u64,
    pub(crate) body_bytes: u64,
}

/// Which messages are to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whose {
    /// The front of the paged run.
    Paged,
    /// The first that came back.
    Returned,
    /// Those whose retry is due.
    Retries,
}

/// A wish to have messages read.
#[derive(Clone, Copy, Debug)]
pub struct PageIn {
    pub(crate) level: u8,
    /// Of which log.
    pub log: LogId,
    /// The first that is wanted.
    pub from: Sequence,
    /// At most so many messages.
    pub messages_max: usize,
    /// At most so many bytes.
    pub bytes_max: usize,
    pub(crate) epoch: u64,
    pub(crate) whose: Whose,
}

/// What was read and is not ready.
#[derive(Debug)]
pub(crate) struct Unready {
    /// Messages that came back more often than this are not ready any more.
    pub(crate) limit: u32,
    /// Those.
    pub(crate) spent: Vec<Entry>,
    /// Those whose retry is due later.
    pub(crate) waiting: Vec<(Timestamp, Entry)>,
    /// Those that cannot be read, and how often they were delivered.
    pub(crate) damaged: Vec<(DamagedMessage<Message>, DeliveryCount)>,
    /// What was counted and is not there: those that cannot be read, and those the store does not have.
    pub(crate) lost: Lost,
}

/// A part of what only the store has that is none, and what there is beyond it: after a start the bytes are those of
/// the store, and of a part of a run they are known in the mean.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lost {
    pub(crate) messages: u64,
    pub(crate) memory: u64,
    pub(crate) body_bytes: u64,
    /// Bytes that were not counted and are there.
    pub(crate) more_memory: u64,
    pub(crate) more_body_bytes: u64,
}

impl Lost {
    /// Takes a message out of what a run has counted; answers what the run has left.
    fn read(&mut self, counted: (u64, u64), memory: u64, body_bytes: u64) -> (u64, u64) {
        self.more_memory += memory.saturating_sub(counted.0);
        self.more_body_bytes += body_bytes.saturating_sub(counted.1);
        (
            counted.0.saturating_sub(memory),
            counted.1.saturating_sub(body_bytes),
        )
    }
}

impl Paged {
    /// Takes out `messages` that nobody has seen: of the memory, as much as they have in the mean.
    fn lose(&mut self, messages: u64, lost: &mut Lost) {
        let messages = messages.min(self.count);
        let part = |all: u64| {
            let part = u128::from(all) * u128::from(messages) / u128::from(self.count.max(1));
            u64::try_from(part).unwrap_or(all)
        };
        let (memory, body_bytes) = (part(self.memory), part(self.body_bytes));
        self.count -= messages;
        self.memory -= memory;
        self.body_bytes -= body_bytes;
        lost.messages += messages;
        lost.memory += memory;
        lost.body_bytes += body_bytes;
    }

    /// The run ends here: what it has left is not there.
    fn lose_all(self, lost: &mut Lost) {
        lost.messages += self.count;
        lost.memory += self.memory;
        lost.body_bytes += self.body_bytes;
    }
}

/// The ready messages of one priority level.
#[derive(Debug, Default)]
pub(crate) struct Level {
    pub(crate) log: Option<LogId>,
    next: u64,
    returned: Returned,
    head: VecDeque<Entry>,
    paged: Option<Paged>,
    tail: VecDeque<Entry>,
    head_memory: usize,
    tail_memory: usize,
    /// The part of `tail_memory` that the store does not have.
    tail_unstored: usize,
    /// Every stored entry of the tail below this sequence has reached the disk.
    durable_below: u64,
    /// Staged but not known to be durable: up to which sequence, at which commit point.
    staged: VecDeque<(u64, CommitPoint)>,
    /// Everything below was delivered once, or is from before the start.
    delivered_below: u64,
    /// What was delivered before the start.
    delivered_before: Delivered,
    /// What the paged run does not give, for being in flight since the start.
    decided: Decided,
    /// When the messages came that were not.
    pub(crate) arrivals: Arrivals,
    loading: bool,
    hidden: Hidden,
    /// Grows whenever the paged run is thrown away, so that a read under way is ignored.
    epoch: u64,
}

impl Level {
    /// A level as the store remembers it: all its messages are in the paged run, but for those that were `decided`.
    pub(crate) fn recovered(
        log: LogId,
        paged: Paged,
        delivered: Delivered,
        decided: Decided,
    ) -> Level {
        let next = paged.until.0;
        Level {
            log: Some(log),
            next,
            paged: (paged.count > 0).then_some(paged),
            delivered_below: next,
            delivered_before: delivered,
            decided,
            ..Level::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty()
            && self.tail.is_empty()
            && self.paged.is_none()
            && self.returned.is_empty()
    }

    /// The sequence of a message that comes now.
    #[inline]
    pub(crate) fn next_sequence(&mut self, now: Timestamp) -> Sequence {
        let sequence = Sequence(self.next);
        self.next += 1;
        if self.arrivals.needs_mark(now) {
            self.mark_arrival(sequence, now);
        }
        sequence
    }

    #[cold]
    fn mark_arrival(&mut self, sequence: Sequence, now: Timestamp) {
        if self.delivered_below >= sequence.0 || self.is_empty() {
            self.arrivals.forget();
        }
        self.arrivals.add(sequence, now);
    }

    /// Makes place for `count` more messages.
    pub(crate) fn reserve(&mut self, count: usize) {
        if self.paged.is_none() && self.tail.is_empty() {
            self.head.reserve(count);
        } else {
            self.tail.reserve(count);
        }
    }

    /// Adds a message behind all others.
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry, head_window: usize) {
        let memory = entry.message.memory_bytes();
        if self.paged.is_none() && self.tail.is_empty() && self.head_memory < head_window {
            self.head_memory += memory;
            self.head.push_back(entry);
        } else {
            self.tail_memory += memory;
            if !entry.stored {
                self.tail_unstored += memory;
            }
            self.tail.push_back(entry);
        }
    }

    /// Puts a message back to where its sequence says.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.returned.insert(entry);
    }

    /// Puts a message back of which only the store has the bytes.
    pub(crate) fn put_back_unread(&mut self, reference: &Reference) {
        self.returned.insert_reference(reference);
    }

    /// Whether some of what came back is to leave memory.
    pub(crate) fn has_leaving(&self) -> bool {
        self.returned.has_leaving()
    }

    /// Whether what comes back is to leave memory again.
    pub(crate) fn is_full_of_returned(&self, window: usize) -> bool {
        self.returned.memory() >= window
    }

    /// Whether the next message is one that came back.
    #[cold]
    fn next_came_back(&self) -> bool {
        let head = self.head.front().map(|front| front.sequence);
        self.returned
            .first()
            .is_some_and(|first| head.is_none_or(|head| first < head))
    }

    /// Remembers that everything pushed so far is staged at `point`.
    pub(crate) fn staged_at(&mut self, point: CommitPoint) {
        if self.tail.is_empty() {
            // Only the tail leaves memory.
            self.staged.clear();
            return;
        }
        // What another caller has hidden is staged later, by that caller.
        let below = self.hidden.first_unstaged().unwrap_or(self.next);
        match self.staged.back_mut() {
            // Nothing came to this level.
            Some(last) if last.0 >= below => {}
            Some(last) if last.1 == point => last.0 = below,
            _ => self.staged.push_back((below, point)),
        }
    }

    /// The next message, if it is in memory.
    #[inline]
    pub(crate) fn front(&mut self) -> Option<&Entry> {
        self.advance_tail();
        if !self.returned.is_empty() && self.next_came_back() {
            return self.returned.front();
        }
        self.head.front()
    }

    /// Whether there is a next message, and only the store has it.
    pub(crate) fn is_front_unread(&mut self) -> bool {
        !self.is_empty() && self.front().is_none()
    }

    /// Takes the next message, if it is in memory.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.advance_tail();
        if !self.returned.is_empty() && self.next_came_back() {
            return self.returned.pop();
        }
        let entry = self.head.pop_front()?;
        self.head_memory -= entry.message.memory_bytes();
        Some(entry)
    }

    /// Whether a message went out before, or may have.
    #[inline]
    pub(crate) fn was_delivered(&self, sequence: Sequence) -> bool {
        sequence.0 < self.delivered_below
    }

    #[inline]
    pub(crate) fn mark_delivered(&mut self, sequence: Sequence) {
        self.delivered_below = self.delivered_below.max(sequence.0 + 1);
    }

    /// With nothing paged between them, the tail becomes the head.
    #[inline]
    fn advance_tail(&mut self) {
        if self.head.is_empty() && self.paged.is_none() && !self.tail.is_empty() {
            std::mem::swap(&mut self.head, &mut self.tail);
            self.head_memory = std::mem::take(&mut self.tail_memory);
            self.tail_unstored = 0;
            self.staged.clear();
        }
    }

    /// The message with this sequence, which was pushed last, stays hidden.
    pub(crate) fn hide(&mut self, ticket: HiddenTicket, sequence: u64, body_bytes: u64) {
        self.hidden.hide(ticket, sequence, body_bytes);
    }

    /// What was hidden under `ticket` was staged at `point`.
    pub(crate) fn hidden_staged_at(&mut self, ticket: HiddenTicket, point: CommitPoint) {
        self.hidden.staged(ticket);
        self.staged_at(point);
    }

    /// Whether something that is hidden is not staged yet.
    pub(crate) fn has_unstaged(&self) -> bool {
        self.hidden.first_unstaged().is_some()
    }

    /// Shows what was hidden under `ticket` and is staged by now; answers how much it was.
    pub(crate) fn show(&mut self, ticket: HiddenTicket) -> HiddenCounts {
        self.hidden.show(ticket)
    }

    /// Hands the next of what was hidden under `ticket` to `begins`, each message once and at most `most`; answers how
    /// many these were.
    pub(crate) fn begin_each(
        &mut self,
        ticket: HiddenTicket,
        most: u64,
        mut begins: impl FnMut(&mut Entry),
    ) -> u64 {
        let mut areas = [&mut self.head, &mut self.tail];
        self.hidden.begin(ticket, most, |run| {
            for entries in &mut areas {
                let first = entries.partition_point(|it| it.sequence.0 < *run.start());
                let end = entries.partition_point(|it| it.sequence.0 <= *run.end());
                entries.range_mut(first..end).for_each(&mut begins);
            }
        })
    }

    /// When the next message expires; never while it is hidden or not in memory.
    pub(crate) fn front_expires_at(&mut self) -> Timestamp {
        match self.front().map(|front| front.expires_at) {
            Some(at) if at != Timestamp::NEVER && !self.front_is_hidden() => at,
            _ => Timestamp::NEVER,
        }
    }

    /// Whether the next message must not be seen yet.
    #[inline]
    pub(crate) fn front_is_hidden(&mut self) -> bool {
        if self.hidden.is_empty() {
            return false;
        }
        let sequence = self.front().map(|front| front.sequence);
        sequence.is_some_and(|sequence| self.hidden.contains(sequence))
    }

    /// The sequence the next message will have.
    pub(crate) fn peek_next(&self) -> u64 {
        self.next
    }

    /// Takes out everything but what is hidden. What the store has of it is acknowledged through
    /// `acknowledge(first, count)`.
    pub(crate) fn clear(&mut self, mut acknowledge: impl FnMut(Sequence, u64)) -> [Garbage; 3] {
        // Nothing hidden was ever out.
        let returned = self.returned.clear(&mut acknowledge);
        let [head, head_kept] = self.split(Area::Head);
        let [tail, tail_kept] = self.split(Area::Tail);
        for entry in head.iter().filter(|entry| entry.stored) {
            acknowledge(entry.sequence, 1);
        }
        if let Some(paged) = self.paged.take() {
            for (first, count) in self.decided.others(paged.from.0..paged.until.0) {
                acknowledge(first, count);
            }
        }
        for entry in tail.iter().filter(|entry| entry.stored) {
            acknowledge(entry.sequence, 1);
        }
        self.epoch += 1;
        self.loading = false;
        self.head_memory = memory_of(head_kept.iter());
        self.tail_memory = memory_of(tail_kept.iter());
        self.tail_unstored = memory_of(tail_kept.iter().filter(|entry| !entry.stored));
        if self.hidden.is_empty() {
            self.staged.clear();
            self.arrivals.forget();
        }
        self.head = head_kept;
        self.tail = tail_kept;
        [
            Garbage::Returned(returned),
            Garbage::Ready(head),
            Garbage::Ready(tail),
        ]
    }

    /// Takes everything out, hidden or not: the level's log goes as a whole.
    pub(crate) fn clear_all(&mut self) -> [Garbage; 3] {
        self.hidden = Hidden::default();
        self.clear(|_, _| ())
    }

    /// What goes of an area of memory, and what stays for being hidden.
    fn split(&mut self, area: Area) -> [VecDeque<Entry>; 2] {
        let entries = std::mem::take(match area {
            Area::Head => &mut self.head,
            Area::Tail => &mut self.tail,
        });
        if self.hidden.is_empty() {
            return [entries, VecDeque::new()];
        }
        let hidden = |entry: &Entry| self.hidden.contains(entry.sequence);
        let (kept, gone) = entries.into_iter().partition(hidden);
        [gone, kept]
    }

    /// Everything in memory.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = &Entry> {
        let returned = self.returned.iter();
        returned.chain(&self.head).chain(&self.tail)
    }

    /// When the oldest of those came that were never delivered, if that is known.
    pub(crate) fn oldest_arrival(&self) -> Option<Timestamp> {
        let in_head = self.head.front().map(|entry| entry.sequence);
        let in_store = self.paged.map(|paged| paged.from);
        let in_tail = self.tail.front().map(|entry| entry.sequence);
        let first = in_head.or(in_store).or(in_tail)?;
        let first = first.0.max(self.delivered_below);
        (first < self.next).then_some(())?;
        self.arrivals.arrival_of(Sequence(first))
    }

    /// The run of messages that only the store has.
    pub(crate) fn paged(&self) -> Option<Paged> {
        self.paged
    }

    /// Memory of the level and of its messages, as far as they are in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        let staged = self.staged.capacity() * size_of::<(u64, CommitPoint)>();
        let messages = self.returned.memory() + self.head_memory + self.tail_memory;
        size_of::<Level>() + messages + staged + self.arrivals.memory_bytes()
    }

    /// Gives memory back after a burst.
    pub(crate) fn shrink(&mut self) {
        const KEPT: usize = 1024;
        for deque in [&mut self.head, &mut self.tail] {
            if deque.is_empty() && deque.capacity() > KEPT {
                *deque = VecDeque::new();
            }
        }
        if self.staged.is_empty() && self.staged.capacity() > KEPT {
            self.staged = VecDeque::new();
        }
        self.arrivals.shrink();
    }
}

#[derive(Clone, Copy)]
enum Area {
    Head,
    Tail,
}

fn memory_of<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    entries.map(|entry| entry.message.memory_bytes()).sum()
}
