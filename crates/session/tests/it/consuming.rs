//! Consumers: whose turn it is, how many messages they may have, and how they end.

use std::rc::Rc;

use crate::harness::calls::{Flag, number};
use crate::harness::client::Client;
use crate::harness::wire::Arguments;
use crate::harness::{Dial, Properties, World};

fn with_queue(arguments: &[(&str, leveret_codec::AMQPValue)]) -> (Rc<World>, Client) {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], arguments);
    (world, client)
}

fn consumer(world: &Rc<World>, prefetch: u16) -> Client {
    let client = world.client();
    client.qos_ok(prefetch, false);
    client.consume_ok("q", "c");
    client
}

#[test]
fn consumers_take_turns() {
    let (world, client) = with_queue(&[]);
    let consumers = [
        consumer(&world, 0),
        consumer(&world, 0),
        consumer(&world, 0),
    ];
    client.publish_all("q", "a b c d e f g", &Properties::default());
    consumers[0].expect_bodies("a d g");
    consumers[1].expect_bodies("b e");
    consumers[2].expect_bodies("c f");
}

#[test]
fn one_without_room_is_passed_over() {
    let (world, client) = with_queue(&[]);
    let (small, large) = (consumer(&world, 1), consumer(&world, 3));
    client.publish_all("q", "a b c d e f", &Properties::default());
    small.expect_bodies("a");
    large.expect_bodies("b c d");
    assert_eq!(client.counts("q"), (2, 2));
    small.ack(1, false);
    small.expect_bodies("e");
    large.ack(2, true);
    large.expect_bodies("f");
}

#[test]
fn prefetch_counts_what_is_not_acknowledged() {
    let (world, client) = with_queue(&[]);
    let consumer = consumer(&world, 2);
    client.publish_all("q", "a b c d e", &Properties::default());
    consumer.expect_bodies("a b");
    consumer.ack(2, false);
    consumer.expect_bodies("c");
    consumer.nack(1, false, false);
    consumer.expect_bodies("d");
    consumer.ack(0, true);
    consumer.expect_bodies("e");
}

#[test]
fn prefetch_is_for_later_consumers_and_not_for_those_without_acknowledgements() {
    let (world, client) = with_queue(&[]);
    let consumer = world.client();
    consumer.consume_ok("q", "free");
    consumer.qos_ok(1, false);
    client.publish_all("q", "a b c", &Properties::default());
    consumer.expect_bodies("a b c");
    consumer.cancel("free");
    consumer.consume("q", "auto", &[Flag::NoAck], &[]);
    consumer.seen();
    client.publish_all("q", "d e", &Properties::default());
    consumer.expect_bodies("d e");
}

#[test]
fn a_global_prefetch_is_shared_by_the_channel() {
    let (world, client) = with_queue(&[]);
    client.declare_ok("r", &[], &[]);
    let consumer = world.client();
    consumer.qos_ok(3, true);
    consumer.consume_ok("q", "one");
    consumer.consume_ok("r", "two");
    client.publish_all("q", "a b", &Properties::default());
    client.publish_all("r", "x y z", &Properties::default());
    consumer.expect_bodies("a b x");
    // Room that an acknowledgement of one queue makes goes to the other.
    consumer.ack(1, false);
    consumer.expect_bodies("y");
    consumer.qos_ok(0, true);
    consumer.expect_bodies("z");
}

#[test]
fn both_limits_hold_together() {
    let (world, client) = with_queue(&[]);
    let consumer = world.client();
    consumer.qos_ok(2, false);
    consumer.qos_ok(3, true);
    consumer.consume_ok("q", "one");
    consumer.consume_ok("q", "two");
    client.publish_all("q", "a b c d e", &Properties::default());
    assert_eq!(consumer.bodies().len(), 3);
    consumer.ack(0, true);
    assert_eq!(consumer.bodies().len(), 2);
}

#[test]
fn a_prefetch_size_is_not_implemented() {
    let client = World::volatile().client();
    let arguments = Arguments::new().u32(1).u16(0).bits(&[false]);
    client.call((60, 10), arguments);
    client.expect_connection_error(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)");
}

#[test]
fn higher_priorities_come_first_while_they_have_room() {
    let (world, client) = with_queue(&[]);
    let low = consumer(&world, 0);
    let high = world.client();
    high.qos_ok(2, false);
    high.consume("q", "high", &[], &[("x-priority", number(10))]);
    high.expect(&["consume-ok high"]);
    client.publish_all("q", "a b c d", &Properties::default());
    high.expect_bodies("a b");
    low.expect_bodies("c d");
    high.ack(2, true);
    client.publish_all("q", "e", &Properties::default());
    high.expect_bodies("e");
}

#[test]
fn only_the_active_consumer_gets_messages() {
    let (world, client) = with_queue(&[(
        "x-single-active-consumer",
        leveret_codec::AMQPValue::Boolean(true),
    )]);
    let (first, second) = (consumer(&world, 2), consumer(&world, 0));
    client.publish_all("q", "a b c", &Properties::default());
    first.expect_bodies("a b");
    second.expect_nothing();
    first.cancel("c");
    first.expect(&["cancel-ok c"]);
    second.expect_bodies("c");
    first.ack(2, true);
    client.publish_all("q", "d", &Properties::default());
    second.expect_bodies("d");
}

#[test]
fn the_next_active_consumer_goes_on_where_the_last_one_died() {
    let (world, client) = with_queue(&[(
        "x-single-active-consumer",
        leveret_codec::AMQPValue::Boolean(true),
    )]);
    let (first, second) = (consumer(&world, 2), consumer(&world, 0));
    client.publish_all("q", "a b c d", &Properties::default());
    first.expect_bodies("a b");
    first.vanish();
    second.expect_bodies("a! b! c d");
}

#[test]
fn the_next_consumer_is_active_when_one_goes_that_held_nothing() {
    let single = leveret_codec::AMQPValue::Boolean(true);
    let (world, client) = with_queue(&[("x-single-active-consumer", single)]);
    let consumers = [0; 3].map(|prefetch| consumer(&world, prefetch));
    consumers[0].close_channel();
    client.publish("q", "a");
    consumers[1].expect_bodies("a");
    consumers[1].ack(1, false);
    consumers[1].vanish();
    client.publish("q", "b");
    consumers[2].expect_bodies("b");
}

#[test]
fn what_a_closed_channel_held_comes_before_what_waits() {
    let (world, client) = with_queue(&[]);
    let (first, second) = (consumer(&world, 2), consumer(&world, 2));
    client.publish_all("q", "a b c d e", &Properties::default());
    first.expect_bodies("a c");
    second.expect_bodies("b d");
    second.ack(2, true);
    second.expect_bodies("e");
    client.publish_all("q", "f", &Properties::default());
    second.expect_bodies("f");
    client.publish_all("q", "g", &Properties::default());
    first.close_channel();
    second.ack(4, true);
    second.expect_bodies("a! c!");
    second.ack(6, true);
    second.expect_bodies("g");
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let (world, client) = with_queue(&[]);
    let other = world.client();
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    client.consume("q", "only", &[Flag::Exclusive], &[]);
    client.expect(&["consume-ok only"]);
    other.consume("q", "c", &[], &[]);
    other.expect_channel_error(403, text);
    client.cancel("only");
    other.consume_ok("q", "c");
    client.expect(&["cancel-ok only"]);
    client.consume("q", "only", &[Flag::Exclusive], &[]);
    client.expect_channel_error(403, text);
}

#[test]
fn consumers_are_told_when_their_queue_goes() {
    let (world, client) = with_queue(&[]);
    let told = consumer(&world, 0);
    let dial = Dial {
        capabilities: Vec::new(),
        ..Dial::default()
    };
    let untold = Client::connect(&world, dial).with_channel(1);
    untold.consume_ok("q", "c");
    client.publish_all("q", "a b", &Properties::default());
    client.delete("q", false, false);
    client.expect(&["delete-ok 0"]);
    told.expect(&["deliver c 1 'a'", "cancel c"]);
    untold.expect(&["deliver c 1 'b'"]);
    // What was delivered can still be acknowledged, and the tag used again.
    told.ack(1, false);
    client.declare_ok("q", &[], &[]);
    told.consume_ok("q", "c");
    client.publish("q", "c");
    told.expect(&["deliver c 2 'c'"]);
}

#[test]
fn a_tag_is_used_once_a_channel() {
    let (_, client) = with_queue(&[]);
    client.consume_ok("q", "c");
    let second = client.with_channel(2);
    second.consume_ok("q", "c");
    client.consume("q", "c", &[], &[]);
    client.expect_connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'");
}

#[test]
fn consumers_without_a_tag_get_one() {
    let (_, client) = with_queue(&[]);
    client.consume("q", "", &[], &[]);
    let line = client.lines().remove(0);
    assert!(
        line.starts_with("consume-ok amq.ctag-") && line.len() == 42,
        "{line}"
    );
}

#[test]
fn cancelling_what_is_not_there_is_answered() {
    let (_, client) = with_queue(&[]);
    client.cancel("nobody");
    client.expect(&["cancel-ok nobody"]);
}

#[test]
fn nothing_is_delivered_after_cancel_ok_and_what_was_can_be_settled() {
    let (world, client) = with_queue(&[]);
    let consumer = consumer(&world, 0);
    client.publish("q", "a");
    consumer.cancel("c");
    client.publish("q", "b");
    consumer.expect(&["deliver c 1 'a'", "cancel-ok c"]);
    consumer.nack(1, false, true);
    consumer.get("q", false);
    consumer.get("q", false);
    consumer.expect(&["get-ok 2 redelivered left=1 'a'", "get-ok 3 left=0 'b'"]);
}

#[test]
fn a_closed_channel_gives_back_what_it_had() {
    let (_, client) = with_queue(&[]);
    client.publish_all("q", "a b c", &Properties::default());
    let second = client.with_channel(2);
    second.consume_ok("q", "c");
    second.seen();
    second.ack(2, false);
    second.close_channel();
    client.seen();
    client.get("q", true);
    client.get("q", true);
    client.get("q", true);
    client.expect(&[
        "get-ok 1 redelivered left=1 'a'",
        "get-ok 2 redelivered left=0 'c'",
        "get-empty",
    ]);
}

#[test]
fn deliveries_never_seen_come_back_unmarked() {
    let (world, client) = with_queue(&[]);
    let deaf = consumer(&world, 0);
    deaf.set_reads(false);
    let large = "x".repeat(100_000);
    for _ in 0..20 {
        client.publish("q", &large);
    }
    deaf.vanish();
    let mut unmarked = 0;
    for _ in 0..20 {
        client.get("q", true);
        let line = client.lines().remove(0);
        assert!(line.starts_with("get-ok"), "{line}");
        unmarked += u32::from(!line.contains("redelivered"));
    }
    assert!(unmarked > 10, "only {unmarked} of 20 were never written");
    client.get("q", true);
    client.expect(&["get-empty"]);
}

#[test]
fn a_socket_closed_without_a_word_gets_no_deliveries_either() {
    let (_, client) = with_queue(&[]);
    let channels: Vec<Client> = (2..6).map(|number| client.with_channel(number)).collect();
    for channel in &channels {
        channel.consume_ok("q", "c");
    }
    client.write(&client.publishing("q", b"a", &Properties::default()));
    client.write(&client.publishing("q", b"b", &Properties::default()));
    client.send(&crate::harness::wire::method(1, (99, 1), Arguments::new()));
    client.expect_nothing();
    assert!(client.is_closed());
}

/// Consumers of several channels come and go in no order; a channel that closes takes its own along and no others.
#[test]
fn a_channel_takes_its_own_consumers_along() {
    const CHANNELS: u16 = 3;
    let world = World::volatile();
    let first = world.client();
    first.declare_ok("q", &[], &[]);
    let others = (2..=CHANNELS).map(|number| first.with_channel(number));
    let channels: Vec<_> = std::iter::once(first.clone()).chain(others).collect();
    let mut left = [0; CHANNELS as usize];
    for number in 0..60 {
        let at = number * 7 % channels.len();
        channels[at].consume("q", &format!("c{number}"), &[Flag::NoAck], &[]);
        left[at] += 1;
        if number % 4 == 3 {
            let gone = number - 3;
            let at = gone * 7 % channels.len();
            channels[at].cancel(&format!("c{gone}"));
            left[at] -= 1;
        }
    }
    first.seen();
    for (at, channel) in channels.iter().enumerate().rev() {
        let consumers: u32 = left[..=at].iter().sum();
        assert_eq!(first.counts("q"), (0, consumers));
        if at > 0 {
            channel.close_channel();
            channel.seen();
        }
    }
}
