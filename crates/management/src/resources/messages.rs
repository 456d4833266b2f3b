//! Messages as JSON: published by it, shown in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use leveret_codec::{AMQPProperties, Properties, ShortString, decode_header};
use serde_json::{Map, Value, json};

use crate::http::answer::Refusal;
use crate::http::ask::Fields;
use crate::http::table;
use crate::view::{Got, Take, Then};

/// How bodies are shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Encoding {
    /// As text where they are UTF-8, else in base64.
    Auto,
    /// In base64.
    Base64,
}

impl Encoding {
    /// What a request says. rabbitmq: it must say so, and how the messages are to be taken
    pub(super) fn parse(fields: &Fields) -> Result<Self, Refusal> {
        fields.require(&["ackmode", "count", "encoding"])?;
        match fields.text("encoding")? {
            Some("auto") => Ok(Self::Auto),
            Some("base64") => Ok(Self::Base64),
            other => Err(Refusal::bad(format!(
                "Unsupported encoding {}. Please use auto or base64",
                other.unwrap_or_default()
            ))),
        }
    }
}

/// How messages are to be taken.
pub(super) fn how_to_take(fields: &Fields) -> Result<Take, Refusal> {
    let then = match fields.text("ackmode")? {
        Some("ack_requeue_false") => Then::Acknowledge,
        Some("ack_requeue_true" | "reject_requeue_true") => Then::Requeue,
        Some("reject_requeue_false") => Then::Reject,
        other => {
            return Err(Refusal::bad(format!(
                "ackmode '{}' is none of ack_requeue_true, ack_requeue_false, reject_requeue_true, \
                 reject_requeue_false",
                other.unwrap_or_default()
            )));
        }
    };
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Take {
        count: size(fields.number("count")?.unwrap_or_default()),
        truncate: fields.number("truncate")?.map(size),
        then,
    })
}

/// A message that was taken.
pub(super) fn show(got: &Got, encoding: Encoding) -> Value {
    let (payload, payload_encoding) = match (encoding, std::str::from_utf8(&got.body)) {
        (Encoding::Auto, Ok(text)) => (text.to_owned(), "string"),
        _ => (STANDARD.encode(&got.body), "base64"),
    };
    json!({
        "payload_bytes": got.body_bytes,
        "redelivered": got.redelivered,
        "exchange": got.exchange,
        "routing_key": got.routing_key,
        "message_count": got.message_count,
        "properties": decode_header(&got.header).map_or_else(
            |_| Value::Object(Map::new()),
            |header| show_properties(&header.properties),
        ),
        "payload": payload,
        "payload_encoding": payload_encoding,
    })
}

/// Those that are set.
fn show_properties(properties: &Properties<'_>) -> Value {
    let texts = [
        ("content_type", properties.content_type),
        ("content_encoding", properties.content_encoding),
        ("correlation_id", properties.correlation_id),
        ("reply_to", properties.reply_to),
        ("expiration", properties.expiration),
        ("message_id", properties.message_id),
        ("type", properties.kind),
        ("user_id", properties.user_id),
        ("app_id", properties.app_id),
        ("cluster_id", properties.cluster_id),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name, table::text(text?))));
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    let numbers = numbers
        .into_iter()
        .filter_map(|(name, it)| Some((name, Value::from(it?))));
    let headers = properties
        .headers
        .map(|headers| ("headers", table::table(&headers.to_table())));
    let all = texts.chain(numbers).chain(headers);
    Value::Object(all.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The body of a message to publish.
pub(super) fn body(fields: &Fields) -> Result<Vec<u8>, Refusal> {
    let payload = fields.text("payload")?.unwrap_or_default();
    match fields.text("payload_encoding")? {
        Some("string") => Ok(payload.as_bytes().to_vec()),
        Some("base64") => STANDARD
            .decode(payload)
            .map_err(|_| Refusal::bad("the payload is no base64")),
        other => Err(Refusal::bad(format!(
            "Unsupported encoding {}. Please use string or base64",
            other.unwrap_or_default()
        ))),
    }
}

/// The properties of a message to publish.
pub(super) fn properties(fields: &Fields) -> Result<AMQPProperties, Refusal> {
    let mut properties = AMQPProperties::default();
    let given = match fields.get("properties") {
        None => return Ok(properties),
        // rabbitmq: an empty list is what some languages make of an empty table
        Some(Value::Array(items)) if items.is_empty() => return Ok(properties),
        Some(Value::Object(given)) => Fields(given.clone()),
        Some(_) => return Err(Refusal::bad("properties must be an object")),
    };
    for name in given.0.keys() {
        let text = || short(&given, name);
        properties = match name.as_str() {
            "content_type" => properties.with_content_type(text()?),
            "content_encoding" => properties.with_content_encoding(text()?),
            "correlation_id" => properties.with_correlation_id(text()?),
            "reply_to" => properties.with_reply_to(text()?),
            "expiration" => properties.with_expiration(text()?),
            "message_id" => properties.with_message_id(text()?),
            "type" => properties.with_type(text()?),
            "user_id" => properties.with_user_id(text()?),
            "app_id" => properties.with_app_id(text()?),
            "cluster_id" => properties.with_cluster_id(text()?),
            "headers" => properties.with_headers(given.table(name)?),
            "delivery_mode" => properties.with_delivery_mode(octet(&given, name)?),
            "priority" => properties.with_priority(octet(&given, name)?),
            "timestamp" => properties.with_timestamp(number(&given, name)?),
            other => return Err(Refusal::bad(format!("there is no property {other}"))),
        };
    }
    Ok(properties)
}

fn short(given: &Fields, name: &str) -> Result<ShortString, Refusal> {
    let text = given.text(name)?.unwrap_or_default();
    if text.len() > usize::from(u8::MAX) {
        return Err(Refusal::bad(format!("{name} is longer than 255 bytes")));
    }
    Ok(ShortString::from(text))
}

fn number(given: &Fields, name: &str) -> Result<u64, Refusal> {
    Ok(given.number(name)?.unwrap_or_default())
}

fn octet(given: &Fields, name: &str) -> Result<u8, Refusal> {
    u8::try_from(number(given, name)?)
        .map_err(|_| Refusal::bad(format!("{name} must be from 0 to 255")))
}
