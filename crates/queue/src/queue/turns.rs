//! Ready messages to those whose turn it is: to one consumer as many as it can take, to several one each in turn.

use crate::shortcuts::Shortcut;
use leveret_store_api::broken::broken;
use std::sync::Arc;

use leveret_message::Timestamp;

use super::Queue;
use super::consumers::Turn;
use super::effects::Effects;
use crate::mailbox::Delivery;

/// Deliveries to many consumers are gathered for each connection from so many messages a consumer.
pub(super) const GATHERED_MIN: usize = 4;

/// What a consumer gets whose turn it is.
enum Taking {
    Delivery(Delivery),
    /// It has no credit left, and was set aside.
    NoCredit,
    /// There is nothing to deliver.
    Nothing,
}

impl Queue {
    /// Delivers to the consumer whose turn it is, or to all that stand in line with it if there is much to deliver.
    /// False when there is nothing to deliver.
    pub(super) fn deliver(&mut self, turn: Turn, now: Timestamp, effects: &mut Effects) -> bool {
        let each = usize::try_from(self.ready).unwrap_or(usize::MAX) / turn.in_line;
        if turn.in_line > 1 && each >= GATHERED_MIN && Shortcut::Gathered.is_open() {
            self.deliver_around(each, now, effects)
        } else {
            self.deliver_to(turn, now, effects)
        }
    }

    /// Delivers to the consumer whose turn it is: one message when others wait behind it, else as
    /// many as it can take. False when there is nothing to deliver.
    fn deliver_to(&mut self, turn: Turn, now: Timestamp, effects: &mut Effects) -> bool {
        let Turn { index, in_line } = turn;
        let Some(consumer) = self.consumers.get_mut(index) else {
            broken(&"it is the turn of nobody");
            return false;
        };
        let slot = consumer.spec.slot;
        let mailbox = Arc::clone(&consumer.spec.mailbox);
        let no_ack = consumer.spec.no_ack;
        let credit = consumer.credit_left();
        let mut mail = mailbox.lock();
        let before = mail.deliveries.len();
        if in_line == 1 {
            let ready = usize::try_from(self.ready).unwrap_or(usize::MAX);
            mail.reserve(ready.min(credit), mailbox.bytes_max());
        }
        let mut goes_on = true;
        loop {
            if !mail.has_room(mailbox.bytes_max()) {
                mail.stalled.push(slot);
                self.consumers.set_aside_without_room();
                break;
            }
            match self.take_for(index, now, effects) {
                Taking::Delivery(delivery) => mail.push(delivery),
                Taking::NoCredit => break,
                Taking::Nothing => {
                    goes_on = false;
                    break;
                }
            }
            if in_line > 1 {
                self.consumers.rotate();
                break;
            }
        }
        let delivered = mail.deliveries.len() - before;
        if delivered > 0 && mail.needs_wake() {
            effects.wake(&mailbox);
        }
        self.statistics.count_delivered(delivered as u64, no_ack);
        goes_on
    }

    /// Delivers a message to each consumer in turn, time and again, as long as several stand in line. What goes to
    /// one connection, about `each` messages for a consumer, goes there at once. False when there is nothing to deliver.
    fn deliver_around(&mut self, each: usize, now: Timestamp, effects: &mut Effects) -> bool {
        self.consumers.bundles.reserve(each);
        let mut goes_on = true;
        while let Some(turn) = self.consumers.turn().filter(|turn| turn.in_line > 1) {
            let Some(consumer) = self.consumers.get_mut(turn.index) else {
                broken(&"it is the turn of nobody");
                break;
            };
            let (bundle, slot, no_ack) =
                (consumer.bundle, consumer.spec.slot, consumer.spec.no_ack);
            if !self.consumers.bundles.has_room(bundle, slot, effects) {
                self.consumers.set_aside_without_room();
                continue;
            }
            match self.take_for(turn.index, now, effects) {
                Taking::Delivery(delivery) => {
                    self.consumers.bundles.push(bundle, delivery);
                    self.statistics.count_delivered(1, no_ack);
                    self.consumers.rotate();
                }
                Taking::NoCredit => {}
                Taking::Nothing => {
                    goes_on = false;
                    break;
                }
            }
        }
        self.consumers.bundles.pass_on(effects);
        goes_on
    }

    /// Takes the next message out for a consumer; one without credit is set aside.
    #[inline(always)]
    fn take_for(&mut self, index: u32, now: Timestamp, effects: &mut Effects) -> Taking {
        // Credit is taken for a message only: taken and given back, it would be missing for a moment to
        // another queue of the channel.
        // A message whose time is up this very moment (TTL 0) still goes to a consumer that waits.
        if !self.find_front(now, effects) {
            return Taking::Nothing;
        }
        let Some(consumer) = self.consumers.get_mut(index) else {
            broken(&"it is the turn of nobody");
            return Taking::Nothing;
        };
        let (slot, no_ack) = (consumer.spec.slot, consumer.spec.no_ack);
        if !consumer.take_credit() && !self.consumers.use_grant(index) {
            return Taking::NoCredit;
        }
        let Some(in_flight) = self.pop_front(now) else {
            broken(&"the message that was found is gone");
            return Taking::Nothing;
        };
        if !no_ack || in_flight.stored {
            self.in_flight += 1;
        } else {
            self.forget_key(&in_flight.message);
        }
        Taking::Delivery(Delivery {
            consumer: slot,
            in_flight,
        })
    }
}
