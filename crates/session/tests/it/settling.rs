//! Acknowledgements, rejections, requeues and `basic.get`.

use std::rc::Rc;

use leveret_broker::BrokerConfig;

use crate::harness::calls::number;
use crate::harness::client::Client;
use crate::harness::{Properties, World};

fn with_messages(bodies: &str) -> (Rc<World>, Client) {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    client.publish_all("q", bodies, &Properties::default());
    (world, client)
}

#[test]
fn get_takes_one_and_counts_the_rest() {
    let (_, client) = with_messages("a b");
    client.get("q", true);
    client.get("q", false);
    client.get("q", false);
    client.expect(&["get-ok 1 left=1 'a'", "get-ok 2 left=0 'b'", "get-empty"]);
    client.ack(2, false);
    client.ack(1, false);
    client.expect_channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn unknown_tags_are_406_and_undo_nothing() {
    type Settle = fn(&Client);
    let settle: [(Settle, u64); 6] = [
        (|client| client.ack(7, false), 7),
        (|client| client.ack(7, true), 7),
        (|client| client.ack(0, false), 0),
        (|client| client.nack(7, false, true), 7),
        (|client| client.nack(7, true, false), 7),
        (|client| client.reject(7, true), 7),
    ];
    for (settle, tag) in settle {
        let (_, client) = with_messages("a");
        client.get("q", false);
        client.seen();
        settle(&client);
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        client.expect_channel_error(406, &text);
        client.get("q", true);
        client.expect(&["get-ok 1 redelivered left=0 'a'"]);
    }
}

#[test]
fn zero_and_multiple_mean_all_so_far() {
    let (_, client) = with_messages("a b c");
    client.ack(0, true);
    client.consume_ok("q", "c");
    client.seen();
    client.ack(0, true);
    client.close_channel();
    client.seen();
    client.with_channel(1);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn multiple_covers_deliveries_of_all_consumers_of_the_channel() {
    let (_, client) = with_messages("a b c d");
    client.declare_ok("r", &[], &[]);
    client.publish("r", "x");
    client.qos_ok(2, false);
    client.consume_ok("q", "one");
    client.consume("r", "two", &[], &[]);
    client.seen();
    client.ack(3, true);
    client.expect(&["deliver one 4 'c'", "deliver one 5 'd'"]);
}

#[test]
fn requeued_messages_go_back_to_their_places() {
    let (_, client) = with_messages("a b c d e");
    for _ in 0..4 {
        client.get("q", false);
    }
    client.seen();
    client.nack(2, false, true);
    client.reject(4, true);
    client.nack(1, false, true);
    client.consume_ok("q", "c");
    client.expect_bodies("a! b! d! e");
    client.nack(3, false, true);
    client.expect_bodies("c!");
}

#[test]
fn nack_of_many_puts_all_back_in_order() {
    let (_, client) = with_messages("a b c d");
    client.qos_ok(3, false);
    client.consume_ok("q", "c");
    client.expect_bodies("a b c");
    client.nack(2, true, true);
    client.expect_bodies("a! b!");
    client.nack(0, true, true);
    client.expect_bodies("a! b! c!");
}

#[test]
fn many_messages_are_put_back_in_front_of_many() {
    let world = World::volatile_with(BrokerConfig {
        queue_memory_bytes: 1 << 30,
        mailbox_bytes: 1 << 30,
        ..BrokerConfig::default()
    });
    let (client, consumer) = (world.client(), world.client());
    client.declare_ok("q", &[], &[]);
    for number in 0..520_000 {
        let body = number.to_string();
        client.write(&client.publishing("q", body.as_bytes(), &Properties::default()));
    }
    world.run();
    consumer.qos_ok(65_000, false);
    for tag in ["a", "b", "c", "d"] {
        consumer.consume("q", tag, &[], &[]);
    }
    assert_eq!(consumer.seen().len(), 4 + 260_000);
    consumer.vanish();
    assert_eq!(client.counts("q"), (520_000, 0));
    client.get("q", true);
    client.get("q", true);
    client.expect(&[
        "get-ok 1 redelivered left=519999 '0'",
        "get-ok 2 redelivered left=519998 '1'",
    ]);
}

#[test]
fn rejected_messages_are_gone() {
    let (_, client) = with_messages("a b c");
    for _ in 0..3 {
        client.get("q", false);
    }
    client.seen();
    client.reject(1, false);
    client.nack(3, true, false);
    client.get("q", true);
    client.expect(&["get-empty"]);
}

#[test]
fn recover_puts_everything_back() {
    let (_, client) = with_messages("a b c");
    client.qos_ok(2, false);
    client.consume_ok("q", "c");
    client.expect_bodies("a b");
    client.recover(true);
    client.expect_first("recover-ok");
    client.expect_bodies("a! b!");
    client.ack(4, true);
    client.expect_bodies("c");
    client.recover(false);
    client.expect_connection_error(540, "NOT_IMPLEMENTED - requeue=false");
}

#[test]
fn settlements_work_after_the_consumer_and_the_queue_are_gone() {
    let (_, client) = with_messages("a b c");
    client.consume_ok("q", "c");
    client.cancel("c");
    client.seen();
    client.ack(1, false);
    client.delete("q", false, false);
    client.expect(&["delete-ok 0"]);
    client.nack(2, false, true);
    client.ack(3, false);
    client.expect_nothing();
    client.declare_ok("q", &[], &[]);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn priorities_are_served_high_to_low_and_kept_on_requeue() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], &[("x-max-priority", number(5))]);
    for (body, priority) in [("a", 0), ("b", 5), ("c", 9), ("d", 1)] {
        client.publish_with("q", body, &Properties::priority(priority));
    }
    client.publish("q", "e");
    client.qos_ok(3, false);
    client.consume_ok("q", "c");
    client.expect_bodies("b c d");
    client.nack(2, true, true);
    client.expect_bodies("b! c!");
    client.ack(0, true);
    client.expect_bodies("a e");
}
