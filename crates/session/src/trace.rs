//! The firehose: of each message that is published or delivered in a traced virtual host, a copy goes
//! to `amq.rabbitmq.trace`, with headers that say where it was going.
//!
//! Who watches traces is told of the same messages, see `leveret_broker::spans`.
//!
//! Nothing here is called while nobody watches a virtual host.

use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::carbon_copies;
use leveret_codec::{
    AMQPValue, ChannelNumber, ContentHeader, FieldArray, Properties, RawTable, decode_header,
    write_field, write_names, write_table_field,
};
use leveret_message::{Body, Message, MessageScratch, Timestamp};
use leveret_queue::mailbox::InFlight;

use super::connection::Connection;
use super::delivery_forms::delivered_header;
use super::link::Link;
use super::traced::Traced;

/// The exchange that copies go to.
pub(crate) const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

/// A message as it is seen on its way.
struct Sighting<'a> {
    /// `publish.` and its exchange, or `deliver.` and its queue.
    key: String,
    exchange: &'a [u8],
    routing_keys: Vec<AMQPValue>,
    /// The content header as it came or goes.
    header: &'a [u8],
    body: Body<'a>,
    channel: ChannelNumber,
    /// What only one of the two ways has.
    extra: (&'static str, AMQPValue),
}

/// The names of a message's routing keys.
pub(super) struct TracedKeys(Vec<AMQPValue>);

fn long_string(text: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(text.into().into())
}

fn array(values: Vec<AMQPValue>) -> AMQPValue {
    AMQPValue::FieldArray(FieldArray::from(values))
}

fn number(value: u64) -> AMQPValue {
    match i32::try_from(value) {
        Ok(value) => AMQPValue::LongInt(value),
        Err(_) => AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

fn body_of(message: &Message) -> Body<'_> {
    message.large_body().map_or_else(
        || Body::Borrowed(message.body()),
        |body| Body::Owned(body.clone()),
    )
}

/// All routing keys of a publish, those in CC and BCC too.
pub(super) fn keys_of_publish(names: &[u8], header: &ContentHeader<'_>) -> TracedKeys {
    let (_, key) = leveret_codec::split_names(names).unwrap_or_default();
    let copies = carbon_copies(header.properties.headers).unwrap_or_default();
    let keys = std::iter::once(key).chain(copies);
    TracedKeys(keys.map(long_string).collect())
}

impl Connection {
    /// A message was published; `queues` is where it goes.
    pub(super) fn trace_publish<'a>(
        &self,
        link: &Link,
        channel: ChannelNumber,
        message: &Message,
        keys: TracedKeys,
        queues: impl Iterator<Item = &'a QueueHandle>,
        now: Timestamp,
    ) {
        let (exchange, _) = message.exchange_and_key();
        let queues = queues.map(|queue| long_string(queue.name())).collect();
        let sighting = Sighting {
            key: format!("publish.{}", String::from_utf8_lossy(exchange)),
            exchange,
            routing_keys: keys.0,
            header: message.header(),
            body: body_of(message),
            channel,
            extra: ("routed_queues", array(queues)),
        };
        self.publish_trace(link, sighting, now);
    }

    /// These were delivered.
    pub(super) fn trace_deliveries(&self, link: &Link, traced: &[Traced], now: Timestamp) {
        for it in traced {
            if let Some(queue) = self.delivering.queue(it.queue) {
                self.trace_delivery(link, it.channel, queue, &it.in_flight, it.of_stream, now);
            }
        }
    }

    /// A message out of `queue` is delivered.
    pub(super) fn trace_delivery(
        &self,
        link: &Link,
        channel: ChannelNumber,
        queue: &QueueHandle,
        in_flight: &InFlight,
        of_stream: bool,
        now: Timestamp,
    ) {
        if let Some(spans) = self.vhost.services.spans.get() {
            spans.delivered(queue, in_flight, now);
        }
        if !self.vhost.is_traced() {
            return;
        }
        let message = &in_flight.message;
        let (exchange, key) = message.exchange_and_key();
        // What is traced already is not traced again.
        if exchange == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let header = delivered_header(in_flight, of_stream);
        let header = header.as_deref().unwrap_or(message.header());
        let headers = decode_header(header)
            .ok()
            .and_then(|it| it.properties.headers);
        let copies = carbon_copies(headers).unwrap_or_default();
        let keys = std::iter::once(key).chain(copies).map(long_string);
        let sighting = Sighting {
            key: format!("deliver.{}", queue.name()),
            exchange,
            routing_keys: keys.collect(),
            header,
            body: body_of(message),
            channel,
            extra: (
                "redelivered",
                AMQPValue::LongInt(in_flight.redelivered.into()),
            ),
        };
        self.publish_trace(link, sighting, now);
    }

    fn publish_trace(&self, link: &Link, sighting: Sighting<'_>, now: Timestamp) {
        if !self.vhost.is_source(TRACE_EXCHANGE) {
            return;
        }
        if let Some(message) = self.compose_trace(link, sighting) {
            self.vhost.publish_from_within(&message, now);
        }
    }

    fn compose_trace(&self, link: &Link, sighting: Sighting<'_>) -> Option<Message> {
        let peer = &link.peer;
        let traced = decode_header(sighting.header).ok()?.properties;
        let traced = table_of_properties(&traced);
        let mut headers = Vec::new();
        write_table_field(&mut headers, "properties", RawTable::from_encoded(&traced));
        for (name, value) in [
            ("exchange_name", long_string(sighting.exchange)),
            ("routing_keys", array(sighting.routing_keys)),
            (
                "node",
                long_string(link.broker.config().cluster_name.as_str()),
            ),
            ("vhost", long_string(self.vhost.name().as_bytes())),
            (
                "connection",
                long_string(format!("{} -> {}", peer.remote, peer.local)),
            ),
            ("channel", AMQPValue::LongInt(sighting.channel.0.into())),
            ("user", long_string(self.login.user.as_str())),
            sighting.extra,
        ] {
            write_field(&mut headers, name, &value);
        }
        let body_size = match &sighting.body {
            Body::Borrowed(body) => body.len(),
            Body::Owned(body) => body.len(),
        };
        let header = Properties {
            headers: Some(RawTable::from_encoded(&headers)),
            ..Properties::default()
        };
        let header = header.encode_header(body_size as u64);
        let mut names = Vec::new();
        write_names(
            &mut names,
            TRACE_EXCHANGE.as_bytes(),
            sighting.key.as_bytes(),
        );
        let header = decode_header(&header).ok()?;
        Some(Message::compose(
            &mut MessageScratch::default(),
            &names,
            &header,
            sighting.body,
        ))
    }
}

/// A table, encoded, of the properties that are there, by RabbitMQ's names.
fn table_of_properties(properties: &Properties<'_>) -> Vec<u8> {
    let text = |value: Option<&[u8]>| value.map(long_string);
    let named = [
        ("content_type", text(properties.content_type)),
        ("content_encoding", text(properties.content_encoding)),
        (
            "delivery_mode",
            properties.delivery_mode.map(|it| number(it.into())),
        ),
        ("priority", properties.priority.map(|it| number(it.into()))),
        ("correlation_id", text(properties.correlation_id)),
        ("reply_to", text(properties.reply_to)),
        ("expiration", text(properties.expiration)),
        ("message_id", text(properties.message_id)),
        ("timestamp", properties.timestamp.map(number)),
        ("type", text(properties.kind)),
        ("user_id", text(properties.user_id)),
        ("app_id", text(properties.app_id)),
        ("cluster_id", text(properties.cluster_id)),
    ];
    let mut table = Vec::new();
    if let Some(headers) = properties.headers {
        write_table_field(&mut table, "headers", headers);
    }
    for (name, value) in named {
        if let Some(value) = value {
            write_field(&mut table, name, &value);
        }
    }
    table
}
