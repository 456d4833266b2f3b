//! Messages of unacknowledged deliveries leave memory, in steps, where all connections together hold too many. What is
//! settled later is read back for it if it must be, see [`leveret_broker::queue::reference`].

use leveret_broker::mailbox::InFlight;

use super::channel::PublishMode;
use super::connection::Connection;
use super::link::Link;
use super::queue_table::QueueNumber;
use super::unacked::Relief;

impl Connection {
    /// A channel was sent a delivery of so many bytes.
    pub(super) fn consider_relief(&mut self, number: u16, sent: usize) {
        let memory = &self.vhost.services.unacked_memory;
        if let Some(channel) = self.channels.get_mut(number)
            && channel.ledger.is_to_be_relieved(sent, memory)
            && !self.crowded.contains(&number)
        {
            self.crowded.push(number);
        }
    }

    /// A transaction keeps more settlements back.
    pub(super) fn consider_settled(&mut self, number: u16) {
        let memory = &self.vhost.services.unacked_memory;
        if let Some(channel) = self.channels.get_mut(number)
            && let PublishMode::Transaction(transaction) = &mut channel.mode
            && transaction.settlements.is_to_be_relieved(memory)
            && !self.crowded.contains(&number)
        {
            self.crowded.push(number);
        }
    }

    /// Has some of them leave memory; asks to be called again for the rest.
    #[cold]
    pub(super) fn relieve_some(&mut self, link: &Link) {
        let Connection {
            channels,
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
