//! Producers that number what they publish: `x-producer` and `x-sequence`, with nothing declared.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::AMQPProperties;
use leveret_deduplication::DeduplicationCounts;
use leveret_queue::queue::statistics::Reasons;
use leveret_store_api::MessageLog;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};
use crate::statistics::of;

const SELECT: u16 = 10;
const COMMIT: u16 = 20;
const ROLLBACK: u16 = 30;

fn numbered(exchange: &'static str, producer: &str, sequence: i64, persistent: bool) -> Properties {
    let headers = table(&[
        ("x-producer", string(producer)),
        ("x-sequence", number(sequence)),
    ]);
    let properties = AMQPProperties::default()
        .with_headers(headers)
        .with_delivery_mode(if persistent { 2 } else { 1 });
    Properties {
        exchange,
        ..Properties::of(properties)
    }
}

fn from(exchange: &'static str, producer: &str, sequence: i64) -> Properties {
    numbered(exchange, producer, sequence, true)
}

/// An exchange and a routing key by which messages reach the queue `q`: one of each kind there is, none of
/// which knows of producers before the first message.
const WAYS: [(&str, &str); 3] = [("", "q"), ("x", "q"), ("amq.direct", "q")];

fn world() -> (Rc<World>, Client) {
    world_with(BrokerConfig::default())
}

fn world_with(config: BrokerConfig) -> (Rc<World>, Client) {
    let world = World::durable_with(config);
    let client = world.client();
    client.declare_exchange("x", "direct", &[Flag::Durable], &[]);
    client.seen();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for exchange in ["x", "amq.direct"] {
        client.bind("q", exchange, "q");
    }
    client.seen();
    (world, client)
}

fn bodies(client: &Client, queue: &str) -> String {
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, true);
    }
    client.bodies().join(" ")
}

fn counts(world: &World, exchange: &str) -> DeduplicationCounts {
    let counts = if exchange.is_empty() {
        let vhost = world.broker.vhost("/").unwrap();
        vhost.queue("q").unwrap().deduplication_counts()
    } else {
        world.broker.deduplication_counts("/", exchange).unwrap()
    };
    counts.unwrap_or_default()
}

#[test]
fn what_was_sent_is_acked_and_gaps_are_nacked() {
    for (exchange, key) in WAYS {
        let (world, client) = world();
        client.confirms();
        for sequence in [5, 5, 6, 3, 8, 7, 8] {
            client.publish_with(key, &sequence.to_string(), &from(exchange, "me", sequence));
        }
        client.publish_with(key, "you", &from(exchange, "you", 1));
        client.expect(&[
            "ack 1", "ack 2", "ack 3", "ack 4", "nack 5", "ack 6", "ack 7", "ack 8",
        ]);
        assert_eq!(bodies(&client, "q"), "5 6 7 8 you", "{exchange:?}");
        let counts = counts(&world, exchange);
        let counted = (counts.duplicates, counts.gaps, counts.producers);
        assert_eq!(counted, (2, 1, 2), "{exchange:?}");
    }
}

#[test]
fn numbers_survive_with_their_messages_and_only_so() {
    for (exchange, key) in WAYS {
        let (world, client) = world();
        client.publish_with(key, "1", &from(exchange, "me", 1));
        client.publish_with(key, "2", &from(exchange, "me", 2));
        world.hold_commits();
        client.publish_with(key, "lost", &from(exchange, "me", 3));
        let after = world.restarted();
        let client = after.client();
        for (sequence, body) in [(1, "again"), (2, "again"), (3, "3"), (4, "4")] {
            client.publish_with(key, body, &from(exchange, "me", sequence));
        }
        assert_eq!(bodies(&client, "q"), "1 2 3 4", "{exchange:?}");
        let again = after.restarted();
        let client = again.client();
        client.publish_with(key, "again", &from(exchange, "me", 4));
        client.publish_with(key, "5", &from(exchange, "me", 5));
        assert_eq!(bodies(&client, "q"), "5", "{exchange:?}");
        assert_eq!(
            counts(&again, exchange).producers,
            1,
            "one entry a producer"
        );
    }
}

#[test]
fn a_refused_message_stops_those_behind_it_until_it_comes_again() {
    for exchange in ["", "x"] {
        let world = World::durable();
        let client = world.client();
        let small = [
            ("x-max-length", number(1)),
            ("x-overflow", string("reject-publish")),
        ];
        client.declare_exchange("x", "direct", &[Flag::Durable], &[]);
        client.seen();
        client.declare_ok("q", &[Flag::Durable], &small);
        client.bind("q", "x", "q");
        client.seen();
        client.confirms();
        client.publish_with("q", "1", &from(exchange, "me", 1));
        client.publish_with("q", "2", &from(exchange, "me", 2));
        client.expect(&["ack 1", "nack 2"]);
        assert_eq!(bodies(&client, "q"), "1");
        // There is room by now, but the third without the second would lose the second for ever.
        client.publish_with("q", "3", &from(exchange, "me", 3));
        client.publish_with("q", "2", &from(exchange, "me", 2));
        client.expect(&["nack 3", "ack 4"]);
        assert_eq!(bodies(&client, "q"), "2");
        client.publish_with("q", "3", &from(exchange, "me", 3));
        client.expect(&["ack 5"]);
        assert_eq!(bodies(&client, "q"), "3");
    }
}

#[test]
fn without_confirms_gaps_are_counted_and_taken() {
    let (world, client) = world();
    for sequence in [1, 4, 3] {
        client.publish_with("q", &sequence.to_string(), &from("x", "me", sequence));
    }
    assert_eq!(bodies(&client, "q"), "1 4");
    let counts = counts(&world, "x");
    assert_eq!((counts.duplicates, counts.gaps), (1, 1));
}

#[test]
fn what_goes_nowhere_counts_as_sent() {
    let (_, client) = world();
    client.confirms();
    client.publish_with("nowhere", "1", &from("x", "me", 1).mandatory());
    client.publish_with("nowhere", "2", &from("x", "me", 2));
    client.publish_with("q", "3", &from("x", "me", 3));
    // A duplicate is not returned, although it has no queue to go to.
    client.publish_with("nowhere", "again", &from("x", "me", 1).mandatory());
    client.expect(&[
        "return 312 NO_ROUTE '1'",
        "ack 1",
        "ack 2",
        "ack 3",
        "ack 4",
    ]);
    assert_eq!(bodies(&client, "q"), "3");
}

#[test]
fn a_duplicate_waits_for_what_it_is_a_duplicate_of() {
    for (exchange, key) in WAYS {
        let (world, client) = world();
        let other = world.client();
        client.confirms();
        other.confirms();
        client.publish_with(key, "0", &from(exchange, "me", 1));
        client.expect(&["ack 1"]);
        world.hold_commits();
        client.publish_with(key, "a", &from(exchange, "me", 2));
        other.publish_with(key, "a", &from(exchange, "me", 2).mandatory());
        other.expect_nothing();
        world.commit();
        client.expect(&["ack 2"]);
        other.expect(&["ack 1"]);
        assert_eq!(client.counts("q"), (2, 0));
    }
}

#[test]
fn a_transaction_is_counted_when_it_commits_and_never_by_halves() {
    for (exchange, key) in WAYS {
        let (world, client) = world();
        let other = world.client();
        client.tx(SELECT);
        client.publish_with(key, "rolled back", &from(exchange, "me", 1));
        client.tx(ROLLBACK);
        for (sequence, body) in [(1, "1"), (1, "again"), (2, "2")] {
            client.publish_with(key, body, &from(exchange, "me", sequence));
        }
        client.tx(COMMIT);
        client.expect(&["tx.select-ok", "rollback-ok", "commit-ok"]);
        assert_eq!(bodies(&other, "q"), "1 2", "{exchange:?}");
        client.publish_with(key, "3", &from(exchange, "me", 3));
        client.publish_with(key, "5", &from(exchange, "me", 5));
        client.tx(COMMIT);
        client.expect_channel_error(
            406,
            "PRECONDITION_FAILED - x-sequence 5 leaves out numbers after 3",
        );
        assert_eq!(bodies(&other, "q"), "", "{exchange:?}");
        other.publish_with(key, "3", &from(exchange, "me", 3));
        assert_eq!(bodies(&other, "q"), "3", "{exchange:?}");
        let after = world.restarted().client();
        after.publish_with(key, "again", &from(exchange, "me", 3));
        assert_eq!(bodies(&after, "q"), "");
    }
}

#[test]
fn a_refused_transaction_settles_nothing() {
    for (exchange, key) in WAYS {
        let (world, client) = world();
        let other = client.with_channel(2);
        other.declare_ok("r", &[Flag::Durable], &[]);
        other.publish_all("r", "a b c", &Properties::persistent());
        client.publish_with(key, "1", &from(exchange, "me", 1));
        client.tx(SELECT);
        (0..3).for_each(|_| client.get("r", false));
        client.ack(1, false);
        client.reject(2, false);
        client.nack(3, false, true);
        client.publish_with(key, "3", &from(exchange, "me", 3));
        client.seen();
        client.tx(COMMIT);
        client.expect_channel_error(
            406,
            "PRECONDITION_FAILED - x-sequence 3 leaves out numbers after 1",
        );
        let totals = of(&world, "r").totals;
        assert_eq!(totals.dead_lettered, Reasons::default(), "{exchange:?}");
        assert_eq!(totals.discarded, Reasons::default(), "{exchange:?}");
        assert_eq!(totals.acknowledged, 0, "{exchange:?}");
        assert_eq!(bodies(&other, "r"), "a b c", "{exchange:?}");
        assert_eq!(bodies(&other, "q"), "1", "{exchange:?}");
    }
}

#[test]
fn numbered_messages_of_a_transaction_keep_their_place_among_others() {
    for (exchange, key) in WAYS {
        let (_, client) = world();
        client.tx(SELECT);
        client.publish_with("q", "a", &Properties::persistent());
        client.publish_with(key, "b", &from(exchange, "me", 1));
        client.publish_with("q", "c", &Properties::default());
        client.publish_with(key, "d", &from(exchange, "me", 2));
        client.tx(COMMIT);
        client.seen();
        assert_eq!(bodies(&client, "q"), "a b c d", "{exchange:?}");
    }
}

#[test]
fn queues_exchanges_and_streams_count_apart() {
    let (world, client) = world();
    client.declare_ok("r", &[Flag::Durable], &[]);
    client.declare_ok("s", &[Flag::Durable], &[("x-queue-type", string("stream"))]);
    client.confirms();
    for (exchange, key) in [("", "q"), ("", "r"), ("", "s"), ("x", "q")] {
        client.publish_with(key, "1", &from(exchange, "me", 1));
        client.publish_with(key, "again", &from(exchange, "me", 1));
    }
    assert_eq!(client.lines().len(), 8);
    assert_eq!(bodies(&client, "q"), "1 1");
    assert_eq!(bodies(&client, "r"), "1");
    let after = world.restarted().client();
    after.publish_with("s", "again", &from("", "me", 1));
    after.publish_with("s", "2", &from("", "me", 2));
    after.qos_ok(10, false);
    after.consume("s", "c", &[], &[("x-stream-offset", string("first"))]);
    after.expect_first("consume-ok c");
    after.expect_bodies("1 2");
}

#[test]
fn headers_that_make_no_sense_are_no_numbers() {
    let (_, client) = world();
    for headers in [
        vec![("x-producer", string("me"))],
        vec![("x-sequence", number(1))],
        vec![("x-producer", string("me")), ("x-sequence", number(-1))],
        vec![("x-producer", string("me")), ("x-sequence", string("1"))],
        vec![("x-producer", number(1)), ("x-sequence", number(1))],
    ] {
        let message = AMQPProperties::default().with_headers(table(&headers));
        for _ in 0..2 {
            client.publish_with("q", "a", &Properties::of(message.clone()));
        }
        assert_eq!(bodies(&client, "q"), "a a");
    }
}

#[test]
fn numbers_go_with_their_queue_and_exchange() {
    let (world, client) = world();
    client.publish_with("q", "a", &from("x", "me", 1));
    client.publish_with("q", "a", &from("", "me", 1));
    client.delete("q", false, false);
    client.delete_exchange("x", false);
    client.seen();
    assert_eq!(MessageLog::logs(world.store()), []);
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.publish_with("q", "anew", &from("", "me", 1));
    assert_eq!(bodies(&client, "q"), "anew");
}

#[test]
fn numbers_of_transient_messages_are_kept_too() {
    let (world, client) = world();
    for sequence in [1, 2] {
        client.publish_with("q", "a", &numbered("x", "me", sequence, false));
    }
    // Else the third would be a gap for ever.
    let client = world.restarted().client();
    client.confirms();
    client.publish_with("q", "3", &from("x", "me", 3));
    client.expect(&["ack 1"]);
}

#[test]
fn the_producer_silent_for_longest_gives_way() {
    for (exchange, key) in WAYS {
        let (world, client) = world_with(BrokerConfig {
            producers_max: 2,
            ..BrokerConfig::default()
        });
        let send = |client: &Client, producer, sequence| {
            let body = format!("{producer}{sequence}");
            client.publish_with(key, &body, &from(exchange, producer, sequence));
        };
        for (producer, sequence) in [("a", 1), ("b", 1), ("a", 2), ("c", 1)] {
            send(&client, producer, sequence);
        }
        let counts = counts(&world, exchange);
        assert_eq!((counts.producers, counts.producers_forgotten), (2, 1));
        let client = world.restarted().client();
        for (producer, sequence) in [("a", 2), ("c", 1), ("b", 1), ("b", 1)] {
            send(&client, producer, sequence);
        }
        assert_eq!(bodies(&client, "q"), "a1 b1 a2 c1 b1", "{exchange:?}");
        assert_eq!(client.counts("q"), (0, 0));
        // Of a and c it was c that was heard of later.
        send(&client, "c", 2);
        send(&client, "c", 1);
        assert_eq!(bodies(&client, "q"), "c2", "{exchange:?}");
    }
}

#[test]
fn a_lower_limit_is_reached_in_use() {
    let (world, client) = world();
    for producer in 0..6 {
        client.publish_with("q", "a", &from("x", &producer.to_string(), 1));
    }
    assert_eq!(counts(&world, "x").producers, 6);
    let config = BrokerConfig {
        producers_max: 1,
        ..BrokerConfig::default()
    };
    let world = world.reconfigured(config);
    let client = world.client();
    for sequence in 1..=5 {
        client.publish_with("q", "a", &from("x", "new", sequence));
    }
    assert_eq!(counts(&world, "x").producers, 1);
}
