//! What a queue's verb leaves to be done once its lock is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use leveret_message::Timestamp;
use leveret_store_api::{CommitPoint, LogId, Sequence};
use smallvec::SmallVec;

use crate::mailbox::{InFlight, Mailbox};
use crate::queue::ready::Entry;
use crate::stream::Kept;

/// Why a message goes to the dead-letter exchange; the names are RabbitMQ's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeadLetterReason {
    /// Rejected or nacked without requeue.
    Rejected,
    /// Its time to live is over.
    Expired,
    /// The queue is over its length limit.
    MaxLength,
    /// It was delivered too often.
    DeliveryLimit,
    /// The store cannot read its body any more, which is empty therefore.
    Damaged,
}

impl DeadLetterReason {
    /// As it stands in `x-death`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeadLetterReason::Rejected => "rejected",
            DeadLetterReason::Expired => "expired",
            DeadLetterReason::MaxLength => "maxlen",
            DeadLetterReason::DeliveryLimit => "delivery_limit",
            DeadLetterReason::Damaged => "damaged",
        }
    }
}

/// A message that leaves its queue for the dead-letter exchange. It is no longer in the queue; its
/// acknowledgement in the store (if stored) is staged by whoever publishes it, in one commit.
#[derive(Debug)]
pub struct DeadLetter {
    /// The message and where it stood.
    pub in_flight: InFlight,
    /// Why it goes.
    pub reason: DeadLetterReason,
    /// The log it is stored in, if it is.
    pub log: Option<LogId>,
}

/// Messages that nobody needs any more.
#[derive(Debug)]
pub enum Garbage {
    /// Those that were ready, in their order.
    Ready(VecDeque<Entry>),
    /// Those that had come back.
    Returned(BTreeMap<Sequence, Entry>),
}

impl Garbage {
    fn len(&self) -> usize {
        match self {
            Garbage::Ready(entries) => entries.len(),
            Garbage::Returned(entries) => entries.len(),
        }
    }

    /// Frees up to `most` of them; answers whether there are more.
    pub fn free_some(&mut self, most: usize) -> bool {
        match self {
            Garbage::Ready(entries) => entries.truncate(entries.len().saturating_sub(most)),
            Garbage::Returned(entries) => {
                for _ in 0..most {
                    entries.pop_first();
                }
            }
        }
        self.len() > 0
    }
}

/// So many messages are freed where they were let go of.
const FREED_AT_ONCE_MAX: usize = 4096;

/// Everything a queue's verb wants done after unlocking.
#[derive(Debug)]
pub struct Effects {
    /// Sessions to wake, each once.
    pub wakes: SmallVec<[Arc<Mailbox>; 2]>,
    /// Publishers to let go on.
    pub releases: Vec<Arc<Mailbox>>,
    /// When this is done, where it matters for what dies.
    pub now: Timestamp,
    /// Messages for the dead-letter exchange; unlocking, they go to the queue's outbox.
    pub dead_letters: Vec<DeadLetter>,
    /// The outbox has letters that are to be moved.
    pub letters: bool,
    /// So many messages were set aside because the store cannot read them.
    pub damaged: u64,
    /// The front of a paged run is wanted in memory.
    pub page_in: bool,
    /// What was decided cannot be carried out before the next messages are read: the handle sees to that at once.
    pub read_first: bool,
    /// The queue wants `QueueHandle::handle_timeout` at this time, earlier than it asked before.
    pub deadline: Option<Timestamp>,
    /// The last consumer of an auto-delete queue went, or the queue expired.
    pub delete_queue: bool,
    /// The publisher runs too far ahead of a consumer that keeps up.
    pub hold_back: bool,
    /// The latest commit point this verb staged.
    pub point: CommitPoint,
    /// The commit point of messages spilled to the store: nobody waits for it, unless the store is behind.
    pub spilled: CommitPoint,
    /// Once this commit point is durable, the queue (a stream) wants to look again.
    pub durable_at: Option<CommitPoint>,
    /// Memory to be freed outside the lock; if it is much, by the pager.
    pub garbage: Vec<Garbage>,
    /// Likewise.
    pub retries: VecDeque<InFlight>,
    /// A stream's memory to be freed outside the lock.
    pub kept: VecDeque<Kept>,
}

impl Default for Effects {
    fn default() -> Effects {
        Effects {
            wakes: SmallVec::new(),
            releases: Vec::new(),
            now: Timestamp::default(),
            dead_letters: Vec::new(),
            letters: false,
            damaged: 0,
            page_in: false,
            read_first: false,
            deadline: None,
            delete_queue: false,
            hold_back: false,
            point: CommitPoint::NONE,
            spilled: CommitPoint::NONE,
            durable_at: None,
            garbage: Vec::new(),
            retries: VecDeque::new(),
            kept: VecDeque::new(),
        }
    }
}

impl Effects {
    /// Of a verb at this time.
    #[inline]
    #[must_use]
    pub fn at(now: Timestamp) -> Effects {
        Effects {
            now,
            ..Effects::default()
        }
    }

    pub(crate) fn wake(&mut self, mailbox: &Arc<Mailbox>) {
        self.wakes.push(Arc::clone(mailbox));
    }

    /// Whether the caller has more to do than waking.
    #[must_use]
    pub fn leaves_work(&self) -> bool {
        self.letters
            || self.damaged > 0
            || self.page_in
            || self.deadline.is_some()
            || self.delete_queue
            || self.durable_at.is_some()
            || !self.garbage.is_empty()
    }

    /// Frees what takes no time; the rest is left to whoever carries these effects out.
    pub fn free_little(&mut self) {
        let messages: usize = self.garbage.iter().map(Garbage::len).sum();
        if messages <= FREED_AT_ONCE_MAX {
            self.garbage.clear();
        }
        self.retries.clear();
        self.kept.clear();
    }

    /// Adds what a later verb on the same queue left to be done.
    pub fn join(&mut self, later: Effects) {
        self.letters |= later.letters;
        self.damaged += later.damaged;
        self.page_in |= later.page_in;
        self.deadline = later.deadline.or(self.deadline);
        self.delete_queue |= later.delete_queue;
        self.durable_at = later.durable_at.or(self.durable_at);
        self.garbage.extend(later.garbage);
        self.point = self.point.max(later.point);
        self.spilled = self.spilled.max(later.spilled);
    }
}
