//! A channel's shared credit that came back, on its way to those in line for it.

use leveret_codec::ChannelNumber;
use leveret_message::Timestamp;
use leveret_queue::credit::Grant;
use smallvec::SmallVec;

use super::Delivering;
use crate::channels::Channels;

/// What it costs to offer a queue's consumers deliveries, where an acknowledgement costs 1.
const OFFER_COST: usize = 16;

impl Delivering {
    /// Room of a channel's shared credit came back, or its limit has changed: those in line for it get theirs.
    pub(crate) fn hand_out_credit(
        &mut self,
        channels: &Channels,
        number: ChannelNumber,
        now: Timestamp,
    ) {
        let Delivering {
            vhost,
            consumers,
            queues,
            handing_out,
            ..
        } = self;
        let most = (vhost.services.step_cost / OFFER_COST).max(1);
        let Some(credit) = channels.get(number).map(|channel| &channel.credit) else {
            // It was closed before all of it was handed out.
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
            vhost.carry_out(queue, effects, now);
            unused
        });
        if more && !handing_out.contains(&number) {
            handing_out.push(number);
        }
    }

    /// Hands out what came back to channels since this was called last.
    pub(super) fn hand_out_freed(&mut self, channels: &Channels, now: Timestamp) {
        while let Some(number) = self.freed.pop() {
            self.hand_out_credit(channels, number, now);
        }
    }

    /// Whether only a part of a channel's credit was handed out.
    pub(crate) fn is_handing_out(&self) -> bool {
        !self.handing_out.is_empty()
    }

    /// Goes on with handing out, if only a part of it was done.
    pub(crate) fn go_on_handing_out(&mut self, channels: &Channels, now: Timestamp) {
        if let Some(number) = self.handing_out.pop() {
            self.hand_out_credit(channels, number, now);
        }
    }
}
