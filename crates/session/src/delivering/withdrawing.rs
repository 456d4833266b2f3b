//! Consumers of what closes leave their queues, and what its channels hold goes back, in steps.

use leveret_broker::handle::QueueHandle;
use leveret_codec::DeliveryTag;
use leveret_message::Timestamp;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_queue::queue::settle::Outcome;
use rustc_hash::FxHashMap;

use super::Delivering;
use crate::channel::PublishMode;
use crate::channels::Channels;
use crate::job::{CONSUMER_COST, Closing, QUEUE_COST, Stage};
use crate::queue_table::QueueNumber;

impl Delivering {
    /// Withdraws consumers for up to about `cost`; answers what it cost.
    pub(crate) fn withdraw_some(
        &mut self,
        closing: &mut Closing,
        cost: usize,
        now: Timestamp,
    ) -> usize {
        let mut by_queue: Vec<(QueueNumber, Vec<ConsumerRef>)> = Vec::new();
        let mut places: FxHashMap<QueueNumber, usize> = FxHashMap::default();
        let mut spent = 0;
        while spent < cost
            && let Some(&slot) = closing.slots.get(closing.withdrawn)
        {
            closing.withdrawn += 1;
            spent += CONSUMER_COST;
            let Some(consumer) = self.consumers.get(slot) else {
                continue;
            };
            *closing.consumers.entry(consumer.channel).or_default() += 1;
            let place = *places.entry(consumer.queue).or_insert(by_queue.len());
            match by_queue.get_mut(place) {
                Some((_, consumers)) => consumers.push(consumer.reference),
                None => {
                    spent += QUEUE_COST;
                    by_queue.push((consumer.queue, vec![consumer.reference]));
                }
            }
        }
        if spent < cost {
            closing.stage = Stage::Doom;
        }
        for (number, consumers) in by_queue {
            let Some(queue) = self.queues.queue(number).cloned() else {
                continue;
            };
            let mut effects = queue.withdraw(&consumers, now);
            if std::mem::take(&mut effects.delete_queue) {
                closing.doomed.push(queue.clone());
            }
            self.vhost.carry_out(&queue, effects, now);
            let latest = closing.left.last().map(QueueHandle::id);
            if latest != Some(queue.id()) {
                closing.left.push(queue);
            }
        }
        spent
    }

    /// Gives back a part of what the channels have not settled; answers what it cost.
    pub(crate) fn give_back_some(
        &mut self,
        channels: &mut Channels,
        closing: &mut Closing,
        now: Timestamp,
    ) -> usize {
        let Some(&number) = closing.channels.last() else {
            closing.stage = Stage::Undelivered;
            return 0;
        };
        let most = self.vhost.services.step_cost;
        let mut more = false;
        if let Some(channel) = channels.get_mut(number) {
            if let PublishMode::Transaction(transaction) = &mut channel.mode
                && transaction.roll_back_some(&mut channel.ledger, &channel.facts, most)
            {
                return most;
            }
            more = self.settle_some(channel, DeliveryTag::LAST, Outcome::Returned);
        }
        let cost = self.gathered;
        self.flush_quietly(now);
        if !more {
            closing.channels.pop();
        }
        cost + 1
    }
}
