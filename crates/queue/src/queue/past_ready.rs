//! Messages that go straight from the publisher's batch to consumers that wait, where there is nothing to decide: no
//! others are before them, no limit is to be kept, no duplicate to be looked for, and the store does not have them.
//!
//! Each step is one that the message would take on its way into the ready ones and out again; what the two ways
//! leave in counts, times of arrival and credit is the same. Whatever does not fit here is left to the usual way.

use crate::shortcuts::Shortcut;
use std::iter::Enumerate;
use std::sync::Arc;

use leveret_message::{Message, Timestamp};

use super::Queue;
use super::consumers::Turn;
use super::delivery_count::DeliveryCount;
use super::effects::Effects;
use super::ready::Entry;
use super::turns::GATHERED_MIN;
use crate::mailbox::{Delivery, InFlight};

/// A message of a batch, and its position there.
type Positioned = (usize, Message);

impl Queue {
    /// Takes messages from the front of a batch of about `count` and delivers them at once, as long as nothing stands in
    /// the way; answers the one that was taken from the batch and is left to the usual way.
    #[inline]
    pub(crate) fn deliver_past_ready(
        &mut self,
        messages: &mut Enumerate<impl Iterator<Item = Message>>,
        count: usize,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Option<Positioned> {
        let nothing_to_decide = Shortcut::PastReady.is_open()
            && self.ready == 0
            && !self.givers.are_waited_for()
            && self.levels.len() == 1
            && self.deduplication.is_none()
            && self.changes.is_empty()
            && self.options.max_priority.is_none()
            && !self.options.has_length_limit();
        let turn = self.consumers.turn().filter(|_| nothing_to_decide)?;
        if turn.in_line == 1 {
            self.deliver_past_ready_to_one(turn, messages, count, now, effects)
        } else if count / turn.in_line >= GATHERED_MIN && Shortcut::Gathered.is_open() {
            self.deliver_past_ready_in_turn(turn, messages, count, now, effects)
        } else {
            None
        }
    }

    /// To the only consumer.
    fn deliver_past_ready_to_one(
        &mut self,
        turn: Turn,
        messages: &mut Enumerate<impl Iterator<Item = Message>>,
        count: usize,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Option<Positioned> {
        let consumer = self.consumers.get_mut(turn.index)?;
        let mailbox = Arc::clone(&consumer.spec.mailbox);
        let (slot, no_ack) = (consumer.spec.slot, consumer.spec.no_ack);
        let count = count.min(consumer.credit_left());
        let mut mail = mailbox.lock();
        let before = mail.deliveries.len();
        mail.reserve(count, mailbox.bytes_max());
        let mut left = None;
        while mail.has_room(mailbox.bytes_max()) {
            let Some((position, message)) = messages.next() else {
                break;
            };
            if !self.may_pass(&message, turn) {
                left = Some((position, message));
                break;
            }
            mail.push(Delivery {
                consumer: slot,
                in_flight: self.take_past(message, no_ack, now),
            });
        }
        let delivered = mail.deliveries.len() - before;
        if delivered > 0 && mail.needs_wake() {
            effects.wake(&mailbox);
        }
        self.statistics.count_delivered(delivered as u64, no_ack);
        left
    }

    /// To all that stand in line, in turn.
    fn deliver_past_ready_in_turn(
        &mut self,
        mut turn: Turn,
        messages: &mut Enumerate<impl Iterator<Item = Message>>,
        count: usize,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Option<Positioned> {
        self.consumers.bundles.reserve(count / turn.in_line + 1);
        let mut left = None;
        while let Some(consumer) = self.consumers.get_mut(turn.index) {
            let (bundle, slot, no_ack) =
                (consumer.bundle, consumer.spec.slot, consumer.spec.no_ack);
            if self.consumers.bundles.has_room(bundle, slot, effects) {
                let Some((position, message)) = messages.next() else {
                    break;
                };
                if !self.may_pass(&message, turn) {
                    left = Some((position, message));
                    break;
                }
                let delivery = Delivery {
                    consumer: slot,
                    in_flight: self.take_past(message, no_ack, now),
                };
                self.consumers.bundles.push(bundle, delivery);
                self.statistics.count_delivered(1, no_ack);
                self.consumers.rotate();
            } else {
                self.consumers.set_aside_without_room();
            }
            let Some(next) = self.consumers.turn() else {
                break;
            };
            turn = next;
        }
        self.consumers.bundles.pass_on(effects);
        left
    }

    /// Whether the consumer whose turn it is can be given the message at once; its credit is taken then.
    #[inline(always)]
    fn may_pass(&mut self, message: &Message, turn: Turn) -> bool {
        let is_stored = self.keeps(message) && !self.store.is_volatile();
        let consumer = self.consumers.get_mut(turn.index);
        !is_stored && consumer.is_some_and(|consumer| consumer.take_credit())
    }

    /// A message comes in and goes out.
    #[inline(always)]
    fn take_past(&mut self, message: Message, no_ack: bool, now: Timestamp) -> InFlight {
        let time_to_live_ms = self.options.message_ttl_ms;
        let expires_at = message.expires_at(now, time_to_live_ms);
        let expires_at = expires_at.unwrap_or(Timestamp::NEVER);
        self.expiring |= expires_at != Timestamp::NEVER;
        self.in_flight += u64::from(!no_ack);
        self.count_taken(&message);
        let level = &mut self.levels[0];
        let entry = Entry {
            sequence: level.next_sequence(now),
            message,
            expires_at,
            delivery_count: DeliveryCount::NONE,
            retries: 0,
            redelivered: false,
            stored: false,
        };
        self.statistics.count_taken(level, &entry, now);
        level.mark_delivered(entry.sequence);
        entry.into_flight(0)
    }
}
