//! Deliveries out of the mailbox, run by run: recorded with the store, written with their tags, recorded.

use leveret_broker::vhost::VirtualHost;
use leveret_codec::DeliveryTag;
use leveret_message::Timestamp;
use leveret_queue::mailbox::{ConsumerSlot, Delivery};
use leveret_store_api::broken::broken;

use super::Delivering;
use crate::channel::Channel;
use crate::channels::Channels;
use crate::consumers::{Consumer, Consumers};
use crate::delivered::record_delivered_run;
use crate::delivery_forms::DeliveryForms;
use crate::link::{Link, OUTPUT_HIGH_WATER};
use crate::overdue::due;
use crate::queue_table::QueueTable;
use crate::traced::Traced;
use crate::unacked::Unacked;

/// So many messages are fetched into the processor's cache together before they are written.
const NEAR: usize = 32;

impl Delivering {
    /// Writes all deliveries; answers those that are to be traced.
    pub(crate) fn write_deliveries(
        &mut self,
        channels: &mut Channels,
        link: &mut Link,
    ) -> Vec<Traced> {
        let mut sightings = Vec::new();
        let Delivering {
            vhost,
            consumers,
            queues,
            mail,
            forms,
            acknowledge_by,
            crowded,
            ..
        } = self;
        let traced = vhost.is_watched();
        if let Some(first) = mail.deliveries.first() {
            let bytes = mail.deliveries.len() * first.in_flight.message.fetch();
            link.output.buffer().reserve(bytes.min(OUTPUT_HIGH_WATER));
        }
        let mut recorded = Recorded::default();
        let mut deliveries = mail.deliveries.drain(..);
        while let Some(slot) = deliveries.as_slice().first().map(|first| first.consumer) {
            let left = deliveries.as_slice();
            let run = left.iter().take_while(|next| next.consumer == slot).count();
            let consumer = consumers.get(slot);
            recorded.cover(run, vhost, consumers, queues, left);
            let Some((consumer, channel)) =
                consumer.and_then(|it| Some((it, channels.get_mut(it.channel)?)))
            else {
                // Cancelling and closing take the mailbox out first.
                broken(&"deliveries are lost, for they are for nobody");
                deliveries.by_ref().take(run).for_each(drop);
                continue;
            };
            let written = left.get(..run).unwrap_or_default();
            if traced {
                sightings.extend(
                    written
                        .iter()
                        .map(|it| Traced::new(consumer, &it.in_flight)),
                );
            }
            let before = link.output.len();
            let first_tag = channel.take_delivery_tags(run);
            let redelivered = write_run(forms, link, (slot, consumer), first_tag, written);
            channel.note_delivered(consumer.no_ack, run, redelivered, link.now);
            let sent = link.output.len() - before;
            let run = deliveries.by_ref().take(run);
            if consumer.no_ack {
                for Delivery { in_flight, .. } in run.filter(|it| it.in_flight.stored) {
                    queues.settle_unasked(consumer.queue, in_flight, false);
                }
                continue;
            }
            let queue = queues.queue(consumer.queue);
            let due = due(consumer.timeout_ms, queue, link.broker.config(), link.now);
            *acknowledge_by = due.min(*acknowledge_by);
            record_run(queues, channel, consumer, first_tag, run, (link.now, due));
            let memory = &vhost.services.unacked_memory;
            let is_crowded = channel.ledger.is_to_be_relieved(sent, memory);
            if is_crowded && !crowded.contains(&channel.number) {
                crowded.push(channel.number);
            }
        }
        sightings
    }
}

/// How many of the deliveries in front the store was told of: those of a whole queue at once, whoever consumes them.
#[derive(Default)]
struct Recorded(usize);

impl Recorded {
    /// The store is to know of the first `run` of `deliveries`, which go to one consumer, before they are written.
    #[inline]
    fn cover(
        &mut self,
        run: usize,
        vhost: &VirtualHost,
        consumers: &Consumers,
        queues: &QueueTable,
        deliveries: &[Delivery],
    ) {
        if self.0 == 0
            && let Some(slot) = deliveries.first().map(|first| first.consumer)
            && let Some(number) = consumers.get(slot).map(|it| it.queue)
            && let Some(queue) = queues.queue(number)
        {
            // Of all consumers that the queue has here, as its messages go to them in turn.
            let is_of_queue = |next: &&Delivery| {
                let of = consumers.get(next.consumer).map(|it| it.queue);
                next.consumer == slot || of == Some(number)
            };
            self.0 = record_delivered_run(vhost, queue, deliveries, is_of_queue);
        }
        self.0 = self.0.saturating_sub(run);
    }
}

/// Writes deliveries to one consumer, with tags from `tag` on; answers how many were delivered before.
#[inline]
fn write_run(
    forms: &mut DeliveryForms,
    link: &mut Link,
    (slot, consumer): (ConsumerSlot, &Consumer),
    mut tag: DeliveryTag,
    deliveries: &[Delivery],
) -> u64 {
    let mut redelivered = 0;
    for near in deliveries.chunks(NEAR) {
        let bytes = near.iter().map(|it| it.in_flight.message.fetch()).sum();
        link.output.buffer().reserve(bytes);
        for Delivery { in_flight, .. } in near {
            forms.write(link, slot, consumer, tag, in_flight);
            tag = tag.next();
            redelivered += u64::from(in_flight.redelivered);
        }
    }
    redelivered
}

/// Records deliveries that one consumer must acknowledge.
#[inline]
fn record_run(
    queues: &mut QueueTable,
    channel: &mut Channel,
    consumer: &Consumer,
    first_tag: DeliveryTag,
    deliveries: impl ExactSizeIterator<Item = Delivery>,
    (delivered_at, due): (Timestamp, Timestamp),
) {
    queues.add_uses(consumer.queue, deliveries.len());
    for (Delivery { in_flight, .. }, tag) in deliveries.zip(first_tag.0..) {
        let tag = DeliveryTag(tag);
        channel.ledger.push(Unacked {
            tag,
            delivery: in_flight,
            queue: consumer.queue,
            consumer: Some(consumer.reference),
            delivered_at,
            due,
        });
    }
}
