//! What one route costs, by kind of exchange and number of bindings.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may stop, and criterion's macro writes a public function"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use leveret_codec::{AMQPValue, FieldTable, LongString, RawTable, encode_table};
use leveret_routing::{
    Binding, Destination, Exchange, ExchangeKind, QueueId, Route, RouteInput, Topology,
};

fn with_queues(count: u64) -> Topology {
    let mut topology = Topology::new();
    for id in 0..count {
        topology.add_queue(&format!("q{id}"), QueueId(id));
    }
    topology
}

fn bind(topology: &mut Topology, source: &str, queue: u64, key: &str, arguments: FieldTable) {
    let binding = Binding {
        source: source.to_owned(),
        destination: Destination::Queue(QueueId(queue)),
        routing_key: key.as_bytes().to_vec(),
        arguments,
    };
    topology.bind(binding).expect("a good binding");
}

/// Plain keys for the most part, one in ten with a star, one in a hundred with a hash.
fn topic_pattern(number: u64) -> String {
    let (site, device) = (number / 100, number % 100);
    match number {
        _ if number % 100 == 7 => format!("site{site}.#"),
        _ if number % 10 == 3 => format!("site{site}.*.device{device}.temperature"),
        _ => format!("site{site}.hall{}.device{device}.temperature", number % 7),
    }
}

fn topic(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("topic");
    for count in [10, 10_000, 100_000] {
        let mut topology = with_queues(1000);
        for number in 0..count {
            let pattern = topic_pattern(number);
            bind(
                &mut topology,
                "amq.topic",
                number % 1000,
                &pattern,
                FieldTable::default(),
            );
        }
        let keys: Vec<String> = (0..count)
            .step_by(usize::try_from(count / 10).unwrap())
            .map(|number| topic_pattern(number).replace(['*', '#'], "hall5"))
            .collect();
        let mut route = Route::new();
        let mut next = keys.iter().cycle();
        group.bench_function(format!("{count} bindings"), |bencher| {
            bencher.iter(|| {
                let key = next.next().unwrap();
                let input = RouteInput::new(key.as_bytes());
                black_box(topology.route("amq.topic", &input, &mut route))
            });
        });
    }
    group.finish();
}

fn text_table(entries: &[(&str, String)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        let value = AMQPValue::LongString(LongString::from(value.as_str()));
        table.insert((*name).into(), value);
    }
    table
}

fn headers(criterion: &mut Criterion) {
    let mut topology = with_queues(100);
    for number in 0..100 {
        let arguments = text_table(&[
            (
                "x-match",
                if number % 2 == 0 { "all" } else { "any" }.to_owned(),
            ),
            ("format", format!("format-{}", number % 10)),
            ("customer", format!("customer-{number}")),
        ]);
        bind(&mut topology, "amq.headers", number, "", arguments);
    }
    let message = encode_table(&text_table(&[
        ("format", "format-4".to_owned()),
        ("customer", "customer-44".to_owned()),
        ("trace", "0123456789abcdef".to_owned()),
    ]));
    let headers = Some(RawTable::from_encoded(&message));
    let mut route = Route::new();
    criterion.bench_function("headers/100 bindings", |bencher| {
        bencher.iter(|| {
            let input = RouteInput {
                headers,
                ..RouteInput::default()
            };
            black_box(topology.route("amq.headers", &input, &mut route))
        });
    });
}

fn fanout_and_direct(criterion: &mut Criterion) {
    let mut topology = with_queues(10_000);
    for queue in 0..10_000 {
        if queue < 10 {
            bind(
                &mut topology,
                "amq.fanout",
                queue,
                "",
                FieldTable::default(),
            );
        }
        let key = format!("key-{queue}");
        bind(
            &mut topology,
            "amq.direct",
            queue,
            &key,
            FieldTable::default(),
        );
    }
    let mut route = Route::new();
    let mut bench = |name, exchange, key: &'static [u8]| {
        criterion.bench_function(name, |bencher| {
            let input = RouteInput::new(key);
            bencher.iter(|| black_box(topology.route(exchange, black_box(&input), &mut route)));
        });
    };
    bench("fanout/10 bindings", "amq.fanout", b"");
    bench("direct/10000 bindings", "amq.direct", b"key-4711");
    bench("default exchange/10000 queues", "", b"q4711");
}

fn consistent_hash(criterion: &mut Criterion) {
    let mut topology = with_queues(100);
    topology.declare_exchange(Exchange {
        name: "hash".to_owned(),
        kind: ExchangeKind::ConsistentHash,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
        alternate: None,
    });
    for queue in 0..100 {
        bind(&mut topology, "hash", queue, "1", FieldTable::default());
    }
    let mut route = Route::new();
    criterion.bench_function("consistent hash/100 bindings", |bencher| {
        let input = RouteInput::new(b"order.4711");
        bencher.iter(|| black_box(topology.route("hash", black_box(&input), &mut route)));
    });
}

fn bind_and_unbind(criterion: &mut Criterion) {
    let mut topology = with_queues(10_001);
    for queue in 0..10_000 {
        bind(
            &mut topology,
            "amq.fanout",
            queue,
            "",
            FieldTable::default(),
        );
    }
    let binding = Binding {
        source: "amq.fanout".to_owned(),
        destination: Destination::Queue(QueueId(10_000)),
        routing_key: Vec::new(),
        arguments: FieldTable::default(),
    };
    criterion.bench_function("bind and unbind/fanout of 10000", |bencher| {
        bencher.iter(|| {
            topology.bind(binding.clone()).expect("a good binding");
            black_box(topology.unbind(&binding))
        });
    });
}

criterion_group!(
    benches,
    topic,
    headers,
    fanout_and_direct,
    consistent_hash,
    bind_and_unbind
);
criterion_main!(benches);
