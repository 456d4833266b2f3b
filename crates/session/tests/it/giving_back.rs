//! What goes back goes back in steps, others have their turns between them, and nobody sees that it does: what a
//! client is told comes when all is back, and what others get they get in the queue's order.

use std::rc::Rc;

use leveret_broker::{BrokerConfig, ConsumerTimeoutAction};
use proptest::prelude::*;

use crate::harness::calls::{Flag, number, string};
use crate::harness::wire::{self, Arguments};
use crate::harness::{Client, Properties, World};

/// So many deliveries go back in one step.
const A_STEP: usize = 10;

fn config() -> BrokerConfig {
    BrokerConfig {
        step_cost: A_STEP * 16,
        ..BrokerConfig::default()
    }
}

fn names(from: usize, to: usize) -> String {
    let names: Vec<String> = (from..=to).map(|n| format!("m{n}")).collect();
    names.join(" ")
}

fn returned(from: usize, to: usize) -> String {
    let names: Vec<String> = (from..=to).map(|n| format!("m{n}!")).collect();
    names.join(" ")
}

/// A queue whose `count` messages are all with a client, which has cancelled its consumer.
fn held(world: &Rc<World>, count: usize) -> Client {
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.publish_all("q", &names(1, count), &Properties::persistent());
    client.consume_ok("q", "c");
    client.cancel("c");
    client.seen();
    client
}

/// Lets everybody have turns until nothing moves; answers what the consumer had after each.
fn turns(world: &World, consumer: &Client) -> Vec<Vec<String>> {
    let mut turns = Vec::new();
    while world.turn() {
        turns.push(consumer.bodies());
        assert!(turns.len() < 10_000, "no end");
    }
    turns
}

#[track_caller]
fn check_steps(turns: &[Vec<String>], expected: &str) {
    assert!(turns.iter().all(|turn| turn.len() <= A_STEP), "{turns:?}");
    assert_eq!(turns.concat().join(" "), expected);
}

#[test]
fn many_put_back_at_once_go_to_others_in_steps_and_in_order() {
    let world = World::durable_with(config());
    let client = held(&world, 95);
    let other = world.client();
    other.consume_ok("q", "o");
    world.stand_still();
    client.nack(0, true, true);
    let turns = turns(&world, &other);
    assert!(turns.len() > 95 / A_STEP, "{turns:?}");
    assert_eq!(turns.concat().join(" "), returned(1, 95));
}

#[test]
fn the_next_method_finds_all_of_it_back() {
    let world = World::durable_with(config());
    let client = held(&world, 95);
    world.stand_still();
    client.nack(60, true, true);
    client.get("q", false);
    world.go_on();
    client.expect(&["get-ok 96 redelivered left=59 'm1'"]);
    assert_eq!(client.counts("q"), (59, 0));
}

#[test]
fn recover_is_answered_when_all_is_back_and_before_it_comes_again() {
    let world = World::durable_with(config());
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    client.publish_all("q", &names(1, 35), &Properties::default());
    client.consume_ok("q", "c");
    client.seen();
    client.recover(true);
    client.expect_first("recover-ok");
    client.expect_bodies(&returned(1, 35));
}

#[test]
fn a_channel_is_closed_when_all_it_held_is_with_others() {
    let world = World::durable_with(config());
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    client.publish_all("q", &names(1, 64), &Properties::default());
    client.consume_ok("q", "c");
    client.seen();
    let other = world.client();
    other.consume_ok("q", "o");
    world.stand_still();
    client.close_channel();
    let mut got = Vec::new();
    while client.lines().is_empty() {
        assert!(world.turn());
        got.extend(other.bodies());
    }
    got.extend(turns(&world, &other).concat());
    assert_eq!(got.join(" "), returned(1, 64));
    world.go_on();
    client.with_channel(1);
}

/// Two clients take `count` messages and give them back again and again, always one in the middle of it; each turn
/// lasts `milliseconds`. Answers whether a consumer gets something all the same.
fn gets_something(count: usize, milliseconds: u64, give_back: impl Fn(&Client)) -> bool {
    let world = World::durable_with(config());
    let givers = [world.client(), world.client()];
    givers[0].declare_ok("q", &[], &[]);
    givers[0].publish_all("q", &names(1, 100), &Properties::default());
    let other = world.client();
    world.stand_still();
    for turn in 0..200 {
        let giver = &givers[turn % 2];
        for _ in 0..count {
            giver.get("q", false);
        }
        give_back(giver);
        if turn == 3 {
            other.consume("q", "o", &[], &[]);
        }
        world.turn();
        world.wait(milliseconds);
        if other
            .lines()
            .iter()
            .any(|line| line.starts_with("deliver "))
        {
            return true;
        }
    }
    false
}

#[test]
fn clients_that_give_much_back_without_end_do_not_keep_it_from_others() {
    assert!(gets_something(25, 10, |giver| giver.nack(0, true, true)));
}

#[test]
fn clients_that_recover_little_without_end_do_not_keep_it_from_others() {
    assert!(gets_something(5, 0, |giver| giver.recover(true)));
}

#[test]
fn an_error_of_a_channel_is_told_when_all_it_held_is_back() {
    let world = World::durable_with(config());
    let client = held(&world, 64);
    client.with_channel(2);
    world.stand_still();
    client.ack(4711, false);
    client.on(2).get("q", false);
    world.go_on();
    client.expect(&[
        "channel.close 406 PRECONDITION_FAILED - unknown delivery tag 4711",
        "2: get-ok 1 redelivered left=63 'm1'",
    ]);
}

#[test]
fn what_was_acknowledged_before_a_client_went_is_gone() {
    let world = World::durable_with(BrokerConfig {
        step_cost: 7,
        ..BrokerConfig::default()
    });
    let client = held(&world, 95);
    world.stand_still();
    client.ack(90, true);
    assert!(world.turn());
    client.disconnect();
    world.go_on();
    let other = world.client();
    other.consume_ok("q", "o");
    other.expect_bodies(&returned(91, 95));
}

#[test]
fn connections_that_go_together_get_nothing_from_one_another() {
    let world = World::durable_with(config());
    let publisher = world.client();
    publisher.declare_ok("q", &[Flag::Durable], &[]);
    let going: Vec<Client> = (0..5).map(|_| world.client()).collect();
    for client in &going {
        client.set_reads(false);
        for tag in ["a", "b", "c"] {
            client.consume("q", tag, &[], &[]);
        }
    }
    publisher.publish_all("q", &names(1, 200), &Properties::persistent());
    world.stand_still();
    going.iter().for_each(Client::disconnect);
    world.go_on();
    assert!(going.iter().all(Client::is_closed));
    assert_eq!(publisher.counts("q"), (200, 0));
    let delivered = world
        .broker
        .vhost("/")
        .and_then(|vhost| vhost.queue("q").ok())
        .map(|queue| queue.statistics(world.now()).totals.delivered);
    assert_eq!(delivered, Some(200), "each once, to who was there");
    publisher.consume_ok("q", "p");
    publisher.expect_bodies(&returned(1, 200));
}

#[test]
fn what_a_late_consumer_held_goes_back_in_steps_before_it_is_cancelled() {
    let world = World::durable_with(BrokerConfig {
        consumer_timeout_ms: Some(1_000),
        consumer_timeout_action: ConsumerTimeoutAction::Cancel,
        ..config()
    });
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    client.publish_all("q", &names(1, 45), &Properties::default());
    client.consume_ok("q", "c");
    client.seen();
    let other = world.client();
    other.consume("q", "o", &[], &[("x-consumer-timeout", number(0))]);
    other.expect_first("consume-ok o");
    world.pass(1_000);
    client.expect(&["cancel c"]);
    other.expect_bodies(&returned(1, 45));
    // Settling them late is no error.
    client.ack(45, true);
    client.expect_nothing();
}

#[test]
fn many_consumers_of_a_channel_are_withdrawn_in_steps() {
    let world = World::durable_with(config());
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    for tag in 0..500 {
        client.consume("q", &format!("c{tag}"), &[], &[]);
    }
    client.publish_all("q", &names(1, 50), &Properties::default());
    client.seen();
    world.stand_still();
    client.close_channel();
    let mut turns = 0;
    while client.lines().is_empty() {
        assert!(world.turn());
        turns += 1;
    }
    assert!(turns > 20, "{turns} turns");
    world.go_on();
    client.with_channel(1);
    assert_eq!(client.counts("q"), (50, 0));
    client.consume_ok("q", "c");
    client.expect_bodies(&returned(1, 50));
}

#[test]
fn a_rejected_million_would_go_to_the_dead_letters_in_steps() {
    let world = World::durable_with(BrokerConfig {
        step_cost: 16 * A_STEP,
        ..BrokerConfig::default()
    });
    let client = world.client();
    let dead = [
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("dead", &[], &[]);
    client.declare_ok("q", &[], &dead);
    client.publish_all("q", &names(1, 73), &Properties::default());
    client.consume_ok("q", "c");
    client.seen();
    let undertaker = world.client();
    undertaker.consume_ok("dead", "u");
    world.stand_still();
    client.nack(0, true, false);
    check_steps(&turns(&world, &undertaker), &names(1, 73));
}

#[test]
fn very_many_consumers_hear_in_steps_that_their_queue_is_gone() {
    const CONSUMERS: usize = 1_300;
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    for tag in 0..CONSUMERS {
        client.consume("q", &format!("c{tag}"), &[], &[]);
    }
    client.seen();
    let other = world.client();
    world.stand_still();
    other.delete("q", false, false);
    let mut told = Vec::new();
    while world.turn() {
        let lines = client.lines();
        assert!(lines.len() <= 512, "{} at once", lines.len());
        told.extend(lines);
    }
    let expected: Vec<String> = (0..CONSUMERS).map(|tag| format!("cancel c{tag}")).collect();
    assert_eq!(told, expected);
}

/// What a queue has in memory of its messages.
fn memory(world: &World) -> u64 {
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let queue = vhost.queue("q").expect("the queue");
    queue.statistics(world.now()).memory_bytes
}

#[test]
fn what_comes_back_stays_in_memory_as_far_as_a_queue_may() {
    for properties in [Properties::persistent(), Properties::default()] {
        let world = World::paging(2_000);
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &[]);
        client.consume_ok("q", "c");
        client.publish_all("q", &names(1, 500), &properties);
        let empty = memory(&world);
        client.close_channel();
        world.pass(100);
        let back = memory(&world) - empty;
        assert!(back < 6_000, "{back} bytes");
        client.seen();
        client.with_channel(1);
        assert_eq!(client.counts("q"), (500, 0));
        client.consume_ok("q", "c");
        client.expect_bodies(&returned(1, 500));
        client.ack(500, true);
        assert_eq!(client.counts("q"), (0, 1));
        assert!(memory(&world) < empty + 2_000);
    }
}

#[derive(Clone, Copy, Debug)]
enum Going {
    Requeue,
    Recover,
    CloseChannel,
    Close,
    Vanish,
}

fn going() -> impl Strategy<Value = Going> {
    prop_oneof![
        Just(Going::Requeue),
        Just(Going::Recover),
        Just(Going::CloseChannel),
        Just(Going::Close),
        Just(Going::Vanish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A kill between two steps: what was acknowledged is gone, all else is there, once, in its order.
    #[test]
    fn nothing_is_lost_or_doubled_by_a_kill_between_two_steps(
        going in going(),
        step_cost in 1usize..60,
        memory in prop_oneof![Just(0usize), Just(400), Just(1 << 20)],
        acknowledged in 0u64..10,
        others in any::<bool>(),
        turns in 0usize..30,
    ) {
        let world = World::durable_with(BrokerConfig {
            step_cost,
            queue_memory_bytes: memory,
            ..BrokerConfig::default()
        });
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &[]);
        client.publish_all("q", &names(1, 40), &Properties::persistent());
        client.consume_ok("q", "c");
        if acknowledged > 0 {
            client.ack(acknowledged, true);
        }
        let other = world.client();
        if others {
            other.qos_ok(7, false);
            other.consume("q", "o", &[], &[]);
            other.seen();
        }
        world.stand_still();
        match going {
            Going::Requeue => client.nack(0, true, true),
            Going::Recover => client.recover(true),
            Going::CloseChannel => client.close_channel(),
            Going::Close => client.close(),
            Going::Vanish => client.disconnect(),
        }
        for _ in 0..turns {
            world.turn();
        }
        if others {
            let got = other.bodies();
            let numbers: Vec<u64> = got
                .iter()
                .filter_map(|body| body.trim_matches(|it: char| !it.is_ascii_digit()).parse().ok())
                .collect();
            prop_assert!(numbers.is_sorted(), "{got:?}");
        }
        let world = world.restarted();
        let client = world.client();
        let left = client.counts("q").0;
        prop_assert_eq!(u64::from(left), 40 - acknowledged);
        (0..left).for_each(|_| client.get("q", false));
        let bodies: Vec<String> = client.seen().iter().map(|seen| seen.body_text()).collect();
        let expected = names(usize::try_from(acknowledged).unwrap() + 1, 40);
        prop_assert_eq!(bodies.join(" "), expected);
    }
}

/// Whoever waits gets what was published meanwhile behind all that comes back.
#[test]
fn what_is_published_meanwhile_stands_behind_all_of_it() {
    for closes in [false, true] {
        let world = World::durable_with(config());
        let client = held(&world, 95);
        let (other, publisher) = (world.client(), world.client());
        other.consume_ok("q", "o");
        world.stand_still();
        match closes {
            true => client.close_channel(),
            false => client.nack(0, true, true),
        }
        for n in 1..=3 {
            world.turn();
            publisher.publish("q", &format!("p{n}"));
        }
        let expected = format!("{} p1 p2 p3", returned(1, 95));
        assert_eq!(turns(&world, &other).concat().join(" "), expected);
    }
}

/// One that goes while others give back to the same queue, too, keeps it waiting no longer than it is there.
#[test]
fn several_give_back_to_one_queue() {
    let world = World::durable_with(config());
    let clients: Vec<Client> = (0..3).map(|_| held(&world, 40)).collect();
    let other = world.client();
    other.consume_ok("q", "o");
    world.stand_still();
    clients[0].nack(0, true, true);
    clients[1].disconnect();
    clients[2].recover(true);
    let mut got = turns(&world, &other).concat();
    got.sort();
    assert_eq!(got.len(), 120);
    clients[0].publish("q", "after");
    world.go_on();
    other.expect_bodies("after");
}

fn bodies_of(client: &Client, queue: &str) -> String {
    let (count, _) = client.counts(queue);
    (0..count).for_each(|_| client.get(queue, true));
    client.bodies().join(" ")
}

/// A limit takes its part of what stands in the queue when all is back, and not of a part of it.
#[test]
fn limits_are_kept_once_all_is_back() {
    // One in a step.
    let world = World::durable_with(BrokerConfig {
        step_cost: 16,
        ..BrokerConfig::default()
    });
    let client = world.client();
    client.declare_ok("dead", &[], &[]);
    let arguments = [
        ("x-max-length-bytes", number(6)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("q", &[], &arguments);
    client.qos_ok(2, false);
    client.consume_ok("q", "c");
    client.publish_all("q", "a bbbbbbbbbb", &Properties::default());
    // So that the ledger has it behind the other one.
    client.nack(1, false, true);
    client.expect_bodies("a bbbbbbbbbb a!");
    client.cancel("c");
    client.publish("q", "ccccc");
    client.seen();
    client.nack(0, true, true);
    assert_eq!(bodies_of(&client, "q"), "ccccc");
    assert_eq!(bodies_of(&client, "dead"), "a bbbbbbbbbb");
}

#[test]
fn what_a_limit_takes_of_it_goes_on_in_the_queues_order() {
    let world = World::durable_with(config());
    let client = world.client();
    client.declare_ok("dead", &[], &[]);
    let arguments = [
        ("x-max-length", number(5)),
        ("x-max-priority", number(1)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("q", &[], &arguments);
    client.consume_ok("q", "c");
    client.publish_all("q", &names(1, 20), &Properties::default());
    client.publish_all("q", &names(21, 40), &Properties::priority(1));
    client.cancel("c");
    client.seen();
    client.nack(0, true, true);
    assert_eq!(bodies_of(&client, "q"), names(16, 20));
    assert_eq!(
        bodies_of(&client, "dead"),
        format!("{} {}", names(21, 40), names(1, 15))
    );
}

/// Room of a channel's shared credit goes to very many queues in steps, each in its turn.
#[test]
fn shared_credit_goes_to_very_many_queues_in_steps() {
    const QUEUES: usize = 120;
    let world = World::durable_with(config());
    let client = world.client();
    let publisher = world.client();
    client.qos_ok(1, true);
    for queue in 0..QUEUES {
        let name = format!("q{queue}");
        client.declare_ok(&name, &[], &[]);
        client.consume_ok(&name, &name);
    }
    for queue in 0..QUEUES {
        publisher.publish(&format!("q{queue}"), "first");
    }
    assert_eq!(client.seen().len(), 1);
    world.stand_still();
    let unlimited = Arguments::new().u32(0).u16(0).bits(&[true]);
    client.write(&wire::method(1, (60, 10), unlimited));
    let mut turns = 0;
    while world.turn() {
        turns += 1;
    }
    assert!(turns >= QUEUES / 20, "{turns} turns");
    world.go_on();
    // With the answer.
    assert_eq!(client.seen().len(), QUEUES);
    // What comes back of a limited credit goes round.
    client.qos_ok(100, true);
    for queue in 0..QUEUES {
        publisher.publish_all(&format!("q{queue}"), "a b", &Properties::default());
    }
    let before = client.seen().len();
    client.ack(0, true);
    let after = client.seen().len();
    assert_eq!((before, after), (0, 100));
}
