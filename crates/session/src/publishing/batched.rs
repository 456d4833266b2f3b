//! Publishes in the batch, and the batch in its queues.

use std::task::Waker;

use leveret_broker::roll::ConnectionFacts;
use leveret_message::Message;
use leveret_message::Timestamp;

use super::Publishing;
use super::way::Way;
use crate::channel::{Channel, PublishMode};
use crate::channels::Channels;
use crate::confirms::PublishTag;
use crate::link::Link;
use crate::pressure::Pressure;
use crate::returned::return_message;
use crate::work;

/// A publish for the batch.
pub(crate) struct Batched<'a> {
    pub(super) message: Message,
    pub(super) way: Way,
    pub(super) names: &'a [u8],
    pub(super) mandatory: bool,
    /// Its header is not the one that came.
    pub(super) rewritten: bool,
}

impl Publishing {
    /// Adds a publish to the batch; one that has to go to nobody is confirmed with it all the same.
    #[inline]
    pub(crate) fn batch(&mut self, link: &mut Link, channel: &mut Channel, batched: Batched<'_>) {
        let Batched {
            message,
            way,
            names,
            mandatory,
            rewritten,
        } = batched;
        let number = channel.number;
        let mut tag = PublishTag::NONE;
        if let PublishMode::Confirm(confirms) = &mut channel.mode {
            tag = confirms.next_tag();
            self.batch.add_confirm(number, tag);
        }
        let queues = self.batch.queues();
        match way {
            Way::AsBefore if !rewritten && !self.vhost.is_watched() => {
                self.repeat.consider(link, number, &message, mandatory);
            }
            Way::AsBefore => {}
            Way::Known(route) => self.batch.follow(names, route, &self.routes),
            Way::ByNames(targets) => {
                link.work.add(work::LOOK_UP);
                self.batch.set_targets(names, &targets);
            }
            Way::ThisOnce(targets) => {
                link.work.add(work::LOOK_UP);
                self.batch.set_targets(&[], &targets);
            }
            Way::Stateful(stateful) => self.batch.set_targets(&[], &stateful.targets),
            Way::Wide(queues) => self.batch.set_targets(&[], &self.vhost.handles(&queues)),
        }
        if self.batch.latest_targets.is_empty() {
            self.batch.latest_names.clear();
            channel.facts.note_unroutable(mandatory);
            let (exchange, _) = message.exchange_and_key();
            self.counts
                .note_unroutable(&self.vhost, exchange, mandatory);
            if mandatory {
                link.work.add(work::DETOUR);
                return_message(link, number, &message);
            }
            return;
        }
        // The first one is counted with the frame.
        let others = self.batch.latest_targets.len() - 1;
        link.work.add(u32::try_from(others).unwrap_or(u32::MAX));
        let new = self.batch.queues() - queues;
        link.work
            .add(work::QUEUE * u32::try_from(new).unwrap_or_default());
        self.batch.add(message, number, tag);
    }

    /// The batch is to be published now.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.batch.is_full()
    }

    /// Publishes the batch, queue by queue. What finds a gate shut [waits](Publishing::waits_at_gate), and is published
    /// with the next call.
    pub(crate) fn flush(
        &mut self,
        channels: &mut Channels,
        facts: &ConnectionFacts,
        waker: &Waker,
        now: Timestamp,
    ) -> Option<Pressure> {
        self.counts.tell(&self.vhost, facts);
        if self.batch.is_empty() {
            return None;
        }
        let vhost = &self.vhost;
        let mut pressure = Pressure::none();
        let is_complete = self.batch.carry_out(now, waker, |queue, effects| {
            pressure.add(queue, &effects);
            vhost.carry_out(queue, effects, now);
        });
        self.waits_at_gate = !is_complete;
        if is_complete {
            let (point, refused) = self.batch.outcome();
            self.owe_confirms(channels, point, &refused);
            self.batch.clear();
        }
        Some(pressure)
    }

    /// A part of the batch waits for gates that are shut. No further input is taken meanwhile.
    pub(crate) fn waits_at_gate(&self) -> bool {
        self.waits_at_gate
    }

    /// Nobody will open the gates: what waits for them is given up.
    pub(crate) fn give_up_waiting(&mut self) {
        self.batch.clear();
        self.waits_at_gate = false;
    }

    /// Whether a part of the batch may have to wait for a gate.
    #[inline]
    pub(crate) fn meets_gates(&self) -> bool {
        self.batch.meets_gates()
    }
}
