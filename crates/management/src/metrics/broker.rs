//! What is told of the broker as a whole: the process, the node, what all queues have together, virtual hosts and
//! exchanges.

use super::queues::{self, CONSUMERS};
use super::scrape::Prefixes;
use super::select::Selection;
use super::text::{Text, Type};
use crate::api::Api;
use crate::view::{Figures, Io, QueueKind, QueueSum};

const RABBITMQ: &str = "rabbitmq_";
const LEVERET: &str = "leveret_";

/// rabbitmq: the labels of its global counters
const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

/// What its client library tells of every process, and others' of theirs.
pub(super) fn process(api: &Api, text: &mut Text) {
    let figures = api.view.figures();
    let now_s = api.view.now().0 as f64 / 1000.0;
    let uptime_s = figures.uptime_ms as f64 / 1000.0;
    let mut gauge = |name, help, value: f64| text.single("", name, Type::Gauge, help, value);
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        (now_s - uptime_s).round(),
    );
    gauge(
        "process_threads",
        "Number of threads in the process.",
        figures.threads as f64,
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        figures.memory_reserved as f64,
    );
    text.single(
        "",
        "process_cpu_seconds_total",
        Type::Counter,
        "Total user and system CPU time spent in seconds.",
        figures.processor_ms as f64 / 1000.0,
    );
}

/// The node: alarms, what it uses and may use, what is open.
pub(super) fn node(api: &Api, text: &mut Text) {
    alarms(api, text);
    let figures = api.view.figures();
    node_coarse(&figures, RABBITMQ, text);
    node_metrics(&figures, RABBITMQ, text);
    let view = &api.view;
    let mut gauge = |name, help, value| text.single(RABBITMQ, name, Type::Gauge, help, value);
    gauge(
        "connections",
        "Connections currently open",
        view.connection_count(),
    );
    gauge("channels", "Channels currently open", view.channel_count());
}

fn alarms(api: &Api, text: &mut Text) {
    let alarm = api.view.alarm();
    let alarms = [
        (
            "alarms_file_descriptor_limit",
            "descriptors",
            "is 1 if file descriptor limit alarm is in effect",
        ),
        (
            "alarms_free_disk_space_watermark",
            "disk",
            "is 1 if free disk space watermark alarm is in effect",
        ),
        (
            "alarms_memory_used_watermark",
            "memory",
            "is 1 if VM memory watermark alarm is in effect",
        ),
    ];
    for (name, of, help) in alarms {
        let is_on = alarm.as_ref().is_some_and(|reason| reason.contains(of));
        text.single(RABBITMQ, name, Type::Untyped, help, u8::from(is_on));
    }
}

fn node_coarse(figures: &Figures, prefix: &str, text: &mut Text) {
    let mut gauge = |name, help, value: u64| text.single(prefix, name, Type::Gauge, help, value);
    gauge(
        "process_open_fds",
        "Open file descriptors",
        figures.descriptors_used as u64,
    );
    gauge(
        "process_open_tcp_sockets",
        "Open TCP sockets",
        figures.sockets_used as u64,
    );
    gauge(
        "process_resident_memory_bytes",
        "Memory used in bytes",
        figures.memory_used,
    );
    if let Some(disk) = figures.disk {
        gauge(
            "disk_space_available_bytes",
            "Disk space available in bytes",
            disk.free,
        );
    }
}

fn node_metrics(figures: &Figures, prefix: &str, text: &mut Text) {
    let mut gauge = |name, help, value: u64| text.single(prefix, name, Type::Gauge, help, value);
    gauge(
        "process_max_fds",
        "Open file descriptors limit",
        figures.descriptors_total as u64,
    );
    gauge(
        "process_max_tcp_sockets",
        "Open TCP sockets limit",
        figures.sockets_total as u64,
    );
    gauge(
        "resident_memory_limit_bytes",
        "Memory high watermark in bytes",
        figures.memory_total,
    );
    if let Some(disk) = figures.disk {
        let help = "Free disk space low watermark in bytes";
        gauge("disk_space_available_limit_bytes", help, disk.reserve);
    }
    let uptime_s = figures.uptime_ms as f64 / 1000.0;
    text.single(
        prefix,
        "erlang_uptime_seconds",
        Type::Gauge,
        "Node uptime",
        uptime_s,
    );
}

/// What is done with files. rabbitmq: what there is no counterpart of is left out
pub(super) fn files(api: &Api, text: &mut Text) {
    if let Some(io) = api.view.figures().io {
        persister(&io, RABBITMQ, text);
        sync_times(&io, LEVERET, text);
    }
}

fn persister(io: &Io, prefix: &str, text: &mut Text) {
    let mut counter = |name, help, value: f64| text.single(prefix, name, Type::Counter, help, value);
    let Io {
        reads,
        writes,
        syncs,
        ..
    } = io;
    counter("io_read_ops_total", "Total number of I/O read operations", reads.count as f64);
    counter("io_read_bytes_total", "Total number of I/O bytes read", reads.bytes as f64);
    counter("io_write_ops_total", "Total number of I/O write operations", writes.count as f64);
    counter("io_write_bytes_total", "Total number of I/O bytes written", writes.bytes as f64);
    counter("io_sync_ops_total", "Total number of I/O sync operations", syncs.count as f64);
    counter("io_read_time_seconds_total", "Total I/O read time", reads.seconds);
    counter("io_write_time_seconds_total", "Total I/O write time", writes.seconds);
    counter("io_sync_time_seconds_total", "Total I/O sync time", syncs.seconds);
}

fn sync_times(io: &Io, prefix: &str, text: &mut Text) {
    let help = "How long it took to bring something to stable storage";
    text.family(prefix, "sync_seconds", Type::Histogram, help);
    let below = io.syncs_below.iter().copied();
    text.histogram(&[], below, io.syncs.count, io.syncs.seconds);
}

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
        text.family("rabbitmq_global_", name, Type::Counter, help);
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
        text.family("rabbitmq_global_", &name, Type::Counter, help);
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
        node_coarse(&figures, prefixes.rabbitmq, text);
    }
    if wanted.wants("node_metrics") {
        node_metrics(&figures, prefixes.rabbitmq, text);
    }
    if let Some(io) = &figures.io {
        if wanted.wants("node_persister_metrics") {
            persister(io, prefixes.rabbitmq, text);
        }
        if wanted.wants("leveret_store_metrics") {
            sync_times(io, prefixes.leveret, text);
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

fn exchanges(
    api: &Api,
    wanted: &Selection,
    text: &mut Text,
    value: impl Fn(&crate::view::CountedExchange) -> u64,
) {
    for exchange in api.view.exchanges() {
        let vhost = exchange.vhost();
        if wanted.takes_vhost(vhost) {
            let labels = [
                ("vhost", vhost),
                ("exchange", &exchange.name),
                ("type", exchange.kind),
            ];
            text.sample(&labels, value(&exchange));
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
