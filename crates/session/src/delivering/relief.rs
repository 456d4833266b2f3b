//! Messages of unacknowledged deliveries leave memory, in steps, where all connections together hold too many. What is
//! settled later is read back for it if it must be, see [`leveret_queue::queue::reference`].

use leveret_queue::mailbox::InFlight;
use leveret_store_api::CommitPoint;

use super::Delivering;
use crate::channel::{Channel, PublishMode};
use crate::channels::Channels;
use crate::link::Link;
use crate::queue_table::QueueNumber;
use crate::unacked::Relief;

impl Delivering {
    /// A channel was sent a delivery of so many bytes.
    pub(crate) fn consider_relief(&mut self, channel: &mut Channel, sent: usize) {
        let memory = &self.vhost.services.unacked_memory;
        if channel.ledger.is_to_be_relieved(sent, memory) && !self.crowded.contains(&channel.number)
        {
            self.crowded.push(channel.number);
        }
    }

    /// A transaction keeps more settlements back.
    pub(super) fn consider_settled(&mut self, channel: &mut Channel) {
        let memory = &self.vhost.services.unacked_memory;
        if let PublishMode::Transaction(transaction) = &channel.mode {
            let count = transaction.settlements.len() as u64;
            channel.facts.settlements_uncommitted.set(count);
        }
        if let PublishMode::Transaction(transaction) = &mut channel.mode
            && transaction.settlements.is_to_be_relieved(memory)
            && !self.crowded.contains(&channel.number)
        {
            self.crowded.push(channel.number);
        }
    }

    /// The commit point at which more messages can leave memory.
    pub(crate) fn relief_point(&self) -> Option<CommitPoint> {
        self.relief_point
    }

    /// Has some of them leave memory; asks to be called again for the rest.
    pub(crate) fn relieve_some(&mut self, channels: &mut Channels, link: &Link) {
        if !self.crowded.is_empty() {
            self.relieve_crowded(channels, link);
        }
    }

    #[cold]
    fn relieve_crowded(&mut self, channels: &mut Channels, link: &Link) {
        let Delivering {
            queues,
            vhost,
            crowded,
            relief_point,
            ..
        } = self;
        let services = &vhost.services;
        let durable = services.store.durable_point();
        *relief_point = None;
        let mut goes_on = false;
        crowded.retain(|number| {
            let Some(channel) = channels.get_mut(*number).filter(|_| !goes_on) else {
                return channels.contains(*number);
            };
            let mut keep = |queue: QueueNumber, messages: &mut [&mut InFlight]| {
                queues.queue(queue)?.keep_in_store(messages)
            };
            let memory = &services.unacked_memory;
            let mut relief = channel.ledger.relieve(memory, durable, &mut keep);
            if let PublishMode::Transaction(transaction) = &mut channel.mode {
                let settled = &mut transaction.settlements;
                relief = relief.and(settled.relieve(memory, durable, &mut keep));
            }
            match relief {
                Relief::Done => return false,
                Relief::Again => goes_on = true,
                Relief::At(point) => {
                    *relief_point = Some(relief_point.map_or(point, |first| first.min(point)));
                }
            }
            true
        });
        if goes_on {
            link.mailbox.wake();
        }
    }
}
