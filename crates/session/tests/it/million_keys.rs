//! What very many keys cost: memory for each, and the longest that anybody waits for a publish.
//!
//! Run by itself: `cargo test -p leveret-broker --test it million -- --ignored --nocapture --test-threads 1`.

#![allow(clippy::print_stdout, reason = "figures are shown")]

use std::time::Duration;

use leveret_codec::{AMQPProperties, AMQPValue};
use rustix::time::{ClockId, clock_gettime};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

const KEYS: usize = 1_000_000;
/// No publish may take more of the processor's time.
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// The processor's time that this thread had.
fn busy() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// Publishes a million messages, each with what `message` makes of its number; answers bytes a key, and the
/// longest publish by the processor's time.
fn measure(
    client: &Client,
    key: &str,
    message: impl Fn(usize) -> AMQPProperties,
) -> (usize, Duration) {
    let before = resident();
    let mut longest = Duration::ZERO;
    for at in 0..KEYS {
        let message = Properties {
            exchange: "x",
            ..Properties::of(message(at))
        };
        let begin = busy();
        client.publish_with(key, "", &message);
        longest = longest.max(busy() - begin);
    }
    (resident().saturating_sub(before) / KEYS, longest)
}

fn check(what: &str, bytes_max: usize, (bytes, longest): (usize, Duration)) {
    println!("{what}: {bytes} bytes a key, the longest publish took {longest:?}");
    assert!(bytes <= bytes_max, "{bytes} bytes a key");
    assert!(longest < PAUSE_MAX, "a publish took {longest:?}");
}

fn world(kind: &str, arguments: &[(&str, AMQPValue)]) -> Client {
    let client = World::volatile().client();
    client.declare_exchange("x", kind, &[Flag::Durable], arguments);
    client.seen();
    // Nothing piles up but the keys.
    client.declare_ok("q", &[Flag::Durable], &[("x-max-length", number(1))]);
    client.bind("q", "x", "k");
    client.seen();
    client
}

/// What the machine makes of a million publishes that leave nothing behind.
#[test]
#[ignore = "measures; takes long"]
fn a_million_without_keys() {
    let client = world("direct", &[("x-dedup-window-ms", number(3_600_000))]);
    check(
        "without keys",
        1,
        measure(&client, "k", |_| AMQPProperties::default()),
    );
}

#[test]
#[ignore = "measures; takes long"]
fn a_million_message_ids() {
    let client = world("direct", &[("x-dedup-window-ms", number(3_600_000))]);
    let message = |at: usize| AMQPProperties::default().with_message_id(at.to_string().into());
    check("window", 40, measure(&client, "k", message));
}

#[test]
#[ignore = "measures; takes long"]
fn a_million_headers() {
    let size = [("x-cache-size", number(KEYS as i64))];
    let client = world("x-message-deduplication", &size);
    let message = |at: usize| {
        let header = ("x-deduplication-header", string(&at.to_string()));
        AMQPProperties::default().with_headers(table(&[header]))
    };
    check("cache", 40, measure(&client, "k", message));
}

#[test]
#[ignore = "measures; takes long"]
fn a_million_producers() {
    let config = leveret_broker::BrokerConfig {
        producers_max: KEYS,
        ..leveret_broker::BrokerConfig::default()
    };
    let client = World::volatile_with(config).client();
    client.declare_exchange("x", "direct", &[Flag::Durable], &[]);
    client.seen();
    let message = |at: usize| {
        let producer = ("x-producer", string(&at.to_string()));
        let headers = table(&[producer, ("x-sequence", number(1))]);
        AMQPProperties::default().with_headers(headers)
    };
    check("producers", 150, measure(&client, "k", message));
}
