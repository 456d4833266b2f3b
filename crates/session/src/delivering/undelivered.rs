//! What was on its way to consumers that go.

use leveret_store_api::broken::broken;
use std::collections::VecDeque;

use leveret_message::Timestamp;
use leveret_queue::mailbox::Delivery;
use leveret_queue::queue::reference::Outstanding;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};

use super::Delivering;
use crate::consumers::Consumer;
use crate::job::Undelivered;

impl Delivering {
    /// Takes out of the mail what was on its way to consumers that go.
    pub(crate) fn take_undelivered(
        &mut self,
        goes: impl Fn(&Consumer) -> bool,
    ) -> VecDeque<Undelivered> {
        let mut undelivered = VecDeque::new();
        let mut others = Vec::new();
        for delivery in std::mem::take(&mut self.mail.deliveries) {
            let Some(consumer) = self.consumers.get(delivery.consumer) else {
                broken(&"a delivery is lost, for it is for nobody");
                continue;
            };
            if !goes(consumer) {
                others.push(delivery);
                continue;
            }
            let Delivery { in_flight, .. } = delivery;
            // A delivery without acknowledgement that is not stored was never counted as in flight.
            let counted = !consumer.no_ack || in_flight.stored;
            let settlement = QueueSettlement {
                delivery: Outstanding::Message(in_flight),
                consumer: (!consumer.no_ack).then_some(consumer.reference),
                outcome: if counted {
                    Outcome::Undelivered
                } else {
                    Outcome::Uncounted
                },
                delivered_at: Timestamp::NEVER,
            };
            undelivered.push_back((consumer.queue, settlement));
        }
        self.mail.deliveries = others;
        undelivered
    }

    /// Nobody is left whom notices or stalled consumers would concern.
    pub(crate) fn drop_notices(&mut self) {
        self.mail.notices.clear();
        self.mail.stalled.clear();
    }

    /// Gives back a part of what was not sent; answers what it cost.
    pub(crate) fn settle_undelivered(
        &mut self,
        undelivered: &mut VecDeque<Undelivered>,
        now: Timestamp,
    ) -> usize {
        let cost = Outcome::Undelivered.cost();
        let most = (self.vhost.services.step_cost / cost).max(1);
        let count = undelivered.len().min(most);
        for (queue, settlement) in undelivered.drain(..count) {
            self.queues.settle(queue, settlement, false);
        }
        self.flush_quietly(now);
        count * cost
    }
}
