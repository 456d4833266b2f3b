//! The node: there is one, which is the cluster.

use std::sync::Arc;

use axum::routing::get;
use serde_json::{Value, json};

use crate::api::{Api, Table};
use crate::door::{Administrator, Monitor};
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view;

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/nodes", get(nodes))
        .route("/api/nodes/{node}", get(node))
        .route("/api/nodes/{node}/memory", get(memory))
        .route("/api/nodes/{node}/memory/relative", get(relative_memory))
        .route("/api/cluster-name", get(name).put(rename))
}

async fn nodes(ask: Ask<Monitor>) -> Reply {
    let (api, columns) = (Arc::clone(&ask.api), ask.query.columns());
    let shown = ask.api.desk.work(move || columns.cut(show(&api)));
    Ok(json_of(&json!([shown.await?])))
}

async fn node(ask: Ask<Monitor>) -> Reply {
    check(&ask)?;
    let (api, columns) = (Arc::clone(&ask.api), ask.query.columns());
    let shown = ask.api.desk.work(move || columns.cut(show(&api)));
    Ok(json_of(&shown.await?))
}

fn check(ask: &Ask<Monitor>) -> Result<(), Refusal> {
    if ask.name("node") == ask.api.view.names().cluster {
        Ok(())
    } else {
        Err(Refusal::NotFound)
    }
}

fn show(api: &Api) -> Value {
    let figures = api.view.figures();
    let names = api.view.names();
    let alarm = api.view.alarm();
    let is_alarm = |of: &str| alarm.as_ref().is_some_and(|reason| reason.contains(of));
    json!({
        "name": names.cluster,
        "type": "disc",
        "running": true,
        "being_drained": false,
        "partitions": [],
        "cluster_links": [],
        "os_pid": figures.process.to_string(),
        "uptime": figures.uptime_ms,
        "processors": figures.processors,
        "run_queue": 0,
        "rates_mode": "basic",
        "net_ticktime": 60,
        "fd_used": figures.descriptors_used,
        "fd_total": figures.descriptors_total,
        "sockets_used": figures.sockets_used,
        "sockets_total": figures.sockets_total,
        "proc_used": api.view.connection_count() + api.view.channel_count(),
        "proc_total": figures.descriptors_total,
        "mem_used": figures.memory_used,
        // There is no watermark: what may take memory is bounded each for itself.
        "mem_limit": figures.memory_total,
        "mem_alarm": is_alarm("memory"),
        "disk_free": figures.disk.map(|disk| disk.free),
        "disk_free_limit": figures.disk.map_or(0, |disk| disk.reserve),
        "disk_free_alarm": is_alarm("disk"),
        "enabled_plugins": ["rabbitmq_management"],
        "applications": [
            {"name": "rabbit", "description": "Leveret", "version": names.version},
            {"name": "rabbitmq_management", "description": "Leveret's", "version": names.version},
        ],
        "auth_mechanisms": [
            {"name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true},
            {"name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true},
        ],
        "exchange_types": exchange_types(),
        "log_files": ["<stderr>"],
        "config_files": [],
        "contexts": [],
    })
}

/// The types that an exchange may have.
pub(super) fn exchange_types() -> Value {
    let types = view::exchange_types();
    let shown = types.map(|kind| json!({"name": kind, "description": "", "enabled": true}));
    shown.collect()
}

/// What is known of where memory goes: all of it, and no more.
async fn memory(ask: Ask<Monitor>) -> Reply {
    check(&ask)?;
    let used = ask.api.view.figures().memory_used;
    Ok(json_of(&json!({"memory": {
        "strategy": "rss",
        "total": {"rss": used, "allocated": used, "erlang": used},
    }})))
}

async fn relative_memory(ask: Ask<Monitor>) -> Reply {
    check(&ask)?;
    Ok(json_of(&json!({"memory": {"total": 100}})))
}

async fn name(ask: Ask) -> Reply {
    Ok(json_of(&json!({"name": ask.api.view.names().cluster})))
}

/// It is a setting, which clients are told as they connect.
async fn rename(ask: Ask<Administrator>, fields: Fields) -> Reply {
    fields.require(&["name"])?;
    if fields.text("name")? == Some(ask.api.view.names().cluster) {
        return Ok(no_content());
    }
    Err(Refusal::bad("the name is a setting here: --cluster-name"))
}
