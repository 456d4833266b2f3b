//! A large persistent message is on the disk before it is in its queues, so that the commits of others do
//! not wait for its bytes. Owns the message meanwhile; its connection takes no input, which keeps the order.

use leveret_broker::vhost::Targets;
use leveret_message::{Message, Timestamp};
use leveret_store_api::Ahead;

use super::body_memory::BodyMemory;
use super::channel::PublishMode;
use super::connection::Connection;
use super::large_publish::LargePublish;
use super::link::Link;

impl Connection {
    /// Has a message written ahead; `false`: it is to be published at once.
    pub(super) fn write_ahead(
        &mut self,
        link: &mut Link,
        channel: u16,
        message: &Message,
        targets: &Targets,
        memory: &mut Option<BodyMemory>,
        now: Timestamp,
    ) -> bool {
        let mode = self.channels.get(channel).map(|channel| &channel.mode);
        if !message.is_persistent() || matches!(mode, Some(PublishMode::Transaction(_))) {
            return false;
        }
        let durable = targets.iter().filter(|queue| queue.identity().durable);
        let copies = durable.count();
        let store = &self.vhost.services.store;
        let ahead = (copies > 0)
            .then(|| store.write_ahead(message, copies, link.mailbox.waker()))
            .flatten();
        let Some(ahead) = ahead else {
            return false;
        };
        // What came before it need not wait.
        self.flush(link, now);
        self.large = Some(Box::new(LargePublish {
            ahead,
            channel,
            message: message.clone(),
            targets: targets.clone(),
            _memory: memory.take(),
        }));
        true
    }

    /// Publishes the large message if it is written.
    pub(super) fn look_after_large(&mut self, link: &mut Link) {
        if !self
            .large
            .as_ref()
            .is_some_and(|large| large.ahead.is_done())
        {
            return;
        }
        // Used when it is staged, and of no use any more then.
        let written = self.publish_large();
        let now = link.now;
        self.flush(link, now);
        drop(written);
    }

    /// Puts the large message into the batch, written or not.
    pub(super) fn publish_large(&mut self) -> Option<Ahead> {
        let large = *self.large.take()?;
        let channel = self.channels.get_mut(large.channel);
        let tag = match channel.map(|channel| &mut channel.mode) {
            Some(PublishMode::Confirm(confirms)) => {
                let tag = confirms.next_tag();
                self.batch.note_confirm(large.channel, tag);
                tag
            }
            _ => 0,
        };
        self.batch.set_targets(&[], &large.targets);
        self.batch.add(large.message, large.channel, tag);
        Some(large.ahead)
    }
}
