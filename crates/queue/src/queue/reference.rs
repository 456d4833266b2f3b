//! Deliveries of which only the store has the message: what is known of them, and which of them must be read before
//! they can be settled.
//!
//! An acknowledgement needs none of their bytes, and what goes back to its place in the queue goes back unread. What
//! goes to a dead-letter exchange, to the end of the queue or into a delay is read first, outside the queue's lock.

use leveret_message::{Message, Timestamp};
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, Enqueue, LogId, Sequence, StoredMessage,
};

use super::Queue;
use super::delivery_count::DeliveryCount;
use super::effects::{DeadLetterReason, Effects};
use super::settle::{Outcome, QueueSettlement};
use crate::mailbox::InFlight;
use crate::queue::kind::{Overflow, QueueKind};

/// Reading so many bytes of a message for its settlement costs as much as an acknowledgement.
pub const READ_FOR_ONE: usize = 4096;

/// A delivery of which only the store has the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reference {
    /// Its place within its level.
    pub sequence: Sequence,
    /// Memory the message takes where it is in memory.
    pub memory: u32,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// How often it was delivered before and came back.
    pub delivery_count: DeliveryCount,
    /// The priority level it stood in.
    pub level: u8,
    /// How many delays of `x-retry-delays` it has used up.
    pub retries: u8,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Whether the store knows it, so that its acknowledgement must be staged.
    pub stored: bool,
    /// Whether it is to survive a restart where its queue does.
    pub persistent: bool,
}

impl Reference {
    /// What is to be known of a delivery once its message has left memory; None: it is too large to tell.
    pub fn of(in_flight: &InFlight) -> Option<Reference> {
        Some(Reference {
            sequence: in_flight.sequence,
            memory: u32::try_from(in_flight.message.memory_bytes()).ok()?,
            body_bytes: u32::try_from(in_flight.message.body_bytes()).ok()?,
            delivery_count: in_flight.delivery_count,
            level: in_flight.level,
            retries: in_flight.retries,
            redelivered: in_flight.redelivered,
            stored: in_flight.stored,
            persistent: in_flight.message.is_persistent(),
        })
    }

    /// It came back.
    pub(super) fn counted(self) -> Reference {
        Reference {
            delivery_count: self.delivery_count.again(),
            redelivered: true,
            ..self
        }
    }
}

/// A delivery that is not settled: its message, or what is known of it.
#[derive(Clone, Debug)]
pub enum Outstanding {
    /// Its message is in memory.
    Message(InFlight),
    /// Only the store has its message.
    Reference(Reference),
    /// It was to be read, and cannot be.
    Damaged(Box<(DamagedMessage<Message>, Reference)>),
}

/// A settlement is no larger for what may stand in a message's place.
const _: () = assert!(size_of::<Outstanding>() == size_of::<InFlight>());

impl Outstanding {
    /// Its level, its sequence, and whether the store knows it.
    #[inline]
    pub fn place(&self) -> (u8, Sequence, bool) {
        match self {
            Outstanding::Message(it) => (it.level, it.sequence, it.stored),
            Outstanding::Reference(it) => (it.level, it.sequence, it.stored),
            Outstanding::Damaged(it) => (it.1.level, it.1.sequence, it.1.stored),
        }
    }

    /// Memory that its message takes.
    #[inline]
    pub fn memory(&self) -> usize {
        match self {
            Outstanding::Message(in_flight) => in_flight.message.memory_bytes(),
            Outstanding::Reference(_) | Outstanding::Damaged(_) => 0,
        }
    }

    /// Memory that its message will take if it must be read.
    #[inline]
    pub fn unread(&self) -> usize {
        match self {
            Outstanding::Reference(reference) if reference.stored => reference.memory as usize,
            Outstanding::Reference(_) | Outstanding::Message(_) | Outstanding::Damaged(_) => 0,
        }
    }

    /// How often it was delivered before and came back.
    pub(super) fn delivery_count(&self) -> DeliveryCount {
        match self {
            Outstanding::Message(it) => it.delivery_count,
            Outstanding::Reference(it) => it.delivery_count,
            Outstanding::Damaged(it) => it.1.delivery_count,
        }
    }

    /// What it costs to settle it, where an acknowledgement costs 1, in addition, if its message must be read for that.
    #[inline]
    pub fn cost_of_reading(&self) -> usize {
        self.unread() / READ_FOR_ONE
    }

    /// What there is of it in the store needs no acknowledgement any more.
    pub(super) fn set_unstored(&mut self) {
        match self {
            Outstanding::Message(it) => it.stored = false,
            Outstanding::Reference(it) => it.stored = false,
            Outstanding::Damaged(it) => {
                let reference = Reference {
                    stored: false,
                    ..it.1
                };
                *self = Outstanding::Reference(reference);
            }
        }
    }
}

/// A settlement, by its number, that needs its message, and where that is.
pub(crate) struct Unread {
    pub(crate) log: LogId,
    pub(crate) sequence: Sequence,
    pub(crate) settlement: usize,
}

/// Whether a reference must be read for its settlement.
pub type MustRead = fn(&Queue, &Reference, Outcome) -> bool;

/// What is to be read, and the queue's time to live.
#[derive(Default)]
pub struct ToRead {
    pub(crate) unread: Vec<Unread>,
    pub(crate) time_to_live_ms: Option<u64>,
}

impl Queue {
    /// Has the store keep the messages of these deliveries, so that they can leave memory: those it does not have
    /// yet are spilled to it. Answers when it has all of them; None: nobody will ask for them.
    pub(crate) fn keep_in_store(
        &mut self,
        deliveries: &mut [&mut InFlight],
    ) -> Option<CommitPoint> {
        if self.deleted {
            return None;
        }
        let mut spill = Vec::new();
        for in_flight in deliveries.iter_mut().filter(|it| !it.stored) {
            let Some(level) = self.levels.get_mut(usize::from(in_flight.level)) else {
                continue;
            };
            let store = &self.store;
            in_flight.stored = true;
            spill.push(Change::Enqueue(Enqueue {
                log: *level.log.get_or_insert_with(|| store.allocate_log()),
                sequence: in_flight.sequence,
                flags: 0,
                time_ms: in_flight.expires_at.0,
                transient: true,
                payload: in_flight.message.clone(),
            }));
        }
        // Whoever delivered them has staged them before it let go of the queue.
        Some(self.store.stage(&mut spill))
    }

    /// Which of these settlements need their message, as `must_read` says, and do not have it.
    pub(crate) fn to_read(&self, settlements: &[QueueSettlement], must_read: MustRead) -> ToRead {
        let numbered = settlements.iter().enumerate();
        let unread = numbered.filter_map(|(number, settlement)| match &settlement.delivery {
            Outstanding::Reference(reference) if must_read(self, reference, settlement.outcome) => {
                let level = self.levels.get(usize::from(reference.level))?;
                Some(Unread {
                    log: level.log?,
                    sequence: reference.sequence,
                    settlement: number,
                })
            }
            _ => None,
        });
        ToRead {
            unread: unread.collect(),
            time_to_live_ms: self.options.message_ttl_ms,
        }
    }

    /// Whether a reference must be read for its settlement.
    pub fn must_read(&self, reference: &Reference, outcome: Outcome) -> bool {
        if self.deleted || !reference.stored {
            return false;
        }
        match outcome {
            Outcome::Acknowledged => self.has_keys_of_messages(),
            Outcome::Rejected => {
                self.has_keys_of_messages() || self.options.dead_letter_exchange.is_some()
            }
            Outcome::Dropped => false,
            // The limit drops what came back before anybody gets it.
            _ if self.drops_what_comes_back() => true,
            Outcome::Requeued | Outcome::Decided | Outcome::Returned => {
                let counted = reference.counted().delivery_count;
                let requeued = outcome != Outcome::Returned;
                u32::from(counted.certain()) > self.options.delivery_limit.unwrap_or(u32::MAX)
                    || (requeued && self.goes_elsewhere())
            }
            Outcome::Undelivered | Outcome::Uncounted => false,
        }
    }

    fn drops_what_comes_back(&self) -> bool {
        let options = &self.options;
        let is_limited = options.max_length.is_some() || options.max_length_bytes.is_some();
        is_limited && options.overflow == Overflow::DropHead && options.kind != QueueKind::Quorum
    }

    /// Whether what a client puts back does not go to its old place.
    fn goes_elsewhere(&self) -> bool {
        !self.options.retry_delays_ms.is_empty() || self.moves_to_the_end()
    }

    /// Puts a message back of which only the store has the bytes.
    pub(super) fn put_back_unread(&mut self, reference: Reference) {
        debug_assert!(reference.stored, "nobody has the message");
        self.put_back += 1;
        self.ready += 1;
        self.ready_memory += u64::from(reference.memory);
        self.ready_body_bytes += u64::from(reference.body_bytes);
        self.top = self.top.max(usize::from(reference.level));
        if let Some(level) = self.levels.get_mut(usize::from(reference.level)) {
            level.put_back_unread(&reference);
        }
    }

    /// A message is gone that nobody gets, and that nobody has to read for that.
    pub(super) fn reject_unread(&mut self, reference: &Reference) {
        self.count_ended(DeadLetterReason::Rejected, false);
        if reference.stored {
            self.acknowledge_stored(reference.level, reference.sequence);
        }
    }

    /// A message that was to be read cannot be, see [`Queue::set_aside`].
    pub(super) fn set_aside_delivery(
        &mut self,
        damaged: &(DamagedMessage<Message>, Reference),
        effects: &mut Effects,
    ) {
        let (damaged, reference) = damaged;
        let Reference {
            level,
            delivery_count,
            retries,
            ..
        } = *reference;
        self.set_aside(level, damaged.clone(), delivery_count, retries, effects);
    }
}

/// When a message that comes from the store expires.
pub(crate) fn expires_at(
    stored: &StoredMessage<Message>,
    time_to_live_ms: Option<u64>,
) -> Timestamp {
    match stored.flags {
        0 => Timestamp(stored.time_ms),
        // A retry: the time is when it was due, and its time to live starts anew then.
        _ => stored
            .payload
            .expires_at(Timestamp(stored.time_ms), time_to_live_ms)
            .unwrap_or(Timestamp::NEVER),
    }
}

impl ToRead {
    /// The settlements that wait for it.
    #[must_use]
    pub fn settlements(&self) -> Vec<usize> {
        self.unread.iter().map(|it| it.settlement).collect()
    }

    /// Gives a settlement its message.
    fn fill(&self, settlement: &mut QueueSettlement, stored: StoredMessage<Message>) {
        if let Outstanding::Reference(reference) = settlement.delivery {
            settlement.delivery = Outstanding::Message(InFlight {
                sequence: reference.sequence,
                expires_at: expires_at(&stored, self.time_to_live_ms),
                delivery_count: reference.delivery_count,
                level: reference.level,
                retries: reference.retries.max(stored.flags),
                redelivered: reference.redelivered,
                stored: true,
                message: stored.payload,
            });
        }
    }

    /// The settlement that waits for this message.
    fn place_of(&self, log: LogId, sequence: Sequence) -> Option<usize> {
        let key = (log, sequence);
        let place = self
            .unread
            .binary_search_by_key(&key, |it| (it.log, it.sequence));
        Some(self.unread.get(place.ok()?)?.settlement)
    }

    /// Reads all of it by `read(log, from, count, messages)`, which answers what is damaged, and gives the settlements
    /// their messages. What the store does not have is gone. What could not be asked for is not rejected: it comes back.
    pub fn read<E>(
        mut self,
        settlements: &mut [QueueSettlement],
        mut read: impl FnMut(
            LogId,
            Sequence,
            usize,
            &mut Vec<StoredMessage<Message>>,
        ) -> Result<Vec<DamagedMessage<Message>>, E>,
        mut failed: impl FnMut(E),
    ) {
        self.unread.sort_unstable_by_key(|it| (it.log, it.sequence));
        let mut messages = Vec::new();
        let mut next = 0;
        while let Some(first) = self.unread.get(next) {
            let (log, from) = (first.log, first.sequence);
            let follows =
                |(at, it): &(usize, &Unread)| it.log == log && it.sequence.0 - from.0 == *at as u64;
            let left = self.unread.iter().skip(next).enumerate();
            let count = left.take_while(follows).count();
            messages.clear();
            match read(log, from, count, &mut messages) {
                Ok(damaged) => {
                    let last = leveret_message::damaged::last_of(&messages, &damaged);
                    for stored in messages.drain(..) {
                        let place = self.place_of(log, stored.sequence);
                        if let Some(settlement) = place.and_then(|it| settlements.get_mut(it)) {
                            self.fill(settlement, stored);
                        }
                    }
                    for damaged in damaged {
                        let place = self.place_of(log, damaged.sequence);
                        if let Some(settlement) = place.and_then(|it| settlements.get_mut(it))
                            && let Outstanding::Reference(reference) = settlement.delivery
                        {
                            settlement.delivery =
                                Outstanding::Damaged(Box::new((damaged, reference)));
                        }
                    }
                    // A read has room for so many bytes; what it passed over is not there.
                    let read =
                        last.map_or(count as u64, |last| (last.0 + 1).saturating_sub(from.0));
                    let read = usize::try_from(read).unwrap_or(count).clamp(1, count);
                    for unread in self.unread.iter().skip(next).take(read) {
                        if let Some(settlement) = settlements.get_mut(unread.settlement) {
                            lose(settlement);
                        }
                    }
                    next += read;
                }
                Err(error) => {
                    failed(error);
                    for unread in self.unread.iter().skip(next).take(count) {
                        if let Some(settlement) = settlements.get_mut(unread.settlement)
                            && settlement.outcome == Outcome::Rejected
                        {
                            settlement.outcome = Outcome::Returned;
                        }
                    }
                    next += count;
                }
            }
        }
    }
}

/// The store does not have the message of this one, if it has none yet.
fn lose(settlement: &mut QueueSettlement) {
    if let Outstanding::Reference(reference) = &mut settlement.delivery {
        reference.stored = false;
        settlement.outcome = Outcome::Acknowledged;
        // No client acknowledged it.
        settlement.delivered_at = Timestamp::NEVER;
    }
}
