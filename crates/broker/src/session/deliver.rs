//! Deliveries out of the mailbox, tagged, recorded and written.
//!
//! Tags are assigned here, by the task that owns the channel: the ledger needs no lock, and a client
//! cannot acknowledge what was not written.

use leveret_codec::{AMQPValue, write_deliver};

use super::connection::Connection;
use super::overdue::due;
use super::stream::header_with_offset;
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
        self.write_deliveries(link);
        if !self.letters.notices.is_empty() {
            self.take_notices(link);
        }
        self.flush_settlements(now);
        for (queue, consumer) in std::mem::take(&mut self.letters.stalled) {
            let effects = queue.resume(consumer, now);
            self.vhost.care(&queue, effects, now);
        }
    }

    fn write_deliveries(&mut self, link: &mut Link) {
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
                let message = &in_flight.message;
                write_deliver(
                    link.output.buffer(),
                    channel.number,
                    &consumer.tag,
                    tag,
                    in_flight.redelivered,
                    message.names(),
                );
                if consumer.of_stream {
                    let header = header_with_offset(&in_flight.message, in_flight.sequence.0);
                    link.output.write_content_with(
                        &header,
                        channel.number,
                        link.frame_max,
                        &in_flight.message,
                    );
                } else {
                    write_content(link, channel.number, &in_flight);
                }
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
                        },
                        false,
                    );
                }
            }
        }
    }
}

/// Content header and body of a delivery; one that came back says how often.
pub(super) fn write_content(link: &mut Link, channel: u16, in_flight: &InFlight) {
    let message = &in_flight.message;
    if in_flight.delivery_count == 0 {
        link.output.write_content(channel, link.frame_max, message);
        return;
    }
    let count = AMQPValue::LongLongInt(i64::from(in_flight.delivery_count));
    let header = stamp::with_entry(message, stamp::DELIVERY_COUNT, count);
    link.output
        .write_content_with(&header, channel, link.frame_max, message);
}
