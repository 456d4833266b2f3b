//! When deliveries must be settled, and those that were not in time.

use leveret_message::Timestamp;
use leveret_queue::queue::reference::{Outstanding, READ_FOR_ONE};
use leveret_queue::queue::settle::Outcome;

use super::Delivering;
use crate::channel::Channel;
use crate::job::TakingBack;
use crate::unacked::Unacked;

impl Delivering {
    /// No delivery must be settled before this moment.
    pub(crate) fn acknowledge_by(&self) -> Timestamp {
        self.acknowledge_by
    }

    /// All channels are looked at anew for what is overdue; nothing is before `moment`.
    pub(crate) fn look_for_overdue_at(&mut self, moment: Timestamp) {
        self.acknowledge_by = moment;
    }

    /// Remembers when the first delivery of a channel must be settled.
    pub(crate) fn watch_for_overdue(&mut self, channel: &Channel) {
        if let Some(first) = channel.ledger.earliest_due() {
            self.acknowledge_by = self.acknowledge_by.min(first.due);
        }
    }

    /// A delivery goes back that was not settled in time; its client may settle it yet.
    pub(crate) fn take_back(&mut self, channel: &mut Channel, unacked: Unacked) {
        channel.forgive(unacked.tag);
        channel.facts.unacknowledged.subtract(1);
        self.give_back_credit(channel, u32::from(unacked.consumer.is_some()));
        if let Outstanding::Reference(_) = unacked.delivery {
            self.queues.require_reading();
        }
        self.queues
            .settle(unacked.queue, unacked.settled(Outcome::Returned), true);
    }

    /// A part of what a consumer holds goes back; answers whether there is more.
    pub(crate) fn take_back_some(
        &mut self,
        channel: &mut Channel,
        taking: &mut TakingBack,
    ) -> bool {
        let step_cost = self.vhost.services.step_cost;
        let most = (step_cost / Outcome::Returned.cost()).max(1);
        let bytes = step_cost.saturating_mul(READ_FOR_ONE);
        let mut returned = Vec::new();
        let each = |unacked| returned.push(unacked);
        let ledger = &mut channel.ledger;
        let (most, unread) = ledger.readable(taking.from, most, bytes);
        let next = ledger.take_of_consumer(taking.number, taking.consumer, taking.from, most, each);
        self.has_read |= unread > 0;
        for unacked in returned {
            self.take_back(channel, unacked);
        }
        if let Some(next) = next {
            taking.from = next;
        }
        next.is_some()
    }
}
