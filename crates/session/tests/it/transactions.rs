//! `tx`: all or nothing, and nothing before it is durable.

use leveret_broker::BrokerConfig;
use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

fn durable() -> (std::rc::Rc<World>, Client, Client) {
    // Whatever fits into a step or does not.
    let world = World::durable_with(BrokerConfig {
        step_cost: 3,
        ..BrokerConfig::default()
    });
    let (client, other) = (world.client(), world.client());
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("r", &[Flag::Durable], &[]);
    (world, client, other)
}

fn select(client: &Client) {
    client.tx(10);
    client.expect(&["tx.select-ok"]);
}

#[test]
fn nothing_is_seen_before_the_commit() {
    let (_, client, other) = durable();
    select(&client);
    client.publish("q", "a");
    other.get("q", true);
    other.expect(&["get-empty"]);
    client.tx(20);
    client.expect(&["commit-ok"]);
    other.get("q", true);
    other.expect(&["get-ok 1 left=0 'a'"]);
}

#[test]
fn nothing_is_seen_or_answered_before_it_is_durable() {
    let (world, client, other) = durable();
    select(&client);
    world.hold_commits();
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("r", "b", &Properties::persistent());
    client.tx(20);
    client.expect_nothing();
    assert!(!client.wants_input());
    other.consume_ok("q", "c");
    other.get("r", true);
    other.expect(&["get-empty"]);
    world.commit();
    client.expect(&["commit-ok"]);
    other.expect(&["deliver c 1 'a'"]);
    other.get("r", true);
    other.expect(&["get-ok 2 left=0 'b'"]);
}

#[test]
fn a_crash_before_the_commit_loses_all_of_it_and_after_it_nothing() {
    for committed in [false, true] {
        let (world, client, _) = durable();
        client.publish_with("q", "old", &Properties::persistent());
        client.get("q", false);
        client.seen();
        select(&client);
        world.hold_commits();
        client.publish_with("q", "a", &Properties::persistent());
        client.publish_with("r", "b", &Properties::persistent());
        client.ack(1, false);
        client.tx(20);
        if committed {
            world.commit();
        }
        let after = world.restarted();
        let client = after.client();
        let expected = if committed {
            [(1, 0), (1, 0)]
        } else {
            [(1, 0), (0, 0)]
        };
        assert_eq!([client.counts("q"), client.counts("r")], expected);
        client.get("q", true);
        let line = client.lines().remove(0);
        assert!(
            line.ends_with(if committed { "'a'" } else { "'old'" }),
            "{line}"
        );
    }
}

#[test]
fn rollback_forgets_publishes_and_settlements() {
    let (_, client, other) = durable();
    other.publish_all("q", "a b c", &Properties::default());
    select(&client);
    client.consume_ok("q", "c");
    client.expect_bodies("a b c");
    client.publish("r", "lost");
    client.ack(1, false);
    client.nack(3, false, true);
    client.tx(30);
    client.expect(&["rollback-ok"]);
    assert_eq!(other.counts("r"), (0, 0));
    // The tags can be settled again.
    client.ack(3, true);
    client.tx(20);
    client.expect(&["commit-ok"]);
    client.ack(3, false);
    client.expect_channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 3");
    assert_eq!(other.counts("q"), (0, 0));
}

#[test]
fn settlements_count_at_the_commit() {
    let (_, client, other) = durable();
    other.publish_all("q", "a b c", &Properties::default());
    client.qos_ok(1, false);
    select(&client);
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    client.ack(1, false);
    client.expect_nothing();
    client.tx(20);
    client.expect(&["commit-ok", "deliver c 2 'b'"]);
    client.reject(2, true);
    client.tx(20);
    client.expect(&["commit-ok", "deliver c 3 redelivered 'b'"]);
    client.reject(3, false);
    client.tx(20);
    client.expect(&["commit-ok", "deliver c 4 'c'"]);
}

#[test]
fn returns_come_with_the_commit() {
    let (_, client, _) = durable();
    select(&client);
    client.publish_with("nobody", "x", &Properties::default().mandatory());
    client.expect_nothing();
    client.tx(20);
    client.expect(&["return 312 NO_ROUTE 'x'", "commit-ok"]);
}

#[test]
fn blind_copies_are_not_told_of_in_what_a_commit_returns() {
    let (_, client, _) = durable();
    select(&client);
    let keys = FieldArray::from(vec![string("nobody either")]);
    let headers = table(&[("BCC", AMQPValue::FieldArray(keys))]);
    let message = Properties::of(AMQPProperties::default().with_headers(headers));
    client.publish_with("nobody", "x", &message.mandatory());
    client.tx(20);
    let returned = client.seen().remove(0);
    assert_eq!(returned.body_text(), "x");
    assert!(!returned.headers().contains_key("BCC"));
}

#[test]
fn a_closed_channel_rolls_back() {
    let (_, client, other) = durable();
    other.publish("q", "a");
    select(&client);
    client.get("q", false);
    client.ack(1, false);
    client.publish("r", "lost");
    client.close_channel();
    client.seen();
    assert_eq!(other.counts("q"), (1, 0));
    assert_eq!(other.counts("r"), (0, 0));
}

#[test]
fn commit_without_select_and_mixing_with_confirms_are_406() {
    let (_, client, _) = durable();
    client.tx(20);
    client.expect_channel_error(406, "PRECONDITION_FAILED - channel is not transactional");
    client.tx(30);
    client.expect_channel_error(406, "PRECONDITION_FAILED - channel is not transactional");
    client.confirms();
    client.tx(10);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    );
    select(&client);
    client.call(
        (85, 10),
        crate::harness::wire::Arguments::new().bits(&[false]),
    );
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
}

#[test]
fn a_committed_transaction_shows_although_its_client_has_gone() {
    let (world, client, other) = durable();
    select(&client);
    other.consume_ok("q", "c");
    world.hold_commits();
    client.publish_with("q", "a", &Properties::persistent());
    client.tx(20);
    client.vanish();
    other.publish("q", "b");
    world.commit();
    world.pass(1_000);
    other.expect_bodies("a b");
}

#[test]
fn limits_hold_for_transactions() {
    let (_, client, other) = durable();
    let limited = |overflow| {
        [
            ("x-max-length", number(2)),
            ("x-overflow", string(overflow)),
        ]
    };
    client.declare_ok("refusing", &[Flag::Durable], &limited("reject-publish"));
    client.declare_ok("dropping", &[Flag::Durable], &limited("drop-head"));
    select(&client);
    for queue in ["refusing", "dropping"] {
        client.publish_all(queue, "a b c", &Properties::persistent());
    }
    client.tx(20);
    client.expect_channel_error(406, "PRECONDITION_FAILED - partial tx completion");
    for (queue, first) in [("refusing", 'a'), ("dropping", 'b')] {
        assert_eq!(other.counts(queue), (2, 0), "{queue}");
        other.get(queue, true);
        other.expect(&[format!(
            "get-ok {} left=1 '{first}'",
            if first == 'a' { 1 } else { 2 }
        )]);
    }
}

/// A limit takes its part of what stands in the queue when all is back, and not of a part of it.
#[test]
fn limits_are_kept_once_all_that_a_transaction_puts_back_is_there() {
    let (_, client, other) = durable();
    let limited = [
        ("x-max-length-bytes", number(6)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("r")),
    ];
    client.declare_ok("limited", &[Flag::Durable], &limited);
    client.qos_ok(2, false);
    client.consume_ok("limited", "c");
    other.publish_all("limited", "a bbbbbbbbbb", &Properties::default());
    // So that it is settled behind the other one.
    client.nack(1, false, true);
    client.expect_bodies("a bbbbbbbbbb a!");
    client.cancel("c");
    client.expect(&["cancel-ok c"]);
    select(&client);
    other.publish("limited", "ccccc");
    client.nack(0, true, true);
    client.tx(20);
    client.expect(&["commit-ok"]);
    assert_eq!(
        [other.counts("limited"), other.counts("r")],
        [(1, 0), (2, 0)]
    );
    other.get("limited", true);
    other.get("r", true);
    other.get("r", true);
    other.expect_bodies("ccccc a bbbbbbbbbb");
}

#[test]
fn order_with_other_publishers_is_the_order_of_commits() {
    let (world, client, other) = durable();
    select(&client);
    client.publish_with("q", "t", &Properties::persistent());
    other.publish("q", "before");
    world.hold_commits();
    client.tx(20);
    other.publish("q", "after");
    other.consume_ok("q", "c");
    other.expect_bodies("before");
    world.commit();
    other.expect_bodies("t after");
}
