//! Messages that the store has and cannot read: each goes alone, and everything behind it flows.

use std::rc::Rc;
use std::sync::Arc;

use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};
use leveret_store_api::{Damage, LogId, MessageLog, Sequence};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};
use crate::statistics::of;
use crate::streams::{read_from, stream};

const ALL: [Damage; 3] = [Damage::Body, Damage::All, Damage::Refused];

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// The log of a queue or stream.
fn log(world: &World, queue: &str) -> LogId {
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let (_, log) = vhost.queue(queue).expect("the queue").logs()[0];
    log
}

fn damage(world: &World, log: LogId, sequences: &[u64], damage: Damage) {
    for sequence in sequences {
        world.store().damage(log, Sequence(*sequence), Some(damage));
    }
}

/// The broker after a restart that finds these messages damaged.
fn restarted(world: &World, log: LogId, lost: &[u64], kind: Damage) -> Rc<World> {
    let store = world.store().restarted();
    for sequence in lost {
        store.damage(log, Sequence(*sequence), Some(kind));
    }
    let config = world.broker.config().clone();
    World::on(Arc::new(store), config, world.now())
}

/// Has the queue `told` hear of damaged messages.
pub(crate) fn hear(client: &Client) {
    client.declare_ok("told", &[Flag::Durable], &[]);
    client.bind("told", "amq.rabbitmq.event", "message.damaged");
    client.expect(&["bind-ok"]);
}

/// How many damaged messages of `name`, which is of this kind, the queue `told` has heard of; it hears of no others.
pub(crate) fn heard(world: &Rc<World>, kind: &str, name: &str) -> i64 {
    world.pass(1);
    let listener = world.client();
    let (events, _) = listener.counts("told");
    let mut messages = 0;
    for _ in 0..events {
        listener.get("told", true);
        let headers = listener.seen()[0].headers();
        assert_eq!(headers.inner().get("name"), Some(&string(name)));
        assert_eq!(headers.inner().get("vhost"), Some(&string("/")));
        assert_eq!(headers.inner().get("kind"), Some(&string(kind)));
        match headers.inner().get("messages") {
            Some(AMQPValue::LongLongInt(count)) => messages += count,
            other => panic!("{other:?}"),
        }
    }
    messages
}

/// A durable queue of 30 messages with little in memory, the 7th to 9th and the last of which are damaged.
fn prepared(kind: Damage, arguments: &[(&str, AMQPValue)]) -> (Rc<World>, Client) {
    prepared_without(&[7, 8, 9, 29], kind, arguments)
}

fn prepared_without(
    lost: &[u64],
    damage_: Damage,
    arguments: &[(&str, AMQPValue)],
) -> (Rc<World>, Client) {
    let world = World::paging(600);
    let client = world.client();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    hear(&client);
    client.declare_ok("q", &[Flag::Durable], arguments);
    for n in 0..30 {
        let properties = AMQPProperties::default()
            .with_delivery_mode(2)
            .with_headers(table(&[("n", number(n))]));
        client.publish_with("q", &n.to_string(), &Properties::of(properties));
    }
    let world = restarted(&world, log(&world, "q"), lost, damage_);
    let client = world.client();
    (world, client)
}

fn sound() -> Vec<String> {
    let lost = ["7", "8", "9", "29"];
    let all = numbers(0..30).into_iter();
    all.filter(|n| !lost.contains(&n.as_str())).collect()
}

/// Live messages of the queue in the store.
fn stored(world: &World) -> u64 {
    let state = world.store().log_state(log(world, "q"));
    state.map_or(0, |state| state.live)
}

#[test]
fn a_consumer_gets_everything_else() {
    for kind in ALL {
        let (world, client) = prepared(kind, &[]);
        client.consume_ok("q", "c");
        assert_eq!(client.bodies(), sound(), "{kind:?}");
        assert_eq!(client.counts("q"), (0, 1));
        let said = of(&world, "q");
        assert_eq!(said.totals.discarded.damaged, 4);
        assert_eq!((said.counts.ready, said.counts.unacknowledged), (0, 26));
        client.ack(0, true);
        // What the system refuses to read now may be read after the next start.
        let kept = if kind == Damage::Refused { 4 } else { 0 };
        assert_eq!(stored(&world), kept, "{kind:?}");
        let again = world.restarted();
        assert_eq!(stored(&again), kept);
    }
}

#[test]
fn get_finds_what_is_behind() {
    for kind in ALL {
        let (world, client) = prepared(kind, &[]);
        world.hold_paging();
        for n in sound() {
            client.get("q", true);
            assert_eq!(client.bodies(), [n]);
        }
        client.get("q", true);
        client.expect(&["get-empty"]);
        assert_eq!(client.counts("q"), (0, 0));
    }
}

#[test]
fn a_queue_of_nothing_but_damage_is_empty_and_takes_what_comes() {
    for kind in ALL {
        let (_, client) = prepared_without(&(0..30).collect::<Vec<_>>(), kind, &[]);
        client.get("q", true);
        client.expect(&["get-empty"]);
        assert_eq!(client.counts("q"), (0, 0));
        client.publish_with("q", "next", &Properties::persistent());
        client.get("q", true);
        assert_eq!(client.bodies(), ["next"]);
    }
}

#[test]
fn the_dead_letter_has_everything_but_the_body() {
    let arguments = [
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    for kind in ALL {
        let (world, client) = prepared(kind, &arguments);
        client.consume_ok("q", "c");
        assert_eq!(client.bodies(), sound(), "{kind:?}");
        let letters = if kind == Damage::Body { 4 } else { 0 };
        assert_eq!(client.counts("dead"), (letters, 0), "{kind:?}");
        for n in [7, 8, 9, 29].into_iter().take(letters as usize) {
            client.get("dead", true);
            let seen = client.seen();
            assert_eq!(seen[0].body_text(), "");
            let headers = seen[0].headers();
            assert_eq!(headers.inner().get("n"), Some(&number(n)));
            let reason = headers.inner().get("x-first-death-reason");
            assert_eq!(reason, Some(&string("damaged")));
        }
        let kept = if kind == Damage::Refused { 30 } else { 26 };
        assert_eq!(stored(&world), kept, "{kind:?}");
    }
}

/// A queue with two priorities, of each of which fifteen messages, in turn: odd numbers are the urgent ones.
fn with_priorities(kind: Damage, lost: &[(usize, u64)]) -> (Rc<World>, Client, Vec<LogId>) {
    let world = World::paging(600);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-max-priority", number(1))]);
    for n in 0..30 {
        let properties = AMQPProperties::default()
            .with_delivery_mode(2)
            .with_priority(u8::from(n % 2 == 1));
        client.publish_with("q", &n.to_string(), &Properties::of(properties));
    }
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let queue = vhost.queue("q").expect("the queue");
    let mut logs: Vec<_> = queue.logs().to_vec();
    logs.sort();
    let logs: Vec<LogId> = logs.into_iter().map(|(_, log)| log).collect();
    let store = world.store().restarted();
    for (level, sequence) in lost {
        store.damage(logs[*level], Sequence(*sequence), Some(kind));
    }
    let config = world.broker.config().clone();
    let world = World::on(Arc::new(store), config, world.now());
    let client = world.client();
    (world, client, logs)
}

#[test]
fn each_priority_goes_past_its_own() {
    // The first, two in a row, the last; and all of one priority.
    let some = [(1, 0), (1, 7), (1, 8), (0, 0), (0, 14)];
    let urgent: Vec<(usize, u64)> = (0..15).map(|n| (1, n)).collect();
    for kind in ALL {
        for lost in [&some[..], &urgent] {
            let expected: Vec<String> = [1, 0]
                .into_iter()
                .flat_map(|level| (0..15).map(move |n| (level, n)))
                .filter(|place| !lost.contains(place))
                .map(|(level, n)| (2 * n + level as u64).to_string())
                .collect();
            for gets in [false, true] {
                let (world, client, logs) = with_priorities(kind, lost);
                if gets {
                    for n in &expected {
                        client.get("q", false);
                        assert_eq!(client.bodies(), [n.as_str()], "{kind:?}");
                    }
                    client.get("q", true);
                    client.expect(&["get-empty"]);
                } else {
                    client.consume_ok("q", "c");
                    assert_eq!(client.bodies(), expected, "{kind:?}");
                }
                let said = of(&world, "q");
                assert_eq!(said.totals.discarded.damaged, lost.len() as u64);
                assert_eq!(said.counts.ready, 0);
                client.ack(0, true);
                let left = logs.iter().filter_map(|log| world.store().log_state(*log));
                let left: u64 = left.map(|state| state.live).sum();
                let kept = if kind == Damage::Refused {
                    lost.len()
                } else {
                    0
                };
                assert_eq!(left, kept as u64, "{kind:?}");
            }
        }
    }
}

#[test]
fn expiry_gets_past_it() {
    for kind in ALL {
        let (world, client) = prepared(kind, &[("x-message-ttl", number(1_000))]);
        client.publish_with("q", "late", &Properties::persistent());
        world.pass(999);
        client.publish_with("q", "later", &Properties::persistent());
        world.pass(1);
        client.get("q", true);
        assert_eq!(client.bodies(), ["later"], "{kind:?}");
        assert_eq!(client.counts("q"), (0, 0));
    }
}

#[test]
fn the_limit_counts_it_no_more() {
    let (_, client) = prepared(Damage::All, &[("x-max-length-bytes", number(10_000))]);
    client.consume_ok("q", "c");
    assert_eq!(client.bodies(), sound());
    client.cancel("c");
    client.seen();
    let large = "x".repeat(2_500);
    for _ in 0..4 {
        client.publish("q", &large);
    }
    assert_eq!(client.counts("q"), (4, 0));
}

#[test]
fn a_purge_takes_it_along() {
    let (world, client) = prepared_without(&[20, 21], Damage::All, &[]);
    client.purge("q");
    client.expect(&["purge-ok 30"]);
    assert_eq!(stored(&world), 0);
}

#[test]
fn a_transaction_goes_past_it() {
    let (world, client) = prepared(Damage::All, &[]);
    client.tx(10);
    client.expect(&["tx.select-ok"]);
    client.consume_ok("q", "c");
    assert_eq!(client.bodies(), sound());
    client.publish_with("q", "more", &Properties::persistent());
    client.ack(0, true);
    client.tx(20);
    let seen = client.seen();
    assert!(seen.iter().any(|it| it.text == "commit-ok"), "{seen:?}");
    assert_eq!(stored(&world), 1);
}

#[test]
fn a_retry_goes_past_it() {
    for kind in ALL {
        let delays = AMQPValue::FieldArray(FieldArray::from(vec![number(1_000)]));
        let world = World::paging(600);
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &[("x-retry-delays", delays)]);
        client.consume_ok("q", "c");
        for n in 0..30 {
            client.publish_with("q", &n.to_string(), &Properties::persistent());
        }
        assert_eq!(client.bodies(), numbers(0..30));
        client.nack(0, true, true);
        damage(&world, log(&world, "q"), &[3, 4, 5], kind);
        world.pass(1_000);
        let back: Vec<String> = client.bodies();
        let back: Vec<&str> = back.iter().map(|body| body.trim_end_matches('!')).collect();
        let lost: Vec<String> = numbers(0..30)
            .into_iter()
            .filter(|n| !back.contains(&n.as_str()))
            .collect();
        // Those that were in memory all the time are not damaged.
        assert!(
            lost.iter().all(|n| ["3", "4", "5"].contains(&n.as_str())),
            "{lost:?}"
        );
        assert_eq!(of(&world, "q").totals.discarded.damaged, lost.len() as u64);
        assert_eq!(of(&world, "q").counts.waiting, 0, "{kind:?}");
        assert!(!lost.is_empty(), "some were on disk");
    }
}

#[test]
fn readers_of_a_stream_pass_over_it() {
    for kind in ALL {
        let world = World::paging(600);
        let client = world.client();
        stream(&client, "s", &[]);
        for n in 0..30 {
            client.publish_with("s", &n.to_string(), &Properties::persistent());
        }
        let world = restarted(&world, log(&world, "s"), &[0, 7, 8, 9, 29], kind);
        for tag in ["one", "two"] {
            let client = world.client();
            client.qos_ok(1000, false);
            read_from(&client, "s", tag, string("first"));
            let expected: Vec<String> = sound().into_iter().filter(|n| n != "0").collect();
            assert_eq!(client.bodies(), expected, "{kind:?}");
            client.close();
        }
        assert_eq!(of(&world, "s").totals.discarded.damaged, 5);
    }
}

#[test]
fn a_delayed_exchange_goes_past_it() {
    for kind in ALL {
        let world = World::durable();
        let client = world.client();
        let arguments = [("x-delayed-type", string("direct"))];
        client.declare_exchange("later", "x-delayed-message", &[Flag::Durable], &arguments);
        client.expect(&["exchange.declare-ok"]);
        client.declare_ok("q", &[Flag::Durable], &[]);
        client.bind("q", "later", "q");
        client.expect(&["bind-ok"]);
        for n in 0..10 {
            let properties = AMQPProperties::default()
                .with_delivery_mode(2)
                .with_headers(table(&[("x-delay", number(5_000 + n))]));
            let properties = Properties {
                exchange: "later",
                ..Properties::of(properties)
            };
            client.publish_with("q", &n.to_string(), &properties);
        }
        // The log of the exchange is the one that has messages.
        let has_messages =
            |log: &LogId| world.store().log_state(*log).is_some_and(|it| it.live > 0);
        let log = world
            .store()
            .logs()
            .into_iter()
            .find(has_messages)
            .expect("a log");
        hear(&client);
        let world = restarted(&world, log, &[0, 4, 9], kind);
        assert_eq!(heard(&world, "exchange", "later"), 3);
        let client = world.client();
        client.consume_ok("q", "c");
        world.pass(6_000);
        assert_eq!(
            client.bodies(),
            ["1", "2", "3", "5", "6", "7", "8"],
            "{kind:?}"
        );
        assert_eq!(world.broker.delayed_count("/", "later").expect("it"), 0);
        let left = world.store().log_state(log).map_or(0, |state| state.live);
        assert_eq!(
            left,
            if kind == Damage::Refused { 3 } else { 0 },
            "{kind:?}"
        );
    }
}

#[test]
fn a_recent_history_and_windows_go_without_it() {
    for kind in ALL {
        let world = World::durable();
        let client = world.client();
        let length = [("x-recent-history-length", number(20))];
        client.declare_exchange("talk", "x-recent-history", &[Flag::Durable], &length);
        client.expect(&["exchange.declare-ok"]);
        let properties = Properties {
            exchange: "talk",
            ..Properties::persistent()
        };
        for n in 0..10 {
            client.publish_with("", &n.to_string(), &properties);
        }
        let log = world.store().logs()[0];
        hear(&client);
        let world = restarted(&world, log, &[2, 9], kind);
        assert_eq!(heard(&world, "exchange", "talk"), 2);
        let client = world.client();
        client.declare_ok("late", &[Flag::Durable], &[]);
        client.bind("late", "talk", "");
        client.expect(&["bind-ok"]);
        client.consume_ok("late", "c");
        assert_eq!(
            client.bodies(),
            ["0", "1", "3", "4", "5", "6", "7", "8"],
            "{kind:?}"
        );
    }
}

#[test]
fn an_event_tells_of_it() {
    let (world, client) = prepared(Damage::All, &[]);
    client.consume_ok("q", "c");
    client.seen();
    assert_eq!(heard(&world, "queue", "q"), 4);
}

#[test]
fn the_next_start_has_nothing_to_tell() {
    for kind in ALL {
        let world = World::durable();
        let client = world.client();
        let length = [("x-recent-history-length", number(20))];
        client.declare_exchange("talk", "x-recent-history", &[Flag::Durable], &length);
        client.expect(&["exchange.declare-ok"]);
        let properties = Properties {
            exchange: "talk",
            ..Properties::persistent()
        };
        for n in 0..5 {
            client.publish_with("", &n.to_string(), &properties);
        }
        hear(&client);
        let log = world.store().logs()[0];
        let world = restarted(&world, log, &[2, 3], kind);
        assert_eq!(heard(&world, "exchange", "talk"), 2);
        // What the system refused to read is read now, and what was damaged is gone.
        assert_eq!(heard(&world.restarted(), "exchange", "talk"), 0);
    }
}

#[test]
fn it_keeps_its_place_among_those_that_were_delivered_too_often() {
    let world = World::paging(600);
    let client = world.client();
    let arguments = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(1)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], &arguments);
    for n in 0..6 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    client.consume_ok("q", "c");
    assert_eq!(client.bodies().len(), 6);
    client.nack(0, true, true);
    assert_eq!(client.bodies().len(), 6);
    let world = restarted(&world, log(&world, "q"), &[1, 4], Damage::Body);
    let client = world.client();
    assert_eq!(client.counts("q"), (0, 0));
    client.consume_ok("dead", "c");
    assert_eq!(client.bodies(), ["0", "", "2", "3", "", "5"]);
}

#[test]
fn it_keeps_its_place_among_those_that_expire() {
    let arguments = [
        ("x-message-ttl", number(1_000)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    let lost = [18, 19, 25];
    let (world, client) = prepared_without(&lost, Damage::Body, &arguments);
    world.pass(1_000);
    assert_eq!(client.counts("q"), (0, 0));
    client.consume_ok("dead", "c");
    let expected = (0..30u64).map(|n| match lost.contains(&n) {
        true => String::new(),
        false => n.to_string(),
    });
    assert_eq!(client.bodies(), expected.collect::<Vec<_>>());
}
