//! A request, as whoever answers it gets it: who asks, with which tags, the names in the path, the query; and, where it
//! has one, its body as JSON.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use leveret_codec::FieldTable;
use serde_json::{Map, Value};

use super::answer::{Answer, Refusal};
use super::path;
use super::query::Query;
use super::table;
use crate::api::Api;
use crate::door::{self, Level, Management};
use crate::view::Caller;

/// rabbitmq: the largest body of a request; more of it is not read
pub(crate) const BODY_BYTES_MAX: usize = 20_000_000;
/// How long a body may take to come.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a request is answered with.
pub(crate) type Reply = Result<Answer, Refusal>;

/// A request of somebody who may make it: logged in, with a tag of `L`, and let into the virtual host that the path
/// names.
pub(crate) struct Ask<L: Level = Management> {
    pub(crate) api: Arc<Api>,
    pub(crate) caller: Caller,
    pub(crate) query: Query,
    names: Vec<(String, String)>,
    level: PhantomData<L>,
}

impl<L: Level> Ask<L> {
    /// A name in the path; empty if it has none of that kind.
    pub(crate) fn name(&self, kind: &str) -> &str {
        let found = self.names.iter().find(|(known, _)| known == kind);
        found.map_or("", |(_, name)| name)
    }

    /// The virtual host that the path names, if it names one.
    pub(crate) fn vhost(&self) -> Option<&str> {
        let found = self.names.iter().find(|(known, _)| known == "vhost");
        found.map(|(_, name)| name.as_str())
    }

    /// The exchange that the path names.
    pub(crate) fn exchange(&self) -> &str {
        path::exchange(self.name("exchange"))
    }
}

impl<L: Level> FromRequestParts<Arc<Api>> for Ask<L> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        let caller = door::enter(api, parts)?;
        L::check(&caller.user)?;
        let raw = RawPathParams::from_request_parts(parts, api).await;
        let raw = raw.map_err(|_| Refusal::bad("the path is not percent-encoded UTF-8"))?;
        let names = raw
            .iter()
            .map(|(kind, name)| (kind.to_owned(), name.to_owned()));
        let ask = Self {
            api: Arc::clone(api),
            caller,
            query: Query::of(&parts.uri)?,
            names: names.collect(),
            level: PhantomData,
        };
        if let Some(vhost) = ask.vhost() {
            door::check_vhost(&api.view, &ask.caller.user, vhost)?;
        }
        Ok(ask)
    }
}

/// The whole body of a request.
pub(crate) struct Whole(pub(crate) Bytes);

impl FromRequest<Arc<Api>> for Whole {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Refusal> {
        let read = Bytes::from_request(request, api);
        match tokio::time::timeout(BODY_TIMEOUT, read).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Refusal::bad("Exceeded HTTP request body size limit"))
            }
            Ok(Err(error)) => Err(Refusal::bad(error.body_text())),
            Err(_) => Err(Refusal::Timeout),
        }
    }
}

/// The body of a request, a JSON object. rabbitmq: an empty one stands for an object without fields
pub(crate) struct Fields(pub(crate) Map<String, Value>);

impl FromRequest<Arc<Api>> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Refusal> {
        let Whole(bytes) = Whole::from_request(request, api).await?;
        Self::parse(&bytes)
    }
}

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Err(Refusal::bad("not_json")),
        }
    }
}

/// rabbitmq: `true` and `false` may stand as text
fn bool_of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

impl Fields {
    /// Refuses a body without all of these. rabbitmq: the text is Erlang's
    pub(crate) fn require(&self, names: &[&str]) -> Result<(), Refusal> {
        let missing = names.iter().filter(|name| !self.0.contains_key(**name));
        let missing: Vec<String> = missing
            .map(|name| format!("{{key_missing,{name}}}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::bad(format!("[{}]", missing.join(","))))
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A flag; false if it is not there.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(false);
        };
        bool_of(value).ok_or_else(|| Refusal::bad(format!("{name}: not_boolean {value}")))
    }

    /// A text, if it is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let value = self.get(name).map(|value| match value {
            Value::String(text) => Ok(text.as_str()),
            other => Err(Refusal::bad(format!("{name}: not_string {other}"))),
        });
        value.transpose()
    }

    /// A number that may not be negative, if it is there. rabbitmq: it may stand as text
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let value = self.get(name).map(|value| {
            let number = match value {
                Value::String(text) => text.parse().ok(),
                other => other.as_u64(),
            };
            number.ok_or_else(|| Refusal::bad(format!("{name}: not_integer {value}")))
        });
        value.transpose()
    }

    /// An argument table; empty if it is not there.
    pub(crate) fn table(&self, name: &str) -> Result<FieldTable, Refusal> {
        self.get(name)
            .map_or_else(|| Ok(FieldTable::default()), table::from_json)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Answer {
        Answer::from(self)
    }
}
