//! What connections and channels did together, what came and went, and logins.

use super::broker::{GLOBAL, PROTOCOL, RABBITMQ};
use super::text::{Text, Type};
use crate::api::Api;
use crate::view::{ChurnFigures, SIZES, Traffic};

/// What came and went, and what connections did.
pub(super) fn connections_together(api: &Api, text: &mut Text) {
    let (traffic, churned) = (api.view.traffic(), api.view.churn());
    churn(&traffic, &churned, RABBITMQ, text);
    logins(&churned, RABBITMQ, text);
    let mut counter = |name, help, value| text.single(RABBITMQ, name, Type::Counter, help, value);
    counter(
        "connection_incoming_bytes_total",
        "Total number of bytes received on a connection",
        traffic.received_bytes,
    );
    counter(
        "connection_outgoing_bytes_total",
        "Total number of bytes sent on a connection",
        traffic.sent_bytes,
    );
    counter(
        "connection_incoming_packets_total",
        "Total number of packets received on a connection",
        traffic.received,
    );
    counter(
        "connection_outgoing_packets_total",
        "Total number of packets sent on a connection",
        traffic.sent,
    );
    counter(
        "channel_messages_published_total",
        "Total number of messages published into an exchange on a channel",
        traffic.published,
    );
    counter(
        "channel_messages_confirmed_total",
        "Total number of messages published into an exchange and confirmed on the channel",
        traffic.confirmed,
    );
    counter(
        "channel_messages_unroutable_returned_total",
        RETURNED,
        traffic.returned,
    );
    counter(
        "channel_messages_unroutable_dropped_total",
        DROPPED,
        traffic.dropped,
    );
    published(&traffic, text);
}

pub(super) const RETURNED: &str = "Total number of messages published as mandatory into an exchange and returned to the publisher as \
                        unroutable";
pub(super) const DROPPED: &str = "Total number of messages published as non-mandatory into an exchange and dropped as unroutable";

pub(super) fn churn(traffic: &Traffic, churn: &ChurnFigures, prefix: &str, text: &mut Text) {
    let families = [
        (
            "connections_opened_total",
            "Total number of connections opened",
            traffic.connections_opened,
        ),
        (
            "connections_closed_total",
            "Total number of connections closed or terminated",
            traffic.connections_closed,
        ),
        (
            "channels_opened_total",
            "Total number of channels opened",
            traffic.channels_opened,
        ),
        (
            "channels_closed_total",
            "Total number of channels closed",
            traffic.channels_closed,
        ),
        (
            "queues_declared_total",
            "Total number of queues declared",
            churn.queues_declared,
        ),
        (
            "queues_created_total",
            "Total number of queues created",
            churn.queues_created,
        ),
        (
            "queues_deleted_total",
            "Total number of queues deleted",
            churn.queues_deleted,
        ),
    ];
    for (name, help, value) in families {
        text.single(prefix, name, Type::Counter, help, value);
    }
}

pub(super) fn logins(churn: &ChurnFigures, prefix: &str, text: &mut Text) {
    type Value = fn((u64, u64)) -> u64;
    let families: [(&str, &str, Value); 3] = [
        (
            "auth_attempts_total",
            "Total number of authentication attempts",
            |(right, wrong)| right + wrong,
        ),
        (
            "auth_attempts_succeeded_total",
            "Total number of successful authentication attempts",
            |(right, _)| right,
        ),
        (
            "auth_attempts_failed_total",
            "Total number of failed authentication attempts",
            |(_, wrong)| wrong,
        ),
    ];
    for (name, help, value) in families {
        text.family(prefix, name, Type::Counter, help);
        for (protocol, of) in [("amqp091", churn.amqp), ("http", churn.http)] {
            text.sample(&[("protocol", protocol)], value(of));
        }
    }
}

/// rabbitmq: the global counters of what is published
fn published(traffic: &Traffic, text: &mut Text) {
    let families = [
        (
            "messages_received_total",
            "Total number of messages received from publishers",
            traffic.published,
        ),
        (
            "messages_received_confirm_total",
            "Total number of messages received from publishers expecting confirmations",
            traffic.published_to_confirm,
        ),
        (
            "messages_confirmed_total",
            "Total number of messages confirmed to publishers",
            traffic.confirmed,
        ),
        (
            "messages_unroutable_returned_total",
            RETURNED,
            traffic.returned,
        ),
        (
            "messages_unroutable_dropped_total",
            DROPPED,
            traffic.dropped,
        ),
    ];
    for (name, help, value) in families {
        text.family(GLOBAL, name, Type::Counter, help);
        text.sample(&[PROTOCOL], value);
    }
    text.family(
        GLOBAL,
        "publishers",
        Type::Gauge,
        "Current number of publishers",
    );
    text.sample(&[PROTOCOL], traffic.publishers);
    let help = "Size of messages received from publishers";
    text.family(RABBITMQ, "message_size_bytes", Type::Histogram, help);
    let mut below = 0;
    let bounded = SIZES.iter().zip(traffic.sizes).take(SIZES.len() - 1);
    let bounded = bounded.map(|(bound, count)| {
        below += count;
        (*bound as f64, below)
    });
    let count = traffic.sizes.iter().sum();
    text.histogram(&[PROTOCOL], bounded, count, traffic.size_bytes as f64);
}
