//! `consumer_timeout`: deliveries that nobody acknowledges in time.

use std::rc::Rc;

use leveret_broker::{BrokerConfig, ConsumerTimeoutAction};

use crate::harness::client::{Dial, number};
use crate::harness::{Client, Properties, World};

fn world(timeout_ms: Option<u64>, action: ConsumerTimeoutAction) -> (Rc<World>, Client) {
    let world = World::volatile_with(BrokerConfig {
        consumer_timeout_ms: timeout_ms,
        consumer_timeout_action: action,
        ..BrokerConfig::default()
    });
    let client = world.client();
    (world, client)
}

fn text(timeout_ms: u64) -> String {
    format!(
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: {timeout_ms} ms. \
         This timeout value can be configured, see consumers doc guide to learn more"
    )
}

#[test]
fn without_a_setting_nothing_is_ever_overdue() {
    let (world, client) = world(None, ConsumerTimeoutAction::Close);
    client.declare_ok("q", &[], &[]);
    client.publish("q", "a");
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    world.pass(365 * 24 * 3_600_000);
    client.expect_nothing();
}

#[test]
fn the_channel_is_closed_and_all_goes_back() {
    let (world, client) = world(Some(1000), ConsumerTimeoutAction::Close);
    client.declare_ok("q", &[], &[]);
    client.publish_all("q", "a b", &Properties::default());
    client.consume_ok("q", "c");
    client.expect_bodies("a b");
    world.pass(500);
    client.ack(1, false);
    client.publish("q", "c");
    client.expect_bodies("c");
    world.pass(499);
    client.expect_nothing();
    world.pass(1);
    client.expect_channel_error(406, &text(1000));
    assert_eq!(client.counts("q"), (2, 0));
}

/// What comes back to the ledger when a transaction is rolled back is watched again, and its time has gone on.
#[test]
fn what_a_rollback_leaves_unacknowledged_is_overdue_in_its_time() {
    for (before, after) in [(900, 100), (1500, 1)] {
        let (world, client) = world(Some(1000), ConsumerTimeoutAction::Close);
        client.declare_ok("q", &[], &[]);
        client.publish("q", "a");
        client.consume_ok("q", "c");
        client.expect_bodies("a");
        client.tx(10);
        client.ack(1, false);
        client.expect(&["tx.select-ok"]);
        world.pass(before);
        client.expect_nothing();
        client.tx(30);
        client.expect_first("rollback-ok");
        world.pass(after);
        client.expect_channel_error(406, &text(1000));
        assert_eq!(client.counts("q"), (1, 0));
    }
}

#[test]
fn what_is_acknowledged_in_time_is_not_overdue() {
    let (world, client) = world(Some(1000), ConsumerTimeoutAction::Close);
    client.declare_ok("q", &[], &[]);
    client.consume_ok("q", "c");
    for tag in 1..10 {
        client.publish("q", "a");
        client.expect_bodies("a");
        world.pass(900);
        client.ack(tag, false);
    }
    world.pass(5000);
    client.expect_nothing();
}

#[test]
fn what_a_transaction_does_not_settle_is_overdue_too() {
    let (world, client) = world(Some(1000), ConsumerTimeoutAction::Close);
    client.declare_ok("q", &[], &[]);
    client.publish("q", "a");
    client.tx(10);
    client.consume("q", "c", &[], &[]);
    client.seen();
    client.ack(1, false);
    // Settled, as far as the client can do.
    world.pass(2000);
    client.expect_nothing();
    client.tx(30);
    client.expect(&["rollback-ok"]);
    world.pass(1000);
    client.expect_channel_error(406, &text(1000));
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn a_message_got_by_hand_counts_too() {
    let (world, client) = world(Some(1000), ConsumerTimeoutAction::Close);
    client.declare_ok("q", &[], &[]);
    client.publish("q", "a");
    client.get("q", false);
    client.seen();
    world.pass(1000);
    client.expect_channel_error(406, &text(1000));
}

/// Each setting alone and above the next: consumer, queue, broker.
#[test]
fn the_nearest_setting_counts() {
    for (consumer, queue, broker, expected) in [
        (None, None, Some(700), Some(700)),
        (None, Some(500), Some(300), Some(500)),
        (Some(900), Some(500), None, Some(900)),
        (Some(0), Some(500), Some(100), None),
        (None, Some(0), Some(100), None),
    ] {
        let (world, client) = world(broker, ConsumerTimeoutAction::Close);
        let argument = |timeout: Option<i64>| {
            let timeout = timeout.map(|timeout| ("x-consumer-timeout", number(timeout)));
            timeout.into_iter().collect::<Vec<_>>()
        };
        client.declare_ok("q", &[], &argument(queue));
        client.publish("q", "a");
        client.consume("q", "c", &[], &argument(consumer));
        client.expect_first("consume-ok c");
        client.seen();
        world.pass(expected.unwrap_or(100_000) - 1);
        client.expect_nothing();
        world.pass(1);
        match expected {
            Some(timeout) => client.expect_channel_error(406, &text(timeout)),
            None => client.expect_nothing(),
        }
    }
}

#[test]
fn a_later_delivery_with_less_time_is_overdue_first() {
    let (world, client) = world(None, ConsumerTimeoutAction::Cancel);
    for (queue, timeout) in [("slow", 10_000), ("quick", 1_000)] {
        client.declare_ok(queue, &[], &[("x-consumer-timeout", number(timeout))]);
        client.publish(queue, queue);
        client.consume_ok(queue, queue);
        client.expect_bodies(queue);
    }
    world.pass(1000);
    client.expect(&["cancel quick"]);
    world.pass(9000);
    client.expect(&["cancel slow"]);
}

/// Too late for that one, and in time for those before it.
#[test]
fn what_is_acknowledged_late_takes_the_others_along() {
    let (world, client) = world(None, ConsumerTimeoutAction::Cancel);
    for (queue, timeout) in [("slow", 10_000), ("quick", 1_000)] {
        client.declare_ok(queue, &[], &[("x-consumer-timeout", number(timeout))]);
        client.publish(queue, queue);
        client.consume_ok(queue, queue);
        client.expect_bodies(queue);
    }
    world.pass(1000);
    client.expect(&["cancel quick"]);
    client.ack(2, true);
    world.pass(9000);
    client.expect_nothing();
}

#[test]
fn by_setting_only_the_consumer_is_cancelled() {
    let (world, client) = world(Some(1000), ConsumerTimeoutAction::Cancel);
    client.declare_ok("q", &[], &[]);
    client.declare_ok("other", &[], &[]);
    client.publish_all("q", "a b", &Properties::default());
    client.consume_ok("q", "stuck");
    client.expect_bodies("a b");
    client.consume_ok("other", "fine");
    let other = world.client();
    world.pass(1000);
    client.expect(&["cancel stuck"]);
    assert_eq!(client.counts("q"), (2, 0));
    other.consume_ok("q", "next");
    other.expect(&[
        "deliver next 1 redelivered 'a'",
        "deliver next 2 redelivered 'b'",
    ]);
    // Acknowledged late: too late, and no error.
    client.ack(1, false);
    client.publish("other", "still here");
    client.expect_bodies("still here");
    client.ack(3, true);
    client.ack(2, false);
    client.expect_nothing();
    client.ack(2, false);
    client.expect_channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 2");
}

#[test]
fn who_does_not_know_cancellation_loses_the_channel() {
    let (world, _) = world(Some(1000), ConsumerTimeoutAction::Cancel);
    let dial = Dial {
        capabilities: Vec::new(),
        ..Dial::default()
    };
    let client = Client::connect(&world, dial).with_channel(1);
    client.declare_ok("q", &[], &[]);
    client.publish("q", "a");
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    world.pass(1000);
    client.expect_channel_error(406, &text(1000));
}

#[test]
fn a_channel_limit_is_free_again() {
    let (world, client) = world(Some(1000), ConsumerTimeoutAction::Cancel);
    client.declare_ok("q", &[], &[]);
    client.declare_ok("other", &[], &[]);
    client.qos_ok(1, true);
    client.publish("q", "a");
    client.publish("other", "b");
    client.consume_ok("q", "stuck");
    client.expect_bodies("a");
    client.consume_ok("other", "waits");
    world.pass(1000);
    client.expect(&["cancel stuck", "deliver waits 2 'b'"]);
}

#[test]
fn a_bad_argument_is_refused() {
    let (_, client) = world(None, ConsumerTimeoutAction::Close);
    client.declare_ok("q", &[], &[]);
    client.consume("q", "c", &[], &[("x-consumer-timeout", number(-1))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/': {value_negative,-1}",
    );
}

/// What is looked at again when the first of them is closed in steps.
#[test]
fn all_channels_that_are_overdue_are_closed_however_long_the_first_takes() {
    const MANY: u32 = 40;
    let world = World::volatile_with(BrokerConfig {
        consumer_timeout_ms: Some(1000),
        consumer_timeout_action: ConsumerTimeoutAction::Close,
        step_cost: 50,
        ..BrokerConfig::default()
    });
    let client = world.client();
    let second = client.with_channel(2);
    for (channel, queue) in [(&client, "q"), (&second, "r")] {
        channel.declare_ok(queue, &[], &[]);
        for _ in 0..MANY {
            channel.publish(queue, "a");
        }
        channel.consume(queue, queue, &[], &[]);
        assert_eq!(u32::try_from(client.seen().len()), Ok(MANY + 1));
    }
    world.pass(1000);
    let told = client.lines();
    let closed = |line: &&String| line.contains("channel.close 406");
    assert_eq!(told.iter().filter(closed).count(), 2, "{told:?}");
    let other = world.client();
    for queue in ["q", "r"] {
        assert_eq!(other.counts(queue), (MANY, 0));
    }
}
