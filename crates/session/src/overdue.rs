//! Deliveries that stay unacknowledged for too long (`consumer_timeout`).
//!
//! A delivery is given its time when it is sent: the consumer's `x-consumer-timeout`, else the queue's
//! (argument or policy), else the broker's setting. The connection remembers a moment before which
//! nothing can be overdue, so that nothing is looked at meanwhile.

use leveret_store_api::broken::broken;
use std::collections::VecDeque;

use leveret_broker::config::{BrokerConfig, ConsumerTimeoutAction};
use leveret_broker::handle::QueueHandle;
use leveret_codec::{ChannelNumber, DeliveryTag};
use leveret_message::Timestamp;
use leveret_message::error::ChannelError;

use super::connection::Connection;
use super::consumers::Consumer;
use super::job::{Job, TakingBack};
use super::link::Link;

/// When a delivery of now must be settled; `consumer_ms` is the consumer's own argument, 0 for ever.
pub(super) fn due(
    consumer_ms: Option<u64>,
    queue: Option<&QueueHandle>,
    config: &BrokerConfig,
    now: Timestamp,
) -> Timestamp {
    let timeout_ms = consumer_ms
        .or_else(|| queue.and_then(QueueHandle::consumer_timeout_ms))
        .or(config.consumer_timeout_ms);
    match timeout_ms {
        None | Some(0) => Timestamp::NEVER,
        Some(timeout_ms) => now + timeout_ms,
    }
}

impl Connection {
    /// Deals with every delivery whose time is up.
    pub(super) fn handle_overdue(&mut self, link: &mut Link, now: Timestamp) {
        if self.delivering.acknowledge_by() > now || self.is_working() {
            return;
        }
        self.delivering.look_for_overdue_at(Timestamp::NEVER);
        let numbers = self.channels.numbers();
        for number in numbers {
            while let Some((tag, timeout_ms)) = self.overdue(number, now) {
                match link.broker.config().consumer_timeout_action {
                    ConsumerTimeoutAction::Cancel if link.understands_cancel => {
                        self.take_back(link, number, tag, now);
                    }
                    _ => {
                        let error = ChannelError::consumer_timed_out(number, timeout_ms);
                        self.fail_channel(link, number, &error, (0, 0), now);
                    }
                }
                if self.is_working() {
                    // All are looked at again once that is done.
                    self.delivering.look_for_overdue_at(now);
                    return;
                }
            }
            if let Some(channel) = self.channels.get(number) {
                self.delivering.watch_for_overdue(channel);
            }
        }
    }

    /// The tag of a delivery whose time is up, and what its time was.
    fn overdue(&self, number: ChannelNumber, now: Timestamp) -> Option<(DeliveryTag, u64)> {
        let unacked = self.channels.get(number)?.ledger.earliest_due()?;
        (unacked.due <= now).then(|| (unacked.tag, unacked.due - unacked.delivered_at))
    }

    /// The consumer of an overdue delivery is cancelled, and all it holds goes back. What came by
    /// `basic.get` goes back alone.
    fn take_back(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        tag: DeliveryTag,
        now: Timestamp,
    ) {
        let channel = self.channels.get_mut(number);
        let Some(overdue) = channel.and_then(|it| it.ledger.take(tag)) else {
            broken(&"the delivery that is overdue is not there");
            return;
        };
        let (row, reference) = (overdue.queue, overdue.consumer);
        let queue = self.delivering.queue(row).cloned();
        let slot = reference.and_then(|reference| self.delivering.slot_of(number, row, reference));
        tracing::warn!(
            peer = %link.peer.remote,
            user = self.login.user,
            vhost = &**self.vhost.name(),
            name = link.name(),
            channel = number.0,
            queue = queue.as_ref().map(QueueHandle::name),
            "a delivery was not acknowledged in time; it goes back"
        );
        let mut undelivered = VecDeque::new();
        if let (Some(queue), Some(_), Some(reference)) = (&queue, slot, reference) {
            let effects = queue.withdraw(&[reference], now);
            self.vhost.carry_out(queue, effects, now);
            self.delivering.take_mail(link);
            link.mailbox.stay_awake();
            let goes = |it: &Consumer| it.queue == row && it.reference == reference;
            undelivered = self.delivering.take_undelivered(goes);
        }
        if let Some(channel) = self.channels.get_mut(number) {
            self.delivering.take_back(channel, overdue);
        }
        self.delivering.flush_quietly(now);
        self.deal_with_mail(link, now);
        if let (Some(queue), Some(consumer)) = (queue, reference) {
            let taking = TakingBack {
                channel: number,
                number: row,
                queue,
                consumer,
                from: DeliveryTag::NONE,
                slot,
                undelivered,
            };
            self.begin_now(link, Job::TakingBack(taking), now);
        }
    }

    /// Gives back a part of what the consumer holds; when nothing is left, it is told. Answers whether there
    /// is more.
    pub(super) fn take_back_step(
        &mut self,
        link: &mut Link,
        taking: &mut TakingBack,
        now: Timestamp,
    ) -> bool {
        let channel = self.channels.get_mut(taking.channel);
        let more = channel.is_some_and(|it| self.delivering.take_back_some(it, taking));
        self.delivering.flush_quietly(now);
        if more {
            return true;
        }
        let undelivered = &mut taking.undelivered;
        self.delivering.settle_undelivered(undelivered, now);
        if !undelivered.is_empty() {
            return true;
        }
        for giving in self.delivering.take_quiet() {
            let (queue, effects) = giving.finish(now);
            self.vhost.carry_out(&queue, effects, now);
        }
        let effects = taking.queue.start(now);
        self.vhost.carry_out(&taking.queue, effects, now);
        self.delivering.flush_settlements(&self.channels, now);
        if let Some(slot) = taking.slot {
            self.consumer_cancelled(link, slot);
        }
        false
    }
}
