//! Connections.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::{Value, json};

use super::channels;
use crate::api::Table;
use crate::door::{self, Administrator};
use crate::http::answer::{Refusal, no_content};
use crate::http::ask::{Ask, Reply};
use crate::http::list::{self, Item};
use crate::http::table;
use crate::view::{ConnectionFacts, View};

/// rabbitmq: what a client is told that was closed by way of the API, without other words
const CLOSED: &str = "Closed via management plugin";
/// The header with other words.
const REASON: &str = "x-reason";

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/connections", get(connections))
        .route("/api/vhosts/{vhost}/connections", get(connections))
        .route(
            "/api/connections/username/{user}",
            get(connections_of).delete(close_all_of),
        )
        .route(
            "/api/connections/{connection}",
            get(connection).delete(close),
        )
        .route("/api/connections/{connection}/channels", get(channels_of))
        .route("/api/connections/{connection}/sessions", get(sessions))
}

async fn connections(ask: Ask) -> Reply {
    if let Some(vhost) = ask.vhost()
        && !ask.api.view.has_vhost(vhost)
    {
        return Err(Refusal::NotFound);
    }
    let vhost = ask.vhost().map(str::to_owned);
    list(ask, move |facts| {
        vhost
            .as_deref()
            .is_none_or(|it| *facts.identity.vhost == *it)
    })
    .await
}

async fn connections_of(ask: Ask) -> Reply {
    let user = ask.name("user").to_owned();
    list(ask, move |facts| *facts.identity.user == *user).await
}

async fn list(ask: Ask, is_meant: impl Fn(&ConnectionFacts) -> bool + Send + 'static) -> Reply {
    let Ask {
        api, caller, query, ..
    } = ask;
    let (view, node) = (api.view.clone(), Arc::from(api.view.names().cluster));
    let collect = move || {
        let mut all = view.connections_of(&caller.user);
        all.retain(|facts| is_meant(facts));
        let all = all.into_iter();
        all.map(|facts| ConnectionItem::new(facts, &node)).collect()
    };
    list::answer(&api.desk, query.list()?, collect).await
}

async fn connection(ask: Ask) -> Reply {
    let facts = find(&ask)?;
    let node = Arc::from(ask.api.view.names().cluster);
    let item = ConnectionItem::new(facts, &node);
    list::one(&ask.api.desk, item, ask.query.columns()).await
}

/// The connection that the path names, if the user may see it.
fn find(ask: &Ask) -> Result<Arc<ConnectionFacts>, Refusal> {
    let found = ask.api.view.connection(ask.name("connection"));
    let found = found.ok_or(Refusal::NotFound)?;
    door::check_owner(&ask.caller.user, &found.identity.user)?;
    Ok(found)
}

async fn channels_of(ask: Ask) -> Reply {
    let facts = find(&ask)?;
    channels::list(ask, move |_| vec![facts]).await
}

/// Those are of AMQP 1.0.
async fn sessions(ask: Ask) -> Reply {
    find(&ask)?;
    list::answer(&ask.api.desk, ask.query.list()?, Vec::<ConnectionItem>::new).await
}

async fn close(ask: Ask, headers: HeaderMap) -> Reply {
    let found = ask.api.view.connection(ask.name("connection"));
    let found = found.ok_or(Refusal::NotFound)?;
    let user = &ask.caller.user;
    // rabbitmq: monitors see the connections of others, and leave them alone
    door::check_owner_only(user, &found.identity.user)?;
    close_one(&ask.api.view, &found, reason(&headers)?);
    Ok(no_content())
}

async fn close_all_of(ask: Ask<Administrator>, headers: HeaderMap) -> Reply {
    let view = &ask.api.view;
    let reason = reason(&headers)?;
    let mut all = view.connections();
    all.retain(|facts| *facts.identity.user == *ask.name("user"));
    for facts in all {
        close_one(view, &facts, reason);
    }
    Ok(no_content())
}

fn close_one(view: &View, facts: &ConnectionFacts, reason: &str) {
    tracing::warn!(
        connection = facts.identity.name(),
        reason,
        "an administrator closes a connection"
    );
    view.close_connection(facts, reason);
}

/// The words for the client.
fn reason(headers: &HeaderMap) -> Result<&str, Refusal> {
    let Some(given) = headers.get(REASON) else {
        return Ok(CLOSED);
    };
    std::str::from_utf8(given.as_bytes()).map_err(|_| Refusal::bad("X-Reason is not UTF-8"))
}

/// One connection.
struct ConnectionItem {
    facts: Arc<ConnectionFacts>,
    name: String,
    /// The node it is on.
    node: Arc<str>,
}

impl ConnectionItem {
    fn new(facts: Arc<ConnectionFacts>, node: &Arc<str>) -> Self {
        Self {
            name: facts.identity.name(),
            facts,
            node: Arc::clone(node),
        }
    }
}

impl Item for ConnectionItem {
    fn place(&self) -> (&str, &str) {
        (&self.facts.identity.vhost, &self.name)
    }

    fn show(&self) -> Option<Value> {
        let facts = &self.facts;
        let identity = &facts.identity;
        let client = identity.client_properties();
        let client = table::table(&client);
        let given_name = client.get("connection_name").cloned();
        let mut shown = json!({
            "name": self.name,
            "node": *self.node,
            "type": "network",
            "protocol": "AMQP 0-9-1",
            "vhost": *identity.vhost,
            "user": identity.user,
            "user_who_performed_action": identity.user,
            "auth_mechanism": identity.mechanism,
            "state": facts.state().name(),
            "connected_at": identity.connected_at.0,
            "host": identity.local.ip(),
            "port": identity.local.port(),
            "peer_host": identity.remote.ip(),
            "peer_port": identity.remote.port(),
            "ssl": false,
            "ssl_protocol": null,
            "ssl_key_exchange": null,
            "ssl_cipher": null,
            "ssl_hash": null,
            "peer_cert_subject": null,
            "peer_cert_issuer": null,
            "peer_cert_validity": null,
            "timeout": identity.heartbeat_s,
            "frame_max": identity.frame_max,
            "channel_max": identity.channel_max,
            "channels": facts.channel_count(),
            "client_properties": client,
            "recv_oct": facts.received_bytes.get(),
            "recv_cnt": facts.received.get(),
            "send_oct": facts.sent_bytes.get(),
            "send_cnt": facts.sent.get(),
            "send_pend": facts.to_send.get(),
        });
        if let Some(name) = given_name {
            shown["user_provided_name"] = name;
        }
        Some(shown)
    }
}

/// How many consumers each channel of a connection has.
pub(super) fn consumers_by_channel(facts: &ConnectionFacts) -> HashMap<u16, usize> {
    let mut counts = HashMap::new();
    for consumer in facts.consumers() {
        *counts.entry(consumer.channel.0).or_default() += 1;
    }
    counts
}
