//! Bodies on their way and open transactions share one memory each: who finds none waits, one can always finish, and
//! who stands still while others wait is ended.

use std::rc::Rc;

use leveret_broker::BrokerConfig;

use crate::harness::{Client, Properties, World};

const BODY: usize = 1_000_000;

fn config() -> BrokerConfig {
    BrokerConfig {
        message_bytes_max: 1_200_000,
        assembly_bytes_max: 2_600_000,
        transaction_bytes_max: 1_200_000,
        transactions_bytes_max: 2_600_000,
        ..BrokerConfig::default()
    }
}

/// A world, and `count` clients with a queue `q`.
fn clients(count: usize) -> (Rc<World>, Vec<Client>) {
    let world = World::volatile_with(config());
    let clients: Vec<_> = (0..count).map(|_| world.client()).collect();
    clients[0].declare_ok("q", &[], &[]);
    (world, clients)
}

/// All frames of a publish but the last, and that.
fn in_two(client: &Client, body: usize) -> (Vec<u8>, Vec<u8>) {
    const AROUND: usize = 8;
    let mut bytes = client.publishing("q", &vec![b'x'; body], &Properties::default());
    let mut last = 0;
    let mut next = 0;
    while next < bytes.len() {
        last = next;
        let length = [3, 4, 5, 6].map(|place| bytes[next + place]);
        next += u32::from_be_bytes(length) as usize + AROUND;
    }
    let end = bytes.split_off(last);
    (bytes, end)
}

fn begin(client: &Client) {
    client.send(&in_two(client, BODY).0);
}

fn finish(client: &Client) {
    client.send(&in_two(client, BODY).1);
}

fn ready(client: &Client) -> u32 {
    client.counts("q").0
}

#[test]
fn who_finds_no_memory_waits_and_small_messages_flow() {
    let (_, clients) = clients(5);
    let [one, first, waits, too, small] = &clients[..] else {
        unreachable!()
    };
    begin(one);
    // Nothing is left for it: it goes first.
    begin(first);
    begin(waits);
    begin(too);
    let reading: Vec<_> = clients.iter().map(Client::wants_input).collect();
    assert_eq!(reading, [true, true, false, false, true]);
    small.publish("q", "small");
    small.publish_with("q", &"s".repeat(200_000), &Properties::default());
    assert_eq!(ready(small), 2);
    finish(first);
    assert_eq!(ready(small), 3);
    assert!(waits.wants_input() && !too.wants_input());
    finish(waits);
    finish(one);
    finish(too);
    assert_eq!(ready(small), 6);
}

#[test]
fn a_body_that_stands_still_while_others_wait_costs_its_connection() {
    let (world, clients) = clients(4);
    let [silent, first, waits, other] = &clients[..] else {
        unreachable!()
    };
    begin(silent);
    world.pass(60_000);
    assert!(!silent.is_closed(), "nobody waits");
    begin(first);
    begin(waits);
    world.pass(29_000);
    finish(first);
    // Another goes first, and stands still too.
    assert!(waits.wants_input());
    begin(other);
    assert!(!other.wants_input());
    world.pass(1_500_000 / 50);
    silent.expect_connection_error(
        506,
        "RESOURCE_ERROR - a body stood still for 30 s while others waited for its memory",
    );
    assert!(other.wants_input());
    finish(other);
    assert_eq!(ready(other), 2);
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let world = World::volatile_with(BrokerConfig {
        assembly_bytes_max: 900_000,
        ..config()
    });
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    begin(&client);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - message size 1000000 is larger than what is left of the 900000 bytes for bodies \
         on their way",
    );
    // One connection's bodies that would wait for one another.
    let world = World::volatile_with(config());
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    begin(&client);
    begin(&client.with_channel(2));
    let third = client.with_channel(3);
    begin(&third);
    third.expect_channel_error(
        406,
        "PRECONDITION_FAILED - message size 1000000 is larger than what is left of the 2600000 bytes for bodies \
         on their way",
    );
    finish(&client);
    finish(&client.on(2));
    assert_eq!(ready(&client), 2);
}

/// Publishes `count` messages of 100,000 bytes in a transaction.
fn publish(client: &Client, count: usize) {
    for _ in 0..count {
        client.publish_with("q", &"t".repeat(100_000), &Properties::default());
    }
}

#[test]
fn open_transactions_share_their_memory_and_one_goes_on() {
    let (world, clients) = clients(4);
    let [one, other, third, watcher] = &clients[..] else {
        unreachable!()
    };
    for client in [one, other, third] {
        client.tx(10);
        client.seen();
    }
    publish(one, 6);
    publish(other, 7);
    // That was all; this one goes first.
    publish(other, 3);
    publish(third, 1);
    publish(one, 1);
    assert!(other.wants_input() && !one.wants_input() && !third.wants_input());
    publish(one, 1);
    one.send(&[]);
    other.tx(20);
    other.expect(&["commit-ok"]);
    assert_eq!(ready(watcher), 10);
    // Of the others one goes on.
    one.tx(20);
    one.expect(&["commit-ok"]);
    assert_eq!(ready(watcher), 18);
    third.tx(20);
    third.expect(&["commit-ok"]);
    assert_eq!(ready(watcher), 19);
    world.pass(1);
}

#[test]
fn a_transaction_that_stands_still_while_others_wait_is_rolled_back() {
    let (world, clients) = clients(3);
    let [silent, first, waits] = &clients[..] else {
        unreachable!()
    };
    for client in &clients {
        client.tx(10);
        client.seen();
    }
    publish(silent, 11);
    publish(first, 6);
    publish(waits, 1);
    assert!(!waits.wants_input());
    world.pass(29_000);
    publish(first, 1);
    world.pass(60_000);
    silent.expect_channel_error(
        406,
        "PRECONDITION_FAILED - the transaction stood still for 30 s while others waited for its memory",
    );
    waits.tx(20);
    waits.expect(&["commit-ok"]);
}

#[test]
fn who_goes_first_has_begun_on_several_channels() {
    const HALF: usize = BODY / 2;
    let (_, clients) = clients(3);
    let [one, other, watcher] = &clients[..] else {
        unreachable!()
    };
    let channels = |client: &Client| [1, 2, 3].map(|number| client.on(number));
    for number in [2, 3] {
        one.with_channel(number);
        other.with_channel(number);
    }
    let begin = |client: &Client| client.send(&in_two(client, HALF).0);
    let finish = |client: &Client| client.send(&in_two(client, HALF).1);
    begin(one);
    begin(other);
    // Nothing is left for it: it goes first, and does not wait for itself.
    begin(&one.on(2));
    begin(&other.on(2));
    assert!(one.wants_input() && !other.wants_input());
    begin(&one.on(3));
    assert!(one.wants_input());
    channels(one).iter().for_each(finish);
    assert_eq!(ready(watcher), 3);
    assert!(other.wants_input());
    begin(&other.on(3));
    channels(other).iter().for_each(finish);
    assert_eq!(ready(watcher), 6);
}

#[test]
fn transactions_of_one_connection_do_not_wait_for_one_another() {
    let (_, clients) = clients(3);
    let [one, other, watcher] = &clients[..] else {
        unreachable!()
    };
    for client in [one, other] {
        for client in [client.on(1), client.with_channel(2), client.with_channel(3)] {
            client.tx(10);
        }
        client.seen();
    }
    publish(other, 7);
    publish(one, 7);
    // That was all; this one goes first.
    publish(&one.on(2), 6);
    publish(&other.on(2), 1);
    publish(&one.on(3), 3);
    assert!(one.wants_input() && !other.wants_input());
    publish(&one.on(3), 5);
    one.on(3).expect_channel_error(
        406,
        "PRECONDITION_FAILED - transaction is larger than what is left of the 2600000 bytes for transactions",
    );
    for channel in [one.on(1), one.on(2)] {
        channel.tx(20);
    }
    one.expect(&["commit-ok", "2: commit-ok"]);
    assert_eq!(ready(watcher), 13);
    assert!(other.wants_input());
    for channel in [other.on(1), other.on(2)] {
        channel.tx(20);
    }
    other.expect(&["commit-ok", "2: commit-ok"]);
    assert_eq!(ready(watcher), 21);
}
