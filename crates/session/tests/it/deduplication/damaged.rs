//! Keys and numbers that the store has and cannot read: each is one key, all others are known as before.

use std::rc::Rc;
use std::sync::Arc;

use leveret_codec::AMQPValue;
use leveret_store_api::{Damage, LogId, MessageLog, Sequence};

use super::{WINDOW, bodies, exchange, from, id, key, queue};
use crate::damaged::{hear, heard};
use crate::harness::calls::{number, string};
use crate::harness::{Client, Properties, World};

const ALL: [Damage; 3] = [Damage::Body, Damage::All, Damage::Refused];
const MESSAGES: u64 = 5;

/// The logs in which as many messages live as were published, without those of the queue `q`.
fn key_log(world: &World) -> LogId {
    let vhost = world.broker.vhost("/").unwrap();
    let (_, of_queue) = vhost.queue("q").unwrap().logs()[0];
    let live = |log: &LogId| world.store().log_state(*log).map_or(0, |state| state.live);
    let logs = world.store().logs().into_iter();
    let mut found = logs.filter(|log| *log != of_queue && live(log) == MESSAGES);
    let log = found.next().expect("a log of keys");
    assert!(found.next().is_none(), "one log of keys");
    log
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

/// Publishes five messages, each known by something, and once more after a restart that cannot read what two of them
/// are known by: those are taken again, the others are not, as often as they come.
fn check(
    prepare: impl Fn(&Rc<World>) -> Client,
    (kind_of_it, name): (&str, &str),
    to: &str,
    message: impl Fn(u64) -> Properties,
) {
    for kind in ALL {
        let world = World::durable();
        let client = prepare(&world);
        for n in 0..MESSAGES {
            client.publish_with(to, &n.to_string(), &message(n));
        }
        assert_eq!(bodies(&client, "q"), "0 1 2 3 4");
        let log = key_log(&world);
        hear(&client);
        let world = restarted(&world, log, &[1, 4], kind);
        assert_eq!(heard(&world, kind_of_it, name), 2);
        let client = world.client();
        for _ in 0..2 {
            for n in 0..MESSAGES {
                client.publish_with(to, &format!("again {n}"), &message(n));
            }
        }
        assert_eq!(bodies(&client, "q"), "again 1 again 4", "{kind:?}");
        // What will never be read again is gone; what may be is kept.
        let live = world.store().log_state(log).map_or(0, |state| state.live);
        let kept = if kind == Damage::Refused { 2 } else { 0 };
        assert_eq!(live, MESSAGES + kept, "{kind:?}");
        let world = world.restarted();
        let client = world.client();
        for n in 0..MESSAGES {
            client.publish_with(to, "again", &message(n));
        }
        assert_eq!(bodies(&client, "q"), "", "{kind:?}");
    }
}

#[test]
fn a_window_goes_without_it() {
    let window = [(WINDOW, number(60_000))];
    check(
        |world| exchange(world, "direct", &window),
        ("exchange", "x"),
        "k",
        |n| id("x", &n.to_string()),
    );
    check(
        |world| queue(world, &window),
        ("queue", "q"),
        "q",
        |n| id("", &n.to_string()),
    );
}

#[test]
fn the_plugins_cache_goes_without_it() {
    let cache = [
        ("x-cache-size", number(100)),
        ("x-cache-persistence", string("disk")),
    ];
    check(
        |world| exchange(world, "x-message-deduplication", &cache),
        ("exchange", "x"),
        "k",
        |n| key("x", &n.to_string()),
    );
}

#[test]
fn the_numbers_of_other_producers_are_known() {
    let window = [(WINDOW, number(60_000))];
    let producer = |n: u64| from("x", &format!("producer {n}"), 7);
    check(
        |world| exchange(world, "direct", &window),
        ("exchange", "x"),
        "k",
        producer,
    );
    let producer = |n: u64| from("", &format!("producer {n}"), 7);
    check(|world| queue(world, &window), ("queue", "q"), "q", producer);
}

#[test]
fn what_is_damaged_in_a_queue_may_come_again() {
    for kind in ALL {
        let unique = [("x-message-deduplication", AMQPValue::Boolean(true))];
        let world = World::durable();
        let client = queue(&world, &unique);
        for n in 0..MESSAGES {
            client.publish_with("q", &n.to_string(), &key("", &n.to_string()));
        }
        let vhost = world.broker.vhost("/").unwrap();
        let (_, log) = vhost.queue("q").unwrap().logs()[0];
        let world = restarted(&world, log, &[0, 3], kind);
        let client = world.client();
        for n in 0..MESSAGES {
            client.publish_with("q", &format!("again {n}"), &key("", &n.to_string()));
        }
        assert_eq!(bodies(&client, "q"), "1 2 4 again 0 again 3", "{kind:?}");
        for n in 0..MESSAGES {
            client.publish_with("q", &format!("new {n}"), &key("", &n.to_string()));
        }
        assert_eq!(
            bodies(&client, "q"),
            "new 0 new 1 new 2 new 3 new 4",
            "{kind:?}"
        );
    }
}
