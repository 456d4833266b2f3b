//! What only a cluster or a plugin of RabbitMQ has: answered as one node without it would, so that tools that look for it
//! find nothing rather than an error.

use axum::routing::{delete, get, post};
use serde_json::json;

use super::queues;
use crate::api::{Api, LoginCounts, Table};
use crate::door::{Administrator, Level, Monitor};
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};

pub(super) fn table() -> Table {
    const QUORUM: &str = "/api/queues/quorum/{vhost}/{queue}";
    const ON: &str = "/api/queues/quorum/replicas/on/{node}";
    let lists = [
        "shovels",
        "shovels/{vhost}",
        "federation-links",
        "federation-links/{vhost}",
        "stream/connections",
        "stream/connections/{vhost}",
        "stream/consumers",
        "stream/consumers/{vhost}",
        "stream/publishers",
        "stream/publishers/{vhost}",
    ];
    let lists = lists.iter().fold(Table::new(), |table, list| {
        table.route(&format!("/api/{list}"), get(none))
    });
    lists
        .route(
            "/api/shovels/vhost/{vhost}/{name}",
            get(no_shovel).delete(no_shovel),
        )
        .route("/api/rebalance/queues", post(rebalance))
        .route("/api/queues/{vhost}/{queue}/actions", post(act))
        .route(&format!("{QUORUM}/status"), get(status))
        .route(&format!("{QUORUM}/replicas/add"), post(no_other_node))
        .route(&format!("{QUORUM}/replicas/delete"), delete(last_replica))
        .route(&format!("{ON}/grow"), post(grow))
        .route(&format!("{ON}/shrink"), delete(last_replica))
        .route("/api/auth/attempts/{node}", get(attempts).delete(forget))
        .route(
            "/api/auth/attempts/{node}/source",
            get(by_source).delete(forget),
        )
        .route("/api/nodes/{node}/memory/ets", get(no_tables))
        .route("/api/nodes/{node}/memory/ets/relative", get(no_tables))
        .route("/api/nodes/{node}/memory/ets/{filter}", get(no_tables))
        .route(
            "/api/nodes/{node}/memory/ets/{filter}/relative",
            get(no_tables),
        )
}

async fn none(ask: Ask) -> Reply {
    match ask.vhost() {
        Some(vhost) if !ask.api.view.has_vhost(vhost) => Err(Refusal::NotFound),
        _ => Ok(json_of(&json!([]))),
    }
}

/// rabbitmq: they are not counted by source unless it is turned on
async fn by_source(ask: Ask<Monitor>) -> Reply {
    this_node(&ask)?;
    Ok(json_of(&json!([])))
}

async fn attempts(ask: Ask<Monitor>) -> Reply {
    this_node(&ask)?;
    let forgotten = *ask.api.forgotten_logins();
    let counted = logins(&ask.api);
    let names = ["amqp091", "http"].into_iter();
    let shown = names.zip(counted.into_iter().zip(forgotten));
    let shown = shown.map(|(name, ((succeeded, failed), before))| {
        let (succeeded, failed) = (succeeded - before.0, failed - before.1);
        json!({
            "protocol": name,
            "auth_attempts": succeeded + failed,
            "auth_attempts_succeeded": succeeded,
            "auth_attempts_failed": failed,
        })
    });
    Ok(json_of(&shown.collect()))
}

/// As they are counted.
fn logins(api: &Api) -> LoginCounts {
    let churn = api.view.churn();
    [churn.amqp, churn.http]
}

/// They are counted on, for the metrics, and shown from here on.
async fn forget(ask: Ask<Administrator>) -> Reply {
    this_node(&ask)?;
    let counted = logins(&ask.api);
    *ask.api.forgotten_logins() = counted;
    Ok(no_content())
}

/// Those are Erlang's, and RabbitMQ says so where there are none.
async fn no_tables(ask: Ask<Monitor>) -> Reply {
    this_node(&ask)?;
    Ok(json_of(&json!({"ets_tables_memory": "no_tables"})))
}

async fn no_shovel(_ask: Ask) -> Reply {
    Err(Refusal::NotFound)
}

/// All queues are where they can be.
async fn rebalance(_ask: Ask<Administrator>, _fields: Fields) -> Reply {
    Ok(no_content())
}

/// A queue has no mirrors, so they are in step.
async fn act(ask: Ask, fields: Fields) -> Reply {
    queues::find(&ask)?;
    match fields.text("action")? {
        Some("sync" | "cancel_sync") => Ok(no_content()),
        other => Err(Refusal::bad(format!(
            "unknown {}",
            other.unwrap_or_default()
        ))),
    }
}

/// The one replica of a quorum queue.
async fn status(ask: Ask<Monitor>) -> Reply {
    queues::find(&ask)?;
    let node = ask.api.view.names().cluster;
    let replica = json!({
        "Node Name": node,
        "Raft State": "leader",
        "Membership": "voter",
    });
    Ok(json_of(&json!([replica])))
}

async fn no_other_node(ask: Ask<Administrator>, _fields: Fields) -> Reply {
    queues::find(&ask)?;
    Err(Refusal::bad("there is no other node"))
}

async fn last_replica(ask: Ask<Administrator>, _fields: Fields) -> Reply {
    if ask.vhost().is_some() {
        queues::find(&ask)?;
    } else {
        this_node(&ask)?;
    }
    Err(Refusal::bad(
        "the last replica of a queue cannot be removed",
    ))
}

async fn grow(ask: Ask<Administrator>, _fields: Fields) -> Reply {
    this_node(&ask)?;
    Ok(no_content())
}

fn this_node<L: Level>(ask: &Ask<L>) -> Result<(), Refusal> {
    if ask.name("node") == ask.api.view.names().cluster {
        Ok(())
    } else {
        Err(Refusal::NotFound)
    }
}
