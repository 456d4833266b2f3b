//! Exchanges, queues and bindings: declared, used, deleted.

use leveret_codec::AMQPValue;

use crate::harness::calls::{Flag, number, string};
use crate::harness::client::Client;
use crate::harness::{Properties, World};

fn volatile() -> Client {
    World::volatile().client()
}

#[test]
fn queues_are_declared_counted_purged_and_deleted() {
    let client = volatile();
    client.declare("q", &[], &[]);
    client.expect(&["declare-ok q 0 0"]);
    client.publish_all("q", "a b c", &Properties::default());
    client.declare("q", &[], &[]);
    client.expect(&["declare-ok q 3 0"]);
    client.consume("q", "c", &[Flag::NoAck], &[]);
    client.expect(&[
        "consume-ok c",
        "deliver c 1 'a'",
        "deliver c 2 'b'",
        "deliver c 3 'c'",
    ]);
    assert_eq!(client.counts("q"), (0, 1));
    client.cancel("c");
    client.expect(&["cancel-ok c"]);
    client.publish_all("q", "d e", &Properties::default());
    client.purge("q");
    client.expect(&["purge-ok 2"]);
    client.publish_all("q", "f", &Properties::default());
    client.delete("q", false, false);
    client.expect(&["delete-ok 1"]);
    client.delete("q", false, false);
    client.expect(&["delete-ok 0"]);
}

#[test]
fn a_queue_without_a_name_gets_one_and_is_the_latest() {
    let client = volatile();
    client.declare("", &[], &[]);
    let line = client.lines().remove(0);
    let name = line.split(' ').nth(1).expect("a name").to_owned();
    assert!(name.starts_with("amq.gen-") && name.len() == 30, "{name}");
    client.publish(&name, "hello");
    client.get("", false);
    client.expect(&["get-ok 1 left=0 'hello'"]);
    assert_eq!(client.counts(&name), (0, 0));
    client.bind("", "amq.direct", "");
    client.expect(&["bind-ok"]);
    client.publish_with(&name, "by key", &Properties::to("amq.direct"));
    client.get("", true);
    client.expect(&["get-ok 2 left=0 'by key'"]);
}

#[test]
fn without_a_latest_queue_an_empty_name_is_404() {
    let client = volatile();
    client.get("", true);
    client.expect_channel_error(404, "NOT_FOUND - no previously declared queue");
}

#[test]
fn missing_things_are_404() {
    let client = volatile();
    client.declare("q", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
    client.get("q", true);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
    client.consume("q", "c", &[], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
    client.purge("q");
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
    client.bind("q", "amq.direct", "");
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
    client.declare_exchange("x", "direct", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no exchange 'x' in vhost '/'");
    client.declare_ok("q", &[], &[]);
    client.bind("q", "x", "");
    client.expect_channel_error(404, "NOT_FOUND - no exchange 'x' in vhost '/'");
}

#[test]
fn a_second_declaration_must_mean_the_same() {
    let client = volatile();
    client.declare_ok("q", &[], &[("x-max-length", number(5))]);
    client.declare("q", &[Flag::Durable], &[("x-max-length", number(5))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    );
    client.declare("q", &[], &[("x-max-length", number(6))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'",
    );
    client.declare("q", &[], &[]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5' of type 'long'",
    );
    client.declare_ok("q", &[], &[("x-max-length", AMQPValue::ShortShortInt(5))]);
    client.declare_exchange("x", "topic", &[], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.declare_exchange("x", "fanout", &[], &[]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'topic'",
    );
}

#[test]
fn names_of_the_broker_are_refused() {
    let client = volatile();
    client.declare("amq.mine", &[], &[]);
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    client.declare_exchange("amq.mine", "direct", &[], &[]);
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    client.declare_ok("q", &[], &[]);
    client.bind("q", "", "");
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - operation not permitted on the default exchange",
    );
}

#[test]
fn deleting_can_ask_for_unused_and_empty() {
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    client.publish("q", "a");
    client.delete("q", false, true);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
    );
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    client.delete("q", true, false);
    client.expect_channel_error(406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use");
    client.delete("q", true, false);
    client.expect(&["delete-ok 1"]);
}

#[test]
fn exclusive_queues_belong_to_one_connection_and_die_with_it() {
    let world = World::volatile();
    let (owner, other) = (world.client(), world.client());
    owner.declare_ok("mine", &[Flag::Exclusive], &[]);
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be \
                  originally declared on another connection or the exclusive property value does not match that of \
                  the original declaration.";
    for attempt in [
        |other: &Client| other.declare("mine", &[Flag::Exclusive], &[]),
        |other: &Client| other.declare("mine", &[Flag::Passive], &[]),
        |other: &Client| other.get("mine", true),
        |other: &Client| other.consume("mine", "c", &[], &[]),
        |other: &Client| other.purge("mine"),
        |other: &Client| other.delete("mine", false, false),
        |other: &Client| other.bind("mine", "amq.direct", ""),
    ] {
        attempt(&other);
        other.expect_channel_error(405, locked);
    }
    owner.publish("mine", "a");
    owner.get("mine", true);
    owner.expect(&["get-ok 1 left=0 'a'"]);
    owner.vanish();
    other.declare("mine", &[Flag::Passive], &[]);
    other.expect_channel_error(404, "NOT_FOUND - no queue 'mine' in vhost '/'");
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let client = volatile();
    client.declare_ok("q", &[Flag::AutoDelete], &[]);
    assert_eq!(client.counts("q"), (0, 0), "not before it had one");
    client.consume_ok("q", "one");
    let other = client.with_channel(2);
    other.consume_ok("q", "two");
    client.cancel("one");
    client.expect(&["cancel-ok one"]);
    assert_eq!(client.counts("q"), (0, 1));
    other.close_channel();
    client.expect(&["2: channel.close-ok"]);
    client.declare("q", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let client = volatile();
    client.declare_exchange("x", "fanout", &[Flag::AutoDelete], &[]);
    client.declare_ok_after_seen("q");
    client.bind("q", "x", "a");
    client.bind("q", "x", "b");
    client.unbind("q", "x", "a");
    client.unbind("q", "x", "b");
    client.seen();
    client.declare_exchange("x", "fanout", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no exchange 'x' in vhost '/'");
}

#[test]
fn exchanges_route_to_exchanges_and_bindings_can_go() {
    let client = volatile();
    client.declare_exchange("in", "topic", &[], &[]);
    client.declare_exchange("out", "fanout", &[], &[]);
    client.declare_ok_after_seen("q");
    client.exchange_binding(30, "out", "in", "a.*");
    client.bind("q", "out", "");
    client.expect(&["exchange.bind-ok", "bind-ok"]);
    client.publish_with("a.b", "one", &Properties::to("in"));
    client.publish_with("b.b", "lost", &Properties::to("in"));
    client.exchange_binding(40, "out", "in", "a.*");
    client.expect(&["exchange.unbind-ok"]);
    client.publish_with("a.b", "lost", &Properties::to("in"));
    client.get("q", true);
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'one'", "get-empty"]);
}

impl Client {
    fn declare_ok_after_seen(&self, queue: &str) {
        self.seen();
        self.declare_ok(queue, &[], &[]);
    }
}

#[test]
fn a_message_reaches_each_queue_once() {
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    for key in ["a.#", "#", "a.b"] {
        client.bind("q", "amq.topic", key);
    }
    client.seen();
    client.publish_with("a.b", "once", &Properties::to("amq.topic"));
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn exchanges_in_use_and_those_of_the_broker_stay() {
    let client = volatile();
    client.declare_exchange("x", "direct", &[], &[]);
    client.declare_ok_after_seen("q");
    client.bind("q", "x", "k");
    client.expect(&["bind-ok"]);
    client.delete_exchange("x", true);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use",
    );
    client.delete_exchange("x", false);
    client.delete_exchange("x", false);
    client.expect(&["exchange.delete-ok", "exchange.delete-ok"]);
    client.delete_exchange("amq.direct", false);
    assert!(client.lines()[0].starts_with("channel.close 403 ACCESS_REFUSED"));
}

#[test]
fn internal_exchanges_take_no_publishes_and_alternates_take_the_rest() {
    let client = volatile();
    client.declare_exchange("inside", "fanout", &[Flag::Internal], &[]);
    client.declare_exchange(
        "x",
        "direct",
        &[],
        &[("alternate-exchange", string("inside"))],
    );
    client.declare_ok_after_seen("rest");
    client.bind("rest", "inside", "");
    client.expect(&["bind-ok"]);
    client.publish_with("nobody", "left over", &Properties::to("x"));
    client.get("rest", true);
    client.expect(&["get-ok 1 left=0 'left over'"]);
    client.publish_with("k", "no", &Properties::to("inside"));
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'",
    );
}

#[test]
fn unknown_kinds_of_exchange_cost_the_connection() {
    let client = volatile();
    client.declare_exchange("x", "strange", &[], &[]);
    client.expect_connection_error(503, "COMMAND_INVALID - unknown exchange type 'strange'");
}

#[test]
fn wrong_arguments_of_queues_are_406() {
    let client = volatile();
    for (name, value, why) in [
        ("x-message-ttl", number(-1), "{value_negative,-1}"),
        ("x-expires", number(0), "{value_zero,0}"),
        (
            "x-max-length",
            string("5"),
            "\"expected integer, got longstr\"",
        ),
        ("x-max-priority", number(256), "{max_value_exceeded,256}"),
        (
            "x-dead-letter-routing-key",
            string("k"),
            "routing_key_but_no_dlx_defined",
        ),
    ] {
        client.declare("q", &[], &[(name, value)]);
        client.expect_channel_error(
            406,
            &format!(
                "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {why}"
            ),
        );
    }
}

#[test]
fn routes_are_forgotten_when_the_topology_changes() {
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    client.publish("q", "one");
    client.delete("q", false, false);
    client.expect(&["delete-ok 1"]);
    client.publish("q", "lost");
    client.declare("q", &[], &[]);
    client.expect(&["declare-ok q 0 0"]);
    client.publish("q", "two");
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'two'"]);
}

#[test]
fn nowait_is_not_answered_and_still_done() {
    let client = volatile();
    client.declare("q", &[Flag::NoWait], &[]);
    client.consume("q", "c", &[Flag::NoWait], &[]);
    client.publish("q", "a");
    client.expect(&["deliver c 1 'a'"]);
}
