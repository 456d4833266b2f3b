//! Channels.

use std::sync::Arc;

use axum::routing::get;
use leveret_codec::ChannelNumber;
use serde_json::{Value, json};

use super::{connections, consumers};
use crate::api::Table;
use crate::door;
use crate::http::answer::{Refusal, json_of};
use crate::http::ask::{Ask, Reply};
use crate::http::date::date;
use crate::http::list::{self, Item};
use crate::view::{ChannelFacts, ChannelMode, ChannelView, ConnectionFacts, Timestamp, View};

/// So long nothing has to happen on a channel for it to be idle.
const IDLE_MS: u64 = 5_000;

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/channels", get(channels))
        .route("/api/vhosts/{vhost}/channels", get(channels))
        .route("/api/channels/{channel}", get(channel))
}

async fn channels(ask: Ask) -> Reply {
    if let Some(vhost) = ask.vhost()
        && !ask.api.view.has_vhost(vhost)
    {
        return Err(Refusal::NotFound);
    }
    let vhost = ask.vhost().map(str::to_owned);
    let user = ask.caller.user.clone();
    list(ask, move |view| {
        let mut all = view.connections_of(&user);
        let is_meant = |it: &Arc<ConnectionFacts>| {
            let of = &it.identity.vhost;
            vhost.as_deref().is_none_or(|vhost| **of == *vhost)
        };
        all.retain(is_meant);
        all
    })
    .await
}

/// The channels of connections.
pub(super) async fn list(
    ask: Ask,
    connections: impl FnOnce(&View) -> Vec<Arc<ConnectionFacts>> + Send + 'static,
) -> Reply {
    let (view, node) = (ask.api.view.clone(), ask.api.view.names().cluster);
    let (node, now): (Arc<str>, _) = (Arc::from(node), view.now());
    let collect = move || {
        let connections = connections(&view).into_iter();
        connections
            .flat_map(|connection| items(&connection, &node, now))
            .collect()
    };
    list::answer(&ask.api.desk, ask.query.list()?, collect).await
}

fn items(connection: &Arc<ConnectionFacts>, node: &Arc<str>, now: Timestamp) -> Vec<ChannelItem> {
    let consumers = connections::consumers_by_channel(connection);
    let name = connection.identity.name();
    let channels = connection.channels().into_iter();
    channels
        .map(|channel| ChannelItem {
            name: name_of(&name, channel.number),
            consumers: consumers
                .get(&channel.number.0)
                .copied()
                .unwrap_or_default(),
            view: ChannelView {
                connection: Arc::clone(connection),
                channel,
            },
            node: Arc::clone(node),
            now,
        })
        .collect()
}

/// rabbitmq: a channel is called after its connection
pub(super) fn name_of(connection: &str, number: ChannelNumber) -> String {
    format!("{connection} ({})", number.0)
}

/// The connection and the number in a channel's name.
fn parse(name: &str) -> Option<(&str, ChannelNumber)> {
    let (connection, number) = name.strip_suffix(')')?.rsplit_once(" (")?;
    Some((connection, ChannelNumber(number.parse().ok()?)))
}

async fn channel(ask: Ask) -> Reply {
    let (view, node) = (ask.api.view.clone(), ask.api.view.names().cluster);
    let (connection, number) = parse(ask.name("channel")).ok_or(Refusal::NotFound)?;
    let connection = view.connection(connection).ok_or(Refusal::NotFound)?;
    door::check_owner(&ask.caller.user, &connection.identity.user)?;
    let (node, columns): (Arc<str>, _) = (Arc::from(node), ask.query.columns());
    let shown = ask.api.desk.work(move || {
        let items = items(&connection, &node, view.now()).into_iter();
        let mut items = items.filter(|item| item.view.channel.number == number);
        let mut shown = items.next()?.show()?;
        let consumers = view.consumers(vec![connection]);
        let of_channel = consumers.filter(|it| it.consumer.channel == number);
        let details = of_channel.map(|consumer| consumers::show(&consumer, &node));
        shown["consumer_details"] = details.collect();
        Some(columns.cut(shown))
    });
    let shown = shown.await?.ok_or(Refusal::NotFound)?;
    Ok(json_of(&shown))
}

/// One channel.
struct ChannelItem {
    view: ChannelView,
    name: String,
    consumers: usize,
    /// The node it is on.
    node: Arc<str>,
    now: Timestamp,
}

impl Item for ChannelItem {
    fn place(&self) -> (&str, &str) {
        (&self.view.connection.identity.vhost, &self.name)
    }

    fn show(&self) -> Option<Value> {
        let ChannelView {
            connection,
            channel,
        } = &self.view;
        let identity = &connection.identity;
        let mode = channel.mode();
        let mut shown = json!({
            "name": self.name,
            "number": channel.number.0,
            "node": *self.node,
            "vhost": *identity.vhost,
            "user": identity.user,
            "user_who_performed_action": identity.user,
            // What holds up a connection holds up its channels.
            "state": connection.state().name(),
            "confirm": mode == ChannelMode::Confirm,
            "transactional": mode == ChannelMode::Transaction,
            "prefetch_count": channel.prefetch.get(),
            "global_prefetch_count": channel.global_prefetch.get(),
            "consumer_count": self.consumers,
            "messages_unacknowledged": channel.unacknowledged.get(),
            "messages_unconfirmed": channel.unconfirmed(),
            "messages_uncommitted": channel.uncommitted.get(),
            "acks_uncommitted": channel.settlements_uncommitted.get(),
            "pending_raft_commands": 0,
            "connection_details": {
                "name": identity.name(),
                "peer_host": identity.remote.ip(),
                "peer_port": identity.remote.port(),
            },
            "message_stats": message_stats(channel),
        });
        let active_at = channel.active_at.time();
        if active_at + IDLE_MS <= self.now {
            shown["idle_since"] = Value::from(date(active_at));
        }
        Some(shown)
    }
}

/// What was counted, under RabbitMQ's names.
fn message_stats(channel: &ChannelFacts) -> Value {
    let (deliver, deliver_no_ack) = (channel.delivered.get(), channel.delivered_no_ack.get());
    let (get, get_no_ack) = (channel.got.get(), channel.got_no_ack.get());
    json!({
        "publish": channel.published.get(),
        "confirm": channel.confirmed.get(),
        "return_unroutable": channel.returned.get(),
        "drop_unroutable": channel.dropped.get(),
        "deliver": deliver,
        "deliver_no_ack": deliver_no_ack,
        "get": get,
        "get_no_ack": get_no_ack,
        "get_empty": channel.got_empty.get(),
        "deliver_get": deliver + deliver_no_ack + get + get_no_ack,
        "redeliver": channel.redelivered.get(),
        "ack": channel.acknowledged.get(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        let connection = "127.0.0.1:1 -> [::1]:2";
        let number = ChannelNumber(65535);
        assert_eq!(
            parse(&name_of(connection, number)),
            Some((connection, number))
        );
        for wrong in ["", "x", "x ()", "x (1", "x (65536)", "(1)"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
