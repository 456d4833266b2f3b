//! What a connection is sent: its consumers, the queues they are in, deliveries on their way, and what becomes of them.
//!
//! Settlements gather here while frames are read, queue by queue, and are carried out together.

#[cfg(debug_assertions)]
mod check;
mod credit;
mod overdue;
mod relief;
mod settling;
mod undelivered;
mod withdrawing;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::handle::QueueHandle;
use leveret_broker::handle::giving_back::GivingBack;
use leveret_broker::vhost::VirtualHost;
use leveret_codec::{ChannelNumber, ConsumerTag};
use leveret_message::Timestamp;
use leveret_queue::mailbox::{ConsumerSlot, Mail, Notice};
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_routing::QueueId;
use leveret_store_api::CommitPoint;
use rustc_hash::FxHashMap;

use super::channels::Channels;
use super::consumers::{Consumer, Consumers};
use super::delivery_forms::DeliveryForms;
use super::link::Link;
use super::queue_table::{QueueNumber, QueueTable};

pub(super) struct Delivering {
    vhost: Arc<VirtualHost>,
    consumers: Consumers,
    queues: QueueTable,
    /// What was taken out of the mailbox.
    mail: Mail,
    forms: DeliveryForms,
    /// What the settlements gathered so far cost.
    gathered: usize,
    /// The present step settles messages that are read for it.
    has_read: bool,
    /// Queues to which something came back that they have not delivered yet.
    quiet: FxHashMap<QueueId, GivingBack>,
    /// Channels whose shared credit came back while somebody waits for it.
    freed: Vec<ChannelNumber>,
    /// Channels of whose credit only a part was handed out to those that wait.
    handing_out: Vec<ChannelNumber>,
    /// Channels of whose unacknowledged messages some are to leave memory.
    crowded: Vec<ChannelNumber>,
    /// The commit point at which more of them can.
    relief_point: Option<CommitPoint>,
    /// No delivery must be settled before this moment.
    acknowledge_by: Timestamp,
}

impl Delivering {
    pub(super) fn new(vhost: &Arc<VirtualHost>) -> Delivering {
        Delivering {
            vhost: Arc::clone(vhost),
            consumers: Consumers::default(),
            queues: QueueTable::default(),
            mail: Mail::default(),
            forms: DeliveryForms::default(),
            gathered: 0,
            has_read: false,
            quiet: FxHashMap::default(),
            freed: Vec::new(),
            handing_out: Vec::new(),
            crowded: Vec::new(),
            relief_point: None,
            acknowledge_by: Timestamp::NEVER,
        }
    }

    // Consumers

    /// The connection has consumers.
    pub(super) fn consumes(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// The slot the next consumer will have.
    pub(super) fn next_slot(&self) -> ConsumerSlot {
        self.consumers.next_slot()
    }

    /// Adds a consumer of `queue`, at [`Delivering::next_slot`].
    pub(super) fn add_consumer(
        &mut self,
        slot: ConsumerSlot,
        queue: &QueueHandle,
        consumer: impl FnOnce(QueueNumber) -> Consumer,
    ) {
        let number = self.queues.acquire(queue);
        self.consumers.insert(slot, consumer(number));
    }

    pub(super) fn consumer(&self, slot: ConsumerSlot) -> Option<&Consumer> {
        self.consumers.get(slot)
    }

    pub(super) fn find_consumer(
        &self,
        channel: ChannelNumber,
        tag: ConsumerTag<'_>,
    ) -> Option<ConsumerSlot> {
        self.consumers.find(channel, tag)
    }

    /// The consumer of a channel that its queue knows by this name.
    pub(super) fn slot_of(
        &self,
        channel: ChannelNumber,
        queue: QueueNumber,
        reference: ConsumerRef,
    ) -> Option<ConsumerSlot> {
        self.consumers.slots_of_channel(channel).find(|slot| {
            let consumer = self.consumers.get(*slot);
            consumer.is_some_and(|it| it.queue == queue && it.reference == reference)
        })
    }

    pub(super) fn slots(&self) -> Vec<ConsumerSlot> {
        self.consumers.slots().collect()
    }

    pub(super) fn slots_of_channel(&self, channel: ChannelNumber) -> Vec<ConsumerSlot> {
        self.consumers.slots_of_channel(channel).collect()
    }

    /// Where replies to this channel go, if it consumes them.
    pub(super) fn reply_address(&self, channel: ChannelNumber) -> Option<&str> {
        self.consumers.reply_address(channel)
    }

    /// Forgets a consumer, which waits for its channel's credit no longer. Its queue is to be released.
    pub(super) fn remove_consumer(
        &mut self,
        channels: &Channels,
        slot: ConsumerSlot,
    ) -> Option<Consumer> {
        let consumer = self.consumers.remove(slot)?;
        let channel = channels.get(consumer.channel);
        if let Some((channel, queue)) = channel.zip(self.queues.queue(consumer.queue)) {
            channel.credit.leave(queue.id(), slot);
        }
        Some(consumer)
    }

    // Queues

    pub(super) fn queue(&self, number: QueueNumber) -> Option<&QueueHandle> {
        self.queues.queue(number)
    }

    /// A consumer, or an unacknowledged delivery, names the queue no longer.
    pub(super) fn release_queue(&mut self, number: QueueNumber) {
        self.queues.release(number);
    }

    // Mail

    /// Takes the mailbox out.
    pub(super) fn take_mail(&mut self, link: &Link) {
        link.mailbox.take(&mut self.mail);
    }

    /// Moves what is to be told the client behind `notices`.
    pub(super) fn move_notices(&mut self, notices: &mut VecDeque<Notice>) {
        notices.extend(self.mail.notices.drain(..));
    }

    pub(super) fn has_notices(&self) -> bool {
        !self.mail.notices.is_empty()
    }

    /// Queues that stopped for want of room in the mailbox go on.
    pub(super) fn resume_stalled(&mut self, now: Timestamp) {
        for slot in std::mem::take(&mut self.mail.stalled) {
            // Whoever is cancelled meanwhile has nothing to go on with.
            let Some(consumer) = self.consumers.get(slot) else {
                continue;
            };
            if let Some(queue) = self.queues.queue(consumer.queue) {
                let effects = queue.resume(consumer.reference, now);
                self.vhost.carry_out(queue, effects, now);
            }
        }
    }

    /// Gives buffers back that have grown in a burst.
    pub(super) fn shrink(&mut self) {
        self.mail.shrink();
        self.forms.forget();
    }
}
