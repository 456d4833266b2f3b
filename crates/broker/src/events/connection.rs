//! Clients log in; connections, channels and consumers come and go.

use std::net::SocketAddr;

use leveret_codec::{AMQPValue, ConsumerTag, FieldTable, decode_table};
use leveret_message::Timestamp;
use leveret_queue::queue::identity::SessionId;

use super::{Event, Events, Properties};
use crate::handle::QueueHandle;

/// rabbitmq: AMQP 0-9-1 as Erlang prints it
const PROTOCOL: &str = "{0,9,1}";

/// A connection as far as everybody may know it.
#[derive(Clone, Copy)]
pub struct Dialled<'a> {
    /// Whose connection.
    pub session: SessionId,
    /// The client's address.
    pub remote: SocketAddr,
    /// The address it came to.
    pub local: SocketAddr,
    /// Encoded.
    pub client_properties: &'a [u8],
}

/// What was agreed upon with a client.
#[derive(Clone, Copy)]
pub struct Agreed<'a> {
    /// Who logged in.
    pub user: &'a str,
    /// The SASL mechanism it was done with.
    pub mechanism: &'static str,
    /// Where to.
    pub vhost: &'a str,
    /// How often each sends something; 0 is never.
    pub heartbeat_s: u64,
    /// The longest frame.
    pub frame_max: u32,
    /// The highest channel.
    pub channel_max: u16,
}

/// A channel that is closed.
#[derive(Clone, Copy)]
pub struct Closed<'a> {
    /// On whose connection.
    pub session: SessionId,
    /// Which of all channels there have been.
    pub serial: u64,
    /// Whose it was.
    pub user: &'a str,
    /// How many it had.
    pub consumers: usize,
}

/// A consumer as its channel knows it.
#[derive(Clone, Copy)]
pub struct ConsumerTold<'a> {
    /// On whose connection.
    pub session: SessionId,
    /// Its channel's.
    pub serial: u64,
    /// Whose it is.
    pub user: &'a str,
    /// Its consumer tag.
    pub tag: ConsumerTag<'a>,
    /// What it consumes.
    pub queue: &'a QueueHandle,
}

impl Dialled<'_> {
    fn name(&self) -> String {
        format!("{} -> {}", self.remote, self.local)
    }

    fn client_properties(&self) -> FieldTable {
        decode_table(self.client_properties).unwrap_or_default()
    }

    /// What the client said of itself, with the name it gave the connection.
    fn client(&self, properties: Properties) -> Properties {
        let client = self.client_properties();
        let properties = properties.arguments("client_properties", &client);
        match client.inner().get("connection_name") {
            Some(AMQPValue::LongString(name)) => {
                properties.text("user_provided_name", name.as_bytes())
            }
            _ => properties,
        }
    }

    fn ends(&self, properties: Properties) -> Properties {
        properties
            .address("host", self.local.ip())
            .address("peer_host", self.remote.ip())
            .number("peer_port", self.remote.port().into())
            .text("protocol", PROTOCOL)
            .flag("ssl", false)
    }
}

impl ConsumerTold<'_> {
    fn properties(&self, events: &Events) -> Properties {
        Properties::default()
            .text("consumer_tag", self.tag.0)
            .text("channel", events.process(self.session.0, self.serial))
            .text("queue", self.queue.name())
            .text("vhost", &*self.queue.identity().vhost)
            .by(self.user)
    }
}

impl Event {
    /// A client logged in; `error`: or tried to, and why it could not.
    pub fn authentication(
        dialled: Dialled<'_>,
        user: &str,
        mechanism: &str,
        error: Option<&str>,
    ) -> Event {
        let properties = Properties::default()
            .text("connection_type", "network")
            .text("name", user)
            .text("connection_name", dialled.name())
            .text("auth_mechanism", mechanism);
        let properties = dialled.ends(properties);
        match error {
            None => Event::new("user.authentication.success", properties),
            Some(error) => Event::new(
                "user.authentication.failure",
                properties.text("error", error),
            ),
        }
    }
}

impl Events {
    /// `connection.created`
    pub fn connection_created(
        &self,
        dialled: Dialled<'_>,
        agreed: Agreed<'_>,
        now: Timestamp,
    ) -> Event {
        let properties = Properties::default()
            .text("pid", self.process(dialled.session.0, 0))
            .text("name", dialled.name())
            .number("port", dialled.local.port().into())
            .text("auth_mechanism", agreed.mechanism)
            .text("user", agreed.user)
            .text("vhost", agreed.vhost)
            .number("timeout", agreed.heartbeat_s)
            .number("frame_max", agreed.frame_max.into())
            .number("channel_max", agreed.channel_max.into())
            .number("connected_at", now.0)
            .text("node", &*self.node);
        let without_tls = [
            "peer_cert_subject",
            "peer_cert_issuer",
            "peer_cert_validity",
            "ssl_protocol",
            "ssl_key_exchange",
            "ssl_cipher",
            "ssl_hash",
        ];
        let properties = without_tls
            .into_iter()
            .fold(properties, |all, name| all.text(name, ""));
        let properties = dialled.client(dialled.ends(properties));
        Event::new("connection.created", properties.by(agreed.user))
    }

    /// `connection.closed`
    pub fn connection_closed(&self, dialled: Dialled<'_>) -> Event {
        let properties = Properties::default()
            .text("pid", self.process(dialled.session.0, 0))
            .text("name", dialled.name())
            .text("node", &*self.node);
        Event::new("connection.closed", dialled.client(properties))
    }

    /// `serial` counts the connection's channels, `number` is what its client calls it.
    pub fn channel_created(
        &self,
        dialled: Dialled<'_>,
        (serial, number): (u64, u16),
        user: &str,
        vhost: &str,
    ) -> Event {
        let properties = Properties::default()
            .text("pid", self.process(dialled.session.0, serial))
            .text("name", format!("{} ({number})", dialled.name()))
            .text("connection", self.process(dialled.session.0, 0))
            .number("number", number.into())
            .text("user", user)
            .text("vhost", vhost);
        Event::new("channel.created", properties.by(user))
    }

    /// `channel.closed`
    pub fn channel_closed(&self, closed: Closed<'_>) -> Event {
        let properties = Properties::default()
            .text("pid", self.process(closed.session.0, closed.serial))
            .number("consumer_count", closed.consumers as u64);
        Event::new("channel.closed", properties.by(closed.user))
    }

    /// `consumer.created`
    pub fn consumer_created(
        &self,
        consumer: ConsumerTold<'_>,
        exclusive: bool,
        no_ack: bool,
        prefetch: u16,
        arguments: &FieldTable,
    ) -> Event {
        let properties = consumer
            .properties(self)
            .flag("exclusive", exclusive)
            .flag("ack_required", !no_ack)
            .number("prefetch_count", prefetch.into())
            .arguments("arguments", arguments);
        Event::new("consumer.created", properties)
    }

    /// `consumer.deleted`
    pub fn consumer_deleted(&self, consumer: ConsumerTold<'_>) -> Event {
        Event::new("consumer.deleted", consumer.properties(self))
    }
}
