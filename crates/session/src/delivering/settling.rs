//! Settlements: out of the ledger, gathered per queue, carried out under one lock each.

use leveret_broker::handle::QueueHandle;
use leveret_broker::handle::giving_back::GivingBack;
use leveret_codec::DeliveryTag;
use leveret_message::Timestamp;
use leveret_message::error::ChannelError;
use leveret_queue::mailbox::InFlight;
use leveret_queue::queue::reference::{Outstanding, READ_FOR_ONE};
use leveret_queue::queue::settle::Outcome;
use leveret_store_api::broken::broken;

use super::Delivering;
use crate::channel::{Channel, PublishMode};
use crate::channels::Channels;
use crate::unacked::Unacked;

/// What came of a settlement.
pub(crate) struct Gathered {
    /// What it costs to carry it out.
    pub(crate) cost: usize,
    /// The latest of the deliveries it means, if some of them are left for further steps.
    pub(crate) left_up_to: Option<DeliveryTag>,
}

impl Gathered {
    /// All of it, for this cost.
    fn all(cost: usize) -> Gathered {
        Gathered {
            cost,
            left_up_to: None,
        }
    }
}

impl Delivering {
    /// Gathers what a client says of one delivery, or of all up to one, as many as fit into a step.
    ///
    /// # Errors
    /// 406 for a tag that is not waited for.
    pub(crate) fn settle(
        &mut self,
        channel: &mut Channel,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<Gathered, ChannelError> {
        // spec: basic.ack delivery-tag: 0 with multiple means all so far
        let all = tag == DeliveryTag::NONE && multiple;
        if !all && !channel.ledger.contains(tag) {
            if !channel.is_forgiven(tag) {
                return Err(ChannelError::unknown_delivery_tag(tag));
            }
            if !multiple {
                return Ok(Gathered::all(0));
            }
        }
        if multiple {
            let up_to = if all { channel.last_delivery_tag } else { tag };
            return Ok(self.settle_up_to(channel, up_to, outcome));
        }
        let Some(unacked) = channel.ledger.take(tag) else {
            broken(&"a delivery that was there is gone");
            return Ok(Gathered::all(0));
        };
        channel.note_settled(outcome, 1);
        if let PublishMode::Transaction(transaction) = &mut channel.mode {
            transaction.settle(unacked, outcome);
            self.consider_settled(channel);
            return Ok(Gathered::all(0));
        }
        let credit = u32::from(unacked.consumer.is_some());
        let mut cost = outcome.cost();
        if let Outstanding::Reference(_) = unacked.delivery {
            cost += unacked.delivery.cost_of_reading();
            self.queues.require_reading();
        }
        self.queues
            .settle(unacked.queue, unacked.settled(outcome), true);
        self.give_back_credit(channel, credit);
        self.gathered += cost;
        Ok(Gathered::all(cost))
    }

    /// Gathers settlements of what is unacknowledged up to a tag, as many as fit into a step.
    pub(crate) fn settle_up_to(
        &mut self,
        channel: &mut Channel,
        up_to: DeliveryTag,
        outcome: Outcome,
    ) -> Gathered {
        let before = self.gathered;
        let more = self.settle_some(channel, up_to, outcome);
        Gathered {
            cost: self.gathered - before,
            left_up_to: more.then_some(up_to),
        }
    }

    /// As [`Delivering::settle_up_to`]; answers whether there are more.
    pub(crate) fn settle_some(
        &mut self,
        channel: &mut Channel,
        up_to: DeliveryTag,
        outcome: Outcome,
    ) -> bool {
        let left = self.vhost.services.step_cost.saturating_sub(self.gathered);
        let at_least = usize::from(self.gathered == 0);
        let ledger = &mut channel.ledger;
        let mut count = 0;
        if let PublishMode::Transaction(transaction) = &mut channel.mode
            && outcome != Outcome::Returned
        {
            let more = ledger.take_some(up_to, left.max(at_least), |unacked| {
                count += 1;
                transaction.settle(unacked, outcome);
            });
            self.gathered += count;
            channel.note_settled(outcome, count);
            self.consider_settled(channel);
            return more;
        }
        let mut credit = 0;
        let cost = outcome.cost();
        let queues = &mut self.queues;
        let mut most = (left / cost).max(at_least);
        let mut unread = 0;
        if ledger.has_older() {
            (most, unread) =
                ledger.readable(DeliveryTag::NONE, most, left.saturating_mul(READ_FOR_ONE));
            queues.require_reading();
        }
        let more = ledger.take_some(up_to, most, |unacked: Unacked| {
            count += 1;
            credit += u32::from(unacked.consumer.is_some());
            queues.settle(unacked.queue, unacked.settled(outcome), true);
        });
        self.gathered += count * cost + unread / READ_FOR_ONE;
        channel.note_settled(outcome, count);
        self.has_read |= unread > 0;
        self.give_back_credit(channel, credit);
        more
    }

    #[inline]
    pub(super) fn give_back_credit(&mut self, channel: &Channel, credit: u32) {
        // Of the settlements of a read most are of one channel.
        if channel.credit.give_back(credit) && self.freed.last() != Some(&channel.number) {
            self.freed.push(channel.number);
        }
    }

    /// The step has read messages for settlements, if `read`.
    pub(crate) fn set_read(&mut self, read: bool) {
        self.has_read |= read;
    }

    /// Whether the step that is done has read messages for their settlements.
    pub(crate) fn take_has_read(&mut self) -> bool {
        std::mem::take(&mut self.has_read)
    }

    /// Settles everything gathered, then hands out what channels have of credit that is waited for.
    pub(crate) fn flush_settlements(&mut self, channels: &Channels, now: Timestamp) {
        self.gathered = 0;
        if self.queues.has_settlements() {
            let vhost = &self.vhost;
            let store = &vhost.services.store;
            let spans = vhost.services.spans.get();
            self.queues.drain_settlements(store, |queue, settlements| {
                if let Some(spans) = spans {
                    spans.settled(queue, settlements, now);
                }
                let effects = queue.settle(settlements, now);
                vhost.carry_out(queue, effects, now);
            });
        }
        self.hand_out_freed(channels, now);
    }

    /// As [`Delivering::flush_settlements`]; what comes back is not delivered yet.
    pub(crate) fn flush_quietly(&mut self, now: Timestamp) {
        self.gathered = 0;
        let (vhost, quiet) = (&self.vhost, &mut self.quiet);
        let store = &vhost.services.store;
        let spans = vhost.services.spans.get();
        self.queues.drain_settlements(store, |queue, settlements| {
            if let Some(spans) = spans {
                spans.settled(queue, settlements, now);
            }
            quiet
                .entry(queue.id())
                .or_insert_with(|| GivingBack::begin(queue, now));
            let effects = queue.settle_quietly(settlements, now);
            vhost.carry_out(queue, effects, now);
        });
    }

    /// The queues that have something to deliver since [`Delivering::flush_quietly`].
    pub(crate) fn take_quiet(&mut self) -> Vec<GivingBack> {
        std::mem::take(&mut self.quiet).into_values().collect()
    }

    // What `basic.get` took

    /// A message was sent with `tag`, and must be acknowledged by `due`.
    pub(crate) fn record_got(
        &mut self,
        channel: &mut Channel,
        queue: &QueueHandle,
        in_flight: InFlight,
        tag: DeliveryTag,
        due: Timestamp,
        now: Timestamp,
    ) {
        self.acknowledge_by = self.acknowledge_by.min(due);
        channel.facts.unacknowledged.add(1);
        channel.ledger.push(Unacked {
            tag,
            delivery: in_flight,
            queue: self.queues.acquire(queue),
            consumer: None,
            delivered_at: now,
            due,
        });
    }

    /// A message was sent that needs no acknowledgement.
    pub(crate) fn settle_got(&mut self, queue: &QueueHandle, in_flight: InFlight) {
        if in_flight.stored {
            let number = self.queues.acquire(queue);
            self.queues.settle_unasked(number, in_flight, true);
        }
    }
}
