//! Acknowledgements: out of the ledger, gathered per queue, settled under one lock each.

use super::Link;
use super::channel::PublishMode;
use super::connection::Connection;
use super::unacked::Unacked;
use crate::credit::Grant;
use crate::error::{ChannelError, Failure};
use crate::mailbox::ConsumerSlot;
use crate::queue::handle::{Outcome, QueueSettlement};
use crate::time::Timestamp;

impl Connection {
    pub(super) fn ack(&mut self, number: u16, tag: u64, multiple: bool) -> Result<(), Failure> {
        self.settle(number, tag, multiple, Outcome::Acknowledged)
    }

    pub(super) fn nack(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Failure> {
        let outcome = if requeue {
            Outcome::Requeued
        } else {
            Outcome::Rejected
        };
        self.settle(number, tag, multiple, outcome)
    }

    fn settle(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        // spec: basic.ack delivery-tag: 0 with multiple means all so far
        let all = tag == 0 && multiple;
        if !all && !channel.ledger.contains(tag) {
            if !channel.is_forgiven(tag) {
                return Err(ChannelError::unknown_delivery_tag(tag).into());
            }
            if !multiple {
                return Ok(());
            }
        }
        if let PublishMode::Transaction(transaction) = &mut channel.mode {
            let ledger = &mut channel.ledger;
            if multiple {
                ledger.take_up_to(if all { u64::MAX } else { tag }, |unacked| {
                    transaction.settle(unacked, outcome);
                });
            } else if let Some(unacked) = ledger.take(tag) {
                transaction.settle(unacked, outcome);
            }
            return Ok(());
        }
        let mut credit = 0;
        let queues = &mut self.queues;
        let mut each = |unacked: Unacked| {
            credit += u32::from(unacked.consumer.is_some());
            queues.settle(unacked.queue, unacked.settled(outcome), true);
        };
        if multiple {
            channel
                .ledger
                .take_up_to(if all { u64::MAX } else { tag }, each);
        } else if let Some(unacked) = channel.ledger.take(tag) {
            each(unacked);
        }
        // Of the settlements of a read most are of one channel.
        if channel.credit.give_back(credit) && self.freed.last() != Some(&number) {
            self.freed.push(number);
        }
        Ok(())
    }

    /// Settles everything gathered, then hands out what channels have of credit that is waited for.
    pub(super) fn flush_settlements(&mut self, now: Timestamp) {
        if self.queues.has_settlements() {
            let vhost = &self.vhost;
            self.queues.drain_settlements(|queue, settlements| {
                let effects = queue.settle(settlements, now);
                vhost.care(queue, effects, now);
            });
        }
        while let Some(number) = self.freed.pop() {
            self.hand_out_credit(number, now);
        }
    }

    /// Room of a channel's shared credit came back, or its limit has changed: those in line for it get theirs.
    pub(super) fn hand_out_credit(&self, number: u16, now: Timestamp) {
        let Some(credit) = self.channels.get(&number).map(|channel| &channel.credit) else {
            return;
        };
        credit.hand_out(|queue, consumers, share| {
            let (unused, effects) = queue.grant(Grant::new(credit, share), consumers, now);
            self.vhost.care(queue, effects, now);
            unused
        });
    }

    /// `basic.recover`: everything unacknowledged goes back to its queue.
    pub(super) fn recover(&mut self, number: u16, now: Timestamp) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let queues = &mut self.queues;
        let mut credit = 0;
        channel.ledger.take_all(|unacked| {
            credit += u32::from(unacked.consumer.is_some());
            queues.settle(unacked.queue, unacked.settled(Outcome::Returned), true);
        });
        if channel.credit.give_back(credit) {
            self.freed.push(number);
        }
        self.flush_settlements(now);
    }

    /// Gives back what a channel holds: consumers, deliveries not sent, deliveries not settled.
    pub(super) fn release_channel(&mut self, link: &mut Link, number: u16, now: Timestamp) {
        let slots: Vec<_> = self.consumers.slots_of_channel(number).collect();
        let mut left = Vec::with_capacity(slots.len());
        for consumer in slots.iter().filter_map(|&slot| self.consumers.get(slot)) {
            if let Some(queue) = self.queues.queue(consumer.queue) {
                let effects = queue.withdraw(consumer.reference, now);
                self.vhost.care(queue, effects, now);
                left.push(queue.clone());
            }
        }
        self.take_undelivered(link, &slots);
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.credit.leave_all();
            let queues = &mut self.queues;
            if let PublishMode::Transaction(transaction) = &mut channel.mode {
                for unacked in transaction.roll_back() {
                    channel.ledger.put_back(unacked);
                }
            }
            channel.ledger.take_all(|unacked| {
                queues.settle(unacked.queue, unacked.settled(Outcome::Returned), true);
            });
            channel.assembly = None;
        }
        // Whatever else was in the mailbox is dealt with as usual.
        self.finish_letters(link, now);
        for queue in left {
            let effects = queue.start(now);
            self.vhost.care(&queue, effects, now);
        }
        let consumers = slots.len();
        for slot in slots {
            self.forget_consumer(link, slot);
        }
        self.tell_channel_closed(link, number, consumers);
    }

    /// Empties the mailbox; what was meant for consumers that go is to go back to its queues.
    pub(super) fn take_undelivered(&mut self, link: &Link, closing: &[ConsumerSlot]) {
        if closing.is_empty() {
            return;
        }
        link.mailbox.take(&mut self.letters);
        link.mailbox.stay_awake();
        let deliveries = std::mem::take(&mut self.letters.deliveries);
        let (undelivered, others) = deliveries
            .into_iter()
            .partition::<Vec<_>, _>(|delivery| closing.contains(&delivery.consumer));
        self.letters.deliveries = others;
        for delivery in undelivered {
            let Some(consumer) = self.consumers.get(delivery.consumer) else {
                continue;
            };
            // A delivery without acknowledgement that is not stored was never counted as in flight.
            let counted = !consumer.no_ack || delivery.in_flight.stored;
            let outcome = if counted {
                Outcome::Undelivered
            } else {
                Outcome::Uncounted
            };
            let (queue, reference) = (
                consumer.queue,
                (!consumer.no_ack).then_some(consumer.reference),
            );
            self.queues.settle(
                queue,
                QueueSettlement {
                    in_flight: delivery.in_flight,
                    consumer: reference,
                    outcome,
                    delivered_at: Timestamp::NEVER,
                },
                false,
            );
        }
    }
}
