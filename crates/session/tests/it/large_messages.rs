//! Large persistent messages are written before they are in their queues: nothing overtakes them on their
//! connection, and nobody else waits.

use std::rc::Rc;
use std::sync::Arc;

use leveret_broker::{Broker, BrokerConfig};
use leveret_message::{Message, Timestamp};
use leveret_store_api::SteppedStore;

use crate::harness::calls::Flag;
use crate::harness::{Client, Properties, World};

const LARGE: usize = 6000;

/// A world in which bodies of 5,000 bytes are large, and a client with a durable queue `q`.
fn world() -> (Rc<World>, Client) {
    let store = Arc::new(SteppedStore::<Message>::new());
    store.set_write_ahead_bytes_min(5000);
    let shared = Arc::clone(&store);
    let now = Timestamp(1_700_000_000_000);
    let broker = Broker::open(BrokerConfig::default(), shared, now).expect("the store opens");
    let world = World::around(broker, Some(store), now);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    (world, client)
}

fn large(letter: &str) -> String {
    letter.repeat(LARGE)
}

fn finish(world: &World) -> usize {
    let finished = world.store().finish_write_ahead();
    world.run();
    finished
}

/// What came, as first letters.
fn letters(client: &Client) -> String {
    let bodies = client.bodies();
    bodies
        .iter()
        .filter_map(|body| body.chars().next())
        .collect()
}

fn consumer(world: &Rc<World>) -> Client {
    let client = world.client();
    client.consume_ok("q", "c");
    client
}

#[test]
fn what_comes_behind_it_stays_behind_it() {
    let (world, client) = world();
    let consumer = consumer(&world);
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("q", &large("b"), &Properties::persistent());
    client.publish_with("q", "c", &Properties::persistent());
    assert_eq!(letters(&consumer), "a");
    assert!(!client.wants_input());
    assert_eq!(finish(&world), 1);
    assert_eq!(letters(&consumer), "bc");
    assert!(client.wants_input());
}

#[test]
fn it_is_recognised_behind_many_that_are_like_it_but_for_the_length() {
    let (world, client) = world();
    let consumer = consumer(&world);
    let message = Properties::persistent();
    let mut bytes = client.publishing("q", b"a", &message).repeat(20);
    bytes.extend(client.publishing("q", large("b").as_bytes(), &message));
    client.send(&bytes);
    assert!(!client.wants_input());
    client.publish_all("q", "c d", &Properties::persistent());
    assert_eq!(letters(&consumer), "a".repeat(20));
    assert_eq!(finish(&world), 1);
    assert_eq!(letters(&consumer), "bcd");
}

#[test]
fn one_behind_another_waits_for_its_own() {
    let (world, client) = world();
    let consumer = consumer(&world);
    for letter in ["a", "b", "c"] {
        client.publish_with("q", &large(letter), &Properties::persistent());
    }
    for letter in ["a", "b", "c"] {
        assert_eq!(finish(&world), 1);
        assert_eq!(letters(&consumer), letter);
    }
    assert_eq!(finish(&world), 0);
}

#[test]
fn others_do_not_wait() {
    let (world, client) = world();
    let consumer = consumer(&world);
    let other = world.client();
    other.confirms();
    client.publish_with("q", &large("a"), &Properties::persistent());
    other.publish_with("q", "b", &Properties::persistent());
    other.expect(&["ack 1"]);
    assert_eq!(letters(&consumer), "b");
    finish(&world);
    assert_eq!(letters(&consumer), "a");
}

#[test]
fn confirms_come_in_order_and_after_the_commit() {
    let (world, client) = world();
    client.confirms();
    world.hold_commits();
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("q", &large("b"), &Properties::persistent());
    client.publish_with("q", "c", &Properties::persistent());
    world.commit();
    client.expect(&["ack 1"]);
    finish(&world);
    client.expect_nothing();
    world.commit();
    client.expect(&["ack 3 multiple"]);
}

#[test]
fn it_is_in_its_queues_even_if_its_client_goes() {
    for leave in [Client::vanish, |client: &Client| client.force_close("bye")] {
        let (world, client) = world();
        client.publish_with("q", &large("a"), &Properties::persistent());
        leave(&client);
        let consumer = consumer(&world);
        assert_eq!(letters(&consumer), "a");
        finish(&world);
        assert_eq!(letters(&consumer), "");
    }
}

#[test]
fn a_queue_that_is_deleted_meanwhile_takes_it_along() {
    let (world, client) = world();
    client.confirms();
    client.publish_with("q", &large("a"), &Properties::persistent());
    let other = world.client();
    other.delete("q", false, false);
    other.expect(&["delete-ok 0"]);
    finish(&world);
    client.expect(&["ack 1"]);
}

#[test]
fn what_needs_no_disk_or_is_part_of_a_transaction_is_not_written_ahead() {
    let (world, client) = world();
    client.declare_ok("passing", &[], &[]);
    client.publish("q", &large("a"));
    client.publish_with("passing", &large("b"), &Properties::persistent());
    client.publish_with("nowhere", &large("c"), &Properties::persistent());
    client.tx(10);
    client.expect(&["tx.select-ok"]);
    client.publish_with("q", &large("d"), &Properties::persistent());
    assert!(client.wants_input());
    assert_eq!(finish(&world), 0);
}

#[test]
fn it_goes_to_all_its_queues_at_once() {
    let (world, client) = world();
    client.declare_ok("r", &[Flag::Durable], &[]);
    client.declare_ok("s", &[], &[]);
    for queue in ["q", "r", "s"] {
        client.bind(queue, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    let message = Properties {
        exchange: "amq.fanout",
        ..Properties::persistent()
    };
    client.publish_with("", &large("a"), &message);
    let other = world.client();
    assert_eq!(other.counts("s"), (0, 0));
    finish(&world);
    for queue in ["q", "r", "s"] {
        assert_eq!(other.counts(queue), (1, 0), "{queue}");
    }
}
