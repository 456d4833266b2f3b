//! `x-retry-delays`: what is put back comes back after the next delay of the list.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};

use crate::harness::client::{Flag, number, string};
use crate::harness::{Client, Properties, World};

fn delays(milliseconds: &[i64]) -> (&'static str, AMQPValue) {
    let delays: Vec<AMQPValue> = milliseconds.iter().copied().map(number).collect();
    (
        "x-retry-delays",
        AMQPValue::FieldArray(FieldArray::from(delays)),
    )
}

fn consumed(milliseconds: &[i64]) -> (Rc<World>, Client) {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("dead", &[], &[]);
    let arguments = [
        delays(milliseconds),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("q", &[Flag::Durable], &arguments);
    client.consume_ok("q", "c");
    (world, client)
}

fn comes_after(world: &World, client: &Client, milliseconds: u64, expected: &str) {
    world.pass(milliseconds - 1);
    client.expect_nothing();
    world.pass(1);
    client.expect_bodies(&format!("{expected}!"));
}

#[test]
fn each_delay_is_kept_and_then_it_is_dead() {
    let (world, client) = consumed(&[100, 2000]);
    client.publish("q", "a");
    client.expect_bodies("a");
    client.nack(1, false, true);
    assert_eq!(client.counts("q"), (0, 1));
    comes_after(&world, &client, 100, "a");
    client.reject(2, true);
    comes_after(&world, &client, 2000, "a");
    client.nack(3, false, true);
    assert_eq!(client.counts("dead"), (1, 0));
    client.get("dead", true);
    let seen = client.seen();
    let headers = seen[0].headers();
    assert_eq!(
        headers.inner().get("x-first-death-reason"),
        Some(&string("delivery_limit"))
    );
    world.pass(100_000);
    client.expect_nothing();
}

#[test]
fn without_a_dead_letter_exchange_it_is_dropped() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], &[delays(&[0])]);
    client.publish("q", "a");
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    client.nack(1, false, true);
    world.pass(0);
    client.expect_bodies("a!");
    client.nack(2, false, true);
    world.pass(100_000);
    client.expect_nothing();
    assert_eq!(client.counts("q"), (0, 1));
}

#[test]
fn others_pass_by_one_that_waits_and_it_comes_back_in_its_place() {
    let (world, client) = consumed(&[100]);
    client.qos_ok(1, false);
    client.cancel("c");
    client.seen();
    client.publish_all("q", "a b c", &Properties::default());
    client.consume_ok("q", "slow");
    client.expect_bodies("a");
    client.nack(1, false, true);
    client.expect_bodies("b");
    world.pass(100);
    client.ack(2, false);
    client.expect_bodies("a!");
    client.ack(3, false);
    client.expect_bodies("c");
}

#[test]
fn a_closed_channel_is_no_retry() {
    let (world, client) = consumed(&[100]);
    client.publish("q", "a");
    client.expect_bodies("a");
    client.close_channel();
    client.seen();
    let client = world.client();
    client.consume_ok("q", "c");
    client.expect_bodies("a!");
    client.nack(1, false, true);
    comes_after(&world, &client, 100, "a");
}

#[test]
fn attempts_and_delays_survive_a_crash() {
    let (world, client) = consumed(&[100, 5000]);
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("q", "b", &Properties::persistent());
    client.expect_bodies("a b");
    client.nack(1, false, true);
    comes_after(&world, &client, 100, "a");
    client.nack(3, false, true);
    world.pass(1000);
    let world = world.restarted();
    let client = world.client();
    client.declare_ok("dead", &[], &[]);
    client.consume_ok("q", "c");
    client.expect_bodies("b!");
    assert_eq!(client.counts("q"), (0, 1));
    comes_after(&world, &client, 4000, "a");
    // It was in the store but once.
    client.nack(2, false, true);
    assert_eq!(client.counts("dead"), (1, 0));
    client.ack(1, false);
    let world = world.restarted();
    let client = world.client();
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn a_crash_while_it_is_out_again_counts_that_too() {
    let (world, client) = consumed(&[100]);
    client.publish_with("q", "a", &Properties::persistent());
    client.expect_bodies("a");
    client.nack(1, false, true);
    world.pass(100);
    client.expect_bodies("a!");
    let world = world.restarted();
    let client = world.client();
    client.declare_ok("dead", &[], &[]);
    client.get("q", false);
    let seen = client.seen();
    assert_eq!(
        seen[0].headers().inner().get("x-delivery-count"),
        Some(&AMQPValue::LongLongInt(2))
    );
    client.nack(1, false, true);
    assert_eq!(client.counts("dead"), (1, 0));
}

#[test]
fn the_time_to_live_starts_anew() {
    let (world, client) = consumed(&[1000]);
    let expiring = AMQPProperties::default().with_expiration("500".into());
    client.publish_with("q", "a", &Properties::of(expiring));
    client.expect_bodies("a");
    client.nack(1, false, true);
    client.cancel("c");
    client.seen();
    world.pass(1499);
    assert_eq!(client.counts("q"), (1, 0));
    world.pass(1);
    assert_eq!(client.counts("q"), (0, 0));
    assert_eq!(client.counts("dead"), (1, 0));
}

#[test]
fn purging_takes_what_waits_and_deleting_if_empty_sees_it() {
    let (world, client) = consumed(&[1000]);
    client.publish_all("q", "a b", &Properties::persistent());
    client.expect_bodies("a b");
    client.nack(2, true, true);
    client.purge("q");
    client.expect(&["purge-ok 2"]);
    world.pass(2000);
    client.expect_nothing();
    client.publish("q", "c");
    client.expect_bodies("c");
    client.nack(3, false, true);
    client.delete("q", false, true);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
    );
    let world = world.restarted();
    assert_eq!(world.client().counts("q"), (0, 0));
}

/// A queue that keeps next to nothing in memory, and a client that has taken `count` messages of it.
fn taken(delay_ms: i64, count: u64) -> (Rc<World>, Client) {
    let world = World::durable_with(BrokerConfig {
        queue_memory_bytes: 1,
        ..BrokerConfig::default()
    });
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[delays(&[delay_ms])]);
    for n in 1..=count {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
        client.get("q", false);
    }
    assert_eq!(client.bodies().len() as u64, count);
    (world, client)
}

/// What waits stays in memory until its rewriting is durable: the store does not have it before.
#[test]
fn a_retry_that_is_due_before_it_is_durable_comes_back() {
    for unheard in [false, true] {
        let (world, client) = taken(100, 3);
        world.hold_commits();
        client.nack(3, true, true);
        world.pass(100);
        if unheard {
            world.commit_unheard();
        }
        assert_eq!(client.counts("q").0, 3);
        client.consume_ok("q", "c");
        client.expect_bodies("1! 2! 3!");
        world.commit();
        client.ack(6, true);
        world.commit();
        assert_eq!(client.counts("q").0, 0);
        assert_eq!(world.restarted().client().counts("q").0, 0);
    }
}

/// What is read and waits on leaves memory again: nobody has to look after it until it is due.
#[test]
fn what_waits_after_a_restart_is_left_alone_until_it_is_due() {
    let (world, client) = taken(100_000, 3);
    client.nack(3, true, true);
    let due = world.now() + 100_000;
    let world = world.restarted();
    let client = world.client();
    client.consume_ok("q", "c");
    world.pass(1_000);
    client.expect_nothing();
    assert_eq!(world.broker.poll_timeout(), Some(due));
    world.pass(99_000);
    client.expect_bodies("1! 2! 3!");
}

/// Some of what waits is durable and leaves memory, some is not and does not.
#[test]
fn retries_that_are_partly_durable_all_come_back() {
    let (world, client) = taken(100, 4);
    world.hold_commits();
    client.nack(2, true, true);
    let point = world.staged_point();
    client.nack(4, true, true);
    world.commit_up_to(point);
    // Whoever comes by lets the durable ones leave memory.
    client.publish("q", "passing");
    client.get("q", true);
    client.expect_bodies("passing");
    world.pass(100);
    client.consume_ok("q", "c");
    client.expect_bodies("1! 2! 3! 4!");
}

/// Those in memory wait for one that is due with them, before them, and must be read.
#[test]
fn retries_in_memory_do_not_overtake_those_on_disk() {
    let (world, client) = taken(100, 4);
    world.hold_commits();
    client.nack(2, true, true);
    let point = world.staged_point();
    client.nack(4, true, true);
    world.commit_up_to(point);
    client.publish("q", "passing");
    client.get("q", true);
    client.expect_bodies("passing");
    client.consume_ok("q", "c");
    world.hold_paging();
    world.pass(100);
    client.expect_nothing();
    // They leave memory while they wait, too.
    world.commit();
    client.publish("q", "passing");
    client.expect_bodies("passing");
    world.page();
    client.expect_bodies("1! 2! 3! 4!");
    assert_eq!(client.counts("q"), (0, 1));
}

/// A level whose head has no room does not keep those of a higher one from being read.
#[test]
fn retries_of_each_priority_are_read_back() {
    let world = World::durable_with(BrokerConfig {
        queue_memory_bytes: 1,
        ..BrokerConfig::default()
    });
    let client = world.client();
    let arguments = [delays(&[100]), ("x-max-priority", number(2))];
    client.declare_ok("q", &[Flag::Durable], &arguments);
    let publish = |body, priority| {
        let properties = AMQPProperties::default().with_delivery_mode(2);
        client.publish_with(
            "q",
            body,
            &Properties::of(properties.with_priority(priority)),
        );
    };
    // So that both have other places in their levels.
    publish("gone", 0);
    client.get("q", true);
    client.expect_bodies("gone");
    publish("low", 0);
    publish("high", 1);
    client.get("q", false);
    client.get("q", false);
    client.expect_bodies("high low");
    publish("other", 0);
    client.nack(3, true, true);
    // Out of memory by now.
    publish("passing", 2);
    client.get("q", true);
    client.expect_bodies("passing");
    world.pass(100);
    client.get("q", true);
    client.expect_bodies("high");
    client.get("q", true);
    client.expect_bodies("other");
    client.get("q", true);
    client.expect_bodies("low");
}

/// As with what comes back at once: a limit takes the oldest, before a consumer that waits gets any.
#[test]
fn a_limit_takes_its_part_of_what_comes_back_later() {
    for consumes in [false, true] {
        let world = World::durable();
        let client = world.client();
        client.declare_ok("dead", &[], &[]);
        let arguments = [
            delays(&[100]),
            ("x-max-length", number(2)),
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string("dead")),
        ];
        client.declare_ok("q", &[Flag::Durable], &arguments);
        for body in ["a", "b", "c"] {
            client.publish_with("q", body, &Properties::persistent());
            client.get("q", false);
        }
        client.seen();
        client.nack(3, true, true);
        if consumes {
            client.consume_ok("q", "c");
        } else {
            client.publish_with("q", "d", &Properties::persistent());
        }
        client.seen();
        world.pass(100);
        if consumes {
            client.expect_bodies("b! c!");
            assert_eq!(client.counts("dead"), (1, 0));
        } else {
            assert_eq!(client.counts("q"), (2, 0));
            assert_eq!(client.counts("dead"), (2, 0));
            client.get("q", true);
            client.get("q", true);
            client.expect_bodies("c d");
        }
    }
}

/// A purge takes what is due and not read back yet along, for good.
#[test]
fn purging_takes_what_is_due_and_not_read_back() {
    let (world, client) = taken(100, 3);
    client.nack(3, true, true);
    // Out of memory by now.
    client.publish("q", "passing");
    client.get("q", true);
    client.expect_bodies("passing");
    world.hold_paging();
    world.pass(100);
    client.purge("q");
    client.expect(&["purge-ok 3"]);
    assert_eq!(client.counts("q").0, 0);
    assert_eq!(world.restarted().client().counts("q").0, 0);
}

#[test]
fn wrong_delays_are_refused() {
    let world = World::volatile();
    let array = |values: Vec<AMQPValue>| AMQPValue::FieldArray(FieldArray::from(values));
    for (value, why) in [
        (number(5), "{unacceptable_type,long}".to_owned()),
        (array(Vec::new()), "\"expected 1 to 255 delays\"".to_owned()),
        (array(vec![number(-1)]), "{value_negative,-1}".to_owned()),
    ] {
        let client = world.client();
        client.declare("q", &[], &[("x-retry-delays", value)]);
        client.expect_channel_error(
            406,
            &format!(
                "PRECONDITION_FAILED - invalid arg 'x-retry-delays' for queue 'q' in vhost '/': {why}"
            ),
        );
    }
}

#[test]
fn what_waits_counts_as_memory_of_its_queue() {
    let (world, client) = consumed(&[1_000]);
    let body = "x".repeat(1_000);
    for _ in 0..100 {
        client.publish("q", &body);
    }
    client.seen();
    let memory = || {
        let vhost = world.broker.vhost("/").unwrap();
        let queue = vhost.queue("q").unwrap();
        queue.statistics(world.now()).memory_bytes
    };
    let before = memory();
    client.nack(0, true, true);
    assert!(memory() >= before + 100_000, "{before} {}", memory());
    world.pass(1_000);
    client.seen();
    client.ack(0, true);
    assert!(memory() < before + 10_000, "{before} {}", memory());
}
