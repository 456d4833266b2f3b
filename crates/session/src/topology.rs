//! Exchange and queue methods: names, permissions, and replies once the change is durable.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leveret_access::grant::Grant;
use leveret_access::permission::{Access, Resource};
use leveret_broker::declare::{DeclaredQueue, DeleteConditions, QueueDeclaration};
use leveret_codec::protocol::{AMQPClass, exchange as exchange_wire, queue as wire};
use leveret_codec::{ChannelNumber, FieldTable, ReplyCode, ShortString, shorten, value_type_name};
use leveret_message::Timestamp;
use leveret_message::arguments::{argument, text};
use leveret_message::error::{ChannelError, ConnectionError, Failure};
use leveret_queue::queue::kind::QueueKind;
use leveret_routing::{Binding, Destination, Exchange, ExchangeKind};
use leveret_settings::declared;
use leveret_settings::names::DEAD_LETTER_EXCHANGE;
use leveret_store_api::CommitPoint;

use super::connection::Connection;
use super::deleting::{exchange_deleted, queue_deleted};
use super::deletion::Answer;
use super::link::Link;
use super::publishing::sender::REPLY_TO;
use super::stream::refuse_for_streams;

/// A name nobody else has: 16 random bytes in base64url behind a prefix.
pub(super) fn generated_name(prefix: &str) -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| ConnectionError::new(ReplyCode::InternalError, error))?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// rabbitmq: carriage returns and line feeds are not part of a name.
pub(super) fn clean(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

/// How the names begin that only the broker may give.
const RESERVED_PREFIX: &str = "amq.";
/// The argument that names where an exchange's unroutable messages go.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// What a binding of a queue is between.
#[derive(Clone)]
struct BindingEnds {
    source: String,
    queue: String,
    key: String,
}

impl BindingEnds {
    fn binding(self, destination: Destination, arguments: FieldTable) -> Binding {
        Binding {
            source: self.source,
            destination,
            routing_key: self.key.into_bytes(),
            arguments,
        }
    }
}

impl Connection {
    /// What was looked up before the topology, or permissions, changed is looked up anew.
    #[inline]
    pub(super) fn renew(&mut self, link: &Link) {
        if self.publishing.renew() {
            self.renew_grant(link);
        }
    }

    /// Permissions may have changed with the topology's generation.
    #[cold]
    fn renew_grant(&mut self, link: &Link) {
        let (vhost, user) = (self.vhost.name(), &self.login.user);
        let grant = link.broker.users.grant(vhost, user);
        self.grant = grant.unwrap_or_else(|| Arc::new(Grant::none(user, vhost)));
    }

    fn allow(
        &mut self,
        link: &Link,
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), ChannelError> {
        self.renew(link);
        self.grant.check(access, resource)
    }

    /// Checks a binding key against the user's topic permissions on the source.
    fn allow_topic(&self, source: &str, key: &[u8]) -> Result<(), ChannelError> {
        if self.grant.restricts_topics(source) && self.vhost.has_topic_exchange(source) {
            self.grant.check_topic(Access::Read, source, key)?;
        }
        Ok(())
    }

    pub(super) fn exchange_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: exchange_wire::AMQPMethod,
    ) -> Result<(), Failure> {
        use exchange_wire::AMQPMethod as Exchange;
        match method {
            Exchange::Declare(declare) => {
                let nowait = declare.nowait;
                let point = self.declare_exchange(link, &declare)?;
                self.answer(
                    link,
                    number,
                    nowait,
                    AMQPClass::Exchange(Exchange::DeclareOk(exchange_wire::DeclareOk {})),
                    point,
                );
            }
            Exchange::Delete(delete) => {
                self.delete_exchange(link, number, &delete)?;
            }
            Exchange::Bind(bind) => {
                let binding = self.exchange_binding(
                    link,
                    &bind.source,
                    &bind.destination,
                    &bind.routing_key,
                    bind.arguments,
                )?;
                let bound = self.vhost.bind(binding, &self.login.user)?;
                let ok = AMQPClass::Exchange(Exchange::BindOk(exchange_wire::BindOk {}));
                self.tell_bound(link, number, bind.nowait, ok, bound)?;
            }
            Exchange::Unbind(unbind) => {
                let binding = self.exchange_binding(
                    link,
                    &unbind.source,
                    &unbind.destination,
                    &unbind.routing_key,
                    unbind.arguments,
                )?;
                let point = self.vhost.unbind(&binding, &self.login.user);
                let answer = Answer::Deleted {
                    channel: number,
                    nowait: unbind.nowait,
                };
                let ok = AMQPClass::Exchange(Exchange::UnbindOk(exchange_wire::UnbindOk {}));
                self.tell_deleted(link, answer, ok, point);
            }
            _ => {
                return Err(ConnectionError::command_invalid("unimplemented method").into());
            }
        }
        Ok(())
    }

    /// Replies once `point` is durable; without a reply, the next method need not wait for it.
    pub(super) fn answer(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        nowait: bool,
        reply: AMQPClass,
        point: CommitPoint,
    ) {
        if !nowait {
            self.reply_when_durable(link, number, &reply, point);
        }
    }

    fn declare_exchange(
        &mut self,
        link: &Link,
        declare: &exchange_wire::Declare,
    ) -> Result<CommitPoint, Failure> {
        let name = clean(declare.exchange.as_str());
        if declare.passive {
            if name.is_empty() {
                return Err(ChannelError::default_exchange().into());
            }
            let durable = self
                .vhost
                .topology
                .read()
                .exchange(&name)
                .map(|it| it.durable);
            return match durable {
                Some(durable) => Ok(self.vhost.point_of(durable)),
                None => Err(ChannelError::no_exchange(&name, self.vhost.name()).into()),
            };
        }
        // The type is looked at before the name, as in RabbitMQ.
        let Some(kind) = ExchangeKind::parse(declare.kind.as_str()) else {
            return Err(ConnectionError::command_invalid(format_args!(
                "unknown exchange type '{}'",
                declare.kind
            ))
            .into());
        };
        if name.is_empty() {
            return Err(ChannelError::default_exchange().into());
        }
        self.allow(link, Access::Configure, Resource::Exchange(&name))?;
        let alternate = argument(&declare.arguments, ALTERNATE_EXCHANGE).and_then(text);
        let exchange = Exchange {
            name,
            kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.clone(),
            alternate,
        };
        let user = &self.login.user;
        let may_make = |exchange: &Exchange| self.may_make_exchange(exchange);
        self.vhost.declare_exchange(exchange, user, may_make)
    }

    /// Whether an exchange that does not exist may be made.
    fn may_make_exchange(&self, exchange: &Exchange) -> Result<(), ChannelError> {
        let name = &exchange.name;
        if name.starts_with(RESERVED_PREFIX) {
            return Err(ChannelError::reserved_name("exchange", name));
        }
        match (
            argument(&exchange.arguments, ALTERNATE_EXCHANGE),
            &exchange.alternate,
        ) {
            (None, _) => Ok(()),
            (Some(_), Some(alternate)) => {
                self.grant.check(Access::Read, Resource::Exchange(name))?;
                self.grant
                    .check(Access::Write, Resource::Exchange(alternate))
            }
            (Some(value), None) => Err(ChannelError::invalid_type(
                value_type_name(value),
                ALTERNATE_EXCHANGE,
                format_args!("exchange '{name}' in vhost '{}'", self.vhost.name()),
            )),
        }
    }

    /// Deletes an exchange.
    fn delete_exchange(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        delete: &exchange_wire::Delete,
    ) -> Result<(), Failure> {
        let name = clean(delete.exchange.as_str());
        if name.is_empty() {
            return Err(ChannelError::default_exchange().into());
        }
        if name.starts_with(RESERVED_PREFIX) {
            let vhost = self.vhost.name();
            return Err(ChannelError::system_exchange(&name, vhost).into());
        }
        self.allow(link, Access::Configure, Resource::Exchange(&name))?;
        let answer = Answer::Deleted {
            channel: number,
            nowait: delete.nowait,
        };
        let user = &self.login.user;
        let point = if delete.if_unused {
            self.vhost.delete_exchange_if_unused(&name, user)?
        } else {
            self.vhost.delete_exchange(&name, user)
        };
        self.tell_deleted(link, answer, exchange_deleted(), point);
        Ok(())
    }

    fn exchange_binding(
        &mut self,
        link: &Link,
        source: &ShortString,
        destination: &ShortString,
        routing_key: &ShortString,
        arguments: FieldTable,
    ) -> Result<Binding, Failure> {
        let (source, destination) = (clean(source.as_str()), clean(destination.as_str()));
        self.allow(link, Access::Write, Resource::Exchange(&destination))?;
        if source.is_empty() || destination.is_empty() {
            return Err(ChannelError::default_exchange().into());
        }
        self.allow(link, Access::Read, Resource::Exchange(&source))?;
        self.allow_topic(&source, routing_key.as_str().as_bytes())?;
        Ok(Binding {
            source,
            destination: Destination::Exchange(destination),
            routing_key: routing_key.as_str().as_bytes().to_vec(),
            arguments,
        })
    }

    pub(super) fn queue_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: wire::AMQPMethod,
        now: Timestamp,
    ) -> Result<(), Failure> {
        use wire::AMQPMethod as Queue;
        match method {
            Queue::Declare(declare) => self.declare_queue(link, number, &declare, now)?,
            Queue::Bind(bind) => {
                let ends = self.binding_ends(
                    link,
                    number,
                    &bind.exchange,
                    &bind.queue,
                    &bind.routing_key,
                )?;
                let (source, name) = (ends.source.clone(), ends.queue.clone());
                let binding = self.vhost.binding_to_add(
                    |queue| ends.binding(queue, bind.arguments),
                    &source,
                    &name,
                    link.id,
                )?;
                let bound = self.vhost.bind(binding, &self.login.user)?;
                let ok = AMQPClass::Queue(Queue::BindOk(wire::BindOk {}));
                self.tell_bound(link, number, bind.nowait, ok, bound)?;
            }
            Queue::Unbind(unbind) => {
                let (exchange, queue) = (&unbind.exchange, &unbind.queue);
                let ends = self.binding_ends(link, number, exchange, queue, &unbind.routing_key)?;
                let BindingEnds { source, queue, key } = ends.clone();
                let bound = self.vhost.binding_to_remove(
                    |queue| ends.binding(queue, unbind.arguments),
                    &queue,
                    link.id,
                )?;
                // What is gone may have gone a moment ago.
                let point = match bound {
                    Some(binding) => self.vhost.unbind(&binding, &self.login.user),
                    None => self.vhost.forget_bindings_aside(&source, &queue, &key),
                };
                let answer = Answer::Deleted {
                    channel: number,
                    nowait: false,
                };
                let ok = AMQPClass::Queue(Queue::UnbindOk(wire::UnbindOk {}));
                self.tell_deleted(link, answer, ok, point);
            }
            Queue::Purge(purge) => {
                let name = self.queue_name(number, purge.queue.as_str())?;
                self.allow(link, Access::Read, Resource::Queue(&name))?;
                let queue = self.vhost.queue(&name)?;
                self.vhost.check_exclusive(&queue, link.id)?;
                refuse_for_streams("queue.purge", &queue)?;
                let (purged, effects) = queue.purge();
                let point = effects.point;
                self.vhost.carry_out(&queue, effects, now);
                let message_count = u32::try_from(purged).unwrap_or(u32::MAX);
                self.answer(
                    link,
                    number,
                    purge.nowait,
                    AMQPClass::Queue(Queue::PurgeOk(wire::PurgeOk { message_count })),
                    point,
                );
            }
            Queue::Delete(delete) => {
                self.delete_queue(link, number, &delete)?;
            }
            _ => {
                return Err(ConnectionError::command_invalid("unimplemented method").into());
            }
        }
        Ok(())
    }

    fn declare_queue(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        declare: &wire::Declare,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let name = clean(declare.queue.as_str());
        if name == REPLY_TO {
            // rabbitmq: declaring the reply pseudo-queue answers that it can be used
            let ok = wire::DeclareOk {
                queue: shorten(REPLY_TO),
                message_count: 0,
                consumer_count: 1,
            };
            if !declare.nowait {
                link.send(number, &AMQPClass::Queue(wire::AMQPMethod::DeclareOk(ok)));
            }
            return Ok(());
        }
        // rabbitmq: and so does declaring a reply address, passively or not, if the requester is there
        let declared = if declare.passive || name.starts_with(REPLY_TO) {
            self.vhost.declare_queue_passively(&name, link.id, now)?
        } else {
            self.declare_queue_actively(link, name, declare, now)?
        };
        let DeclaredQueue {
            queue,
            counts,
            point,
            ..
        } = declared;
        self.channel(number)?.last_queue = Some(queue.name().to_owned());
        if declare.nowait {
            return Ok(());
        }
        let ok = wire::DeclareOk {
            queue: shorten(queue.name()),
            message_count: u32::try_from(counts.ready).unwrap_or(u32::MAX),
            consumer_count: counts.consumers,
        };
        self.reply_when_durable(
            link,
            number,
            &AMQPClass::Queue(wire::AMQPMethod::DeclareOk(ok)),
            point,
        );
        Ok(())
    }

    fn declare_queue_actively(
        &mut self,
        link: &Link,
        name: String,
        declare: &wire::Declare,
        now: Timestamp,
    ) -> Result<DeclaredQueue, Failure> {
        let mut declaration = QueueDeclaration {
            name,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.clone(),
        };
        declaration.choose_type(self.vhost.default_queue_type());
        let name = &mut declaration.name;
        match declared::kind(&declaration.arguments) {
            QueueKind::Classic if name.is_empty() => *name = generated_name("amq.gen-")?,
            kind if name.is_empty() => return Err(ChannelError::server_named(kind.module()).into()),
            _ if name.starts_with(RESERVED_PREFIX) => {
                return Err(ChannelError::reserved_name("queue", name).into());
            }
            _ => {}
        }
        self.allow(link, Access::Configure, Resource::Queue(name))?;
        let may_make = |declaration: &QueueDeclaration| self.may_make_queue(declaration);
        let user = &self.login.user;
        let declared = self
            .vhost
            .declare_queue(declaration, link.id, user, now, may_make)?;
        if declared.created && declare.exclusive {
            self.exclusive_queues.add(declared.queue.clone());
        }
        Ok(declared)
    }

    /// Whether a queue that does not exist may be made, as far as others are concerned by it.
    fn may_make_queue(&self, declaration: &QueueDeclaration) -> Result<(), ChannelError> {
        let argument = argument(&declaration.arguments, DEAD_LETTER_EXCHANGE);
        let Some(exchange) = argument.and_then(text) else {
            return Ok(());
        };
        let grant = &self.grant;
        grant.check(Access::Read, Resource::Queue(&declaration.name))?;
        grant.check(Access::Write, Resource::Exchange(&exchange))
    }

    /// The ends of a binding that this user may make or remove.
    fn binding_ends(
        &mut self,
        link: &Link,
        number: ChannelNumber,
        exchange: &ShortString,
        queue: &ShortString,
        routing_key: &ShortString,
    ) -> Result<BindingEnds, Failure> {
        let name = self.queue_name(number, queue.as_str())?;
        // spec: queue.bind: with neither queue nor key named, the key is the latest queue's name
        let key = if queue.as_str().is_empty() && routing_key.as_str().is_empty() {
            name.clone()
        } else {
            routing_key.as_str().to_owned()
        };
        let (queue, source) = (clean(&name), clean(exchange.as_str()));
        self.allow(link, Access::Write, Resource::Queue(&queue))?;
        if source.is_empty() {
            return Err(ChannelError::default_exchange().into());
        }
        self.allow(link, Access::Read, Resource::Exchange(&source))?;
        self.allow_topic(&source, key.as_bytes())?;
        Ok(BindingEnds { source, queue, key })
    }

    /// Deletes a queue.
    fn delete_queue(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        delete: &wire::Delete,
    ) -> Result<(), Failure> {
        let name = clean(&self.queue_name(number, delete.queue.as_str())?);
        self.allow(link, Access::Configure, Resource::Queue(&name))?;
        // rabbitmq: deleting what is not there is no error
        let answer = Answer::Deleted {
            channel: number,
            nowait: delete.nowait,
        };
        let Ok(queue) = self.vhost.queue(&name) else {
            let point = self.vhost.forget_queue_aside(&name);
            self.tell_deleted(link, answer, queue_deleted(0), point);
            return Ok(());
        };
        self.vhost.check_exclusive(&queue, link.id)?;
        let conditions = DeleteConditions {
            if_unused: delete.if_unused,
            if_empty: delete.if_empty,
        };
        let user = &self.login.user;
        let (messages, point) = self.vhost.delete_queue_if(&queue, conditions, user)?;
        self.tell_deleted(link, answer, queue_deleted(messages), point);
        Ok(())
    }
}
