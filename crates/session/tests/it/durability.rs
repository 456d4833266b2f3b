//! What is confirmed is durable, and what is durable comes back.

use std::rc::Rc;

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

fn held() -> (Rc<World>, Client) {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("passing", &[], &[]);
    world.hold_commits();
    (world, client)
}

#[test]
fn durable_declarations_are_answered_once_they_are_durable() {
    let (world, client) = held();
    let check = |call: &dyn Fn(), answer: &str| {
        call();
        client.expect_nothing();
        assert!(!client.wants_input());
        world.commit();
        client.expect(&[answer]);
        assert!(client.wants_input());
    };
    check(
        &|| client.declare("new", &[Flag::Durable], &[]),
        "declare-ok new 0 0",
    );
    check(
        &|| client.declare_exchange("x", "topic", &[Flag::Durable], &[]),
        "exchange.declare-ok",
    );
    check(&|| client.bind("new", "x", "k"), "bind-ok");
    check(&|| client.unbind("new", "x", "k"), "unbind-ok");
    check(&|| client.delete_exchange("x", false), "exchange.delete-ok");
    check(&|| client.delete("new", false, false), "delete-ok 0");
    client.declare("transient", &[], &[]);
    client.expect(&["declare-ok transient 0 0"]);
}

#[test]
fn declaring_what_is_not_durable_yet_waits_for_it_as_well() {
    let (world, client) = held();
    let other = world.client();
    client.declare("new", &[Flag::Durable], &[]);
    other.declare("new", &[Flag::Durable], &[]);
    other.expect_nothing();
    world.commit();
    other.expect(&["declare-ok new 0 0"]);
}

#[test]
fn methods_behind_a_waiting_one_wait_too() {
    let (world, client) = held();
    client.declare("new", &[Flag::Durable], &[]);
    client.publish_with("new", "a", &Properties::default());
    client.get("new", true);
    client.expect_nothing();
    world.commit();
    client.expect(&["declare-ok new 0 0", "get-ok 1 left=0 'a'"]);
}

#[test]
fn confirms_wait_for_the_commit_and_keep_their_order() {
    let (world, client) = held();
    client.confirms();
    client.publish_all("q", "a b", &Properties::persistent());
    client.publish("passing", "c");
    client.expect_nothing();
    world.commit();
    client.expect(&["ack 3 multiple"]);
    client.publish("passing", "d");
    client.expect(&["ack 4"]);
    client.publish("q", "transient on a durable queue");
    client.publish_with(
        "passing",
        "persistent on a transient queue",
        &Properties::persistent(),
    );
    client.expect(&["ack 5", "ack 6"]);
}

#[test]
fn a_message_is_delivered_before_it_is_durable() {
    let (world, client) = held();
    client.confirms();
    client.consume_ok("q", "c");
    client.publish_with("q", "a", &Properties::persistent());
    client.expect(&["deliver c 1 'a'"]);
    client.ack(1, false);
    client.expect_nothing();
    world.commit();
    client.expect(&["ack 1"]);
}

#[test]
fn everything_durable_survives_and_nothing_else() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-max-length", number(10))]);
    client.declare_ok("auto", &[Flag::Durable, Flag::AutoDelete], &[]);
    client.declare_ok("mine", &[Flag::Durable, Flag::Exclusive], &[]);
    client.declare_ok("passing", &[], &[]);
    client.declare_exchange("x", "topic", &[Flag::Durable], &[]);
    client.declare_exchange("y", "fanout", &[], &[]);
    client.bind("q", "x", "a.*");
    client.bind("q", "y", "");
    client.bind("passing", "x", "#");
    client.exchange_binding(30, "x", "amq.fanout", "");
    client.publish_all("q", "a b c", &Properties::persistent());
    client.publish("q", "transient");
    client.get("q", true);
    client.get("q", false);
    client.seen();

    let after = world.restarted();
    let client = after.client();
    for missing in ["mine", "passing"] {
        client.declare(missing, &[Flag::Passive], &[]);
        client.expect_channel_error(
            404,
            &format!("NOT_FOUND - no queue '{missing}' in vhost '/'"),
        );
    }
    client.declare_exchange("y", "fanout", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no exchange 'y' in vhost '/'");
    client.declare_ok("q", &[Flag::Durable], &[("x-max-length", number(10))]);
    client.declare_ok("auto", &[Flag::Durable, Flag::AutoDelete], &[]);
    client.publish_with("a.b", "routed", &Properties::to("amq.fanout"));
    client.publish_with("c", "not routed", &Properties::to("amq.fanout"));
    client.consume_ok("q", "c");
    client.expect_bodies("b! c routed");
}

#[test]
fn what_was_deleted_stays_deleted() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("r", &[Flag::Durable], &[]);
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("r", "a", &Properties::persistent());
    client.bind("r", "amq.topic", "one");
    client.bind("r", "amq.topic", "two");
    client.unbind("r", "amq.topic", "one");
    client.delete("q", false, false);
    client.purge("r");
    client.seen();
    let client = world.restarted().client();
    client.declare("q", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
    assert_eq!(client.counts("r"), (0, 0));
    client.publish_with("one", "lost", &Properties::to("amq.topic"));
    client.publish_with("two", "kept", &Properties::to("amq.topic"));
    client.get("r", true);
    client.expect(&["get-ok 1 left=0 'kept'"]);
    // A queue of the same name does not find the old one's messages.
    client.declare_ok("q", &[Flag::Durable], &[]);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn an_auto_deleted_durable_queue_is_gone_for_good() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable, Flag::AutoDelete], &[]);
    client.consume_ok("q", "c");
    client.cancel("c");
    client.seen();
    let client = world.restarted().client();
    client.declare("q", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn priorities_and_requeues_survive_in_order() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-max-priority", number(3))]);
    for (body, priority) in [("a", 1), ("b", 3), ("c", 1), ("d", 0)] {
        let mut message = Properties::priority(priority);
        message.properties = message.properties.with_delivery_mode(2);
        client.publish_with("q", body, &message);
    }
    client.get("q", false);
    client.get("q", false);
    client.seen();
    client.nack(1, false, true);
    client.ack(2, false);
    let client = world.restarted().client();
    client.consume_ok("q", "c");
    client.expect_bodies("b! c d");
}

#[test]
fn a_byte_limit_counts_bodies_after_a_restart_too() {
    let world = World::durable();
    let client = world.client();
    let arguments = [("x-max-length-bytes", number(100))];
    client.declare_ok("q", &[Flag::Durable], &arguments);
    for _ in 0..10 {
        client.publish_with("q", "0123456789", &Properties::persistent());
    }
    assert_eq!(client.counts("q"), (10, 0));
    let client = world.restarted().client();
    client.get("q", true);
    client.expect(&["get-ok 1 left=9 '0123456789'"]);
    client.publish_with("q", "0123456789", &Properties::persistent());
    assert_eq!(client.counts("q"), (10, 0));
    client.publish_with("q", "x", &Properties::persistent());
    assert_eq!(client.counts("q"), (10, 0));
}

#[test]
fn a_quorum_queue_keeps_whatever_it_is_given() {
    for (queue_type, kept) in [("classic", 0), ("quorum", 1)] {
        let world = World::durable();
        let client = world.client();
        let arguments = [("x-queue-type", string(queue_type))];
        client.declare_ok("q", &[Flag::Durable], &arguments);
        client.publish_with("q", "transient", &Properties::default());
        assert_eq!(world.restarted().client().counts("q"), (kept, 0));
    }
}

#[test]
fn dead_letters_move_in_one_commit() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok(
        "q",
        &[Flag::Durable],
        &[
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string("dead")),
        ],
    );
    client.publish_with("q", "a", &Properties::persistent());
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.reject(1, false);
    let before = world.restarted().client();
    assert_eq!(
        [before.counts("q"), before.counts("dead")],
        [(1, 0), (0, 0)]
    );
    world.commit();
    let after = world.restarted().client();
    assert_eq!([after.counts("q"), after.counts("dead")], [(0, 0), (1, 0)]);
}
