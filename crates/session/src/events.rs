//! What a session tells the event exchange of itself, its channels and its consumers.
//!
//! Nothing here costs more than reading a flag while nothing is bound to that exchange.

use leveret_broker::events::{Agreed, Closed, ConsumerTold, Dialled, Event};
use leveret_broker::roll::ConsumerFacts;
use leveret_codec::protocol::basic::Consume;
use leveret_codec::{ChannelNumber, FieldTable, encode_table};
use leveret_message::Timestamp;
use leveret_queue::mailbox::ConsumerSlot;

use super::auth::Login;
use super::connection::Connection;
use super::consumers::Consumer;
use super::link::Link;

impl Link {
    fn dialled(&self) -> Dialled<'_> {
        Dialled {
            session: self.id,
            remote: self.peer.remote,
            local: self.peer.local,
            client_properties: &self.client_properties,
        }
    }

    /// Keeps what a client says of itself.
    pub(super) fn set_client(&mut self, properties: &FieldTable) {
        self.client_properties = encode_table(properties).into();
    }

    /// `user` logged in, or for `error` did not.
    pub(super) fn tell_authentication(&self, user: &str, mechanism: &str, error: Option<&str>) {
        self.broker
            .services
            .tell(|_| Event::authentication(self.dialled(), user, mechanism, error));
    }
}

impl Connection {
    pub(super) fn tell_opened(&self, link: &Link, now: Timestamp) {
        let Login { user, mechanism } = &self.login;
        let agreed = Agreed {
            user,
            mechanism: mechanism.name(),
            vhost: self.vhost.name(),
            heartbeat_s: link.heartbeat_ms / 1000,
            frame_max: link.frame_max,
            channel_max: link.channel_max,
        };
        self.vhost
            .services
            .tell(|events| events.connection_created(link.dialled(), agreed, now));
    }

    pub(super) fn tell_closed(&self, link: &Link) {
        self.vhost
            .services
            .tell(|events| events.connection_closed(link.dialled()));
    }

    pub(super) fn tell_channel(&self, link: &Link, number: ChannelNumber, serial: u64) {
        let (user, vhost) = (&self.login.user, self.vhost.name());
        self.vhost
            .services
            .tell(|events| events.channel_created(link.dialled(), (serial, number.0), user, vhost));
    }

    /// A channel is given up; it tells so once, whoever closes it.
    pub(super) fn tell_channel_closed(&self, link: &Link, number: ChannelNumber, consumers: usize) {
        let Some(channel) = self.channels.get(number).filter(|it| !it.closing) else {
            return;
        };
        self.facts.close_channel(channel.serial);
        let closed = Closed {
            session: link.id,
            serial: channel.serial,
            user: &self.login.user,
            consumers,
        };
        self.vhost
            .services
            .tell(|events| events.channel_closed(closed));
    }

    /// None for a consumer of direct replies, which nobody but its client knows.
    fn consumer_told<'a>(
        &'a self,
        link: &Link,
        consumer: &'a Consumer,
    ) -> Option<ConsumerTold<'a>> {
        if consumer.gets_replies() {
            return None;
        }
        Some(ConsumerTold {
            session: link.id,
            serial: self.channels.get(consumer.channel)?.serial,
            user: &self.login.user,
            tag: consumer.tag(),
            queue: self.delivering.queue(consumer.queue)?,
        })
    }

    pub(super) fn tell_consumer(
        &self,
        link: &Link,
        slot: ConsumerSlot,
        consume: &Consume,
        prefetch: u16,
    ) {
        let consumer = self.delivering.consumer(slot);
        if let Some((consumer, told)) =
            consumer.and_then(|it| Some((it, self.consumer_told(link, it)?)))
        {
            let arguments = match consume.arguments.inner().is_empty() {
                true => Vec::new(),
                false => encode_table(&consume.arguments),
            };
            let facts = ConsumerFacts {
                channel: consumer.channel,
                tag: consumer.tag.clone(),
                queue: told.queue.id(),
                reference: consumer.reference,
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                prefetch,
                arguments: arguments.into(),
            };
            self.facts.add_consumer(slot.index, facts);
            self.vhost.services.tell(|events| {
                let (exclusive, no_ack) = (consume.exclusive, consume.no_ack);
                events.consumer_created(told, exclusive, no_ack, prefetch, &consume.arguments)
            });
        }
    }

    pub(super) fn tell_consumer_gone(&self, link: &Link, slot: ConsumerSlot, consumer: &Consumer) {
        self.facts.remove_consumer(slot.index);
        if let Some(told) = self.consumer_told(link, consumer) {
            self.vhost
                .services
                .tell(|events| events.consumer_deleted(told));
        }
    }
}
