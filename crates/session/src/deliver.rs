//! Deliveries out of the mailbox, tagged, recorded and written.
//!
//! Tags are assigned here, by the task that owns the channel: the ledger needs no lock, and a client
//! cannot acknowledge what was not written.

use leveret_broker::mailbox::Delivery;
use leveret_broker::queue::handle::{Held, Outcome, QueueSettlement};
use leveret_broker::time::Timestamp;

use super::connection::Connection;
use super::delivered::note_run;
use super::link::{Link, OUTPUT_HIGH_WATER};
use super::overdue::due;
use super::traced::Traced;
use super::unacked::Unacked;

/// So many messages are fetched into the processor's cache together before they are written.
const NEAR: usize = 32;

impl Connection {
    /// Moves confirms, notices and deliveries into the output while it has room.
    pub(super) fn transmit(&mut self, link: &mut Link, now: Timestamp) {
        self.release_confirms(link);
        if !self.handing_out.is_empty() {
            link.mailbox.wake();
        }
        if link.output.len() < OUTPUT_HIGH_WATER && !self.is_working() {
            self.take_letters(link, now);
        }
        if !self.crowded.is_empty() {
            self.relieve_some(link);
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
        for slot in std::mem::take(&mut self.letters.stalled) {
            // Whoever is cancelled meanwhile has nothing to go on with.
            let Some(consumer) = self.consumers.get(slot) else {
                continue;
            };
            if let Some(queue) = self.queues.queue(consumer.queue) {
                let effects = queue.resume(consumer.reference, now);
                self.vhost.care(queue, effects, now);
            }
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
            delivery_forms,
            acknowledge_by,
            vhost,
            crowded,
            ..
        } = self;
        // So many of those in front have been noted.
        let mut noted = 0;
        if let Some(first) = letters.deliveries.first() {
            let bytes = letters.deliveries.len() * first.in_flight.message.fetch();
            link.output.buffer().reserve(bytes.min(OUTPUT_HIGH_WATER));
        }
        let mut deliveries = letters.deliveries.drain(..);
        while let Some(slot) = deliveries.as_slice().first().map(|first| first.consumer) {
            let left = deliveries.as_slice();
            let run = left.iter().take_while(|next| next.consumer == slot);
            let run = run.count();
            let consumer = consumers.get(slot);
            if noted == 0
                && let Some(number) = consumer.map(|it| it.queue)
                && let Some(queue) = queues.queue(number)
            {
                // Of all consumers that the queue has here, as its messages go to them in turn.
                let is_of_queue = |next: &&Delivery| {
                    let of = consumers.get(next.consumer).map(|it| it.queue);
                    next.consumer == slot || of == Some(number)
                };
                noted = note_run(vhost, queue, left, is_of_queue);
            }
            noted = noted.saturating_sub(run);
            let Some((consumer, channel)) =
                consumer.and_then(|it| Some((it, channels.get_mut(it.channel)?)))
            else {
                // Cancelling and closing take the mailbox out first, so nothing is left for nobody.
                deliveries.by_ref().take(run).for_each(drop);
                continue;
            };
            let due = if consumer.no_ack {
                Timestamp::NEVER
            } else {
                let queue = queues.queue(consumer.queue);
                due(consumer.timeout_ms, queue, link.broker.config(), link.now)
            };
            *acknowledge_by = due.min(*acknowledge_by);
            let before = link.output.len();
            let mut left = run;
            while left > 0 {
                let near = left.min(NEAR);
                let ahead = deliveries.as_slice().iter().take(near);
                let bytes = ahead.map(|it| it.in_flight.message.fetch()).sum();
                link.output.buffer().reserve(bytes);
                left -= near;
                for Delivery { in_flight, .. } in deliveries.by_ref().take(near) {
                    let tag = channel.next_delivery_tag();
                    if traced {
                        sightings.push(Traced {
                            channel: channel.number,
                            queue: consumer.queue,
                            in_flight: in_flight.clone(),
                            of_stream: consumer.of_stream,
                        });
                    }
                    delivery_forms.write(link, slot, consumer, tag, &in_flight);
                    if !consumer.no_ack {
                        queues.add_use(consumer.queue);
                        channel.ledger.push(Unacked {
                            tag,
                            held: in_flight,
                            queue: consumer.queue,
                            consumer: Some(consumer.reference),
                            delivered_at: link.now,
                            due,
                        });
                    } else if in_flight.stored {
                        queues.settle(
                            consumer.queue,
                            QueueSettlement {
                                held: Held::Message(in_flight),
                                consumer: None,
                                outcome: Outcome::Acknowledged,
                                delivered_at: Timestamp::NEVER,
                            },
                            false,
                        );
                    }
                }
            }
            if consumer.no_ack {
                continue;
            }
            let sent = link.output.len() - before;
            let memory = &vhost.services.unacked_memory;
            let ledger = &mut channel.ledger;
            if ledger.is_to_be_relieved(sent, memory) && !crowded.contains(&channel.number) {
                crowded.push(channel.number);
            }
        }
        sightings
    }
}
