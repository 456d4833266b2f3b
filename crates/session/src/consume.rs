//! Consumers of a connection: consume, cancel, get, recover and qos.

use leveret_access::permission::{Access, Resource};
use leveret_broker::declare::QueueDeclaration;
use leveret_broker::events::INTERNAL_USER;
use leveret_broker::handle::QueueHandle;
use leveret_codec::protocol::{AMQPClass, basic as wire};
use leveret_codec::{ChannelNumber, ConsumerTag, ShortString, write_get_ok};
use leveret_message::error::{ChannelError, ConnectionError, Failure};
use leveret_message::{Message, Timestamp};
use leveret_queue::mailbox::ConsumerSlot;
use leveret_queue::queue::answers::{ConsumeError, GetResult};
use leveret_queue::queue::consumers::ConsumerSpec;
use leveret_queue::queue::kind::QueueKind;
use leveret_store_api::StoredMessage;

use super::connection::Connection;
use super::consumer_arguments::ConsumerArguments;
use super::consumers::Consumer;
use super::deleting::queue_deleted;
use super::deletion::Answer;
use super::delivered::record_delivered_one;
use super::delivery_forms::write_content;
use super::link::Link;
use super::methods::encoded;
use super::overdue::due;
use super::publishing::sender::REPLY_TO;
use super::stream::{named, refuse_for_streams};
use super::topology::generated_name;

impl Connection {
    pub(super) fn basic_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: wire::AMQPMethod,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method {
            wire::AMQPMethod::Consume(consume) => self.consume(link, number, &consume, now),
            wire::AMQPMethod::Cancel(cancel) => self.cancel(link, number, &cancel, now),
            wire::AMQPMethod::Get(get) => self.get(link, number, &get, now),
            wire::AMQPMethod::Recover(wire::Recover { requeue: true }) => {
                let ok = AMQPClass::Basic(wire::AMQPMethod::RecoverOk(wire::RecoverOk {}));
                self.recover(link, number, encoded(number, &ok), now);
                Ok(())
            }
            wire::AMQPMethod::RecoverAsync(wire::RecoverAsync { requeue: true }) => {
                self.recover(link, number, Vec::new(), now);
                Ok(())
            }
            wire::AMQPMethod::Recover(_) | wire::AMQPMethod::RecoverAsync(_) => {
                Err(ConnectionError::not_implemented("requeue=false").into())
            }
            // rabbitmq: the answer to basic.cancel from the server, which needs none
            wire::AMQPMethod::CancelOk(_) => Ok(()),
            _ => Err(ConnectionError::command_invalid("unimplemented method").into()),
        }
    }

    pub(super) fn qos(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        size: u32,
        count: u16,
        global: bool,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if size != 0 {
            return Err(ConnectionError::not_implemented(format_args!(
                "prefetch_size!=0 ({size})"
            ))
            .into());
        }
        let channel = self.channel(number)?;
        if global {
            channel.credit.set_limit(count);
            channel.facts.global_prefetch.set(count.into());
        } else {
            channel.prefetch = count;
            channel.facts.prefetch.set(count.into());
            channel.facts.global_prefetch.set(0);
            // rabbitmq: limits for consumers take the place of the channel's
            channel.credit.set_limit(0);
        }
        self.delivering.hand_out_credit(&self.channels, number, now);
        link.send(
            number,
            &AMQPClass::Basic(wire::AMQPMethod::QosOk(wire::QosOk {})),
        );
        Ok(())
    }

    /// The queue a method names; an empty name stands for the channel's latest.
    pub(super) fn queue_name(
        &mut self,
        number: ChannelNumber,
        name: &str,
    ) -> Result<String, Failure> {
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
        self.channel(number)?
            .last_queue
            .clone()
            .ok_or_else(|| ChannelError::no_previous_queue().into())
    }

    /// The queue by that name, to read from.
    fn readable_queue(
        &mut self,
        link: &Link,
        number: ChannelNumber,
        name: &str,
    ) -> Result<QueueHandle, Failure> {
        let name = self.queue_name(number, name)?;
        self.grant.check(Access::Read, Resource::Queue(&name))?;
        let queue = self.vhost.queue(&name)?;
        self.vhost.check_exclusive(&queue, link.id)?;
        Ok(queue)
    }

    fn consume(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        consume: &wire::Consume,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let tag = match consume.consumer_tag.as_str() {
            "" => generated_name("amq.ctag-")?,
            tag => tag.to_owned(),
        };
        let replies = consume.queue.as_str() == REPLY_TO;
        let namesake = self
            .delivering
            .find_consumer(number, ConsumerTag(tag.as_bytes()));
        let namesake = namesake.and_then(|slot| self.delivering.consumer(slot));
        // rabbitmq: a second consumer of direct replies is told that it is one, whatever its tag
        if namesake.is_some_and(|it| !(replies && it.gets_replies())) {
            return Err(ConnectionError::not_allowed(format_args!(
                "attempt to reuse consumer tag '{tag}'"
            ))
            .into());
        }
        let queue = if replies {
            self.reply_queue(link, number, consume.no_ack, now)?
        } else {
            self.readable_queue(link, number, consume.queue.as_str())?
        };
        let asked = ConsumerArguments::parse(&consume.arguments, &queue, now)?;
        let of_stream = queue.kind() == QueueKind::Stream;
        if of_stream {
            self.check_stream_consumer(number, &queue, consume.no_ack)?;
        }
        let slot = self.delivering.next_slot();
        let channel = self.channel(number)?;
        if channel.credit.limit() != 0 && queue.kind() != QueueKind::Classic {
            let text = format!(
                "queue '{}' in vhost '{}' does not support global qos",
                queue.name(),
                self.vhost.name()
            );
            return Err(ConnectionError::not_implemented(text).into());
        }
        let prefetch = channel.prefetch;
        let spec = ConsumerSpec {
            queue: queue.id(),
            mailbox: std::sync::Arc::clone(&link.mailbox),
            slot,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority: asked.priority,
            prefetch,
            channel_credit: std::sync::Arc::clone(&channel.credit),
        };
        let (added, effects) = if of_stream {
            queue.consume_stream(spec, asked.read, now)
        } else {
            queue.consume(spec, now)
        };
        self.vhost.carry_out(&queue, effects, now);
        let reference = added.map_err(|error| match error {
            ConsumeError::ExclusiveUse => {
                ChannelError::exclusive_use(queue.name(), self.vhost.name())
            }
            ConsumeError::Deleted => ChannelError::no_queue(queue.name(), self.vhost.name()),
        })?;
        let consumer = |row| Consumer {
            channel: number,
            tag: tag.as_bytes().into(),
            no_ack: consume.no_ack,
            of_stream,
            queue: row,
            reference,
            timeout_ms: asked.timeout_ms,
            reply_address: replies.then(|| queue.name().to_owned()),
        };
        self.delivering.add_consumer(slot, &queue, consumer);
        self.tell_consumer(link, slot, consume, prefetch);
        if !consume.nowait {
            let ok = wire::ConsumeOk {
                consumer_tag: ShortString::from(tag),
            };
            link.send(number, &AMQPClass::Basic(wire::AMQPMethod::ConsumeOk(ok)));
        }
        let effects = queue.start(now);
        self.vhost.carry_out(&queue, effects, now);
        Ok(())
    }

    /// A stream's consumers have a prefetch of their own and acknowledge.
    fn check_stream_consumer(
        &mut self,
        number: ChannelNumber,
        queue: &QueueHandle,
        no_ack: bool,
    ) -> Result<(), Failure> {
        if self.channel(number)?.prefetch == 0 {
            return Err(ChannelError::precondition(format_args!(
                "consumer prefetch count is not set for stream {}",
                named(queue)
            ))
            .into());
        }
        if no_ack {
            return Err(ConnectionError::not_implemented(format_args!(
                "automatic acknowledgement not supported by stream {}",
                named(queue)
            ))
            .into());
        }
        Ok(())
    }

    /// Direct reply-to: a queue of this channel's own behind the pseudo-queue's name. Its name is the
    /// reply address, so a reply needs no more than the default exchange.
    fn reply_queue(
        &mut self,
        link: &Link,
        number: ChannelNumber,
        no_ack: bool,
        now: Timestamp,
    ) -> Result<QueueHandle, Failure> {
        if !no_ack {
            return Err(ChannelError::precondition("reply consumer cannot acknowledge").into());
        }
        if self.delivering.reply_address(number).is_some() {
            return Err(ChannelError::precondition("reply consumer already set").into());
        }
        let declaration = QueueDeclaration {
            name: format!(
                "{}.{}",
                generated_name(&format!("{REPLY_TO}."))?,
                generated_name("")?
            ),
            durable: false,
            exclusive: true,
            auto_delete: true,
            arguments: leveret_codec::FieldTable::default(),
        };
        let user = &self.login.user;
        let declared = self
            .vhost
            .declare_queue(declaration, link.id, user, now, |_| Ok(()))?;
        Ok(declared.queue)
    }

    fn cancel(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        cancel: &wire::Cancel,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut doomed = None;
        let tag = ConsumerTag(cancel.consumer_tag.as_str().as_bytes());
        if let Some(slot) = self.delivering.find_consumer(number, tag) {
            doomed = self.cancel_in_queue(slot, now);
            // What was on its way is sent before the answer; nothing comes after it.
            self.take_mail(link, now);
            self.forget_consumer(link, slot);
        }
        let mut reply = Vec::new();
        if !cancel.nowait {
            let ok = wire::CancelOk {
                consumer_tag: cancel.consumer_tag.clone(),
            };
            reply = encoded(number, &AMQPClass::Basic(wire::AMQPMethod::CancelOk(ok)));
        }
        match doomed {
            Some(queue) => {
                let (messages, point) = self.vhost.delete_queue(&queue, INTERNAL_USER);
                let deleted = queue_deleted(messages);
                self.tell_deleted(link, Answer::Reply(reply), deleted, point);
            }
            None => link.output.buffer().extend_from_slice(&reply),
        }
        Ok(())
    }

    /// The session forgets the consumer.
    pub(super) fn forget_consumer(&mut self, link: &Link, slot: ConsumerSlot) -> Option<Consumer> {
        let consumer = self.delivering.remove_consumer(&self.channels, slot)?;
        self.tell_consumer_gone(link, slot, &consumer);
        self.delivering.release_queue(consumer.queue);
        Some(consumer)
    }

    /// The queue forgets the consumer; nothing more will come for it. Answers the queue, if it goes with it.
    fn cancel_in_queue(&mut self, slot: ConsumerSlot, now: Timestamp) -> Option<QueueHandle> {
        let consumer = self.delivering.consumer(slot)?;
        let queue = self.delivering.queue(consumer.queue)?.clone();
        let mut effects = queue.cancel(consumer.reference, now);
        let is_doomed = std::mem::take(&mut effects.delete_queue);
        self.vhost.carry_out(&queue, effects, now);
        is_doomed.then_some(queue)
    }

    /// The consumer's queue is gone: `basic.cancel` to clients that understand it.
    pub(super) fn consumer_cancelled(&mut self, link: &mut Link, slot: ConsumerSlot) {
        let Some(consumer) = self.forget_consumer(link, slot) else {
            return;
        };
        if link.understands_cancel {
            let consumer_tag =
                ShortString::from(String::from_utf8_lossy(&consumer.tag).into_owned());
            link.send(
                consumer.channel,
                &AMQPClass::Basic(wire::AMQPMethod::Cancel(wire::Cancel {
                    consumer_tag,
                    nowait: true,
                })),
            );
        }
    }

    fn get(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        get: &wire::Get,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let queue = self.readable_queue(link, number, get.queue.as_str())?;
        refuse_for_streams("basic.get", &queue)?;
        self.refuse_past_active(&queue)?;
        let (in_flight, ready) = match self.get_from(&queue, get.no_ack, now) {
            Some(got) => got,
            None => {
                self.channel(number)?.facts.got_empty.add(1);
                link.send(
                    number,
                    &AMQPClass::Basic(wire::AMQPMethod::GetEmpty(wire::GetEmpty {})),
                );
                return Ok(());
            }
        };
        record_delivered_one(&self.vhost, &queue, &in_flight);
        let before = link.output.len();
        let channel = self.channel(number)?;
        let tag = channel.take_delivery_tags(1);
        channel.note_got(get.no_ack, in_flight.redelivered, now);
        let count = u32::try_from(ready).unwrap_or(u32::MAX);
        write_get_ok(
            link.output.buffer(),
            number,
            tag,
            in_flight.redelivered,
            in_flight.message.names(),
            count,
        );
        write_content(link, number, &in_flight, false);
        if self.vhost.is_watched() {
            self.trace_delivery(link, number, &queue, &in_flight, false, now);
        }
        if get.no_ack {
            self.delivering.settle_got(&queue, in_flight);
            self.delivering.flush_settlements(&self.channels, now);
        } else if let Some(channel) = self.channels.get_mut(number) {
            let due = due(None, Some(&queue), link.broker.config(), now);
            self.delivering
                .record_got(channel, &queue, in_flight, tag, due, now);
            let sent = link.output.len() - before;
            self.delivering.consider_relief(channel, sent);
        }
        Ok(())
    }

    /// rabbitmq: a quorum queue's messages are the active consumer's alone, if it has one at a time.
    fn refuse_past_active(&self, queue: &QueueHandle) -> Result<(), ChannelError> {
        if queue.kind() == QueueKind::Quorum && queue.options().single_active_consumer {
            return Err(ChannelError::single_active(queue.name(), self.vhost.name()));
        }
        Ok(())
    }

    /// One message, read back from the store first if need be.
    fn get_from(
        &mut self,
        queue: &QueueHandle,
        no_ack: bool,
        now: Timestamp,
    ) -> Option<(leveret_queue::mailbox::InFlight, u64)> {
        /// Messages may expire between reading and taking; then it is read again.
        const ATTEMPTS: usize = 100;
        let mut buffer = Vec::new();
        for _ in 0..ATTEMPTS {
            let (result, effects) = queue.get(no_ack, now);
            self.vhost.carry_out(queue, effects, now);
            match result {
                GetResult::Message(in_flight, ready) => return Some((in_flight, ready)),
                GetResult::BeforeUnread(in_flight) => {
                    let ready = self.count_living(queue, &mut buffer, now);
                    return Some((in_flight, ready));
                }
                GetResult::Empty => return None,
                GetResult::NotLoaded => {
                    let (_, effects) =
                        queue.page_in_now(&self.vhost.services.store, &mut buffer, now);
                    self.vhost.carry_out(queue, effects, now);
                }
            }
        }
        None
    }

    /// How many messages are ready behind the one that was taken: what has expired of them is read to be known.
    fn count_living(
        &self,
        queue: &QueueHandle,
        buffer: &mut Vec<StoredMessage<Message>>,
        now: Timestamp,
    ) -> u64 {
        /// More is left to the pager.
        const ATTEMPTS: usize = 16;
        for _ in 0..ATTEMPTS {
            let (read, effects) = queue.page_in_now(&self.vhost.services.store, buffer, now);
            self.vhost.carry_out(queue, effects, now);
            let (living, effects) = queue.count_living(now);
            self.vhost.carry_out(queue, effects, now);
            match living {
                Some(living) => return living,
                None if !read => break,
                None => {}
            }
        }
        queue.counts().ready
    }
}
