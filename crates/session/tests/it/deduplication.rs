//! Publisher deduplication: what counts as published before, for how long, and after a crash.

mod damaged;
mod plugin;
mod policies;
mod races;

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue};
use leveret_deduplication::DeduplicationCounts;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

fn message() -> AMQPProperties {
    AMQPProperties::default().with_delivery_mode(2)
}

fn id(exchange: &'static str, message_id: &str) -> Properties {
    Properties {
        exchange,
        ..Properties::of(message().with_message_id(message_id.into()))
    }
}

fn headers(exchange: &'static str, headers: &[(&str, AMQPValue)]) -> Properties {
    Properties {
        exchange,
        ..Properties::of(message().with_headers(table(headers)))
    }
}

fn key(exchange: &'static str, key: &str) -> Properties {
    headers(exchange, &[("x-deduplication-header", string(key))])
}

fn from(exchange: &'static str, producer: &str, sequence: i64) -> Properties {
    let producer = ("x-producer", string(producer));
    headers(exchange, &[producer, ("x-sequence", number(sequence))])
}

/// An exchange `x` with these arguments and a queue `q` bound to it by `k`.
fn exchange(world: &Rc<World>, kind: &str, arguments: &[(&str, AMQPValue)]) -> Client {
    let client = world.client();
    client.declare_exchange("x", kind, &[Flag::Durable], arguments);
    client.expect(&["exchange.declare-ok"]);
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.bind("q", "x", "k");
    client.expect(&["bind-ok"]);
    client
}

/// A queue `q` with these arguments.
fn queue(world: &Rc<World>, arguments: &[(&str, AMQPValue)]) -> Client {
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], arguments);
    client
}

fn bodies(client: &Client, queue: &str) -> String {
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, true);
    }
    client.bodies().join(" ")
}

fn counts(world: &World, exchange: &str) -> DeduplicationCounts {
    let counts = world.broker.deduplication_counts("/", exchange);
    counts.unwrap().unwrap()
}

fn queue_counts(world: &World) -> DeduplicationCounts {
    let vhost = world.broker.vhost("/").unwrap();
    vhost.queue("q").unwrap().deduplication_counts().unwrap()
}

const WINDOW: &str = "x-dedup-window-ms";

#[test]
fn a_message_id_is_taken_once_within_the_window() {
    for on_queue in [false, true] {
        for world in [World::volatile(), World::durable()] {
            let arguments = [(WINDOW, number(1_000))];
            let (client, to) = match on_queue {
                true => (queue(&world, &arguments), ""),
                false => (exchange(&world, "direct", &arguments), "x"),
            };
            let to_key = if on_queue { "q" } else { "k" };
            client.publish_with(to_key, "a", &id(to, "1"));
            client.publish_with(to_key, "again", &id(to, "1"));
            client.publish_with(to_key, "b", &id(to, "2"));
            client.publish_with(
                to_key,
                "none",
                &Properties {
                    exchange: to,
                    ..Properties::persistent()
                },
            );
            client.publish_with(
                to_key,
                "none",
                &Properties {
                    exchange: to,
                    ..Properties::persistent()
                },
            );
            assert_eq!(bodies(&client, "q"), "a b none none");
            world.pass(1_000);
            client.publish_with(to_key, "again", &id(to, "1"));
            assert_eq!(bodies(&client, "q"), "");
            world.pass(1);
            client.publish_with(to_key, "later", &id(to, "1"));
            assert_eq!(bodies(&client, "q"), "later");
            let counts = match on_queue {
                true => queue_counts(&world),
                false => counts(&world, "x"),
            };
            assert_eq!(counts.duplicates, 2);
            // What has expired goes by itself.
            world.pass(5_000);
            let counts = match on_queue {
                true => queue_counts(&world),
                false => self::counts(&world, "x"),
            };
            assert_eq!(counts.keys, 0);
        }
    }
}

#[test]
fn a_duplicate_is_confirmed_when_the_first_is_durable_and_never_returned() {
    for on_queue in [false, true] {
        let world = World::durable();
        let arguments = [(WINDOW, number(1_000))];
        let (client, to, to_key) = match on_queue {
            true => (queue(&world, &arguments), "", "q"),
            false => (exchange(&world, "direct", &arguments), "x", "k"),
        };
        let other = world.client();
        for client in [&client, &other] {
            client.confirms();
        }
        world.hold_commits();
        client.publish_with(to_key, "a", &id(to, "1"));
        other.publish_with(to_key, "a", &id(to, "1").mandatory());
        other.expect_nothing();
        world.commit();
        world.commit();
        client.expect(&["ack 1"]);
        other.expect(&["ack 1"]);
        assert_eq!(client.counts("q"), (1, 0));
    }
}

#[test]
fn key_and_message_are_durable_together() {
    for on_queue in [false, true] {
        let world = World::durable();
        let arguments = [(WINDOW, number(60_000))];
        let (client, to, to_key) = match on_queue {
            true => (queue(&world, &arguments), "", "q"),
            false => (exchange(&world, "direct", &arguments), "x", "k"),
        };
        client.publish_with(to_key, "kept", &id(to, "1"));
        client.publish_with(to_key, "numbered", &from(to, "me", 7));
        world.hold_commits();
        client.publish_with(to_key, "lost", &id(to, "2"));
        client.publish_with(to_key, "lost", &from(to, "me", 8));

        let after = world.restarted();
        let client = after.client();
        for (body, message) in [
            ("again", id(to, "1")),
            ("again", from(to, "me", 7)),
            ("second", id(to, "2")),
            ("eighth", from(to, "me", 8)),
        ] {
            client.publish_with(to_key, body, &message);
        }
        assert_eq!(bodies(&client, "q"), "kept numbered second eighth");
        let again = after.restarted();
        let client = again.client();
        client.publish_with(to_key, "again", &id(to, "2"));
        client.publish_with(to_key, "again", &from(to, "me", 8));
        assert_eq!(bodies(&client, "q"), "");
        again.pass(60_001);
        client.publish_with(to_key, "later", &id(to, "1"));
        assert_eq!(bodies(&client, "q"), "later");
    }
}

#[test]
fn dead_letters_that_come_back_are_no_duplicates() {
    let world = World::durable();
    let client = world.client();
    let back = [
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("q")),
        ("x-message-ttl", number(10)),
    ];
    client.declare_ok("wait", &[Flag::Durable], &back);
    let arguments = [
        (WINDOW, number(60_000)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("wait")),
    ];
    let client = queue(&world, &arguments);
    client.publish_with("q", "a", &id("", "1"));
    client.get("q", false);
    client.reject(1, false);
    client.seen();
    world.pass(11);
    assert_eq!(bodies(&client, "q"), "a");
    client.publish_with("q", "again", &id("", "1"));
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn what_is_refused_or_goes_nowhere_may_come_again() {
    let world = World::durable();
    let client = exchange(&world, "direct", &[(WINDOW, number(60_000))]);
    let small = [
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("small", &[Flag::Durable], &small);
    client.bind("small", "x", "small");
    client.seen();
    client.confirms();
    client.publish_with("small", "a", &id("x", "1"));
    client.publish_with("small", "b", &id("x", "2"));
    client.publish_with("nowhere", "c", &id("x", "3").mandatory());
    client.publish_with("nowhere", "d", &id("x", "4"));
    client.expect(&[
        "ack 1",
        "nack 2",
        "return 312 NO_ROUTE 'c'",
        "ack 3",
        "ack 4",
    ]);
    assert_eq!(bodies(&client, "small"), "a");
    client.publish_with("small", "b", &id("x", "2"));
    client.publish_with("k", "c", &id("x", "3").mandatory());
    client.publish_with("k", "d", &id("x", "4"));
    client.seen();
    assert_eq!(bodies(&client, "small"), "b");
    assert_eq!(bodies(&client, "q"), "c d");

    let limited = [
        (WINDOW, number(60_000)),
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("limited", &[Flag::Durable], &limited);
    client.publish_with("limited", "a", &id("", "1"));
    client.publish_with("limited", "b", &id("", "2"));
    client.publish_with("limited", "a", &id("", "1"));
    client.expect(&["ack 8", "nack 9", "ack 10"]);
    assert_eq!(bodies(&client, "limited"), "a");
    client.publish_with("limited", "b", &id("", "2"));
    client.seen();
    assert_eq!(bodies(&client, "limited"), "b");
}

#[test]
fn transactions_note_keys_when_they_commit() {
    for on_queue in [false, true] {
        let world = World::durable();
        let arguments = [(WINDOW, number(60_000))];
        let (client, to, to_key) = match on_queue {
            true => (queue(&world, &arguments), "", "q"),
            false => (exchange(&world, "direct", &arguments), "x", "k"),
        };
        client.tx(10);
        client.publish_with(to_key, "rolled back", &id(to, "1"));
        client.tx(30);
        client.publish_with(to_key, "a", &id(to, "1"));
        client.publish_with(to_key, "twice", &id(to, "1"));
        client.publish_with(to_key, "b", &id(to, "2"));
        client.seen();
        world.hold_commits();
        client.tx(20);
        let before = world.restarted();
        assert_eq!(before.client().counts("q"), (0, 0));
        world.commit();
        client.expect(&["commit-ok"]);
        let after = world.restarted();
        let client = after.client();
        client.publish_with(to_key, "again", &id(to, "1"));
        assert_eq!(bodies(&client, "q"), "a b");
    }
}

#[test]
fn a_window_behind_another_exchange_is_looked_at_too() {
    let world = World::durable();
    let client = exchange(&world, "fanout", &[(WINDOW, number(60_000))]);
    client.exchange_binding(30, "x", "amq.topic", "#");
    client.seen();
    client.declare_ok("direct", &[], &[]);
    client.bind("direct", "amq.topic", "#");
    client.seen();
    client.publish_with("k", "a", &id("amq.topic", "1"));
    client.publish_with("k", "again", &id("amq.topic", "1"));
    assert_eq!(bodies(&client, "q"), "a");
    assert_eq!(bodies(&client, "direct"), "a again");
}

#[test]
fn a_delayed_exchange_with_a_window_counts_a_message_once() {
    let world = World::durable();
    let arguments = [
        (WINDOW, number(60_000)),
        ("x-delayed-type", string("direct")),
    ];
    let client = exchange(&world, "x-delayed-message", &arguments);
    let delayed = Properties {
        exchange: "x",
        ..Properties::of(
            message()
                .with_message_id("1".into())
                .with_headers(table(&[("x-delay", number(10))])),
        )
    };
    client.publish_with("k", "a", &delayed);
    client.publish_with("k", "again", &delayed);
    world.pass(10);
    assert_eq!(bodies(&client, "q"), "a");
}

#[test]
fn keys_go_with_their_exchange_and_queue() {
    let world = World::durable();
    let client = exchange(&world, "direct", &[(WINDOW, number(60_000))]);
    client.declare_ok("w", &[Flag::Durable], &[(WINDOW, number(60_000))]);
    client.publish_with("k", "a", &id("x", "1"));
    client.publish_with("w", "a", &id("", "1"));
    for queue in ["q", "w"] {
        client.delete(queue, false, false);
    }
    client.delete_exchange("x", false);
    client.seen();
    assert_eq!(leveret_store_api::MessageLog::logs(world.store()), []);
}

#[test]
fn a_key_does_not_outlive_a_message_that_a_crash_takes() {
    for on_queue in [false, true] {
        let world = World::durable();
        let arguments = [(WINDOW, number(60_000))];
        let (client, to, to_key) = match on_queue {
            true => (queue(&world, &arguments), "", "q"),
            false => (exchange(&world, "direct", &arguments), "x", "k"),
        };
        let transient = Properties {
            exchange: to,
            ..Properties::of(AMQPProperties::default().with_message_id("1".into()))
        };
        client.publish_with(to_key, "a", &transient);
        client.publish_with(to_key, "again", &transient);
        assert_eq!(client.counts("q"), (1, 0));
        let client = world.restarted().client();
        client.publish_with(to_key, "sent again", &transient);
        assert_eq!(bodies(&client, "q"), "sent again");
    }
}

#[test]
fn a_duplicate_is_never_returned_nor_refused_by_a_limit() {
    let world = World::durable();
    let client = exchange(&world, "direct", &[(WINDOW, number(60_000))]);
    client.confirms();
    client.publish_with("k", "a", &id("x", "1").mandatory());
    client.unbind("q", "x", "k");
    client.seen();
    client.publish_with("k", "a", &id("x", "1").mandatory());
    client.publish_with("k", "b", &id("x", "2").mandatory());
    client.expect(&["ack 2", "return 312 NO_ROUTE 'b'", "ack 3"]);

    // A full queue behind an exchange that is stateful knows its duplicates too.
    let full = [
        (WINDOW, number(60_000)),
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("full", &[Flag::Durable], &full);
    client.declare_exchange(
        "later",
        "x-delayed-message",
        &[Flag::Durable],
        &[("x-delayed-type", string("fanout"))],
    );
    client.bind("full", "later", "");
    client.seen();
    for (message_id, expected) in [("1", "ack 4"), ("2", "nack 5"), ("1", "ack 6")] {
        client.publish_with("", message_id, &id("later", message_id));
        client.expect(&[expected]);
    }
    assert_eq!(client.counts("full"), (1, 0));
}

#[test]
fn a_duplicate_in_a_transaction_is_never_returned() {
    let world = World::durable();
    let client = exchange(&world, "direct", &[(WINDOW, number(60_000))]);
    client.publish_with("k", "a", &id("x", "1").mandatory());
    client.unbind("q", "x", "k");
    client.tx(10);
    client.seen();
    client.publish_with("k", "a", &id("x", "1").mandatory());
    client.publish_with("k", "b", &id("x", "2").mandatory());
    client.tx(20);
    client.expect(&["return 312 NO_ROUTE 'b'", "commit-ok"]);
}

#[test]
fn a_clients_own_x_death_makes_no_dead_letter() {
    for on_queue in [false, true] {
        let world = World::durable();
        let arguments = [(WINDOW, number(60_000))];
        let (client, to, to_key) = match on_queue {
            true => (queue(&world, &arguments), "", "q"),
            false => (exchange(&world, "direct", &arguments), "x", "k"),
        };
        let death = table(&[("queue", string("elsewhere")), ("count", number(1))]);
        let deaths = AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into());
        let dead = Properties {
            exchange: to,
            ..Properties::of(
                message()
                    .with_message_id("1".into())
                    .with_headers(table(&[("x-death", deaths)])),
            )
        };
        client.publish_with(to_key, "a", &dead);
        client.publish_with(to_key, "again", &dead);
        assert_eq!(bodies(&client, "q"), "a");
    }
}

#[test]
fn a_transient_messages_key_is_not_kept_for_the_sake_of_what_expires_with_it() {
    let world = World::durable();
    let client = exchange(&world, "direct", &[(WINDOW, number(60_000))]);
    client.declare_ok("short", &[Flag::Durable], &[(WINDOW, number(10))]);
    client.bind("short", "x", "k");
    client.seen();
    client.publish_with("k", "a", &id("x", "1"));
    world.pass(11);
    let transient = Properties {
        exchange: "x",
        ..Properties::of(AMQPProperties::default().with_message_id("2".into()))
    };
    client.publish_with("k", "lost", &transient);
    let client = world.restarted().client();
    client.publish_with("k", "b", &transient);
    assert_eq!(bodies(&client, "q"), "a b");
}
