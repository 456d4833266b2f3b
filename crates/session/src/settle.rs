//! Acknowledgements: out of the ledger, gathered per queue, settled under one lock each. Of many deliveries a
//! step is settled at a time, see [`crate::giving_back`].

use leveret_codec::{ChannelNumber, DeliveryTag};
use leveret_message::Timestamp;
use leveret_message::error::Failure;
use leveret_queue::queue::settle::Outcome;
use leveret_store_api::broken::broken;

use super::connection::Connection;
use super::job::{Job, Settling};
use super::link::Link;

impl Connection {
    pub(super) fn ack(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        tag: DeliveryTag,
        multiple: bool,
    ) -> Result<(), Failure> {
        self.settle(link, number, tag, multiple, Outcome::Acknowledged)
    }

    pub(super) fn nack(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        tag: DeliveryTag,
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
        number: ChannelNumber,
        tag: DeliveryTag,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(number) else {
            broken(&"a channel that is none settles");
            return Ok(());
        };
        let gathered = self.delivering.settle(channel, tag, multiple, outcome)?;
        link.work
            .add(u32::try_from(gathered.cost).unwrap_or(u32::MAX));
        if let Some(up_to) = gathered.left_up_to {
            if outcome == Outcome::Requeued {
                // Nothing is delivered before all of it is back.
                self.delivering.flush_quietly(link.now);
            }
            let settling = Settling {
                channel: number,
                up_to,
                outcome,
                reply: Vec::new(),
            };
            self.begin(link, Job::Settling(settling));
        }
        Ok(())
    }

    /// `basic.recover`: everything unacknowledged goes back to its queue; then the client is told by `reply`.
    pub(super) fn recover(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        reply: Vec<u8>,
        now: Timestamp,
    ) {
        let Some(channel) = self.channels.get_mut(number) else {
            broken(&"a channel that is none recovers");
            return;
        };
        let (up_to, outcome) = (channel.last_delivery_tag, Outcome::Returned);
        let gathered = self.delivering.settle_up_to(channel, up_to, outcome);
        link.work
            .add(u32::try_from(gathered.cost).unwrap_or(u32::MAX));
        if gathered.left_up_to.is_none() {
            self.delivering.flush_settlements(&self.channels, now);
            link.output.buffer().extend_from_slice(&reply);
            return;
        }
        self.delivering.flush_quietly(now);
        let settling = Settling {
            channel: number,
            up_to,
            outcome,
            reply,
        };
        self.begin(link, Job::Settling(settling));
    }
}
