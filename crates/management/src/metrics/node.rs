//! The process and the node: alarms, what it uses and may use, files.

use super::broker::{LEVERET, RABBITMQ};
use super::text::{Text, Type};
use crate::api::Api;
use crate::view::{Figures, Io};

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

pub(super) fn node_coarse(figures: &Figures, prefix: &str, text: &mut Text) {
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

pub(super) fn node_metrics(figures: &Figures, prefix: &str, text: &mut Text) {
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

pub(super) fn persister(io: &Io, prefix: &str, text: &mut Text) {
    let mut counter =
        |name, help, value: f64| text.single(prefix, name, Type::Counter, help, value);
    let Io {
        reads,
        writes,
        syncs,
        ..
    } = io;
    counter(
        "io_read_ops_total",
        "Total number of I/O read operations",
        reads.count as f64,
    );
    counter(
        "io_read_bytes_total",
        "Total number of I/O bytes read",
        reads.bytes as f64,
    );
    counter(
        "io_write_ops_total",
        "Total number of I/O write operations",
        writes.count as f64,
    );
    counter(
        "io_write_bytes_total",
        "Total number of I/O bytes written",
        writes.bytes as f64,
    );
    counter(
        "io_sync_ops_total",
        "Total number of I/O sync operations",
        syncs.count as f64,
    );
    counter(
        "io_read_time_seconds_total",
        "Total I/O read time",
        reads.seconds,
    );
    counter(
        "io_write_time_seconds_total",
        "Total I/O write time",
        writes.seconds,
    );
    counter(
        "io_sync_time_seconds_total",
        "Total I/O sync time",
        syncs.seconds,
    );
}

pub(super) fn sync_times(io: &Io, prefix: &str, text: &mut Text) {
    let help = "How long it took to bring something to stable storage";
    text.family(prefix, "sync_seconds", Type::Histogram, help);
    let below = io.syncs_below.iter().copied();
    text.histogram(&[], below, io.syncs.count, io.syncs.seconds);
}
