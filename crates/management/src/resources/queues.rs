//! Queues as JSON, with RabbitMQ's names for what RabbitMQ has too.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::{self, get, post};
use serde_json::{Value, json};

use super::messages::{self, Encoding};
use super::{consumers, exchanges};
use crate::api::Table;
use crate::door::Level;
use crate::http::answer::{Answer, Refusal, empty, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::http::list::{self, Item};
use crate::http::table;
use crate::view::{QueueCounts, QueueKind, QueueSpec, QueueStatistics, QueueView, Timestamp};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/queues", get(queues))
        .route("/api/queues/detailed", get(queues))
        .route("/api/queues/{vhost}", get(queues))
        .route(
            "/api/queues/{vhost}/{queue}",
            get(queue).put(declare).delete(delete),
        )
        .route(
            "/api/queues/{vhost}/{queue}/contents",
            routing::delete(purge),
        )
        .route("/api/queues/{vhost}/{queue}/get", post(take))
}

async fn queues(ask: Ask) -> Reply {
    let vhosts = exchanges::vhosts(&ask)?;
    let (node, now) = (node(&ask), ask.api.view.now());
    let item = move |queue| QueueItem {
        queue,
        node: Arc::clone(&node),
        now,
    };
    let collect = move || vhosts.iter().flat_map(|it| it.queues()).map(item).collect();
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

async fn queue(ask: Ask) -> Reply {
    let item = QueueItem {
        queue: find(&ask)?,
        node: node(&ask),
        now: ask.api.view.now(),
    };
    let (view, columns) = (ask.api.view.clone(), ask.query.columns());
    let shown = ask.api.desk.work(move || {
        let mut shown = item.show()?;
        let consumers = item.queue.consumers(&view);
        let details = consumers.iter().map(|it| consumers::show(it, &item.node));
        shown["consumer_details"] = details.collect();
        Some(columns.cut(shown))
    });
    Ok(json_of(&shown.await?.ok_or(Refusal::NotFound)?))
}

/// The queue that the path names.
pub(super) fn find<L: Level>(ask: &Ask<L>) -> Result<QueueView, Refusal> {
    let vhost = ask.api.view.vhost(ask.name("vhost"));
    let queue = vhost.and_then(|vhost| vhost.queue(ask.name("queue")));
    queue.ok_or(Refusal::NotFound)
}

async fn declare(ask: Ask, fields: Fields) -> Reply {
    let (vhost, name) = (ask.name("vhost"), ask.name("queue"));
    let there = ask.api.view.vhost(vhost).ok_or(Refusal::NotFound)?;
    let was_there = there.queue(name).is_some();
    let spec = QueueSpec {
        durable: fields.flag("durable")?,
        exclusive: fields.flag("exclusive")?,
        auto_delete: fields.flag("auto_delete")?,
        arguments: fields.table("arguments")?,
    };
    let view = &ask.api.view;
    view.declare_queue(&ask.caller, vhost, name, spec).await?;
    Ok(declared(was_there))
}

async fn delete(ask: Ask) -> Reply {
    find(&ask)?;
    let (if_unused, if_empty) = (ask.query.flag("if-unused"), ask.query.flag("if-empty"));
    let (vhost, name) = (ask.name("vhost"), ask.name("queue"));
    let view = &ask.api.view;
    view.delete_queue(&ask.caller, vhost, name, if_unused, if_empty)
        .await?;
    Ok(no_content())
}

async fn purge(ask: Ask) -> Reply {
    find(&ask)?;
    let (vhost, name) = (ask.name("vhost"), ask.name("queue"));
    ask.api.view.purge_queue(&ask.caller, vhost, name).await?;
    Ok(no_content())
}

async fn take(ask: Ask, fields: Fields) -> Reply {
    find(&ask)?;
    let encoding = Encoding::parse(&fields)?;
    let (vhost, name) = (ask.name("vhost"), ask.name("queue"));
    let how = messages::how_to_take(&fields)?;
    let taken = ask.api.view.take(&ask.caller, vhost, name, how).await?;
    let show = move || {
        taken
            .iter()
            .map(|got| messages::show(got, encoding))
            .collect()
    };
    Ok(json_of(&ask.api.desk.work(show).await?))
}

/// 201 for what is new, 204 for what was there.
pub(super) fn declared(was_there: bool) -> Answer {
    empty(if was_there {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::CREATED
    })
}

/// What this node is called. There is but one, which is the cluster.
fn node(ask: &Ask) -> Arc<str> {
    Arc::from(ask.api.view.names().cluster)
}

/// One queue.
struct QueueItem {
    queue: QueueView,
    /// The node it is on.
    node: Arc<str>,
    /// The time at which its rates are asked for.
    now: Timestamp,
}

impl Item for QueueItem {
    fn place(&self) -> (&str, &str) {
        (self.queue.vhost(), self.queue.name())
    }

    fn show(&self) -> Option<Value> {
        if self.queue.is_deleted() {
            return None;
        }
        let identity = self.queue.identity();
        let policies = self.queue.policies();
        let statistics = self.queue.statistics(self.now);
        let counts = &statistics.counts;
        let duplicates = self.queue.deduplication_counts();
        let mut shown = json!({
            "name": identity.name,
            "vhost": *identity.vhost,
            "type": self.queue.kind().name(),
            "durable": identity.durable,
            "auto_delete": identity.auto_delete,
            "exclusive": identity.exclusive.is_some(),
            "arguments": table::table(&identity.arguments),
            "policy": policies.policy,
            "operator_policy": policies.operator_policy,
            "effective_policy_definition": policies.definition,
            "state": "running",
            "node": *self.node,
            "consumers": counts.consumers,
            "messages": total(counts),
            "messages_ready": counts.ready,
            "messages_unacknowledged": counts.unacknowledged,
            "message_bytes": statistics.ready_bytes + statistics.unacknowledged_bytes,
            "message_bytes_ready": statistics.ready_bytes,
            "message_bytes_unacknowledged": statistics.unacknowledged_bytes,
            "memory": statistics.memory_bytes,
            "message_stats": message_stats(&statistics),
            "leveret": {
                "messages_waiting": counts.waiting,
                "totals": statistics.totals,
                "rates": statistics.rates,
                "forecast": statistics.forecast,
                "time_in_queue": statistics.time_in_queue,
                "time_to_ack": statistics.time_to_ack,
                "deduplication": duplicates.as_ref().map(table::deduplication),
            },
        });
        // rabbitmq: quorum queues alone count deliveries
        if self.queue.kind() == QueueKind::Quorum {
            let limit = self.queue.delivery_limit();
            shown["delivery_limit"] = limit.map_or_else(|| Value::from("unlimited"), Value::from);
        }
        Some(shown)
    }
}

/// All messages of a queue; those that wait for their next delivery (`x-retry-delays`) are among them.
pub(super) fn total(counts: &QueueCounts) -> u64 {
    counts.ready + counts.unacknowledged + counts.waiting
}

/// Totals and rates under RabbitMQ's names.
fn message_stats(statistics: &QueueStatistics) -> Value {
    let (totals, rates) = (&statistics.totals, &statistics.rates);
    json!({
        "publish": totals.published,
        "publish_details": {"rate": rates.published},
        "deliver": totals.delivered,
        "deliver_no_ack": totals.delivered_no_ack,
        "get": totals.got,
        "get_no_ack": totals.got_no_ack,
        "get_empty": totals.got_empty,
        "deliver_get": totals.all_delivered(),
        "deliver_get_details": {"rate": rates.delivered},
        "redeliver": totals.redelivered,
        "redeliver_details": {"rate": rates.redelivered},
        "ack": totals.acknowledged,
        "ack_details": {"rate": rates.acknowledged},
    })
}
