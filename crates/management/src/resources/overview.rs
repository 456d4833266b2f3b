//! The broker as a whole.

use axum::routing::get;
use serde_json::{Value, json};

use super::{nodes, queues};
use crate::api::{Api, Table};
use crate::http::answer::json_of;
use crate::http::ask::{Ask, Reply};
use crate::view::User;

pub(super) fn table() -> Table {
    Table::new().route("/api/overview", get(overview))
}

async fn overview(ask: Ask) -> Reply {
    let Ask {
        api, caller, query, ..
    } = ask;
    let (columns, desk) = (query.columns(), api.desk.clone());
    let shown = desk.work(move || columns.cut(show(&api, &caller.user)));
    Ok(json_of(&shown.await?))
}

/// Numbers of messages, queues and exchanges are those that the user may see.
fn show(api: &Api, user: &User) -> Value {
    let view = &api.view;
    let names = view.names();
    let (mut queue_count, mut consumers, mut exchanges) = (0, 0, 0);
    let (mut messages, mut ready, mut unacknowledged) = (0, 0, 0);
    for vhost in view.vhosts_of(user) {
        exchanges += vhost.exchange_names().len();
        for queue in vhost.queues() {
            let counts = queue.counts();
            queue_count += 1;
            consumers += u64::from(counts.consumers);
            messages += queues::total(&counts);
            ready += counts.ready;
            unacknowledged += counts.unacknowledged;
        }
    }
    let mut shown = json!({
        "product_name": "Leveret",
        "product_version": env!("CARGO_PKG_VERSION"),
        "rabbitmq_version": names.version,
        "management_version": names.version,
        "cluster_name": names.cluster,
        "node": names.cluster,
        "rates_mode": "basic",
        // There is none; who asks wants a text.
        "erlang_version": "none",
        "erlang_full_version": "none: Leveret is written in Rust",
        "exchange_types": nodes::exchange_types(),
        "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
        "statistics_db_event_queue": 0,
        "default_queue_type": "classic",
        "is_op_policy_updating_enabled": true,
        "contexts": [],
        "disable_stats": false,
        "enable_queue_totals": false,
        "queue_totals": {
            "messages": messages,
            "messages_ready": ready,
            "messages_unacknowledged": unacknowledged,
        },
        "object_totals": {
            "queues": queue_count,
            "exchanges": exchanges,
            "consumers": consumers,
        },
    });
    // rabbitmq: connections and what is listened on are for monitors
    if user.is_monitor() {
        shown["object_totals"]["connections"] = Value::from(view.connection_count());
        shown["object_totals"]["channels"] = Value::from(view.channel_count());
        let listeners = api.listeners.iter();
        shown["listeners"] = listeners
            .map(|listener| {
                json!({
                    "node": names.cluster,
                    "protocol": listener.protocol,
                    "ip_address": listener.address.ip(),
                    "port": listener.address.port(),
                })
            })
            .collect();
    }
    shown
}
