//! Acknowledgements: out of the ledger, gathered per queue, settled under one lock each. Of many deliveries a
//! step is settled at a time, see [`crate::giving_back`].

use leveret_broker::credit::Grant;
use leveret_broker::error::{ChannelError, Failure};
use leveret_broker::queue::handle::{Held, Outcome};
use leveret_broker::time::Timestamp;
use smallvec::SmallVec;

use super::channel::PublishMode;
use super::connection::Connection;
use super::giving_back::cost_of_reading;
use super::job::{Job, Settling};
use super::link::Link;

/// What it costs to offer a queue's consumers deliveries, where an acknowledgement costs 1.
const OFFER_COST: usize = 8;

impl Connection {
    pub(super) fn ack(
        &mut self,
        link: &mut Link,
        number: u16,
        tag: u64,
        multiple: bool,
    ) -> Result<(), Failure> {
        self.settle(link, number, tag, multiple, Outcome::Acknowledged)
    }

    pub(super) fn nack(
        &mut self,
        link: &mut Link,
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
        self.settle(link, number, tag, multiple, outcome)
    }

    fn settle(
        &mut self,
        link: &mut Link,
        number: u16,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(number) else {
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
        if multiple {
            let up_to = if all { channel.last_delivery_tag } else { tag };
            let before = self.gathered;
            let more = self.settle_some(number, up_to, outcome);
            let gathered = self.gathered - before;
            link.work.add(u32::try_from(gathered).unwrap_or(u32::MAX));
            if more {
                if outcome == Outcome::Requeued {
                    // Nothing is delivered before all of it is back.
                    self.flush_quietly(link.now);
                }
                let settling = Settling {
                    channel: number,
                    up_to,
                    outcome,
                    reply: Vec::new(),
                };
                self.begin(link, Job::Settling(settling));
            }
            return Ok(());
        }
        let Some(unacked) = channel.ledger.take(tag) else {
            return Ok(());
        };
        if let PublishMode::Transaction(transaction) = &mut channel.mode {
            transaction.settle(unacked, outcome);
            self.consider_settled(number);
            return Ok(());
        }
        let credit = u32::from(unacked.consumer.is_some());
        let mut cost = outcome.cost();
        if let Held::Reference(_) = unacked.held {
            cost += cost_of_reading(&unacked.held);
            self.queues.expect_unread();
        }
        self.queues
            .settle(unacked.queue, unacked.settled(outcome), true);
        // Of the settlements of a read most are of one channel.
        if channel.credit.give_back(credit) && self.freed.last() != Some(&number) {
            self.freed.push(number);
        }
        self.gathered += cost;
        link.work.add(u32::try_from(cost).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Settles everything gathered, then hands out what channels have of credit that is waited for.
    pub(super) fn flush_settlements(&mut self, now: Timestamp) {
        self.gathered = 0;
        if self.queues.has_settlements() {
            let vhost = &self.vhost;
            let store = &vhost.services.store;
            self.queues.drain_settlements(store, |queue, settlements| {
                let effects = queue.settle(settlements, now);
                vhost.care(queue, effects, now);
            });
        }
        while let Some(number) = self.freed.pop() {
            self.hand_out_credit(number, now);
        }
    }

    /// Room of a channel's shared credit came back, or its limit has changed: those in line for it get theirs.
    pub(super) fn hand_out_credit(&mut self, number: u16, now: Timestamp) {
        let most = (self.step_cost() / OFFER_COST).max(1);
        let Connection {
            channels,
            consumers,
            queues,
            vhost,
            handing_out,
            ..
        } = self;
        let Some(credit) = channels.get(number).map(|channel| &channel.credit) else {
            return;
        };
        let more = credit.hand_out(most, |slots, share| {
            // Whoever was cancelled meanwhile waits for nothing.
            let waiting = || slots.iter().filter_map(|slot| consumers.get(*slot));
            let queue = waiting().next().and_then(|it| queues.queue(it.queue));
            let Some(queue) = queue else {
                return share;
            };
            let waiting: SmallVec<[_; 2]> = waiting().map(|it| it.reference).collect();
            let (unused, effects) = queue.grant(Grant::new(credit, share), &waiting, now);
            vhost.care(queue, effects, now);
            unused
        });
        if more && !handing_out.contains(&number) {
            handing_out.push(number);
        }
    }

    /// Goes on with handing out, if only a part of it was done; [`Connection::transmit`] asks for the next turn.
    pub(super) fn go_on_handing_out(&mut self, now: Timestamp) {
        if let Some(number) = self.handing_out.pop() {
            self.hand_out_credit(number, now);
        }
    }

    /// `basic.recover`: everything unacknowledged goes back to its queue; then the client is told by `reply`.
    pub(super) fn recover(&mut self, link: &mut Link, number: u16, reply: Vec<u8>, now: Timestamp) {
        let Some(channel) = self.channels.get(number) else {
            return;
        };
        let (up_to, outcome) = (channel.last_delivery_tag, Outcome::Returned);
        let before = self.gathered;
        let more = self.settle_some(number, up_to, outcome);
        let gathered = self.gathered - before;
        link.work.add(u32::try_from(gathered).unwrap_or(u32::MAX));
        if !more {
            self.flush_settlements(now);
            link.output.buffer().extend_from_slice(&reply);
            return;
        }
        self.flush_quietly(now);
        let settling = Settling {
            channel: number,
            up_to,
            outcome,
            reply,
        };
        self.begin(link, Job::Settling(settling));
    }
}
