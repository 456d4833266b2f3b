//! Exchanges as JSON, with RabbitMQ's names for what RabbitMQ has too.

use std::sync::Arc;

use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{messages, queues};
use crate::api::{Api, Table};
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::http::list::{self, Item};
use crate::http::table;
use crate::view::{ExchangeSpec, VhostView};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/exchanges", get(exchanges))
        .route("/api/exchanges/{vhost}", get(exchanges))
        .route(
            "/api/exchanges/{vhost}/{exchange}",
            get(exchange).put(declare).delete(delete),
        )
        .route("/api/exchanges/{vhost}/{exchange}/publish", post(publish))
}

async fn exchanges(ask: Ask) -> Reply {
    let vhosts = vhosts(&ask)?;
    let api = Arc::clone(&ask.api);
    let of_one = move |vhost: VhostView| {
        let api = Arc::clone(&api);
        let names = vhost.exchange_names().into_iter();
        names.map(move |name| ExchangeItem {
            api: Arc::clone(&api),
            vhost: vhost.clone(),
            name,
        })
    };
    let collect = move || vhosts.into_iter().flat_map(of_one).collect();
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

async fn exchange(ask: Ask) -> Reply {
    let vhost = ask.api.view.vhost(ask.name("vhost"));
    let item = ExchangeItem {
        api: Arc::clone(&ask.api),
        vhost: vhost.ok_or(Refusal::NotFound)?,
        name: ask.exchange().to_owned(),
    };
    list::one(&ask.api.desk, item, ask.query.columns()).await
}

async fn declare(ask: Ask, fields: Fields) -> Reply {
    let (vhost, name) = (ask.name("vhost"), ask.exchange());
    let view = &ask.api.view;
    if !view.has_vhost(vhost) {
        return Err(Refusal::NotFound);
    }
    let was_there = view.has_exchange(vhost, name);
    let spec = ExchangeSpec {
        // rabbitmq: without a type it is direct
        kind: fields.text("type")?.unwrap_or("direct").to_owned(),
        durable: fields.flag("durable")?,
        auto_delete: fields.flag("auto_delete")?,
        internal: fields.flag("internal")?,
        arguments: fields.table("arguments")?,
    };
    view.declare_exchange(&ask.caller, vhost, name, spec)
        .await?;
    Ok(queues::declared(was_there))
}

async fn delete(ask: Ask) -> Reply {
    let (vhost, name) = (ask.name("vhost"), ask.exchange());
    let view = &ask.api.view;
    if !view.has_exchange(vhost, name) {
        return Err(Refusal::NotFound);
    }
    let if_unused = ask.query.flag("if-unused");
    view.delete_exchange(&ask.caller, vhost, name, if_unused)
        .await?;
    Ok(no_content())
}

async fn publish(ask: Ask, fields: Fields) -> Reply {
    let (vhost, exchange) = (ask.name("vhost"), ask.exchange());
    let view = &ask.api.view;
    if !view.has_exchange(vhost, exchange) {
        return Err(Refusal::NotFound);
    }
    fields.require(&["routing_key", "properties", "payload", "payload_encoding"])?;
    let routing_key = fields.text("routing_key")?.unwrap_or_default();
    let properties = messages::properties(&fields)?;
    let body = messages::body(&fields)?;
    let names = (exchange, routing_key);
    let routed = view
        .publish(&ask.caller, vhost, names, &properties, &body)
        .await?;
    Ok(json_of(&json!({"routed": routed})))
}

/// The virtual hosts whose things are listed: the one that the path names, or all that the caller may see.
pub(super) fn vhosts(ask: &Ask) -> Result<Vec<VhostView>, Refusal> {
    let view = &ask.api.view;
    match ask.vhost() {
        Some(name) => Ok(vec![view.vhost(name).ok_or(Refusal::NotFound)?]),
        None => Ok(view.vhosts_of(&ask.caller.user)),
    }
}

/// One exchange.
struct ExchangeItem {
    api: Arc<Api>,
    vhost: VhostView,
    name: String,
}

impl Item for ExchangeItem {
    fn place(&self) -> (&str, &str) {
        (self.vhost.name(), &self.name)
    }

    fn show(&self) -> Option<Value> {
        let facts = self.api.view.exchange(&self.vhost, &self.name)?;
        let (exchange, policies) = (facts.exchange, facts.policies);
        let mut shown = json!({
            "name": exchange.name,
            "vhost": self.vhost.name(),
            "type": exchange.kind.name(),
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": table::table(&exchange.arguments),
            "policy": policies.policy,
            "operator_policy": policies.operator_policy,
            "effective_policy_definition": policies.definition,
            "leveret": {"deduplication": facts.duplicates.as_ref().map(table::deduplication)},
        });
        // rabbitmq: its delayed message plugin shows the number so
        if let Some(count) = facts.delayed {
            shown["messages_delayed"] = Value::from(count);
        }
        Some(shown)
    }
}
