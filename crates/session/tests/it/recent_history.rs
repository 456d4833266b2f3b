//! `x-recent-history`: whoever binds gets the last messages, and nothing is doubled or lost by that.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

const TALK: &str = "talk";

fn message() -> Properties {
    Properties {
        exchange: TALK,
        ..Properties::persistent()
    }
}

fn transient() -> Properties {
    Properties::to(TALK)
}

fn with(headers: &[(&str, AMQPValue)]) -> Properties {
    Properties {
        exchange: TALK,
        ..Properties::of(AMQPProperties::default().with_headers(table(headers)))
    }
}

/// A durable exchange `talk` that remembers so many messages.
fn prepared(world: &Rc<World>, length: i64) -> Client {
    let client = world.client();
    let arguments = [("x-recent-history-length", number(length))];
    client.declare_exchange(TALK, "x-recent-history", &[Flag::Durable], &arguments);
    client.expect(&["exchange.declare-ok"]);
    client
}

/// What a new queue holds once it is bound.
fn heard(client: &Client, queue: &str) -> String {
    client.declare_ok(queue, &[Flag::Durable], &[]);
    client.bind(queue, TALK, "");
    client.expect(&["bind-ok"]);
    bodies(client, queue)
}

fn bodies(client: &Client, queue: &str) -> String {
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, true);
    }
    client.bodies().join(" ")
}

#[test]
fn whoever_binds_gets_the_last_messages_in_order() {
    for world in [World::volatile(), World::durable()] {
        let client = prepared(&world, 3);
        assert_eq!(heard(&client, "early"), "");
        for body in ["a", "b", "c", "d", "e"] {
            client.publish_with(body, body, &message());
        }
        assert_eq!(bodies(&client, "early"), "a b c d e", "routed as a fanout");
        assert_eq!(heard(&client, "late"), "c d e");
        client.publish_with("", "f", &transient());
        assert_eq!(bodies(&client, "late"), "f");
        assert_eq!(heard(&client, "later"), "d e f");
    }
}

#[test]
fn twenty_are_remembered_unless_told_otherwise() {
    let world = World::volatile();
    let client = world.client();
    client.declare_exchange(TALK, "x-recent-history", &[], &[]);
    client.expect(&["exchange.declare-ok"]);
    for body in 0..25 {
        client.publish_with("", &body.to_string(), &transient());
    }
    let expected: Vec<String> = (5..25).map(|body| body.to_string()).collect();
    assert_eq!(heard(&client, "q"), expected.join(" "));
}

#[test]
fn a_binding_that_is_there_already_brings_nothing() {
    let world = World::durable();
    let client = prepared(&world, 3);
    client.publish_with("", "a", &message());
    assert_eq!(heard(&client, "q"), "a");
    client.bind("q", TALK, "");
    client.expect(&["bind-ok"]);
    assert_eq!(bodies(&client, "q"), "");
    client.bind("q", TALK, "another");
    client.expect(&["bind-ok"]);
    assert_eq!(bodies(&client, "q"), "a", "another binding does");
}

#[test]
fn a_length_that_is_no_number_above_zero_is_refused() {
    let world = World::volatile();
    for (value, shown) in [(number(0), "0"), (string("many"), "<<\"many\">>")] {
        let client = world.client();
        let arguments = [("x-recent-history-length", value)];
        client.declare_exchange(TALK, "x-recent-history", &[], &arguments);
        let expected = format!(
            "PRECONDITION_FAILED - Invalid argument {shown}, 'x-recent-history-length' must be a positive integer"
        );
        let lines = client.lines();
        assert!(lines[0].contains(&expected), "{lines:?}");
    }
}

#[test]
fn no_store_keeps_a_message_out() {
    let world = World::volatile();
    let client = prepared(&world, 3);
    let header = |value| with(&[("x-recent-history-no-store", AMQPValue::Boolean(value))]);
    client.publish_with("", "kept", &header(false));
    client.publish_with("", "left out", &header(true));
    assert_eq!(heard(&client, "q"), "kept");
}

#[test]
fn a_returned_message_is_remembered() {
    let world = World::durable();
    let client = prepared(&world, 3);
    client.confirms();
    client.publish_with("", "a", &message().mandatory());
    client.expect(&["return 312 NO_ROUTE 'a'", "ack 1"]);
    let other = world.client();
    other.tx(10);
    other.publish_with("b", "b", &message().mandatory());
    other.tx(20);
    other.expect(&["tx.select-ok", "return 312 NO_ROUTE 'b'", "commit-ok"]);
    assert_eq!(heard(&client, "q"), "a b");
}

#[test]
fn an_exchange_that_binds_passes_the_last_messages_on() {
    let world = World::durable();
    let client = prepared(&world, 3);
    for key in ["x.a", "y.b", "x.c"] {
        client.publish_with(key, key, &message());
    }
    client.declare_exchange("news", "topic", &[Flag::Durable], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.bind("q", "news", "x.*");
    client.seen();
    client.exchange_binding(30, "news", TALK, "");
    client.expect(&["exchange.bind-ok"]);
    assert_eq!(bodies(&client, "q"), "x.a x.c");
}

#[test]
fn blind_copies_are_not_told_of_in_the_history() {
    let world = World::volatile();
    let client = prepared(&world, 3);
    let copies = AMQPValue::FieldArray(FieldArray::from(vec![string("unseen")]));
    client.publish_with("", "a", &with(&[("BCC", copies)]));
    client.declare_ok("q", &[], &[]);
    client.bind("q", TALK, "");
    client.seen();
    client.get("q", true);
    let seen = client.seen().remove(0);
    assert_eq!(seen.headers().inner().get("BCC"), None);
}

#[test]
fn persistent_messages_of_a_durable_exchange_survive_in_order_and_number() {
    let world = World::durable();
    let client = prepared(&world, 3);
    for body in ["a", "b", "c", "d", "e"] {
        client.publish_with("", body, &message());
    }
    client.publish_with("", "gone", &transient());
    client.confirms();
    world.hold_commits();
    client.publish_with("", "f", &message());
    client.expect_nothing();

    let without = world.restarted();
    assert_eq!(heard(&without.client(), "q"), "d e");
    world.commit();
    client.expect(&["ack 1"]);
    let with = world.restarted();
    let client = with.client();
    assert_eq!(heard(&client, "q"), "e f");
    client.publish_with("", "g", &message());
    client.publish_with("", "h", &message());
    let again = with.restarted();
    let client = again.client();
    assert_eq!(bodies(&client, "q"), "g h");
    assert_eq!(heard(&client, "later"), "f g h");
}

#[test]
fn an_exchange_that_is_not_durable_keeps_nothing_on_disk() {
    let world = World::durable();
    let client = world.client();
    client.declare_exchange(TALK, "x-recent-history", &[], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.confirms();
    world.hold_commits();
    client.publish_with("", "a", &message());
    client.expect(&["ack 1"]);
    world.commit();
    client.declare_ok("q", &[], &[]);
    client.bind("q", TALK, "");
    client.expect(&["bind-ok"]);
    assert_eq!(bodies(&client, "q"), "a");
}

#[test]
fn the_history_is_in_the_queue_when_the_binding_is() {
    let world = World::durable();
    let client = prepared(&world, 3);
    client.publish_with("", "a", &message());
    client.declare_ok("q", &[Flag::Durable], &[]);
    world.hold_commits();
    client.bind("q", TALK, "");
    client.expect_nothing();
    let before = world.restarted();
    let other = before.client();
    assert_eq!(other.counts("q"), (0, 0));
    other.publish_with("", "b", &message());
    assert_eq!(other.counts("q"), (0, 0), "not bound");
    world.commit();
    client.expect(&["bind-ok"]);
    let after = world.restarted();
    let other = after.client();
    other.publish_with("", "b", &message());
    assert_eq!(bodies(&other, "q"), "a b");
}

#[test]
fn a_deleted_exchange_forgets() {
    let world = World::durable();
    let client = prepared(&world, 3);
    client.publish_with("", "a", &message());
    client.delete_exchange(TALK, false);
    client.expect(&["exchange.delete-ok"]);
    let client = prepared(&world, 3);
    assert_eq!(heard(&client, "q"), "");
    let after = world.restarted();
    assert_eq!(heard(&after.client(), "later"), "");
}

#[test]
fn full_queues_take_what_fits() {
    let world = World::durable();
    let client = prepared(&world, 3);
    for body in ["a", "b", "c"] {
        client.publish_with("", body, &message());
    }
    let limits = [
        ("x-max-length", number(2)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("q", &[Flag::Durable], &limits);
    client.bind("q", TALK, "");
    client.expect(&["bind-ok"]);
    assert_eq!(bodies(&client, "q"), "a b");
}
