//! The messages that one exchange holds back, in the order of their times.
//!
//! ```text
//!   due next                                                     due in a while
//!   [ soon: at most 4096, bodies in memory or wanted ][ later: some 30 bytes each, bodies in the store ]
//! ```
//! Everything in `soon` is due before everything in `later`. Nothing here does I/O, knows the time
//! or locks: what is to be read, and when to be called again, is answered in a [`Todo`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use leveret_message::{Message, Timestamp};
use leveret_store_api::{CommitPoint, StoredMessage};
use rustc_hash::FxHashMap;

/// Where a delayed message stands: messages go on in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DelayedId {
    /// When its time comes.
    pub due: Timestamp,
    /// Its identity within its exchange; never reused.
    pub sequence: u64,
}

/// Bodies are fetched from the store this long before their time.
const READ_AHEAD_MS: u64 = 1_000;
/// Messages whose bodies are in memory, at most …
const SOON_MAX: usize = 4096;
/// … and the bytes they may take, unless one alone takes more.
const SOON_BYTES_MAX: usize = 4 << 20;
/// Bodies wanted at once.
const WANTED_MAX: usize = 1024;
/// A read that failed is tried again after this time.
const READ_AGAIN_MS: u64 = 1_000;
/// What was staged a moment ago and is not written yet is asked for again after this time.
const RETRY_MS: u64 = 3;

/// Where the body of a message that is due soon is.
#[derive(Debug)]
enum Slot {
    /// Here; the message may go once this point is durable.
    Here(Message, CommitPoint),
    /// In the store, and wanted.
    Wanted,
}

/// Messages looked at in one search; whoever searches on lets others to the lock in between.
const SEARCHED_MAX: usize = 4096;

/// What became of a search for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Search {
    Found,
    /// It is not there (any more).
    NotHeld,
    /// It may be after this place.
    GoOn(DelayedId),
}

/// All places after `after`.
fn behind(after: Option<DelayedId>) -> (Bound<DelayedId>, Bound<DelayedId>) {
    (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}

/// What the caller is to do next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Todo {
    /// Call again at this time.
    pub(crate) alarm: Option<Timestamp>,
    /// Read what [`DelayedMessages::wanted`] names.
    pub(crate) read: bool,
}

/// A message whose time has come.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) place: DelayedId,
    pub(crate) message: Message,
}

/// The messages held back.
#[derive(Debug, Default)]
pub(crate) struct DelayedMessages {
    soon: BTreeMap<DelayedId, Slot>,
    soon_bytes: usize,
    wanted: usize,
    later: BTreeSet<DelayedId>,
    /// The bodies of `later` where the store keeps none.
    bodies: Option<FxHashMap<u64, Message>>,
    next_sequence: u64,
    /// The latest commit point a message was staged at.
    staged: CommitPoint,
    /// The alarm asked for last.
    scheduled: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    firing: bool,
    reading: bool,
    deleted: bool,
}

impl DelayedMessages {
    /// Nothing yet. `volatile`: the store keeps no bodies.
    pub(crate) fn new(volatile: bool) -> DelayedMessages {
        DelayedMessages {
            bodies: volatile.then(FxHashMap::default),
            ..DelayedMessages::default()
        }
    }

    /// Takes over what the store has kept.
    pub(crate) fn recover(&mut self, places: Vec<DelayedId>, next_sequence: u64) {
        self.later = places.into_iter().collect();
        self.next_sequence = next_sequence;
    }

    /// The place in the log of a message that comes in now.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// How many messages wait.
    pub(crate) fn count(&self) -> usize {
        self.soon.len() + self.later.len()
    }

    /// Adds a message that is staged at `point`; false if the exchange is gone.
    pub(crate) fn insert(
        &mut self,
        place: DelayedId,
        message: Message,
        point: CommitPoint,
        now: Timestamp,
    ) -> bool {
        if self.deleted {
            return false;
        }
        self.staged = self.staged.max(point);
        let behind = self.later.first().is_some_and(|first| place > *first);
        if behind || place.due > now + READ_AHEAD_MS {
            self.put_later(place, Slot::Here(message, point));
        } else {
            self.soon_bytes += message.memory_bytes();
            self.soon.insert(place, Slot::Here(message, point));
            self.trim();
        }
        true
    }

    /// Keeps `soon` within its bounds.
    fn trim(&mut self) {
        while self.soon.len() > SOON_MAX
            || (self.soon_bytes > SOON_BYTES_MAX && self.soon.len() > 1)
        {
            let Some((place, slot)) = self.soon.pop_last() else {
                break;
            };
            self.forget(&slot);
            self.put_later(place, slot);
        }
    }

    fn put_later(&mut self, place: DelayedId, slot: Slot) {
        if let (Some(bodies), Slot::Here(message, _)) = (&mut self.bodies, slot) {
            bodies.insert(place.sequence, message);
        }
        self.later.insert(place);
    }

    /// Counts off what is no longer in `soon`.
    fn forget(&mut self, slot: &Slot) {
        match slot {
            Slot::Here(message, _) => self.soon_bytes -= message.memory_bytes(),
            Slot::Wanted => self.wanted -= 1,
        }
    }

    fn has_room(&self) -> bool {
        self.soon.len() < SOON_MAX && self.soon_bytes < SOON_BYTES_MAX && self.wanted < WANTED_MAX
    }

    /// Moves what is due soon to `soon`.
    fn fill(&mut self, now: Timestamp) {
        while self.has_room()
            && let Some(&place) = self.later.first()
            && place.due <= now + READ_AHEAD_MS
        {
            self.later.pop_first();
            let slot = match &mut self.bodies {
                None => Slot::Wanted,
                Some(bodies) => match bodies.remove(&place.sequence) {
                    Some(message) => Slot::Here(message, CommitPoint::NONE),
                    None => continue,
                },
            };
            match &slot {
                Slot::Wanted => self.wanted += 1,
                Slot::Here(message, _) => self.soon_bytes += message.memory_bytes(),
            }
            self.soon.insert(place, slot);
        }
    }

    /// The alarm went off, perhaps another's: it is asked for again.
    pub(crate) fn woken(&mut self) {
        self.scheduled = None;
    }

    /// What is to be done next, now that everything up to `durable` is.
    pub(crate) fn todo(&mut self, now: Timestamp, durable: CommitPoint) -> Todo {
        self.fill(now);
        self.scheduled = self.scheduled.filter(|at| *at > now);
        let mut alarm = Timestamp::NEVER;
        match self.soon.first_key_value() {
            // Whoever has them on their way asks again.
            _ if self.firing => {}
            Some((_, Slot::Here(_, point))) if *point > durable => alarm = now + 1,
            Some((place, Slot::Here(..))) => alarm = place.due,
            _ => {}
        }
        if self.has_room()
            && let Some(place) = self.later.first()
        {
            alarm = alarm.min(Timestamp(place.due.0.saturating_sub(READ_AHEAD_MS)));
        }
        let mut read = false;
        if self.wanted > 0 && !self.reading {
            match self.retry_at {
                Some(at) if at > now => alarm = alarm.min(at),
                _ => read = true,
            }
        }
        self.reading |= read;
        let alarm = alarm.max(now);
        let asks = alarm < self.scheduled.unwrap_or(Timestamp::NEVER);
        if asks {
            self.scheduled = Some(alarm);
        }
        Todo {
            alarm: asks.then_some(alarm),
            read,
        }
    }

    /// Takes messages whose time has come, in order, at most `max`. Whoever gets any calls
    /// [`DelayedMessages::fired`] when they are on their way; until then nobody else gets any.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        durable: CommitPoint,
        max: usize,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        if self.firing {
            return due;
        }
        self.fill(now);
        while due.len() < max
            && let Some(first) = self.soon.first_entry()
            && first.key().due <= now
            && matches!(first.get(), Slot::Here(_, point) if *point <= durable)
        {
            let (place, slot) = first.remove_entry();
            self.forget(&slot);
            if let Slot::Here(message, _) = slot {
                due.push(Due { place, message });
            }
            self.fill(now);
        }
        self.firing = !due.is_empty();
        due
    }

    /// What was taken out is on its way.
    pub(crate) fn fired(&mut self) {
        self.firing = false;
    }

    /// The sequences whose bodies are wanted, ascending.
    pub(crate) fn wanted(&self) -> Vec<u64> {
        let wanted = self
            .soon
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Wanted));
        let mut sequences: Vec<u64> = wanted.map(|(place, _)| place.sequence).collect();
        sequences.sort_unstable();
        sequences
    }

    /// Takes in what was read. `absent` are sequences the store does not have; answers how many of
    /// them are given up.
    pub(crate) fn loaded(
        &mut self,
        messages: Vec<StoredMessage<Message>>,
        absent: &[u64],
        now: Timestamp,
        durable: CommitPoint,
    ) -> usize {
        self.reading = false;
        self.retry_at = None;
        for stored in messages {
            let place = DelayedId {
                due: Timestamp(stored.time_ms),
                sequence: stored.sequence.0,
            };
            if let Some(slot @ Slot::Wanted) = self.soon.get_mut(&place) {
                self.wanted -= 1;
                self.soon_bytes += stored.payload.memory_bytes();
                *slot = Slot::Here(stored.payload, CommitPoint::NONE);
            }
        }
        if absent.is_empty() {
            return 0;
        }
        if self.staged > durable {
            self.retry_at = Some(now + RETRY_MS);
            return 0;
        }
        self.set_aside(absent)
    }

    /// Gives up messages that cannot be read, of these ascending sequences; answers how many were still held.
    pub(crate) fn set_aside(&mut self, damaged: &[u64]) -> usize {
        if damaged.is_empty() {
            return 0;
        }
        let before = self.soon.len();
        self.soon.retain(|place, slot| {
            !(matches!(slot, Slot::Wanted) && damaged.binary_search(&place.sequence).is_ok())
        });
        let gone = before - self.soon.len();
        self.wanted -= gone;
        gone
    }

    /// Not everything that is wanted could be looked for: it is tried again later.
    pub(crate) fn read_failed(&mut self, now: Timestamp) {
        self.retry_at = Some(now + READ_AGAIN_MS);
    }

    /// The earliest places after `after`, in order, at most `max`.
    pub(crate) fn list(&self, after: Option<DelayedId>, max: usize) -> Vec<DelayedId> {
        let range = behind(after);
        let soon = self.soon.range(range).map(|(place, _)| place);
        let later = self.later.range(range);
        soon.chain(later).take(max).copied().collect()
    }

    /// The body of a message, where it is in memory.
    pub(crate) fn body(&self, place: &DelayedId) -> Option<Message> {
        match self.soon.get(place) {
            Some(Slot::Here(message, _)) => Some(message.clone()),
            _ => self.bodies.as_ref()?.get(&place.sequence).cloned(),
        }
    }

    /// Takes a message out, if it is due soon or among the first [`SEARCHED_MAX`] after `after`.
    pub(crate) fn cancel(&mut self, sequence: u64, after: Option<DelayedId>) -> Search {
        let is_it = |place: &&DelayedId| place.sequence == sequence;
        if let Some(place) = self.soon.keys().find(is_it).copied() {
            if let Some(slot) = self.soon.remove(&place) {
                self.forget(&slot);
            }
            return Search::Found;
        }
        let mut last = None;
        let searched = self.later.range(behind(after)).take(SEARCHED_MAX);
        let found = searched.inspect(|place| last = Some(**place)).find(is_it);
        if let Some(place) = found.copied() {
            self.later.remove(&place);
            if let Some(bodies) = &mut self.bodies {
                bodies.remove(&sequence);
            }
            return Search::Found;
        }
        last.map_or(Search::NotHeld, Search::GoOn)
    }

    /// The exchange is gone.
    pub(crate) fn delete(&mut self) {
        *self = DelayedMessages {
            deleted: true,
            ..DelayedMessages::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn place(sequence: u64) -> DelayedId {
        DelayedId {
            due: NOW + sequence,
            sequence,
        }
    }

    #[test]
    fn what_is_cancelled_while_it_is_read_leaves_room_for_another() {
        let mut delayed = DelayedMessages::new(false);
        let all = (WANTED_MAX * 2) as u64;
        delayed.recover((0..all).map(place).collect(), all);
        let mut sequence = 0;
        while delayed.count() > 0 {
            delayed.todo(NOW + all, CommitPoint::NONE);
            let wanted = delayed.wanted();
            assert_eq!(wanted.first(), Some(&sequence));
            for it in wanted {
                assert_eq!(delayed.cancel(it, None), Search::Found);
                sequence = it + 1;
            }
        }
        assert_eq!((sequence, delayed.wanted), (all, 0));
    }
}
