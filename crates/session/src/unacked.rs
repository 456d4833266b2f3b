//! The ledger of a channel: deliveries that were sent and are not settled.
//!
//! Tags rise by one per delivery; those of deliveries that need no acknowledgement are missing.
//!
//! ```text
//!   the oldest                                                         the latest
//!   [ older: packed, messages in the store ][ older: in memory ][ at hand: in memory ]
//! ```
//! Messages leave memory where all connections together hold too many, see [`leveret_broker::unacked_memory`].

mod block;
#[cfg(debug_assertions)]
mod check;
mod older;
mod packed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::unacked_memory::{Told, UnackedMemory};
use leveret_codec::DeliveryTag;
use leveret_message::Timestamp;
use leveret_queue::mailbox::InFlight;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_queue::queue::reference::Outstanding;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use leveret_store_api::CommitPoint;
use older::Older;

pub(super) use block::{keep_all, let_go_stored};

use super::queue_table::QueueNumber;

/// One delivery that waits for its acknowledgement; at hand, with its message.
#[derive(Debug)]
pub(super) struct Unacked<H = Outstanding> {
    pub(super) tag: DeliveryTag,
    pub(super) delivery: H,
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
            delivery: self.delivery,
            consumer: self.consumer,
            outcome,
            delivered_at: self.delivered_at,
        }
    }
}

impl From<Unacked<InFlight>> for Unacked {
    #[inline]
    fn from(at_hand: Unacked<InFlight>) -> Unacked {
        Unacked {
            tag: at_hand.tag,
            delivery: Outstanding::Message(at_hand.delivery),
            queue: at_hand.queue,
            consumer: at_hand.consumer,
            delivered_at: at_hand.delivered_at,
            due: at_hand.due,
        }
    }
}

impl<H> Unacked<H> {
    /// Whether it went to this consumer of this queue.
    fn is_of(&self, queue: QueueNumber, consumer: ConsumerRef) -> bool {
        self.queue == queue && self.consumer == Some(consumer)
    }

    fn due(&self) -> Due {
        Due {
            tag: self.tag,
            delivered_at: self.delivered_at,
            due: self.due,
        }
    }
}

fn memory_of(at_hand: &Unacked<InFlight>) -> usize {
    at_hand.delivery.message.memory_bytes()
}

/// When a delivery must be settled at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) tag: DeliveryTag,
    pub(super) delivered_at: Timestamp,
    pub(super) due: Timestamp,
}

/// Has the store keep messages of one queue; answers as [`leveret_broker::handle::QueueHandle::keep_in_store`].
pub(super) type KeepInStore<'a> =
    dyn FnMut(QueueNumber, &mut [&mut InFlight]) -> Option<CommitPoint> + 'a;

/// How far messages have left memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Relief {
    /// Enough of them, or all that can.
    Done,
    /// More of them at the next turn.
    Again,
    /// More of them once this is durable.
    At(CommitPoint),
}

impl Relief {
    /// Of both.
    pub(super) fn and(self, other: Relief) -> Relief {
        match (self, other) {
            (Relief::Again, _) | (_, Relief::Again) => Relief::Again,
            (Relief::At(one), Relief::At(other)) => Relief::At(one.min(other)),
            (Relief::Done, relief) | (relief, Relief::Done) => relief,
        }
    }
}

/// So many tags are at hand; those before them are older ones.
const AT_HAND_MAX: usize = 8192;
/// So many become older ones together.
const AGED: usize = 4096;

/// Rising by tag; settled ones leave a gap until everything before them is settled too.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    older: Older,
    entries: VecDeque<Option<Unacked<InFlight>>>,
    /// The tag of each place: places are contiguous, so the first one's tag says all. All older ones are before it.
    first_tag: DeliveryTag,
    /// Memory of the messages at hand when it was counted last: that is too much for each delivery.
    memory: usize,
    /// Bytes sent since then.
    sent: usize,
    /// It is counted again when so many are.
    counted_at: usize,
    /// Likewise with fewer entries than these.
    counted_below: usize,
    told: Told,
    /// The shortest time that any delivery so far was given.
    shortest_ms: Option<u64>,
}

impl Ledger {
    /// Inlined, so that the delivery is written where it stays.
    #[inline(always)]
    pub(super) fn push(&mut self, unacked: Unacked<InFlight>) {
        if self.entries.is_empty() {
            self.first_tag = unacked.tag;
        }
        // Tags in between belong to deliveries without acknowledgement.
        while self.first_tag.plus(self.entries.len()) < unacked.tag {
            self.entries.push_back(None);
        }
        if unacked.due != Timestamp::NEVER {
            let given = unacked.due - unacked.delivered_at;
            self.shortest_ms = Some(self.shortest_ms.map_or(given, |least| least.min(given)));
        }
        self.entries.push_back(Some(unacked));
        if self.entries.len() > AT_HAND_MAX {
            self.age(AGED);
        }
    }

    #[cold]
    fn age(&mut self, count: usize) {
        let before = self.older.memory();
        for unacked in self.entries.drain(..count).flatten() {
            self.older.push(unacked.into());
        }
        self.first_tag = self.first_tag.plus(count);
        let aged = self.older.memory() - before;
        // Those that came since it was counted are not in it.
        self.memory = self.memory.saturating_sub(aged);
    }

    /// After deliveries of so many bytes: whether messages are to leave memory, because all connections together
    /// hold more than they may.
    #[inline]
    pub(super) fn is_to_be_relieved(&mut self, sent: usize, memory: &Arc<UnackedMemory>) -> bool {
        self.sent += sent;
        self.sent > self.counted_at && self.is_crowded(memory)
    }

    #[cold]
    fn is_crowded(&mut self, memory: &Arc<UnackedMemory>) -> bool {
        self.count_memory();
        // What it costs to count is little beside what it cost to send that much.
        self.counted_at = self.memory.min(64 * memory.kept()).max(2 * memory.kept());
        let held = self.memory + self.older.memory();
        let is_over = self.told.more(held, memory);
        self.counted_below = match self.told.is_any() {
            true => self.entries.len().div_ceil(2),
            false => 0,
        };
        is_over && held > memory.kept()
    }

    fn count_memory(&mut self) {
        let held = self.entries.iter().flatten().map(memory_of);
        self.memory = held.sum();
        self.sent = 0;
    }

    /// Much was settled since its memory was counted.
    #[cold]
    fn count_less(&mut self) {
        self.count_memory();
        self.counted_below = match self.memory {
            0 => 0,
            _ => self.entries.len().div_ceil(2),
        };
        self.tell_less();
    }

    /// Has the oldest messages leave memory, a few at a time, until all connections together hold no more than they
    /// may, or this channel no more than it may in any case.
    pub(super) fn relieve(
        &mut self,
        memory: &UnackedMemory,
        durable: CommitPoint,
        keep: &mut KeepInStore<'_>,
    ) -> Relief {
        self.count_memory();
        let Ledger { older, told, .. } = self;
        let at_hand = self.memory;
        told.tell(at_hand + older.memory());
        let relief = older.relieve(durable, keep, |left, going| {
            told.tell(at_hand + left);
            memory.is_relieved(going)
        });
        let going = match relief {
            Relief::Again => return relief,
            Relief::At(_) => older.memory(),
            Relief::Done => 0,
        };
        if self.memory <= memory.kept() || memory.is_relieved(going) {
            return relief;
        }
        self.age_by_memory(memory.kept());
        Relief::Again
    }

    /// The first ones at hand become older ones, until their messages have no more than `kept` bytes.
    fn age_by_memory(&mut self, kept: usize) {
        let mut left = self.memory;
        let mut count = 0;
        for entry in self.entries.iter().take(AGED) {
            if left <= kept {
                break;
            }
            left -= entry.as_ref().map_or(0, memory_of);
            count += 1;
        }
        self.age(count);
    }

    /// Whether messages of the oldest may have left memory.
    #[inline]
    pub(super) fn has_older(&self) -> bool {
        self.older.count() > 0
    }

    /// How many of `most` tags, the first of which is `from`, can be taken for their messages to have no more than `bytes` if all must be
    /// read, one at least; and how many bytes that is.
    pub(super) fn readable(&self, from: DeliveryTag, most: usize, bytes: usize) -> (usize, usize) {
        self.older.readable(from, most, bytes)
    }

    fn tell_less(&mut self) {
        self.told.less(self.memory + self.older.memory());
    }

    /// The delivery that must be settled first of all. Where all are given the same time that is the
    /// oldest, and no other is looked at.
    pub(super) fn earliest_due(&self) -> Option<Due> {
        let shortest_ms = self.shortest_ms?;
        let mut earliest: Option<Due> = None;
        let at_hand = self.entries.iter().flatten().map(Unacked::due);
        for this in self.older.dues().chain(at_hand) {
            let due = earliest.map_or(Timestamp::NEVER, |earliest| earliest.due);
            if due <= this.delivered_at + shortest_ms {
                break;
            }
            if this.due < due {
                earliest = Some(this);
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
        from: DeliveryTag,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> Option<DeliveryTag> {
        if self.older.reaches(from) {
            let older = &mut self.older;
            let next = older.take_of_consumer(queue, consumer, from, most, each);
            self.tell_less();
            return next.or_else(|| (!self.entries.is_empty()).then_some(self.first_tag));
        }
        let from = from.max(self.first_tag);
        let start = from.since(self.first_tag).unwrap_or(usize::MAX);
        let end = start.saturating_add(most);
        let ends = end >= self.entries.len();
        let end = end.min(self.entries.len());
        for entry in self.entries.range_mut(start.min(end)..end) {
            if let Some(unacked) = entry.take_if(|it| it.is_of(queue, consumer)) {
                each(unacked.into());
            }
        }
        self.trim();
        (!ends).then_some(from.plus(most))
    }

    /// Takes out one delivery.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Unacked> {
        if self.older.reaches(tag) {
            let taken = self.older.take(tag);
            self.tell_less();
            return taken;
        }
        let place = tag.since(self.first_tag)?;
        let unacked = self.entries.get_mut(place)?.take()?;
        self.trim();
        Some(unacked.into())
    }

    /// Whether `tag` is in the ledger.
    pub(super) fn contains(&self, tag: DeliveryTag) -> bool {
        if self.older.reaches(tag) {
            return self.older.contains(tag);
        }
        tag.since(self.first_tag)
            .and_then(|place| self.entries.get(place))
            .is_some_and(Option::is_some)
    }

    /// Takes out what is up to and including `tag`, oldest first, of at most `most` tags. Answers whether
    /// there is more of it.
    pub(super) fn take_some(
        &mut self,
        tag: DeliveryTag,
        most: usize,
        mut each: impl FnMut(Unacked),
    ) -> bool {
        if self.older.count() > 0 {
            let more = self.older.take_some(tag, most, each);
            self.tell_less();
            return more || (!self.entries.is_empty() && self.first_tag <= tag);
        }
        for _ in 0..most {
            if self.first_tag > tag {
                break;
            }
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.first_tag = self.first_tag.next();
            if let Some(unacked) = entry {
                each(unacked.into());
            }
        }
        self.trim();
        !self.entries.is_empty() && self.first_tag <= tag
    }

    /// Puts back what a transaction took out and did not settle.
    pub(super) fn put_back(&mut self, unacked: Unacked) {
        let is_older = if self.entries.is_empty() {
            self.older.reaches(unacked.tag)
        } else {
            unacked.tag < self.first_tag
        };
        let Unacked {
            tag,
            delivery,
            queue,
            consumer,
            delivered_at,
            due,
        } = unacked;
        let at_hand = match delivery {
            Outstanding::Message(delivery) if !is_older => Unacked {
                tag,
                delivery,
                queue,
                consumer,
                delivered_at,
                due,
            },
            delivery => {
                if !is_older {
                    // Those at hand were put back just now, too, and are before it.
                    self.age(self.entries.len());
                }
                self.older.put_back(Unacked {
                    tag,
                    delivery,
                    queue,
                    consumer,
                    delivered_at,
                    due,
                });
                return;
            }
        };
        if self.entries.is_empty() {
            self.push_again(at_hand);
            return;
        }
        let place = tag.since(self.first_tag).unwrap_or(usize::MAX);
        match self.entries.get_mut(place) {
            Some(entry) => *entry = Some(at_hand),
            None => self.push_again(at_hand),
        }
    }

    #[cold]
    fn push_again(&mut self, unacked: Unacked<InFlight>) {
        self.push(unacked);
    }

    /// Skips settled ones at the front.
    fn trim(&mut self) {
        const KEPT: usize = 1024;
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first_tag = self.first_tag.next();
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
        if self.entries.len() < self.counted_below {
            self.count_less();
        }
    }
}
