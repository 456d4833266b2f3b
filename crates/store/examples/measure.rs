//! What a message costs in the store: throughput, processor time, memory, disk, recovery.
//!
//! `cargo run --release -p leveret-store --example measure DIR [MESSAGES [kill | open | short]]`

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures time and prints it"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a measurement ends at the first error"
)]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, CommitPoint, Enqueue, LogId, MessageLog, Payload, Sequence};

#[derive(Clone)]
struct Blob(Arc<[u8]>);

impl Payload for Blob {
    fn parts(&self) -> [&[u8]; 2] {
        let (head, body) = self.0.split_at(16);
        [head, body]
    }

    fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Blob(bytes.into()))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(store: &Journal<Blob>, point: CommitPoint, waker: &Waker) {
    while store.durable_point() < point {
        if store.wake_at(point, waker) {
            thread::park();
        }
    }
}

fn enqueue(log: u64, sequence: u64, payload: &Blob) -> Change<Blob> {
    Change::Enqueue(Enqueue {
        log: LogId(log),
        sequence: Sequence(sequence),
        flags: 0,
        time_ms: 0,
        transient: false,
        payload: payload.clone(),
    })
}

fn processor_us() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10_000.0
}

fn resident_kb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn disk_mb(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        let found = entry.metadata().unwrap();
        blocks += if found.is_dir() {
            disk_mb(&entry.path()) * 2048
        } else {
            found.blocks()
        };
    }
    blocks / 2048
}

struct Measured {
    started: Instant,
    processor: f64,
}

impl Measured {
    fn start() -> Self {
        Measured {
            started: Instant::now(),
            processor: processor_us(),
        }
    }

    fn report(&self, what: &str, messages: u64, latencies: &mut [Duration]) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let processor = processor_us() - self.processor;
        latencies.sort();
        let at = |part: f64| {
            latencies
                .get((latencies.len() as f64 * part) as usize)
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{what:<42} {:>9.0} msg/s  {:>6.2} CPU µs/msg  commit p50 {:>8.1?} p99 {:>8.1?} max {:>8.1?}  RSS {} kB",
            messages as f64 / elapsed,
            processor / messages as f64,
            at(0.5),
            at(0.99),
            at(1.0 - 1e-9),
            resident_kb()
        );
    }
}

/// Commits of `p` messages over `logs` logs, at most one commit in flight; each message is acknowledged
/// when `backlog` more have come.
fn commits(
    store: &Journal<Blob>,
    what: &str,
    messages: u64,
    p: u64,
    logs: u64,
    size: usize,
    backlog: Option<u64>,
) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let payload = Blob(vec![7; size].into());
    let base = store.log_state(LogId(1)).map_or(0, |state| state.next.0);
    let measured = Measured::start();
    let mut latencies = Vec::new();
    let mut unit = Vec::new();
    let mut live: VecDeque<(u64, u64, u64)> = VecDeque::new();
    let mut sequence = 0;
    let mut held = 0;
    while sequence < messages {
        let started = Instant::now();
        for n in sequence..sequence + p {
            unit.push(enqueue(1 + n % logs, base + n / logs, &payload));
        }
        if let Some(backlog) = backlog {
            for log in 0..logs.min(p) {
                live.push_back((
                    1 + (sequence + log) % logs,
                    base + (sequence + log) / logs,
                    p / logs.min(p),
                ));
            }
            held += p;
            while held > backlog {
                let (log, first, count) = live.pop_front().unwrap();
                unit.push(Change::Acknowledge {
                    log: LogId(log),
                    first: Sequence(first),
                    count,
                });
                held -= count;
            }
        }
        sequence += p;
        let point = store.stage(&mut unit);
        wait(store, point, &waker);
        latencies.push(started.elapsed());
    }
    measured.report(what, messages, &mut latencies);
    for (log, first, count) in live {
        unit.push(Change::Acknowledge {
            log: LogId(log),
            first: Sequence(first),
            count,
        });
    }
    let point = store.stage(&mut unit);
    wait(store, point, &waker);
}

/// As a broker does it: units of 50 messages, a window of `window` messages not yet confirmed, and with
/// `consumed` acknowledgements of 10 a moment after.
fn stream(store: &Journal<Blob>, what: &str, messages: u64, window: u64, consumed: bool) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let payload = Blob(vec![7; 1024].into());
    let base = store.log_state(LogId(1)).map_or(0, |state| state.next.0);
    let measured = Measured::start();
    let mut latencies = Vec::new();
    let mut unit = Vec::new();
    let mut flight: VecDeque<(CommitPoint, Instant, u64)> = VecDeque::new();
    let (mut sequence, mut acknowledged, mut unconfirmed) = (0, 0, 0);
    while sequence < messages {
        for n in sequence..sequence + 50 {
            unit.push(enqueue(1, base + n, &payload));
        }
        sequence += 50;
        unconfirmed += 50;
        flight.push_back((store.stage(&mut unit), Instant::now(), 50));
        if consumed {
            while acknowledged + 200 <= sequence {
                let first = Sequence(base + acknowledged);
                unit.push(Change::Acknowledge {
                    log: LogId(1),
                    first,
                    count: 10,
                });
                acknowledged += 10;
            }
            store.stage(&mut unit);
        }
        let durable = store.durable_point();
        while let Some((point, started, count)) = flight.front().copied() {
            if point > durable && unconfirmed < window {
                break;
            }
            wait(store, point, &waker);
            latencies.push(started.elapsed());
            unconfirmed -= count;
            flight.pop_front();
        }
    }
    measured.report(what, messages, &mut latencies);
    if consumed {
        unit.push(Change::Acknowledge {
            log: LogId(1),
            first: Sequence(0),
            count: u64::MAX / 2,
        });
        let point = store.stage(&mut unit);
        wait(store, point, &waker);
    }
}

fn drain(store: &Journal<Blob>, what: &str, logs: u64, acknowledge: bool) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let measured = Measured::start();
    let (mut messages, mut out, mut unit) = (0u64, Vec::new(), Vec::new());
    let mut point = CommitPoint::NONE;
    for log in 1..=logs {
        let mut from = Sequence(0);
        loop {
            store
                .read(LogId(log), from, 1000, 1 << 20, &mut out)
                .unwrap();
            let (Some(first), Some(last)) = (out.first(), out.last()) else {
                break;
            };
            messages += out.len() as u64;
            from = Sequence(last.sequence.0 + 1);
            if acknowledge {
                let mut at = first.sequence.0;
                while at < from.0 {
                    let count = (from.0 - at).min(100);
                    unit.push(Change::Acknowledge {
                        log: LogId(log),
                        first: Sequence(at),
                        count,
                    });
                    point = store.stage(&mut unit);
                    at += count;
                }
            }
            out.clear();
        }
    }
    wait(store, point, &waker);
    measured.report(what, messages, &mut []);
}

fn open(path: &Path) -> Journal<Blob> {
    let started = Instant::now();
    let store = Journal::open(path, JournalOptions::default()).unwrap();
    println!(
        "open {:?}, RSS {} kB, disk {} MB",
        started.elapsed(),
        resident_kb(),
        disk_mb(path)
    );
    store
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().expect("a directory");
    let million: u64 = arguments
        .next()
        .map_or(1_000_000, |count| count.parse().unwrap());
    let path = Path::new(&root).join("measured");
    match arguments.next().as_deref() {
        Some("kill") => {
            let _ = std::fs::remove_dir_all(&path);
            let store = open(&path);
            stream(&store, "stream, window 1000, kept", million, 1000, false);
            std::process::abort();
        }
        Some("short") => {
            let _ = std::fs::remove_dir_all(&path);
            let store = open(&path);
            commits(
                &store,
                "p=1000, 1 KB, backlog 5000",
                million,
                1000,
                1,
                1024,
                Some(5000),
            );
            return;
        }
        Some("open") => {
            let store = open(&path);
            println!(
                "{} messages",
                store.log_state(LogId(1)).map_or(0, |state| state.live)
            );
            drain(&store, "read a backlog", 1, false);
            return;
        }
        _ => {}
    }
    let _ = std::fs::remove_dir_all(&path);
    let store = open(&path);
    commits(
        &store,
        "one at a time, 1 KB",
        million / 200,
        1,
        1,
        1024,
        Some(100),
    );
    commits(
        &store,
        "p=10, 1 KB, backlog 500",
        million / 20,
        10,
        1,
        1024,
        Some(500),
    );
    commits(
        &store,
        "p=100, 1 KB, backlog 500",
        million / 4,
        100,
        1,
        1024,
        Some(500),
    );
    commits(
        &store,
        "p=1000, 1 KB, backlog 5000",
        million,
        1000,
        1,
        1024,
        Some(5000),
    );
    commits(
        &store,
        "p=1000, 100 B, backlog 5000",
        2 * million,
        1000,
        1,
        100,
        Some(5000),
    );
    commits(
        &store,
        "p=1000, 1 KB, 100 logs, backlog 5000",
        million,
        1000,
        100,
        1024,
        Some(5000),
    );
    commits(
        &store,
        "p=2, 1 MB, backlog 8",
        million / 1000,
        2,
        1,
        1 << 20,
        Some(8),
    );
    commits(
        &store,
        "p=1, 10 MB",
        million / 10_000,
        1,
        1,
        10 << 20,
        Some(1),
    );
    stream(
        &store,
        "stream, window 1000, consumed (c1)",
        million,
        1000,
        true,
    );
    println!("disk {} MB", disk_mb(&path));
    stream(
        &store,
        "stream, window 1000, kept (c0, g)",
        million,
        1000,
        false,
    );
    let state = store.log_state(LogId(1)).unwrap();
    println!(
        "live {} messages, {} bytes; disk {} MB, RSS {} kB",
        state.live,
        state.bytes,
        disk_mb(&path),
        resident_kb()
    );
    store.close();
    let store = open(&path);
    drain(&store, "read a backlog", 1, false);
    drain(&store, "read and acknowledge a backlog", 1, true);
    store.checkpoint();
    println!(
        "disk {} MB after the drain, RSS {} kB",
        disk_mb(&path),
        resident_kb()
    );
    let before = resident_kb();
    commits(
        &store,
        "1000 logs, p=1000, kept",
        million,
        1000,
        1000,
        1024,
        None,
    );
    println!(
        "RSS grew by {} kB for {million} messages in 1000 logs",
        resident_kb().saturating_sub(before)
    );
    drain(&store, "read and acknowledge 1000 logs", 1000, true);
    store.close();
    println!("disk {} MB at the end", disk_mb(&path));
}
