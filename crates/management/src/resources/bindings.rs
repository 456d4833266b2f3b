//! Bindings: listed, looked up, added, removed. In paths a binding goes by RabbitMQ's `properties_key`: its routing key,
//! and a hash of its arguments if it has some.

use std::fmt::Write;

use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leveret_codec::{FieldTable, encode_table};
use serde_json::{Value, json};

use super::exchanges;
use crate::api::Table;
use crate::http::answer::{Refusal, empty, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::http::list::{self, Item};
use crate::http::{path, table};
use crate::view::{BindingFacts, BindingSpec, Ends, VhostView};

pub(super) fn table() -> Table {
    const BETWEEN: &str = "/api/bindings/{vhost}/e/{source}/{kind}/{destination}";
    const ONE: &str = "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}";
    Table::new()
        .route("/api/bindings", get(all))
        .route("/api/bindings/{vhost}", get(all))
        .route("/api/queues/{vhost}/{queue}/bindings", get(of_queue))
        .route(
            "/api/exchanges/{vhost}/{exchange}/bindings/source",
            get(from_exchange),
        )
        .route(
            "/api/exchanges/{vhost}/{exchange}/bindings/destination",
            get(to_exchange),
        )
        // rabbitmq: the default exchange has no name here either
        .route(
            "/api/bindings/{vhost}/e//{kind}/{destination}",
            get(between),
        )
        .route(BETWEEN, get(between).post(bind))
        .route(ONE, get(one).delete(unbind))
}

async fn all(ask: Ask) -> Reply {
    let vhosts = exchanges::vhosts(&ask)?;
    let collect = move || vhosts.iter().flat_map(|it| items(it, Ends::All)).collect();
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

async fn of_queue(ask: Ask) -> Reply {
    let vhost = vhost(&ask)?;
    let name = ask.name("queue").to_owned();
    vhost.queue(&name).ok_or(Refusal::NotFound)?;
    let collect = move || items(&vhost, Ends::Queue(&name));
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

async fn from_exchange(ask: Ask) -> Reply {
    let (vhost, name) = exchange(&ask)?;
    let collect = move || items(&vhost, Ends::Source(&name));
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

async fn to_exchange(ask: Ask) -> Reply {
    let (vhost, name) = exchange(&ask)?;
    let collect = move || items(&vhost, Ends::Exchange(&name));
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

/// The bindings from one exchange to one queue or exchange.
async fn between(ask: Ask) -> Reply {
    let (vhost, between) = (vhost(&ask)?, Between::parse(&ask)?);
    let collect = move || between.items(&vhost);
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

async fn one(ask: Ask) -> Reply {
    let (_, binding) = find(&ask).await?;
    list::one(&ask.api.desk, binding, ask.query.columns()).await
}

async fn bind(ask: Ask, fields: Fields) -> Reply {
    vhost(&ask)?;
    let between = Between::parse(&ask)?;
    let routing_key = fields.text("routing_key")?.unwrap_or_default().to_owned();
    let arguments = fields.table("arguments")?;
    let key = properties_key(routing_key.as_bytes(), &arguments);
    let spec = between.with(routing_key, arguments);
    ask.api
        .view
        .bind(&ask.caller, ask.name("vhost"), spec)
        .await?;
    let mut answer = empty(StatusCode::CREATED);
    let location = between.location(ask.name("vhost"), &key);
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    Ok(answer)
}

async fn unbind(ask: Ask) -> Reply {
    let (between, BindingItem { binding, .. }) = find(&ask).await?;
    let routing_key = String::from_utf8(binding.routing_key)
        .map_err(|_| Refusal::bad("a routing key that is no UTF-8 can be unbound by AMQP only"))?;
    let spec = between.with(routing_key, binding.arguments);
    ask.api
        .view
        .unbind(&ask.caller, ask.name("vhost"), spec)
        .await?;
    Ok(no_content())
}

/// The binding that the path names.
async fn find(ask: &Ask) -> Result<(Between, BindingItem), Refusal> {
    let (vhost, between) = (vhost(ask)?, Between::parse(ask)?);
    // The key is encoded in itself, so that what the path decoded must be compared with it decoded.
    let wanted = ask.name("props").to_owned();
    let search = move || {
        let mut items = between.items(&vhost).into_iter();
        let found = items.find(|item| item.key() == wanted || decoded(&item.key()) == wanted);
        found.map(|found| (between, found))
    };
    let found = ask.api.desk.work(search).await?;
    found.ok_or(Refusal::NotFound)
}

fn vhost(ask: &Ask) -> Result<VhostView, Refusal> {
    ask.api
        .view
        .vhost(ask.name("vhost"))
        .ok_or(Refusal::NotFound)
}

fn exchange(ask: &Ask) -> Result<(VhostView, String), Refusal> {
    let (vhost, name) = (vhost(ask)?, ask.exchange().to_owned());
    if !ask.api.view.has_exchange(vhost.name(), &name) {
        return Err(Refusal::NotFound);
    }
    Ok((vhost, name))
}

/// Both ends, by name.
struct Between {
    source: String,
    destination: String,
    to_exchange: bool,
}

impl Between {
    fn parse(ask: &Ask) -> Result<Self, Refusal> {
        let destination = ask.name("destination");
        let to_exchange = match ask.name("kind") {
            "e" => true,
            "q" => false,
            _ => return Err(Refusal::NotFound),
        };
        let named = if to_exchange {
            path::exchange(destination)
        } else {
            destination
        };
        Ok(Self {
            source: path::exchange(ask.name("source")).to_owned(),
            destination: named.to_owned(),
            to_exchange,
        })
    }

    fn items(&self, vhost: &VhostView) -> Vec<BindingItem> {
        let to = if self.to_exchange {
            Ends::Exchange(&self.destination)
        } else {
            Ends::Queue(&self.destination)
        };
        let mut items = items(vhost, to);
        items.retain(|item| item.binding.source == self.source);
        items
    }

    fn with(&self, routing_key: String, arguments: FieldTable) -> BindingSpec {
        BindingSpec {
            source: self.source.clone(),
            destination: self.destination.clone(),
            to_exchange: self.to_exchange,
            routing_key,
            arguments,
        }
    }

    /// rabbitmq: relative to the path that was asked
    fn location(&self, vhost: &str, key: &str) -> String {
        let [vhost, source, destination, key] =
            [vhost, &self.source, &self.destination, key].map(encoded);
        let kind = if self.to_exchange { "e" } else { "q" };
        format!("../../../../{vhost}/e/{source}/{kind}/{destination}/{key}")
    }
}

fn items(vhost: &VhostView, of: Ends<'_>) -> Vec<BindingItem> {
    let bindings = vhost.bindings(of).into_iter();
    let item = |binding| BindingItem {
        vhost: vhost.clone(),
        binding,
    };
    bindings.map(item).collect()
}

/// One binding.
struct BindingItem {
    vhost: VhostView,
    binding: BindingFacts,
}

impl BindingItem {
    fn key(&self) -> String {
        properties_key(&self.binding.routing_key, &self.binding.arguments)
    }
}

impl Item for BindingItem {
    fn place(&self) -> (&str, &str) {
        (self.vhost.name(), &self.binding.source)
    }

    fn rest(&self) -> impl Ord + '_ {
        let BindingFacts {
            to_exchange,
            destination,
            routing_key,
            ..
        } = &self.binding;
        (!to_exchange, destination, routing_key)
    }

    fn show(&self) -> Option<Value> {
        let binding = &self.binding;
        Some(json!({
            "source": binding.source,
            "vhost": self.vhost.name(),
            "destination": binding.destination,
            "destination_type": if binding.to_exchange { "exchange" } else { "queue" },
            "routing_key": table::text(&binding.routing_key),
            "arguments": table::table(&binding.arguments),
            "properties_key": self.key(),
        }))
    }
}

/// What a binding goes by, between its two ends.
fn properties_key(routing_key: &[u8], arguments: &FieldTable) -> String {
    if routing_key.is_empty() && arguments.inner().is_empty() {
        return "~".to_owned();
    }
    let mut key = String::new();
    for byte in routing_key {
        match byte {
            // rabbitmq: as in forms, and `~` too
            b' ' => key.push('+'),
            b'.' | b'_' | b'-' => key.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => key.push(char::from(*byte)),
            byte => percent(&mut key, *byte),
        }
    }
    if !arguments.inner().is_empty() {
        // Not RabbitMQ's number: it is only ever given back to whoever gave it.
        let hash = encode_table(arguments)
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        key.push('~');
        key.push_str(&URL_SAFE_NO_PAD.encode(hash.to_be_bytes()));
    }
    key
}

/// A name as it stands in a path.
fn encoded(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        match byte {
            b'.' | b'_' | b'-' | b'~' => path.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            byte => percent(&mut path, byte),
        }
    }
    path
}

fn percent(out: &mut String, byte: u8) {
    // Writing to a string does not fail.
    let _ = write!(out, "%{byte:02X}");
}

/// Undoes what a key encodes.
fn decoded(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let digits = (*byte == b'%').then(|| behind.get(..2)).flatten();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPValue, ShortString};

    use super::*;

    #[test]
    fn keys_are_those_of_rabbitmq() {
        let none = FieldTable::default();
        for (routing_key, expected) in [
            ("", "~"),
            ("k", "k"),
            ("a.b-c_d", "a.b-c_d"),
            ("a b", "a+b"),
            ("a/b~#*", "a%2Fb%7E%23%2A"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(properties_key(routing_key.as_bytes(), &none), expected);
        }
        let mut arguments = FieldTable::default();
        arguments.insert(ShortString::from("a"), AMQPValue::LongLongInt(1));
        let key = properties_key(b"", &arguments);
        assert!(key.starts_with('~') && key.len() == 7, "{key}");
        assert_ne!(
            properties_key(b"k", &arguments),
            properties_key(b"k", &none)
        );
    }

    #[test]
    fn keys_are_found_as_they_are_and_decoded() {
        assert_eq!(decoded("a%2Fb+%C3%BC%"), "a/b+ü%");
        assert_eq!(encoded("/ü a"), "%2F%C3%BC%20a");
    }
}
