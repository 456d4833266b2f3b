//! Confirms: owed once a publish is in its queues, written when it is durable.

use leveret_store_api::CommitPoint;

use super::Publishing;
use crate::channel::{Channel, PublishMode};
use crate::channels::Channels;
use crate::confirms::PublishTag;
use crate::link::Link;

impl Publishing {
    /// The batch is in its queues, but for those `refused`, and all of it is durable at `point`.
    pub(super) fn owe_confirms(
        &mut self,
        channels: &mut Channels,
        point: CommitPoint,
        refused: &[u32],
    ) {
        for &(number, last_tag) in &self.batch.confirming {
            let Some(PublishMode::Confirm(confirms)) =
                channels.get_mut(number).map(|channel| &mut channel.mode)
            else {
                continue;
            };
            for publishing in refused
                .iter()
                .filter_map(|&index| self.batch.messages.get(index as usize))
            {
                if publishing.channel == number {
                    confirms.owe_nack(publishing.tag, point);
                }
            }
            confirms.owe_ack(last_tag, point);
            if !self.confirming.contains(&number) {
                self.confirming.push(number);
            }
        }
    }

    /// Owes the publisher the confirm of one publish.
    pub(crate) fn owe_confirm(
        &mut self,
        channel: &mut Channel,
        tag: PublishTag,
        refused: bool,
        point: CommitPoint,
    ) {
        let PublishMode::Confirm(confirms) = &mut channel.mode else {
            return;
        };
        if refused {
            confirms.owe_nack(tag, point);
        } else {
            confirms.owe_ack(tag, point);
        }
        if !self.confirming.contains(&channel.number) {
            self.confirming.push(channel.number);
        }
    }

    /// Writes the confirms of everything that is durable by now.
    pub(crate) fn release_confirms(&mut self, channels: &mut Channels, link: &mut Link) {
        if self.confirming.is_empty() {
            return;
        }
        let durable = self.vhost.services.store.durable_point();
        self.confirming.retain(|number| {
            let Some(channel) = channels.get_mut(*number) else {
                return false;
            };
            let PublishMode::Confirm(confirms) = &mut channel.mode else {
                return false;
            };
            let owes = !confirms.release(durable, *number, link.output.buffer());
            channel.facts.confirmed.set(confirms.answered.count());
            owes
        });
    }

    /// The earliest commit point that confirms wait for.
    pub(crate) fn confirms_wait_for(&self, channels: &Channels) -> Option<CommitPoint> {
        let points =
            self.confirming
                .iter()
                .filter_map(|number| match &channels.get(*number)?.mode {
                    PublishMode::Confirm(confirms) => confirms.waiting_for(),
                    _ => None,
                });
        points.min()
    }
}
