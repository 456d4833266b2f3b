//! Virtual hosts.

use axum::routing::get;
use serde_json::{Value, json};

use super::{change, queues};
use crate::api::Table;
use crate::door::Administrator;
use crate::http::answer::{Refusal, json_of};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::VhostView;

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/vhosts", get(vhosts))
        .route("/api/vhosts/{vhost}", get(vhost).put(set))
        .route(
            "/api/vhosts/{vhost}/start/{node}",
            axum::routing::post(start),
        )
}

async fn vhosts(ask: Ask) -> Reply {
    let mut vhosts = ask.api.view.vhosts_of(&ask.caller.user);
    vhosts.sort_by(|one, other| one.name().cmp(other.name()));
    let (node, columns) = (node(&ask), ask.query.columns());
    let shown = ask.api.desk.work(move || {
        let shown = vhosts.iter().map(|vhost| columns.cut(show(vhost, &node)));
        shown.collect::<Value>()
    });
    Ok(json_of(&shown.await?))
}

async fn vhost(ask: Ask) -> Reply {
    let vhost = ask
        .api
        .view
        .vhost(ask.name("vhost"))
        .ok_or(Refusal::NotFound)?;
    let (node, columns) = (node(&ask), ask.query.columns());
    let shown = ask.api.desk.work(move || columns.cut(show(&vhost, &node)));
    Ok(json_of(&shown.await?))
}

fn node(ask: &Ask) -> String {
    ask.api.view.names().cluster.to_owned()
}

fn show(vhost: &VhostView, node: &str) -> Value {
    let (mut messages, mut ready, mut unacknowledged) = (0, 0, 0);
    for queue in vhost.queues() {
        let counts = queue.counts();
        messages += queues::total(&counts);
        ready += counts.ready;
        unacknowledged += counts.unacknowledged;
    }
    // rabbitmq: a text where there is none
    let kind = vhost
        .default_queue_type()
        .map_or("undefined", |kind| kind.name());
    json!({
        "name": vhost.name(),
        "description": "",
        "tags": [],
        "metadata": {"description": "", "tags": []},
        "default_queue_type": kind,
        "tracing": vhost.is_traced(),
        "cluster_state": {node: "running"},
        "messages": messages,
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
    })
}

async fn set(ask: Ask<Administrator>, fields: Fields) -> Reply {
    let name = ask.name("vhost");
    let was_there = ask.api.view.has_vhost(name);
    let mut vhost = json!({"name": name});
    if fields.get("tracing").is_some() {
        vhost["tracing"] = Value::from(fields.flag("tracing")?);
    }
    for field in ["default_queue_type", "defaultqueuetype"] {
        if let Some(kind) = fields.get(field) {
            vhost["default_queue_type"] = kind.clone();
        }
    }
    let mut definitions = json!({"vhosts": [vhost]});
    if !was_there {
        // rabbitmq: whoever makes one may use it
        definitions["permissions"] = json!([{
            "vhost": name,
            "user": ask.caller.user.name,
            "configure": ".*",
            "write": ".*",
            "read": ".*",
        }]);
    }
    change::import(&ask.api, &definitions).await?;
    Ok(change::set(was_there))
}

/// It runs already.
async fn start(ask: Ask<Administrator>, _fields: Fields) -> Reply {
    let view = &ask.api.view;
    let is_there = view.has_vhost(ask.name("vhost")) && ask.name("node") == view.names().cluster;
    if is_there {
        Ok(change::set(true))
    } else {
        Err(Refusal::NotFound)
    }
}
