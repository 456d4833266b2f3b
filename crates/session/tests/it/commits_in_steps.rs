//! A transaction of very much is committed and rolled back in steps, others have their turns between them, and nobody
//! sees a part of it.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::AMQPProperties;

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

const MANY: usize = 200;
const SELECT: u16 = 10;
const COMMIT: u16 = 20;
const ROLLBACK: u16 = 30;

fn names() -> String {
    let names: Vec<String> = (1..=MANY).map(|n| format!("m{n}")).collect();
    names.join(" ")
}

fn returned() -> String {
    names().replace(' ', "! ") + "!"
}

/// A client with a transaction open and unacknowledged deliveries of `q`, and another one.
fn world() -> (Rc<World>, Client, Client) {
    let world = World::durable_with(BrokerConfig {
        step_cost: 50,
        ..BrokerConfig::default()
    });
    let client = world.client();
    let letters = [
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("q", &[Flag::Durable], &letters);
    for queue in ["r", "s", "dead"] {
        client.declare_ok(queue, &[Flag::Durable], &[]);
        client.bind(queue, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    client.unbind("dead", "amq.fanout", "");
    client.expect(&["unbind-ok"]);
    client.publish_all("q", &names(), &Properties::persistent());
    client.consume_ok("q", "c");
    client.seen();
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    let other = world.client();
    (world, client, other)
}

fn publish_many(client: &Client) {
    let message = Properties {
        exchange: "amq.fanout",
        ..Properties::persistent()
    };
    client.publish_all("", &names(), &message);
}

fn ready(world: &World, queue: &str) -> u64 {
    let vhost = world.broker.vhost("/").expect("the virtual host");
    vhost.queue(queue).expect("the queue").counts().ready
}

/// Lets everybody have turns until the client is told something. Meanwhile the queues show all or nothing, together.
#[track_caller]
fn turns_until_told(world: &World, client: &Client, shown: u64) -> (usize, Vec<String>) {
    let mut turns = 0;
    loop {
        let lines = client.lines();
        if !lines.is_empty() {
            return (turns, lines);
        }
        assert!(world.turn(), "nothing moves");
        turns += 1;
        let seen = ["r", "s"].map(|queue| ready(world, queue));
        assert!(seen == [0, 0] || seen == [shown; 2], "{seen:?}");
    }
}

#[test]
fn a_commit_of_very_much_is_seen_as_a_whole_and_answered_in_the_end() {
    let (world, client, other) = world();
    client.ack(0, true);
    publish_many(&client);
    world.stand_still();
    client.tx(COMMIT);
    let (turns, told) = turns_until_told(&world, &client, MANY as u64);
    assert_eq!(told, ["commit-ok"]);
    assert!(turns > 20, "{turns} turns");
    world.go_on();
    for queue in ["r", "s"] {
        other.consume_ok(queue, queue);
        other.expect_bodies(&names());
    }
    client.close_channel();
    assert_eq!(other.counts("q").0, 0);
    let restarted = world.restarted();
    assert_eq!(ready(&restarted, "q"), 0);
    assert_eq!(ready(&restarted, "r"), MANY as u64);
}

#[test]
fn very_many_rejected_in_a_transaction_die_with_it() {
    let (world, client, other) = world();
    client.nack(0, true, false);
    publish_many(&client);
    world.stand_still();
    client.tx(COMMIT);
    let (turns, told) = turns_until_told(&world, &client, MANY as u64);
    assert_eq!(told, ["commit-ok"]);
    assert!(turns > 100, "{turns} turns");
    world.go_on();
    other.consume_ok("dead", "d");
    other.expect_bodies(&names());
}

#[test]
fn what_a_transaction_puts_back_goes_to_others_in_order() {
    let (world, client, other) = world();
    client.cancel("c");
    client.seen();
    other.consume_ok("q", "o");
    client.nack(0, true, true);
    client.tx(COMMIT);
    client.expect(&["commit-ok"]);
    other.expect_bodies(&returned());
    assert_eq!(ready(&world, "q"), 0);
}

/// Without a delivery limit each goes behind all others there.
#[test]
fn what_a_transaction_puts_back_keeps_its_order_in_a_quorum_queue() {
    let (world, _, other) = world();
    let quorum = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(-1)),
    ];
    other.declare_ok("quorum", &[Flag::Durable], &quorum);
    other.publish_all("quorum", &names(), &Properties::persistent());
    other.tx(SELECT);
    other.expect(&["tx.select-ok"]);
    (0..MANY).for_each(|_| other.get("quorum", false));
    other.seen();
    other.nack(0, true, true);
    other.tx(COMMIT);
    other.expect(&["commit-ok"]);
    let third = world.client();
    third.consume_ok("quorum", "t");
    third.expect_bodies(&returned());
}

#[test]
fn a_rollback_of_very_much_is_answered_in_the_end_and_forgets_all_of_it() {
    let (world, client, other) = world();
    // Not in the order in which they came.
    for tag in (1..=MANY as u64).rev() {
        client.ack(tag, false);
    }
    publish_many(&client);
    world.stand_still();
    client.tx(ROLLBACK);
    let (turns, told) = turns_until_told(&world, &client, 0);
    assert_eq!(told, ["rollback-ok"]);
    assert!(turns > 5, "{turns} turns");
    world.go_on();
    // The tags can be settled again, and what is not goes back in its order.
    client.ack(1, false);
    client.tx(COMMIT);
    client.expect(&["commit-ok"]);
    client.close_channel();
    other.consume_ok("q", "o");
    let without_first = returned().replacen("m1! ", "", 1);
    other.expect_bodies(&without_first);
    assert_eq!(ready(&world, "r"), 0);
}

#[test]
fn a_channel_that_closes_rolls_back_in_steps() {
    let (world, client, other) = world();
    client.ack(0, true);
    publish_many(&client);
    other.consume_ok("q", "o");
    world.stand_still();
    client.close_channel();
    let mut turns = 0;
    while client.lines().is_empty() {
        assert!(world.turn());
        turns += 1;
    }
    assert!(turns > 10, "{turns} turns");
    world.go_on();
    other.expect_bodies(&returned());
    assert_eq!(ready(&world, "r"), 0);
}

/// Whoever asked for a commit and goes has it carried out, whatever it had come to.
#[test]
fn a_commit_under_way_is_carried_out_although_its_client_goes() {
    for turns in [1, 5, 12, 30, 60] {
        let (world, client, other) = world();
        client.ack(0, true);
        publish_many(&client);
        world.stand_still();
        client.tx(COMMIT);
        for _ in 0..turns {
            world.turn();
        }
        client.disconnect();
        world.go_on();
        assert!(client.is_closed());
        assert_eq!(other.counts("q"), (0, 0), "after {turns} turns");
        for queue in ["r", "s"] {
            other.consume_ok(queue, queue);
            other.expect_bodies(&names());
        }
        assert_eq!(ready(&world.restarted(), "q"), 0, "after {turns} turns");
    }
}

#[test]
fn a_commit_that_a_full_queue_refuses_in_part_is_an_error_in_the_end() {
    let (world, client, other) = world();
    let limits = [
        ("x-max-length", number(3)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("full", &[Flag::Durable], &limits);
    publish_many(&client);
    client.publish_all("full", &names(), &Properties::persistent());
    client.tx(COMMIT);
    client.expect_channel_error(406, "PRECONDITION_FAILED - partial tx completion");
    assert_eq!(ready(&world, "full"), 3);
    assert_eq!(ready(&world, "r"), MANY as u64);
    other.consume_ok("q", "o");
    other.expect_bodies(&returned());
}

/// What a transaction publishes to very many queues is kept with their names alone, and enters them in steps.
#[test]
fn a_publish_to_very_many_queues_is_committed_in_steps() {
    const QUEUES: usize = 1100;
    let (world, client, other) = world();
    client.ack(0, true);
    let queue = |number: usize| format!("wide{number}");
    for number in 0..QUEUES {
        other.declare_ok(&queue(number), &[], &[]);
        other.bind(&queue(number), "amq.fanout", "");
        other.expect(&["bind-ok"]);
    }
    let message = Properties::to("amq.fanout");
    client.publish_all("", "a b", &message);
    other.delete(&queue(7), false, false);
    other.expect(&["delete-ok 0"]);
    world.stand_still();
    client.tx(COMMIT);
    let (turns, told) = turns_until_told(&world, &client, 2);
    assert_eq!(told, ["commit-ok"]);
    assert!(turns > QUEUES / 20, "{turns} turns");
    world.go_on();
    for number in (0..QUEUES).filter(|it| *it != 7) {
        assert_eq!(ready(&world, &queue(number)), 2, "{number}");
    }
}

/// The names of its queues count for the size of a transaction.
#[test]
fn a_transaction_of_few_bytes_for_very_many_queues_is_large() {
    let world = World::durable_with(BrokerConfig {
        transaction_bytes_max: 50_000,
        ..BrokerConfig::default()
    });
    let client = world.client();
    for number in 0..1100 {
        let queue = number.to_string();
        client.declare_ok(&queue, &[], &[]);
        client.bind(&queue, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    client.publish_all("", "1 2 3 4 5", &Properties::to("amq.fanout"));
    client.expect_nothing();
    client.publish_all("", "6", &Properties::to("amq.fanout"));
    client.expect(&["channel.close 406 PRECONDITION_FAILED - transaction is larger than the 50000 bytes allowed"]);
}

/// In one queue and in several, with times of the queue and of the messages.
#[test]
fn times_to_live_of_very_many_begin_as_they_show() {
    let (world, client, other) = world();
    for queue in ["t", "u"] {
        client.declare_ok(queue, &[Flag::Durable], &[("x-message-ttl", number(500))]);
        client.bind(queue, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    world.hold_commits();
    publish_many(&client);
    let short = Properties {
        exchange: "amq.fanout",
        ..Properties::of(AMQPProperties::default().with_expiration("100".into()))
    };
    client.publish_all("", &names(), &short);
    world.stand_still();
    client.tx(COMMIT);
    while world.turn() {}
    world.go_on();
    world.pass(5_000);
    assert_eq!(ready(&world, "t"), 0);
    world.stand_still();
    world.commit();
    let (turns, told) = turns_until_told(&world, &client, 2 * MANY as u64);
    assert_eq!(told, ["commit-ok"]);
    assert!(turns > 4 * MANY / 50, "{turns} turns");
    world.go_on();
    world.pass(99);
    assert_eq!(ready(&world, "t"), 2 * MANY as u64);
    world.pass(1);
    for queue in ["r", "s"] {
        assert_eq!(ready(&world, queue), 2 * MANY as u64, "behind others");
    }
    world.pass(399);
    assert_eq!(ready(&world, "t"), 2 * MANY as u64);
    world.pass(1);
    for queue in ["t", "u"] {
        assert_eq!(ready(&world, queue), 0);
    }
    other.get("t", false);
    other.expect(&["get-empty"]);
}
