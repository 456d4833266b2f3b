//! Time to live of messages and queues.

use leveret_codec::AMQPProperties;

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

fn with_queue(arguments: &[(&str, leveret_codec::AMQPValue)]) -> (std::rc::Rc<World>, Client) {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], arguments);
    (world, client)
}

#[test]
fn messages_expire_on_time_without_anybody_looking() {
    let (world, client) = with_queue(&[("x-message-ttl", number(100))]);
    client.publish("q", "a");
    world.pass(50);
    client.publish("q", "b");
    world.pass(49);
    assert_eq!(client.counts("q"), (2, 0));
    world.pass(1);
    assert_eq!(client.counts("q"), (1, 0));
    world.pass(50);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn the_shorter_of_both_times_counts() {
    let (world, client) = with_queue(&[("x-message-ttl", number(100))]);
    client.publish_with("q", "a", &Properties::expiring("30"));
    client.publish_with("q", "b", &Properties::expiring("3000"));
    world.pass(30);
    assert_eq!(client.counts("q"), (1, 0));
    world.pass(70);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn an_expired_message_is_never_delivered_even_behind_others() {
    let (world, client) = with_queue(&[]);
    client.publish("q", "a");
    client.publish_with("q", "b", &Properties::expiring("10"));
    client.publish("q", "c");
    world.pass(11);
    client.consume_ok("q", "c");
    client.expect_bodies("a c");
}

#[test]
fn a_message_that_comes_to_the_front_expires_on_time() {
    let (world, client) = with_queue(&[]);
    client.publish("q", "a");
    client.publish_with("q", "b", &Properties::expiring("50"));
    client.qos_ok(1, false);
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    world.pass(50);
    assert_eq!(client.counts("q"), (0, 1));
}

#[test]
fn a_paged_message_that_comes_to_the_front_by_get_expires_on_time() {
    let world = World::paging(0);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for n in 0..3 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    client.publish_with("q", "x", &Properties::expiring("10"));
    for _ in 0..3 {
        client.get("q", true);
    }
    client.seen();
    world.pass(10);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn a_requeued_message_keeps_its_time() {
    let (world, client) = with_queue(&[("x-message-ttl", number(100))]);
    client.publish("q", "a");
    client.get("q", false);
    client.seen();
    world.pass(200);
    client.nack(1, false, true);
    world.pass(0);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn no_time_to_live_means_now_or_never() {
    let (world, client) = with_queue(&[("x-message-ttl", number(0))]);
    client.publish("q", "never");
    client.get("q", true);
    client.expect(&["get-empty"]);
    client.publish("q", "never");
    world.pass(0);
    assert_eq!(client.counts("q"), (0, 0));
    client.consume_ok("q", "c");
    client.publish_with("q", "now", &Properties::default());
    client.publish_with("q", "now too", &Properties::expiring("0"));
    client.expect_bodies("now now too");
}

/// What comes back in the millisecond in which it was published is over for who was not there then.
#[test]
fn nobody_gets_what_has_no_time_to_live_and_came_back() {
    let (_, client) = with_queue(&[]);
    client.consume_ok("q", "c");
    client.publish_with("q", "now", &Properties::expiring("0"));
    client.expect_bodies("now");
    client.cancel("c");
    client.seen();
    client.nack(1, false, true);
    client.get("q", true);
    client.expect(&["get-empty"]);
}

#[test]
fn low_priorities_expire_on_time_too() {
    let (world, client) = with_queue(&[("x-max-priority", number(2))]);
    client.publish_with("q", "high", &Properties::priority(2));
    client.publish_with("q", "low", &Properties::expiring("10"));
    world.pass(10);
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn queues_expire_when_nobody_uses_them() {
    let (world, client) = with_queue(&[("x-expires", number(100))]);
    world.pass(99);
    client.get("q", true);
    client.expect(&["get-empty"]);
    world.pass(99);
    client.consume_ok("q", "c");
    world.pass(1_000);
    client.cancel("c");
    client.expect(&["cancel-ok c"]);
    world.pass(99);
    client.declare_ok("q", &[Flag::Passive], &[]);
    world.pass(99);
    client.publish("q", "is no use");
    world.pass(1);
    client.declare("q", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn times_survive_a_restart() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-message-ttl", number(100))]);
    client.declare_ok("r", &[Flag::Durable], &[("x-expires", number(100))]);
    client.publish_with("q", "a", &Properties::persistent());
    world.pass(60);
    let after = world.restarted();
    let client = after.client();
    assert_eq!(client.counts("q"), (1, 0));
    after.pass(40);
    assert_eq!(client.counts("q"), (0, 0));
    after.pass(60);
    client.declare("r", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'r' in vhost '/'");
}

#[test]
fn paged_messages_expire_without_a_consumer() {
    let world = World::paging(300);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-message-ttl", number(100))]);
    for _ in 0..50 {
        client.publish_with("q", "x", &Properties::persistent());
    }
    world.pass(100);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn who_is_woken_early_asks_again_for_the_same() {
    let (world, client) = with_queue(&[]);
    client.publish_with("q", "a", &Properties::expiring("1000"));
    let queue = world.broker.vhost("/").unwrap().queue("q").unwrap();
    let due = world.now() + 1_000;
    let early = world.now() + 10;
    assert_eq!(queue.handle_timeout(early).deadline, Some(due));
    world.pass(1_000);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn expired_messages_of_a_queue_that_goes_are_nobodys_business() {
    let (world, client) = with_queue(&[
        ("x-message-ttl", number(10)),
        ("x-dead-letter-exchange", string("amq.fanout")),
    ]);
    client.publish("q", "a");
    client.delete("q", false, false);
    client.expect(&["delete-ok 1"]);
    world.pass(100);
    client.expect_nothing();
}

/// In the millisecond in which its time ends nobody knows whether it has: late is allowed, early never.
#[test]
fn get_gives_a_message_until_its_time_is_over() {
    let (world, client) = with_queue(&[("x-message-ttl", number(100))]);
    client.publish("q", "a");
    client.publish("q", "b");
    // The timer is late.
    world.wait(100);
    client.get("q", true);
    assert!(client.seen()[0].text.starts_with("get-ok"));
    world.wait(1);
    client.get("q", true);
    client.expect(&["get-empty"]);
}

/// Also what only the disk has, and no reader has come to yet.
#[test]
fn what_has_expired_is_not_left_behind_the_one_that_is_got() {
    let world = World::paging(300);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    let expiring = AMQPProperties::default()
        .with_delivery_mode(2)
        .with_expiration("50".into());
    client.publish_with("q", "first", &Properties::persistent());
    for _ in 0..40 {
        client.publish_with("q", "expires", &Properties::of(expiring.clone()));
    }
    client.publish_with("q", "last", &Properties::persistent());
    world.hold_paging();
    world.pass(60);
    client.get("q", true);
    client.expect(&["get-ok 1 left=1 'first'"]);
    client.get("q", true);
    client.expect(&["get-ok 2 left=0 'last'"]);
}
