//! A message for very many queues goes to them in steps, see [`crate::giving_back`]. It is confirmed when all have it.

use leveret_broker::exchange::Slice;
use leveret_codec::ChannelNumber;
use leveret_message::{Message, Timestamp};
use leveret_routing::QueueId;
use leveret_store_api::CommitPoint;

use super::channel::PublishMode;
use super::connection::Connection;
use super::job::Job;
use super::link::Link;
use super::pressure::Pressure;
use super::spread::Spreading;

/// What it costs to have a queue take the message, where an acknowledgement costs 1.
const QUEUE_COST: usize = 16;
/// Of the queues whose dead letters are waited for, so many are remembered.
const LETTERS_MAX: usize = 4;

impl Connection {
    /// Publishes a message to all of these, behind what was published before.
    pub(super) fn spread(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        message: Message,
        queues: Vec<QueueId>,
        now: Timestamp,
    ) {
        self.flush(link, now);
        let channel = self.channels.get_mut(number);
        let tag = match channel.map(|channel| &mut channel.mode) {
            Some(PublishMode::Confirm(confirms)) => Some(confirms.next_tag()),
            _ => None,
        };
        let spreading = Spreading {
            channel: number,
            tag,
            message,
            queues: queues.into_iter(),
            point: CommitPoint::NONE,
            refused: false,
            pressure: Pressure::none(),
        };
        // To find so many queues was a step of its own.
        self.begin(link, Job::Spreading(Box::new(spreading)));
    }

    /// Publishes to some of the queues.
    pub(super) fn spread_step(
        &mut self,
        link: &Link,
        spreading: &mut Spreading,
        now: Timestamp,
    ) -> Slice {
        let most = (self.step_cost() / QUEUE_COST).max(1);
        let mut rejected = Vec::new();
        let mut slice = Slice::Last;
        for _ in 0..most {
            let next = spreading.queues.as_slice().first();
            let Some(id) = next.copied() else { break };
            let found = self.vhost.queue_by_id(id);
            let Some(queue) = found else {
                // Gone meanwhile.
                spreading.queues.next();
                continue;
            };
            let Some(gate) = queue.open_gate(link.mailbox.waker()) else {
                if self.waiting.gives_up() {
                    spreading.queues.next();
                    continue;
                }
                slice = Slice::Waits;
                break;
            };
            spreading.queues.next();
            let message = std::iter::once(spreading.message.clone());
            let effects = queue.publish(&gate, message, now, &mut rejected);
            drop(gate);
            spreading.point = spreading.point.max(effects.point);
            spreading.pressure.add(&queue, &effects);
            spreading.pressure.letters.truncate(LETTERS_MAX);
            self.vhost.carry_out(&queue, effects, now);
        }
        spreading.refused |= !rejected.is_empty();
        if spreading.queues.len() > 0 {
            return slice.max(Slice::More);
        }
        if let Some(tag) = spreading.tag
            && let Some(channel) = self.channels.get_mut(spreading.channel)
        {
            let (refused, point) = (spreading.refused, spreading.point);
            self.publishing.owe_confirm(channel, tag, refused, point);
        }
        if !self.leaves {
            let pressure = std::mem::replace(&mut spreading.pressure, Pressure::none());
            self.consider(link, pressure, now);
        }
        Slice::Last
    }
}
