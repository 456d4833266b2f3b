//! Consumers.

use std::sync::Arc;

use axum::routing::get;
use serde_json::{Value, json};

use super::channels;
use crate::api::Table;
use crate::http::answer::Refusal;
use crate::http::ask::{Ask, Reply};
use crate::http::list::{self, Item};
use crate::http::table;
use crate::view::ConsumerView;

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/consumers", get(consumers))
        .route("/api/consumers/{vhost}", get(consumers))
}

/// rabbitmq: they are for whoever may see their virtual host
async fn consumers(ask: Ask) -> Reply {
    let view = ask.api.view.clone();
    let vhosts: Vec<String> = match ask.vhost() {
        Some(vhost) if view.has_vhost(vhost) => vec![vhost.to_owned()],
        Some(_) => return Err(Refusal::NotFound),
        None => {
            let vhosts = view.vhosts_of(&ask.caller.user);
            vhosts.iter().map(|vhost| vhost.name().to_owned()).collect()
        }
    };
    let node: Arc<str> = Arc::from(view.names().cluster);
    let collect = move || {
        let mut connections = view.connections();
        connections.retain(|it| vhosts.iter().any(|vhost| *it.identity.vhost == **vhost));
        let consumers = view.consumers(connections);
        consumers
            .map(|consumer| ConsumerItem {
                consumer,
                node: Arc::clone(&node),
            })
            .collect()
    };
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

/// One consumer.
struct ConsumerItem {
    consumer: ConsumerView,
    /// The node it is on.
    node: Arc<str>,
}

impl Item for ConsumerItem {
    fn place(&self) -> (&str, &str) {
        (self.consumer.queue.vhost(), self.consumer.queue.name())
    }

    fn rest(&self) -> impl Ord + '_ {
        &self.consumer.consumer.tag
    }

    fn show(&self) -> Option<Value> {
        Some(show(&self.consumer, &self.node))
    }
}

/// A consumer as JSON.
pub(super) fn show(view: &ConsumerView, node: &str) -> Value {
    let (identity, consumer) = (&view.connection.identity, &view.consumer);
    let connection = identity.name();
    let is_active = view.is_active();
    json!({
        "consumer_tag": String::from_utf8_lossy(&consumer.tag),
        "queue": {"name": view.queue.name(), "vhost": view.queue.vhost()},
        "ack_required": !consumer.no_ack,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "active": is_active,
        "activity_status": match (view.is_of_single_active(), is_active) {
            (true, true) => "single_active",
            (true, false) => "waiting",
            (false, _) => "up",
        },
        "arguments": table::table(&consumer.arguments()),
        "channel_details": {
            "name": channels::name_of(&connection, consumer.channel),
            "number": consumer.channel.0,
            "connection_name": connection,
            "node": node,
            "user": identity.user,
            "peer_host": identity.remote.ip(),
            "peer_port": identity.remote.port(),
        },
    })
}
