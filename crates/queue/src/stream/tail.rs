//! The newest messages of a stream, in memory, and how many of all may be seen.
//!
//! ```text
//!   only in the store     | in memory                             |
//!   ----------------------+----------------------+----------------+
//!   first of the stream   | first of the tail    | visible        | next
//! ```
//! A message is seen once it is durable: an offset that a consumer was told of must mean the same
//! message after a crash. What is not in the store yet is never let go of. With a store that keeps
//! nothing, the tail is the whole stream.

#[cfg(debug_assertions)]
mod check;

use std::collections::VecDeque;

use leveret_message::{Message, Timestamp};
use leveret_store_api::{CommitPoint, Payload};

use crate::queue::hidden::HiddenTicket;

/// One message in memory.
#[derive(Debug)]
pub struct Kept {
    pub(crate) message: Message,
    pub(crate) time: Timestamp,
}

/// Where messages are staged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Not yet: whoever holds the ticket does it.
    Hidden(HiddenTicket),
    /// At this point.
    At(CommitPoint),
}

/// Up to which offset messages are staged, and where.
#[derive(Clone, Copy, Debug)]
struct Staged {
    until: u64,
    stage: Stage,
}

#[derive(Debug, Default)]
pub(crate) struct Tail {
    kept: VecDeque<Kept>,
    /// The offset of the first one.
    first: u64,
    memory: usize,
    staged: VecDeque<Staged>,
    visible: u64,
}

/// The bytes that count for limits: what the store is given.
pub(crate) fn stored_bytes(message: &Message) -> u64 {
    message.parts().iter().map(|part| part.len() as u64).sum()
}

impl Tail {
    /// The tail of a stream whose messages so far are all in the store.
    pub(crate) fn behind(next: u64) -> Tail {
        Tail {
            first: next,
            visible: next,
            ..Tail::default()
        }
    }

    /// The first offset that is in memory.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Messages below this offset may be seen.
    pub(crate) fn visible(&self) -> u64 {
        self.visible
    }

    /// The offset the next message gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    pub(crate) fn push(&mut self, message: Message, time: Timestamp) {
        self.memory += message.memory_bytes();
        self.kept.push_back(Kept { message, time });
    }

    /// Everything pushed since the last call is staged at `point`.
    pub(crate) fn staged(&mut self, point: CommitPoint) {
        self.add(Stage::At(point));
    }

    /// Everything pushed since the last call will be staged under `ticket`.
    pub(crate) fn hide(&mut self, ticket: HiddenTicket) {
        self.add(Stage::Hidden(ticket));
    }

    fn add(&mut self, stage: Stage) {
        let until = self.next();
        match self.staged.back_mut() {
            Some(last) if last.stage == stage => last.until = until,
            Some(last) if last.until == until => {}
            _ => self.staged.push_back(Staged { until, stage }),
        }
    }

    /// What was hidden under `ticket` is staged at `point`.
    pub(crate) fn staged_late(&mut self, ticket: HiddenTicket, point: CommitPoint) {
        for staged in &mut self.staged {
            if staged.stage == Stage::Hidden(ticket) {
                staged.stage = Stage::At(point);
            }
        }
    }

    /// Makes visible what has become durable; answers whether that was anything.
    pub(crate) fn advance(&mut self, durable: CommitPoint) -> bool {
        let before = self.visible;
        while let Some(staged) = self.staged.front()
            && matches!(staged.stage, Stage::At(point) if point <= durable)
        {
            self.visible = staged.until;
            self.staged.pop_front();
        }
        self.visible > before
    }

    /// When the next messages become visible, if that is known.
    pub(crate) fn awaited(&self) -> Option<CommitPoint> {
        match self.staged.front()?.stage {
            Stage::At(point) => Some(point),
            Stage::Hidden(_) => None,
        }
    }

    /// Bytes of the messages in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory
    }

    /// A visible message that is in memory.
    pub(crate) fn get(&self, offset: u64) -> Option<&Message> {
        if offset >= self.visible {
            return None;
        }
        let place = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.kept.get(place).map(|kept| &kept.message)
    }

    /// The first offset in memory whose message is not older than `time`. None: it may be further
    /// back.
    pub(crate) fn seek(&self, time: Timestamp) -> Option<u64> {
        if self.kept.front().is_none_or(|front| front.time >= time) {
            return None;
        }
        let place = self.kept.partition_point(|kept| kept.time < time);
        Some(self.first + place as u64)
    }

    /// Lets go of the oldest messages while there are more than `bytes_max`; the store has them.
    pub(crate) fn shrink(&mut self, bytes_max: usize) {
        while self.memory > bytes_max && self.first < self.visible {
            self.pop_front();
        }
    }

    /// Lets go of everything below `offset`.
    pub(crate) fn forget_below(&mut self, offset: u64) {
        while self.first < offset && !self.kept.is_empty() {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.memory -= kept.message.memory_bytes();
            self.first += 1;
        }
    }

    /// Takes everything out.
    pub(crate) fn take(&mut self) -> VecDeque<Kept> {
        let next = self.next();
        std::mem::replace(self, Tail::behind(next)).kept
    }
}
