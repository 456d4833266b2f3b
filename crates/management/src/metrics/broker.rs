//! What is told of the broker as a whole: which it is, what all queues have together, virtual hosts and exchanges, and
//! where memory goes.

use super::connections;
use super::node;
use super::queues::{self, CONSUMERS};
use super::scrape::Prefixes;
use super::select::Selection;
use super::text::{Text, Type};
use crate::api::Api;
use crate::view::{CountedExchange, QueueKind, QueueSum};

pub(super) const RABBITMQ: &str = "rabbitmq_";
pub(super) const LEVERET: &str = "leveret_";
pub(super) const GLOBAL: &str = "rabbitmq_global_";

/// rabbitmq: the labels of its global counters
pub(super) const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

/// What all queues have and have done together.
pub(super) fn queues_together(api: &Api, text: &mut Text) {
    let of_kinds = QueueKind::ALL.map(|kind| (kind, api.view.queues_together(kind)));
    let mut all = QueueSum::default();
    for (_, sum) in &of_kinds {
        all.add(sum);
    }
    let now = api.view.now();
    for family in queues::RABBITMQ.iter().filter(|it| it.group != CONSUMERS) {
        text.family(RABBITMQ, family.name, family.of, family.help);
        family.show(text, &[], &all, now);
    }
    for family in &queues::LEVERET {
        text.family(LEVERET, family.name, family.of, family.help);
        family.show(text, &[], &all, now);
    }
    text.family(
        GLOBAL,
        "consumers",
        Type::Gauge,
        "Current number of consumers",
    );
    text.sample(&[PROTOCOL], all.consumers);
    let help = "Total number of messages routed to queues or streams";
    text.family(GLOBAL, "messages_routed_total", Type::Counter, help);
    // With what comes by dead-lettering, which enters queues the same way.
    text.sample(&[PROTOCOL], all.totals.published + all.totals.refused);
    let mut gauge = |name, help, value| text.single(RABBITMQ, name, Type::Gauge, help, value);
    gauge("consumers", "Consumers currently connected", all.consumers);
    gauge("queues", "Queues available", all.queues);
    delivered(&of_kinds, text);
    dead_lettered(&of_kinds, text);
}

/// rabbitmq: the global counters of each type of queue, by name, what they count and help
type Delivered = (&'static str, fn(&QueueSum) -> u64, &'static str);
const DELIVERED: [Delivered; 8] = [
    (
        "messages_acknowledged_total",
        |it| it.totals.acknowledged,
        "Total number of messages acknowledged by consumers",
    ),
    (
        "messages_delivered_consume_auto_ack_total",
        |it| it.totals.delivered_no_ack,
        "Total number of messages delivered to consumers using basic.consume with automatic acknowledgment",
    ),
    (
        "messages_delivered_consume_manual_ack_total",
        |it| it.totals.delivered,
        "Total number of messages delivered to consumers using basic.consume with manual acknowledgment",
    ),
    (
        "messages_delivered_get_auto_ack_total",
        |it| it.totals.got_no_ack,
        "Total number of messages delivered to consumers using basic.get with automatic acknowledgment",
    ),
    (
        "messages_delivered_get_manual_ack_total",
        |it| it.totals.got,
        "Total number of messages delivered to consumers using basic.get with manual acknowledgment",
    ),
    (
        "messages_delivered_total",
        |it| it.totals.all_delivered(),
        "Total number of messages delivered to consumers",
    ),
    (
        "messages_get_empty_total",
        |it| it.totals.got_empty,
        "Total number of times basic.get operations fetched no message",
    ),
    (
        "messages_redelivered_total",
        |it| it.totals.redelivered,
        "Total number of messages redelivered to consumers",
    ),
];

fn delivered(of_kinds: &[(QueueKind, QueueSum)], text: &mut Text) {
    for (name, value, help) in DELIVERED {
        text.family(GLOBAL, name, Type::Counter, help);
        for (kind, sum) in of_kinds {
            text.sample(&[PROTOCOL, ("queue_type", kind.module())], value(sum));
        }
    }
}

/// rabbitmq: help for the reasons for which messages are dead-lettered
const DEAD_LETTERED: [(&str, &str); 4] = [
    (
        "rejected",
        "Total number of messages dead-lettered due to basic.reject or basic.nack",
    ),
    (
        "expired",
        "Total number of messages dead-lettered due to message TTL exceeded",
    ),
    (
        "maxlen",
        "Total number of messages dead-lettered due to overflow drop-head or reject-publish-dlx",
    ),
    (
        "delivery_limit",
        "Total number of messages dead-lettered due to delivery-limit exceeded",
    ),
];

/// rabbitmq: what ended without a dead-letter exchange is counted as of the strategy `disabled`
fn dead_lettered(of_kinds: &[(QueueKind, QueueSum)], text: &mut Text) {
    for (at, (reason, help)) in DEAD_LETTERED.into_iter().enumerate() {
        let name = format!("messages_dead_lettered_{reason}_total");
        text.family(GLOBAL, &name, Type::Counter, help);
        // Nothing leaves a stream by these.
        for (kind, sum) in of_kinds
            .iter()
            .filter(|(kind, _)| *kind != QueueKind::Stream)
        {
            let strategies = [
                ("at_most_once", &sum.totals.dead_lettered),
                ("disabled", &sum.totals.discarded),
            ];
            for (strategy, reasons) in strategies {
                let labels = [
                    ("queue_type", kind.module()),
                    ("dead_letter_strategy", strategy),
                ];
                let counts = queues::by_name(reasons);
                text.sample(&labels, counts.get(at).map_or(0, |(_, count)| *count));
            }
        }
    }
}

/// What `/metrics/detailed` has beside queues, as far as it is asked for.
pub(super) fn groups(api: &Api, wanted: &Selection, prefixes: Prefixes, text: &mut Text) {
    let figures = api.view.figures();
    if wanted.wants("node_coarse_metrics") {
        node::node_coarse(&figures, prefixes.rabbitmq, text);
    }
    if wanted.wants("node_metrics") {
        node::node_metrics(&figures, prefixes.rabbitmq, text);
    }
    if let Some(io) = &figures.io {
        if wanted.wants("node_persister_metrics") {
            node::persister(io, prefixes.rabbitmq, text);
        }
        if wanted.wants("leveret_store_metrics") {
            node::sync_times(io, prefixes.leveret, text);
        }
    }
    if wanted.wants("vhost_status") {
        text.family(
            "rabbitmq_cluster_",
            "vhost_status",
            Type::Gauge,
            "Whether a given vhost is running",
        );
        for vhost in api.view.all_vhosts() {
            text.sample(&[("vhost", vhost.name())], 1);
        }
    }
    if wanted.wants("exchange_metrics") {
        of_each_exchange(api, wanted, prefixes, text);
    }
    if wanted.wants("connection_churn_metrics") {
        connections::churn(
            &api.view.traffic(),
            &api.view.churn(),
            prefixes.rabbitmq,
            text,
        );
    }
    if wanted.wants("auth_attempt_metrics") {
        connections::logins(&api.view.churn(), prefixes.rabbitmq, text);
    }
    if wanted.wants("exchange_bindings") {
        let help = "Number of bindings for an exchange. This value is cluster-wide.";
        text.family("rabbitmq_cluster_", "exchange_bindings", Type::Gauge, help);
        exchanges(api, wanted, text, |exchange| {
            exchange.binding_count() as u64
        });
    }
    if wanted.wants("exchange_names") {
        let help = "Enumerates exchanges without any additional info. This value is cluster-wide. A cheaper alternative to \
                    `exchange_bindings`";
        text.family("rabbitmq_cluster_", "exchange_name", Type::Gauge, help);
        exchanges(api, wanted, text, |_| 1);
    }
}

/// A value of each exchange but the default one, which is no more than the names of queues.
fn exchanges(
    api: &Api,
    wanted: &Selection,
    text: &mut Text,
    value: impl Fn(&CountedExchange) -> u64,
) {
    for exchange in api.view.exchanges() {
        let vhost = exchange.vhost();
        if wanted.takes_vhost(vhost) && !exchange.name.is_empty() {
            let kind = ("type", exchange.kind);
            let labels = [("vhost", vhost), ("exchange", &exchange.name), kind];
            text.sample(&labels, value(&exchange));
        }
    }
}

/// rabbitmq: what is counted of each exchange since version 4, as far as that is known; and what is found of duplicates.
///
pub(super) fn of_each_exchange(api: &Api, wanted: &Selection, prefixes: Prefixes, text: &mut Text) {
    let all = api.view.exchanges();
    let all: Vec<_> = all
        .iter()
        .filter(|it| wanted.takes_vhost(it.vhost()))
        .collect();
    type Value = fn(&CountedExchange) -> Option<u64>;
    let families: [(&str, &str, Value, &str); 4] = [
        (
            prefixes.rabbitmq,
            "exchange_messages_unroutable_returned_total",
            |it| Some(it.unroutable().0),
            "Total number of messages published as mandatory into an exchange and returned to the publisher as unroutable",
        ),
        (
            prefixes.rabbitmq,
            "exchange_messages_unroutable_dropped_total",
            |it| Some(it.unroutable().1),
            "Total number of messages published as non-mandatory into an exchange and dropped as unroutable",
        ),
        (
            prefixes.leveret,
            "exchange_duplicates_total",
            |it| it.duplicates().map(|counts| counts.duplicates),
            "Messages not taken, for they had been published to an exchange before",
        ),
        (
            prefixes.leveret,
            "exchange_gaps_total",
            |it| it.duplicates().map(|counts| counts.gaps),
            "Messages to an exchange before which their producer had left out numbers",
        ),
    ];
    for (prefix, name, value, help) in families {
        text.family(prefix, name, Type::Counter, help);
        for exchange in &all {
            if let Some(count) = value(exchange) {
                text.sample(
                    &[("vhost", exchange.vhost()), ("exchange", &exchange.name)],
                    count,
                );
            }
        }
    }
}

/// Which broker this is, by what dashboards join on. `endpoint`: what was asked for.
pub(super) fn identity(api: &Api, endpoint: &str, text: &mut Text) {
    let names = api.view.names();
    text.family(
        RABBITMQ,
        "build_info",
        Type::Untyped,
        "RabbitMQ & Erlang/OTP version info",
    );
    let build = [
        ("rabbitmq_version", names.version),
        ("prometheus_plugin_version", names.version),
        // There is none of both; who asks wants a text.
        ("prometheus_client_version", "none"),
        ("erlang_version", "none"),
        ("product_name", "Leveret"),
        ("product_version", env!("CARGO_PKG_VERSION")),
    ];
    text.sample(&build, 1);
    text.family(
        RABBITMQ,
        "identity_info",
        Type::Untyped,
        "RabbitMQ node & cluster identity info",
    );
    let id = permanent_id(names.cluster);
    let identity = [
        ("rabbitmq_node", names.cluster),
        ("rabbitmq_cluster", names.cluster),
        ("rabbitmq_cluster_permanent_id", &id),
        ("rabbitmq_endpoint", endpoint),
    ];
    text.sample(&identity, 1);
}

/// A name that looks like RabbitMQ's: here it follows from the cluster's name, which is a setting and stays.
fn permanent_id(cluster: &str) -> String {
    /// FNV-1a
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mixed = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    let hash = cluster.bytes().fold(OFFSET, mixed);
    format!("rabbitmq-cluster-id-{hash:032x}")
}

/// Where memory goes, as far as that is known. rabbitmq: the names of those of its processes that do the same
pub(super) fn memory_breakdown(api: &Api, text: &mut Text) {
    let of = |kind| api.view.queues_together(kind).memory_bytes;
    let queues = [
        (
            "memory_classic_queue_erlang_process_bytes",
            "Classic queue processes footprint in bytes",
            of(QueueKind::Classic),
        ),
        (
            "memory_quorum_queue_erlang_process_bytes",
            "Quorum queue processes footprint in bytes",
            of(QueueKind::Quorum),
        ),
        (
            "memory_stream_erlang_process_bytes",
            "Stream processes footprint in bytes",
            of(QueueKind::Stream),
        ),
    ];
    let known: u64 = queues.iter().map(|(_, _, bytes)| bytes).sum();
    let used = api.view.figures().memory_used;
    let other = (
        "memory_other_system_bytes",
        "Other runtime footprint in bytes",
        used.saturating_sub(known),
    );
    for (name, help, bytes) in queues.into_iter().chain([other]) {
        text.single(RABBITMQ, name, Type::Gauge, help, bytes);
    }
}
