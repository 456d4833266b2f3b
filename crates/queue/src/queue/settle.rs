//! What became of deliveries: acknowledged, put back, or rejected.

use leveret_message::{Message, Timestamp};
use leveret_store_api::broken::{broken, without};
use leveret_store_api::{Change, Enqueue, LogId, Sequence};

use super::Queue;
use super::consumers::ConsumerRef;
use super::delivery_count::DeliveryCount;
use super::effects::{DeadLetterReason, Effects};
use super::ready::{Entry, Level};
use super::reference::Outstanding;
use super::statistics::AcknowledgedRun;
use crate::mailbox::InFlight;
use crate::queue::kind::QueueKind;

/// The fate of one delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Done.
    Acknowledged,
    /// The client wants it back in its place in the queue, marked redelivered; after the next delay
    /// where the queue has `x-retry-delays`.
    Requeued,
    /// Back to its place in the queue at once, marked redelivered: its channel or consumer is gone.
    Returned,
    /// Back to its place in the queue; the client never saw it.
    Undelivered,
    /// As [`Outcome::Undelivered`], of a delivery that was never counted as in flight.
    Uncounted,
    /// To the dead letters, or gone.
    Rejected,
    /// As [`Outcome::Requeued`], and the store knows that it was decided.
    Decided,
    /// As [`Outcome::Rejected`] where there are no dead letters, and the store has it no longer.
    Dropped,
}

impl Outcome {
    /// What it costs to settle a delivery, where an acknowledgement costs 1.
    pub fn cost(self) -> usize {
        match self {
            Outcome::Acknowledged => 1,
            _ => 16,
        }
    }

    fn comes_back(self) -> bool {
        !matches!(
            self,
            Outcome::Acknowledged | Outcome::Rejected | Outcome::Dropped
        )
    }
}

/// One delivery settled.
#[derive(Debug)]
pub struct QueueSettlement {
    /// The message and where it stood.
    pub delivery: Outstanding,
    /// The consumer it was delivered to; None where no credit comes back.
    pub consumer: Option<ConsumerRef>,
    /// What became of it.
    pub outcome: Outcome,
    /// When it was delivered; [`Timestamp::NEVER`] where no client acknowledges it.
    pub delivered_at: Timestamp,
}

impl Queue {
    /// Settles deliveries, gives their credit back and goes on delivering.
    pub(crate) fn settle(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let comes_back = self.settle_all(settlements, now, effects);
        if !self.deleted {
            self.deliver_returned(comes_back, now, effects);
            self.page_out_returned();
            self.ask_deadline(now, effects);
        }
    }

    /// Answers whether nothing is delivered until [`Queue::end_giving_back`].
    pub(crate) fn begin_giving_back(&mut self, now: Timestamp) -> bool {
        self.givers.begin(now)
    }

    pub(crate) fn end_giving_back(&mut self, now: Timestamp) {
        self.givers.end(now);
    }

    /// As [`Queue::settle`], but what came back is not delivered yet, and counts for no limit.
    pub(crate) fn settle_quietly(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.settle_all(settlements, now, effects);
        if !self.deleted {
            self.page_out_returned();
            self.ask_deadline(now, effects);
        }
    }

    /// Settles deliveries and gives their credit back. The settlements are only read, so that the caller
    /// frees their messages outside the lock. Answers whether some came back.
    fn settle_all(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) -> bool {
        let mut returning: Option<(ConsumerRef, u32)> = None;
        let mut comes_back = false;
        let mut only_acknowledged = true;
        let mut acknowledged = AcknowledgedRun::default();
        self.keep_time(now);
        for settlement in settlements {
            let counted = settlement.outcome != Outcome::Uncounted;
            comes_back |= settlement.outcome.comes_back();
            only_acknowledged &= settlement.outcome == Outcome::Acknowledged;
            self.in_flight = without(self.in_flight, u64::from(counted), "in flight");
            if let Some(consumer) = settlement.consumer {
                match &mut returning {
                    Some((who, count)) if *who == consumer => *count += 1,
                    _ => {
                        if let Some((who, count)) = returning.replace((consumer, 1)) {
                            self.consumers.credit_returned(who, count);
                        }
                    }
                }
            }
            if settlement.outcome == Outcome::Acknowledged {
                acknowledged.add(settlement.delivered_at, now, &mut self.statistics);
            }
            if !self.deleted {
                self.settle_one(settlement);
            }
        }
        acknowledged.finish(now, &mut self.statistics);
        let mut moved = false;
        if !only_acknowledged && !self.deleted {
            moved = self.leave_or_come_back(settlements, now, effects);
        }
        if let Some((who, count)) = returning {
            self.consumers.credit_returned(who, count);
        }
        if !self.deleted {
            if only_acknowledged {
                self.stage_settled(effects);
            } else if moved {
                self.commit_enqueued(effects);
            } else {
                self.stage(effects);
            }
            if comes_back && !self.options.retry_delays_ms.is_empty() {
                self.retries.staged_at(effects.point);
                self.page_out_retries();
            }
        }
        comes_back
    }

    /// Delivers after messages came back, or may have.
    pub(super) fn deliver_returned(
        &mut self,
        comes_back: bool,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        // rabbitmq: in a quorum queue they go to a consumer that waits before the limit is kept, in others after that
        let is_quorum = self.options.kind == QueueKind::Quorum;
        if comes_back && !is_quorum {
            self.drop_head(effects);
        }
        if comes_back && is_quorum && !self.consumers.awaits_election() {
            self.deliver_then_limit(now, effects);
        } else {
            self.dispatch(now, effects);
        }
    }

    /// Settles what neither comes back nor goes to the dead letters.
    fn settle_one(&mut self, settlement: &QueueSettlement) {
        let delivery = &settlement.delivery;
        match settlement.outcome {
            Outcome::Acknowledged => match delivery {
                Outstanding::Message(in_flight) => {
                    self.forget_key(&in_flight.message);
                    if in_flight.stored {
                        self.acknowledge_stored(in_flight.level, in_flight.sequence);
                    }
                }
                Outstanding::Reference(_) | Outstanding::Damaged(_) => {
                    let (level, sequence, stored) = delivery.place();
                    if stored {
                        self.acknowledge_stored(level, sequence);
                    }
                }
            },
            Outcome::Dropped => {
                if let Outstanding::Message(in_flight) = delivery {
                    self.forget_key(&in_flight.message);
                }
                self.count_ended(DeadLetterReason::Rejected, false);
            }
            Outcome::Rejected
            | Outcome::Requeued
            | Outcome::Decided
            | Outcome::Returned
            | Outcome::Undelivered
            | Outcome::Uncounted => {}
        }
    }

    /// Whether what a client puts back goes to the end of the queue.
    pub(super) fn moves_to_the_end(&self) -> bool {
        // rabbitmq: where nothing ends it a message that is put back time and again must not block others
        self.options.kind == QueueKind::Quorum && self.options.delivery_limit.is_none()
    }

    /// Puts back what is to be, and lets go to the dead letters what is not, for whatever reason, in their order.
    /// Answers whether some went to the end.
    fn leave_or_come_back(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) -> bool {
        let delayed = !self.options.retry_delays_ms.is_empty();
        let to_the_end = self.moves_to_the_end();
        let mut moving: Vec<InFlight> = Vec::new();
        let limit = self.options.delivery_limit.unwrap_or(u32::MAX);
        for QueueSettlement {
            delivery, outcome, ..
        } in settlements
        {
            if matches!(outcome, Outcome::Acknowledged | Outcome::Dropped) {
                continue;
            }
            let in_flight = match delivery {
                Outstanding::Message(in_flight) => in_flight,
                Outstanding::Reference(reference) => {
                    match outcome {
                        Outcome::Rejected => self.reject_unread(reference),
                        Outcome::Requeued | Outcome::Decided | Outcome::Returned => {
                            self.statistics.record().totals.requeued += 1;
                            self.put_back_unread(reference.counted());
                            if *outcome == Outcome::Decided {
                                self.forget_decision(delivery);
                            }
                        }
                        _ => self.put_back_unread(*reference),
                    }
                    continue;
                }
                Outstanding::Damaged(damaged) => {
                    self.set_aside_delivery(damaged, effects);
                    continue;
                }
            };
            match outcome {
                Outcome::Acknowledged | Outcome::Dropped => {}
                Outcome::Rejected => {
                    self.dead_letter(in_flight.clone(), DeadLetterReason::Rejected, effects);
                }
                Outcome::Undelivered | Outcome::Uncounted => {
                    if in_flight.redelivered {
                        self.store_count(in_flight, in_flight.delivery_count);
                    }
                    self.put_back(in_flight.clone());
                }
                Outcome::Requeued | Outcome::Decided | Outcome::Returned => {
                    let by_client = *outcome != Outcome::Returned;
                    let counted = counted(in_flight);
                    if u32::from(counted.delivery_count.certain()) > limit {
                        self.dead_letter(counted, DeadLetterReason::DeliveryLimit, effects);
                        continue;
                    }
                    let stays = if delayed && by_client {
                        self.retry(counted, now, effects)
                    } else {
                        self.statistics.record().totals.requeued += 1;
                        match to_the_end && by_client {
                            true => moving.push(counted),
                            false => self.put_back(counted),
                        }
                        true
                    };
                    // Of one that dies it is forgotten with it, when it has arrived.
                    if stays && *outcome == Outcome::Decided {
                        self.forget_decision(delivery);
                    }
                }
            }
        }
        let moved = !moving.is_empty();
        moving.sort_unstable_by_key(|it| it.sequence);
        for in_flight in moving {
            self.put_at_end(in_flight, now);
        }
        moved
    }

    pub(crate) fn put_back(&mut self, in_flight: InFlight) {
        if usize::from(in_flight.level) < self.levels.len() {
            self.count_back(&in_flight);
        }
        let Some(level) = self.levels.get_mut(usize::from(in_flight.level)) else {
            broken(&"a message came back to no level");
            return;
        };
        let entry = Entry::from(in_flight);
        if level.is_full_of_returned(self.memory.head_bytes) && !self.store.is_volatile() {
            let store = &self.store;
            level.put_back_leaving(entry, || store.allocate_log(), &mut self.changes);
        } else {
            level.put_back(entry);
        }
    }

    fn count_back(&mut self, in_flight: &InFlight) {
        self.put_back += 1;
        self.ready += 1;
        self.ready_memory += in_flight.message.memory_bytes() as u64;
        self.ready_body_bytes += in_flight.message.body_bytes();
        self.top = self.top.max(usize::from(in_flight.level));
    }

    /// Lets what came back leave memory, beyond what a queue may keep there.
    pub(crate) fn page_out_returned(&mut self) {
        if !self.levels.iter().any(Level::has_leaving) {
            return;
        }
        let (store, window) = (&self.store, self.memory.head_bytes);
        let durable = store.durable_point();
        for level in &mut self.levels {
            let staged = || store.stage(&mut Vec::new());
            self.crowded |= level.page_out_returned(durable, window, staged);
        }
    }

    /// Puts a message behind all others. It gets another sequence, and in one commit leaves its old place in the store
    /// and is there at the new one.
    fn put_at_end(&mut self, mut in_flight: InFlight, now: Timestamp) {
        let log = self.surviving_log(&in_flight);
        let Some(level) = self.levels.get_mut(usize::from(in_flight.level)) else {
            broken(&"a message goes to the end of no level");
            return;
        };
        let before = in_flight.sequence;
        in_flight.sequence = level.next_sequence(now);
        self.numbered_otherwise += 1;
        if let Some(log) = log {
            self.changes.push(Change::Enqueue(Enqueue {
                log,
                sequence: in_flight.sequence,
                flags: 0,
                time_ms: in_flight.expires_at.0,
                transient: false,
                payload: in_flight.message.clone(),
            }));
            self.store_count(&in_flight, in_flight.delivery_count);
            self.acknowledge_stored(in_flight.level, before);
        }
        self.count_back(&in_flight);
        let window = self.memory.head_bytes;
        if let Some(level) = self.levels.get_mut(usize::from(in_flight.level)) {
            level.push(Entry::from(in_flight), window);
        }
    }
}

impl Queue {
    /// Has the store keep how often the message will have been delivered when it comes back, if it survives a
    /// restart. Of one that is delivered for the first time the store knows by its place.
    #[cold]
    pub(crate) fn store_count(&mut self, in_flight: &InFlight, count: DeliveryCount) {
        let log = self.surviving_log(in_flight);
        if let Some(log) = log {
            set_count(
                &mut self.changes,
                log,
                in_flight.sequence,
                count.to_stored(),
                false,
            );
        }
    }
}

/// Adds a message's number, joining it to the run before it where that is possible.
pub(super) fn set_count(
    changes: &mut Vec<Change<Message>>,
    log: LogId,
    sequence: Sequence,
    count: u32,
    synced: bool,
) {
    if let Some(Change::SetCount {
        log: last_log,
        first,
        length,
        count: last_count,
        synced: last_synced,
    }) = changes.last_mut()
        && (*last_log, *last_count, *last_synced) == (log, count, synced)
        && first.0 + *length == sequence.0
    {
        *length += 1;
        return;
    }
    changes.push(Change::SetCount {
        log,
        first: sequence,
        length: 1,
        count,
        synced,
    });
}

/// A delivery that came back.
fn counted(in_flight: &InFlight) -> InFlight {
    InFlight {
        delivery_count: in_flight.delivery_count.again(),
        redelivered: true,
        ..in_flight.clone()
    }
}
