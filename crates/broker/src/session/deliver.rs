//! Deliveries out of the mailbox, tagged, recorded and written.
//!
//! Tags are assigned here, by the task that owns the channel: the ledger needs no lock, and a client
//! cannot acknowledge what was not written.

use leveret_codec::{AMQPValue, write_deliver};

use super::connection::Connection;
use super::overdue::due;
use super::stream::header_with_offset;
use super::trace::Traced;
use super::unacked::Unacked;
use super::{Link, OUTPUT_HIGH_WATER, stamp};
use crate::mailbox::{Delivery, InFlight, Letters};
use crate::queue::handle::{Outcome, QueueSettlement};
use crate::time::Timestamp;

impl Connection {
    /// Moves confirms, notices and deliveries into the output while it has room.
    pub(super) fn transmit(&mut self, link: &mut Link, now: Timestamp) {
        self.release_confirms(link);
        if link.output.len() < OUTPUT_HIGH_WATER {
            self.take_letters(link, now);
        }
        self.register_wake(link);
    }

    /// Takes the mailbox out and deals with all of it.
    pub(super) fn take_letters(&mut self, link: &mut Link, now: Timestamp) {
        link.mailbox.take(&mut self.letters);
        self.finish_letters(link, now);
    }

    /// Deals with letters that are out of the mailbox.
    pub(super) fn finish_letters(&mut self, link: &mut Link, now: Timestamp) {
        let traced = self.write_deliveries(link);
        self.trace_deliveries(link, &traced, now);
        if !self.letters.notices.is_empty() {
            self.take_notices(link);
        }
        self.flush_settlements(now);
        for (queue, consumer) in std::mem::take(&mut self.letters.stalled) {
            let effects = queue.resume(consumer, now);
            self.vhost.care(&queue, effects, now);
        }
    }

    /// Writes all deliveries; answers those that are to be traced.
    fn write_deliveries(&mut self, link: &mut Link) -> Vec<Traced> {
        let mut sightings = Vec::new();
        let traced = self.vhost.is_traced();
        let Connection {
            channels,
            consumers,
            queues,
            letters,
            acknowledge_by,
            ..
        } = self;
        let Letters { deliveries, .. } = letters;
        let mut deliveries = deliveries.drain(..).peekable();
        while let Some(slot) = deliveries.peek().map(|first| first.consumer) {
            let same = |delivery: &Delivery| delivery.consumer == slot;
            let consumer = consumers.get(slot);
            let Some((consumer, channel)) =
                consumer.and_then(|it| Some((it, channels.get_mut(&it.channel)?)))
            else {
                // Cancelling and closing take the mailbox out first, so nothing is left for nobody.
                while deliveries.next_if(same).is_some() {}
                continue;
            };
            let due = if consumer.no_ack {
                Timestamp::NEVER
            } else {
                let queue = queues.queue(consumer.queue);
                due(consumer.timeout_ms, queue, &link.broker.config, link.now)
            };
            *acknowledge_by = due.min(*acknowledge_by);
            while let Some(Delivery { in_flight, .. }) = deliveries.next_if(same) {
                let tag = channel.next_delivery_tag();
                if traced {
                    sightings.push(Traced {
                        channel: channel.number,
                        queue: consumer.queue,
                        in_flight: in_flight.clone(),
                        of_stream: consumer.of_stream,
                    });
                }
                let message = &in_flight.message;
                write_deliver(
                    link.output.buffer(),
                    channel.number,
                    &consumer.tag,
                    tag,
                    in_flight.redelivered,
                    message.names(),
                );
                write_content(link, channel.number, &in_flight, consumer.of_stream);
                if !consumer.no_ack {
                    queues.add_use(consumer.queue);
                    channel.ledger.push(Unacked {
                        tag,
                        in_flight,
                        queue: consumer.queue,
                        consumer: Some(consumer.reference),
                        delivered_at: link.now,
                        due,
                    });
                } else if in_flight.stored {
                    queues.settle(
                        consumer.queue,
                        QueueSettlement {
                            in_flight,
                            consumer: None,
                            outcome: Outcome::Acknowledged,
                            delivered_at: Timestamp::NEVER,
                        },
                        false,
                    );
                }
            }
        }
        sightings
    }
}

/// The content header of a delivery that says more than the message does: at which offset it stands,
/// or how often it came back.
pub(super) fn delivered_header(in_flight: &InFlight, of_stream: bool) -> Option<Vec<u8>> {
    let message = &in_flight.message;
    if of_stream {
        return Some(header_with_offset(message, in_flight.sequence.0));
    }
    (in_flight.delivery_count > 0).then(|| {
        let count = AMQPValue::LongLongInt(i64::from(in_flight.delivery_count));
        stamp::with_entry(message, stamp::DELIVERY_COUNT, count)
    })
}

/// Content header and body of a delivery.
pub(super) fn write_content(link: &mut Link, channel: u16, in_flight: &InFlight, of_stream: bool) {
    let message = &in_flight.message;
    match delivered_header(in_flight, of_stream) {
        None => link.output.write_content(channel, link.frame_max, message),
        Some(header) => {
            link.output
                .write_content_with(&header, channel, link.frame_max, message);
        }
    }
}
