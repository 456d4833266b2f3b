//! The community plugin's form: an exchange type and a queue's argument, by the header
//! `x-deduplication-header`.

use leveret_codec::AMQPValue;

use super::{WINDOW, bodies, exchange, headers, key, queue, queue_counts};
use crate::harness::calls::{Flag, number, string};
use crate::harness::{Properties, World};

#[test]
fn the_plugins_exchange() {
    let world = World::durable();
    let client = exchange(
        &world,
        "x-message-deduplication",
        &[("x-cache-size", number(2)), ("x-cache-ttl", number(1_000))],
    );
    client.publish_with("any key", "a", &key("x", "1"));
    client.publish_with("k", "again", &key("x", "1"));
    client.publish_with("k", "no header", &Properties::to("x"));
    client.publish_with("k", "no header", &Properties::to("x"));
    client.publish_with(
        "k",
        "number",
        &headers("x", &[("x-deduplication-header", number(1))]),
    );
    assert_eq!(bodies(&client, "q"), "a no header no header number");
    // Full: the oldest goes.
    client.publish_with("k", "b", &key("x", "2"));
    client.publish_with("k", "a", &key("x", "1"));
    assert_eq!(bodies(&client, "q"), "b a");
    world.pass(1_001);
    client.publish_with("k", "a", &key("x", "1"));
    assert_eq!(bodies(&client, "q"), "a");

    let with_ttl = [
        ("x-deduplication-header", string("own")),
        ("x-cache-ttl", number(10)),
    ];
    client.publish_with("k", "own", &headers("x", &with_ttl));
    client.publish_with("k", "own", &headers("x", &with_ttl));
    world.pass(11);
    client.publish_with("k", "own", &headers("x", &with_ttl));
    assert_eq!(bodies(&client, "q"), "own own");
}

#[test]
fn the_plugins_cache_survives_where_it_is_to() {
    for (persistence, expected) in [("disk", ""), ("memory", "again")] {
        let world = World::durable();
        let arguments = [
            ("x-cache-size", number(10)),
            ("x-cache-persistence", string(persistence)),
        ];
        let client = exchange(&world, "x-message-deduplication", &arguments);
        client.publish_with("k", "a", &key("x", "1"));
        assert_eq!(bodies(&client, "q"), "a");
        let after = world.restarted();
        let client = after.client();
        client.publish_with("k", "again", &key("x", "1"));
        assert_eq!(bodies(&client, "q"), expected);
    }
}

#[test]
fn the_plugins_arguments_are_checked() {
    let client = World::volatile().client();
    let size = "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
    let ttl = "Invalid argument, 'x-cache-ttl' must be an integer greater than 0";
    let how = "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'";
    let good = ("x-cache-size", string("10"));
    for (arguments, complaint) in [
        (vec![], size),
        (vec![("x-cache-size", number(0))], size),
        (vec![good.clone(), ("x-cache-ttl", number(-1))], ttl),
        (
            vec![good.clone(), ("x-cache-persistence", string("tape"))],
            how,
        ),
    ] {
        client.declare_exchange("x", "x-message-deduplication", &[], &arguments);
        client.expect_channel_error(406, &format!("PRECONDITION_FAILED - {complaint}"));
    }
    client.declare_exchange("x", "x-message-deduplication", &[], &[good]);
    client.expect(&["exchange.declare-ok"]);
    client.declare_exchange("y", "direct", &[], &[(WINDOW, number(0))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid arg 'x-dedup-window-ms' for exchange 'y'",
    );
}

#[test]
fn the_plugins_queue_takes_no_second_of_what_is_in_it() {
    let world = World::durable();
    let unique = [("x-message-deduplication", AMQPValue::Boolean(true))];
    let client = queue(&world, &unique);
    for body in ["a", "again"] {
        client.publish_with("q", body, &key("", "1"));
    }
    client.publish_with("q", "b", &key("", "2"));
    client.get("q", false);
    client.expect(&["get-ok 1 left=1 'a'"]);
    client.publish_with("q", "unacknowledged", &key("", "1"));
    assert_eq!(client.counts("q"), (1, 0));

    let after = world.restarted();
    let client = after.client();
    client.publish_with("q", "still there", &key("", "1"));
    assert_eq!(client.counts("q"), (2, 0));
    client.get("q", false);
    client.ack(1, false);
    client.publish_with("q", "new a", &key("", "1"));
    client.get("q", true);
    client.publish_with("q", "new b", &key("", "2"));
    client.seen();
    assert_eq!(bodies(&client, "q"), "new a new b");
    client.publish_with("q", "newer a", &key("", "1"));
    client.purge("q");
    client.publish_with("q", "newest a", &key("", "1"));
    client.seen();
    assert_eq!(bodies(&client, "q"), "newest a");
    assert_eq!(queue_counts(&after).duplicates, 1);
}

#[test]
fn rejected_and_expired_messages_make_room() {
    let world = World::volatile();
    let unique = [
        ("x-message-deduplication", AMQPValue::Boolean(true)),
        ("x-message-ttl", number(10)),
    ];
    let client = queue(&world, &unique);
    client.publish_with("q", "a", &key("", "1"));
    client.get("q", false);
    client.reject(1, false);
    client.publish_with("q", "b", &key("", "1"));
    world.pass(11);
    client.publish_with("q", "c", &key("", "1"));
    client.publish_with("q", "no", &key("", "1"));
    client.seen();
    assert_eq!(bodies(&client, "q"), "c");
}

#[test]
fn a_message_waiting_in_a_commit_keeps_its_key() {
    let unique = [("x-message-deduplication", AMQPValue::Boolean(true))];
    let world = World::durable();
    let client = queue(&world, &unique);
    let other = world.client();
    client.publish_with("q", "a", &key("", "1"));
    client.tx(10);
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.ack(1, false);
    client.publish_with("q", "b", &key("", "2"));
    client.tx(20);
    // Neither the acknowledgement of the one nor the arrival of the other is durable.
    other.publish_with("q", "a", &key("", "1"));
    other.publish_with("q", "b", &key("", "2"));
    world.commit();
    assert_eq!(bodies(&other, "q"), "b");
    other.publish_with("q", "a", &key("", "1"));
    assert_eq!(bodies(&other, "q"), "a");
}

#[test]
fn a_queue_behind_an_exchange_that_keeps_something_confirms_a_duplicate_with_what_it_is_one_of() {
    let world = World::durable();
    let client = world.client();
    let unique = [("x-message-deduplication", AMQPValue::Boolean(true))];
    client.declare_exchange(
        "x",
        "x-delayed-message",
        &[],
        &[("x-delayed-type", string("direct"))],
    );
    client.expect(&["exchange.declare-ok"]);
    client.declare_ok("q", &[Flag::Durable], &unique);
    client.bind("q", "x", "k");
    client.expect(&["bind-ok"]);
    let other = world.client();
    for client in [&client, &other] {
        client.confirms();
    }
    world.hold_commits();
    client.publish_with("k", "a", &key("x", "1"));
    other.publish_with("k", "again", &key("x", "1"));
    client.expect_nothing();
    other.expect_nothing();
    world.commit();
    client.expect(&["ack 1"]);
    other.expect(&["ack 1"]);
    assert_eq!(bodies(&client, "q"), "a");
}
