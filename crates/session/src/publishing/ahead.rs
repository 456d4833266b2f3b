//! A large persistent message is on the disk before it is in its queues, so that the commits of others do
//! not wait for its bytes. Owns the message meanwhile; its connection takes no input, which keeps the order.

use leveret_codec::ChannelNumber;
use leveret_store_api::WriteAhead;

use super::Publishing;
use super::routed::Routed;
use crate::body_memory::BodyMemory;
use crate::channel::PublishMode;
use crate::channels::Channels;
use crate::confirms::PublishTag;
use crate::large_publish::LargePublish;
use crate::link::Link;

impl Publishing {
    /// Has a message written ahead; None: it is to be published at once.
    #[cold]
    pub(super) fn write_ahead(
        &self,
        link: &Link,
        channel: ChannelNumber,
        routed: &Routed<'_>,
        memory: &mut Option<BodyMemory>,
    ) -> Option<Box<LargePublish>> {
        let message = &routed.message;
        if !message.is_persistent() {
            return None;
        }
        let targets = self.targets(&routed.way);
        let durable = targets.iter().filter(|queue| queue.identity().durable);
        let copies = durable.count();
        if copies == 0 {
            return None;
        }
        let store = &self.vhost.services.store;
        let ahead = store.write_ahead(message, copies, link.mailbox.waker())?;
        Some(Box::new(LargePublish {
            ahead,
            channel,
            message: message.clone(),
            targets,
            _memory: memory.take(),
        }))
    }

    /// No further input is taken until this is written.
    pub(crate) fn await_large(&mut self, large: Box<LargePublish>) {
        debug_assert!(
            self.large.is_none(),
            "one large message is written at a time"
        );
        self.large = Some(large);
    }

    /// A large message is on its way to the disk.
    #[inline]
    pub(crate) fn awaits_large(&self) -> bool {
        self.large.is_some()
    }

    /// The large message is on the disk.
    pub(crate) fn has_written_large(&self) -> bool {
        self.large
            .as_ref()
            .is_some_and(|large| large.ahead.is_done())
    }

    /// Puts the large message into the batch, written or not. What it answers is used when the message is staged.
    pub(crate) fn batch_large(&mut self, channels: &mut Channels) -> Option<WriteAhead> {
        let large = *self.large.take()?;
        let channel = channels.get_mut(large.channel);
        let mut tag = PublishTag::NONE;
        if let Some(PublishMode::Confirm(confirms)) = channel.map(|channel| &mut channel.mode) {
            tag = confirms.next_tag();
            self.batch.add_confirm(large.channel, tag);
        }
        self.batch.set_targets(&[], &large.targets);
        self.batch.add(large.message, large.channel, tag);
        Some(large.ahead)
    }
}
