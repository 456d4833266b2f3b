//! Commits to the real disk and reading a backlog from it.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
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

fn wait(store: &Journal<Blob>, point: CommitPoint) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    while store.durable_point() < point {
        if store.wake_at(point, &waker) {
            thread::park();
        }
    }
}

fn unit(from: u64, count: u64, payload: &Blob) -> Vec<Change<Blob>> {
    let mut unit: Vec<Change<Blob>> = (from..from + count)
        .map(|sequence| {
            Change::Enqueue(Enqueue {
                log: LogId(1),
                sequence: Sequence(sequence),
                flags: 0,
                time_ms: 0,
                transient: false,
                payload: payload.clone(),
            })
        })
        .collect();
    if let Some(first) = from.checked_sub(5000) {
        unit.push(Change::Acknowledge {
            log: LogId(1),
            first: Sequence(first),
            count,
        });
    }
    unit
}

fn commit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(".").unwrap();
    let payload = Blob(vec![7; 1024].into());
    let mut group = criterion.benchmark_group("store commit");
    for count in [10, 100, 1000] {
        let path = directory.path().join(count.to_string());
        let store: Journal<Blob> = Journal::open(&path, JournalOptions::default()).unwrap();
        let mut next = 0;
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} messages of 1 KB"), |bencher| {
            bencher.iter_batched(
                || {
                    next += count;
                    unit(next - count, count, &payload)
                },
                |mut unit| {
                    let point = store.stage(&mut unit);
                    wait(&store, point);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(".").unwrap();
    let payload = Blob(vec![7; 1024].into());
    let store: Journal<Blob> =
        Journal::open(&directory.path().join("store"), JournalOptions::default()).unwrap();
    let mut point = CommitPoint::NONE;
    for number in 0..100 {
        let mut unit: Vec<_> = unit(number * 1000, 1000, &payload);
        unit.truncate(1000);
        point = store.stage(&mut unit);
    }
    wait(&store, point);
    let mut group = criterion.benchmark_group("store read");
    group.throughput(Throughput::Elements(1000));
    let mut from = 0;
    let mut out = Vec::new();
    group.bench_function("1000 messages of 1 KB", |bencher| {
        bencher.iter(|| {
            out.clear();
            store
                .read(LogId(1), Sequence(from), 1000, usize::MAX, &mut out)
                .unwrap();
            from = (from + 1000) % 99_000;
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group!(benches, commit, read);
criterion_main!(benches);
