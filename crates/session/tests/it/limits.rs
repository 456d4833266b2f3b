//! Length limits.

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

fn limited(arguments: &[(&str, leveret_codec::AMQPValue)]) -> Client {
    let client = World::volatile().client();
    client.declare_ok("q", &[], arguments);
    client
}

fn all(client: &Client) -> String {
    client.seen();
    let other = client.with_channel(9);
    other.consume("q", "all", &[], &[]);
    let seen = client.seen();
    let bodies: Vec<String> = seen[1..].iter().map(|seen| seen.body_text()).collect();
    other.close_channel();
    client.seen();
    bodies.join(" ")
}

#[test]
fn the_oldest_go_first() {
    let client = limited(&[("x-max-length", number(3))]);
    client.publish_all("q", "a b c d e", &Properties::default());
    assert_eq!(all(&client), "c d e");
}

#[test]
fn bodies_are_counted_in_bytes() {
    let client = limited(&[("x-max-length-bytes", number(5))]);
    client.publish_all("q", "aa bb cc", &Properties::default());
    assert_eq!(all(&client), "bb cc");
    let client = limited(&[("x-max-length-bytes", number(5))]);
    client.publish_all("q", "a 666666 b", &Properties::default());
    assert_eq!(all(&client), "b");
}

#[test]
fn what_is_not_acknowledged_does_not_count() {
    let client = limited(&[("x-max-length", number(1))]);
    client.qos_ok(2, false);
    client.consume_ok("q", "c");
    client.publish_all("q", "a b c d", &Properties::default());
    client.expect_bodies("a b");
    client.ack(2, true);
    client.expect_bodies("d");
}

#[test]
fn a_limit_of_nothing_still_lets_through() {
    let client = limited(&[("x-max-length", number(0))]);
    client.publish("q", "lost");
    client.consume_ok("q", "c");
    client.publish_all("q", "a b", &Properties::default());
    client.expect_bodies("a b");
}

#[test]
fn requeued_messages_count_again() {
    let client = limited(&[("x-max-length", number(2))]);
    client.publish_all("q", "a b", &Properties::default());
    client.get("q", false);
    client.publish("q", "c");
    client.seen();
    client.nack(1, false, true);
    assert_eq!(client.counts("q"), (2, 0));
    client.publish("q", "d");
    assert_eq!(all(&client), "c d");
}

/// A durable queue with room for one message, `count` of which are out to a consumer.
fn out(arguments: &[(&'static str, leveret_codec::AMQPValue)], count: usize) -> (Client, Client) {
    let world = World::durable();
    let (client, consumer) = (world.client(), world.client());
    let mut arguments = arguments.to_vec();
    arguments.push(("x-max-length", number(1)));
    client.declare_ok("q", &[Flag::Durable], &arguments);
    consumer.consume_ok("q", "c");
    for number in 1..=count {
        client.publish("q", &number.to_string());
    }
    assert_eq!(consumer.bodies().len(), count);
    (client, consumer)
}

#[test]
fn what_comes_back_to_a_quorum_queue_goes_to_who_waits_before_the_limit_takes_it() {
    let quorum = ("x-queue-type", string("quorum"));
    let (client, consumer) = out(std::slice::from_ref(&quorum), 5);
    consumer.nack(5, true, true);
    consumer.expect_bodies("1! 2! 3! 4! 5!");
    // Another consumer waits when this one's channel closes.
    let other = client.with_channel(2);
    other.qos_ok(3, false);
    other.consume_ok("q", "d");
    consumer.close_channel();
    other.expect(&[
        "2: deliver d 1 redelivered '1'",
        "2: deliver d 2 redelivered '2'",
        "2: deliver d 3 redelivered '3'",
    ]);
    assert_eq!(client.counts("q"), (1, 1));
    // The next single active consumer waits too.
    let single = (
        "x-single-active-consumer",
        leveret_codec::AMQPValue::Boolean(true),
    );
    let (client, consumer) = out(&[quorum, single], 4);
    client.consume_ok("q", "next");
    consumer.close_channel();
    client.expect_bodies("1! 2! 3! 4!");
    // In a classic queue the limit comes first.
    let (_, consumer) = out(&[], 5);
    consumer.nack(5, true, true);
    consumer.expect_bodies("5!");
}

#[test]
fn a_queue_that_refuses_drops_nothing() {
    let world = World::paging(300);
    let client = world.client();
    let arguments = [
        ("x-max-length", number(20)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("q", &[Flag::Durable], &arguments);
    for n in 0..20 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    client.get("q", false);
    client.publish_with("q", "20", &Properties::persistent());
    client.seen();
    client.nack(1, false, true);
    let expected: Vec<String> = (0..=20).map(|n| n.to_string()).collect();
    assert_eq!(all(&client), expected.join(" "));
}

#[test]
fn what_consumers_take_at_once_is_not_refused() {
    let client = limited(&[
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ]);
    client.qos_ok(3, false);
    client.consume_ok("q", "c");
    client.publish_all("q", "a b c d e", &Properties::default());
    client.expect_bodies("a b c");
    client.ack(3, true);
    client.expect_bodies("d");
}

#[test]
fn a_body_that_would_go_over_the_limit_is_refused() {
    let client = limited(&[
        ("x-max-length-bytes", number(5)),
        ("x-overflow", string("reject-publish")),
    ]);
    client.publish_all("q", "666666 aaa bbb cc", &Properties::default());
    assert_eq!(all(&client), "aaa cc");
}

#[test]
fn a_consumer_that_waits_does_not_get_it_either() {
    let client = limited(&[
        ("x-max-length-bytes", number(5)),
        ("x-overflow", string("reject-publish")),
    ]);
    client.consume_ok("q", "c");
    client.publish_all("q", "666666 aaa", &Properties::default());
    client.expect_bodies("aaa");
}

#[test]
fn newcomers_are_refused_when_asked_for() {
    let client = limited(&[
        ("x-max-length", number(2)),
        ("x-overflow", string("reject-publish")),
    ]);
    client.publish_all("q", "a b c", &Properties::default());
    assert_eq!(all(&client), "a b");
    client.get("q", true);
    client.publish_all("q", "d e", &Properties::default());
    assert_eq!(all(&client), "b d");
}

#[test]
fn the_lowest_priority_goes_first_only_by_being_last() {
    let client = limited(&[("x-max-length", number(2)), ("x-max-priority", number(3))]);
    for (body, priority) in [("a", 1), ("b", 3), ("c", 2)] {
        client.publish_with("q", body, &Properties::priority(priority));
    }
    assert_eq!(client.counts("q"), (2, 0));
}
