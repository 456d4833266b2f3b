//! What enters its queues as one and takes more than a step: gates are shut meanwhile, who comes to them waits, others do
//! not, and what comes of it is what would have come of it at once.

use std::rc::Rc;
use std::task::Waker;

use leveret_broker::BrokerConfig;
use leveret_broker::exchange::{Gated, Gates, Incoming};
use leveret_codec::{AMQPProperties, AMQPValue, decode_header, encode_header, write_names};
use leveret_deduplication::{Look, number_of_producer};
use leveret_message::{Body, Message, MessageScratch};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

const SELECT: u16 = 10;
const COMMIT: u16 = 20;
const EXCHANGE_BIND: u16 = 30;
/// Messages of what takes many steps.
const MANY: usize = 200;
/// Queues that do not get a message at once.
const QUEUES: usize = 300;
const WINDOW: (&str, i64) = ("x-dedup-window-ms", 1_000_000);

fn world() -> Rc<World> {
    World::durable_with(BrokerConfig {
        step_cost: 50,
        ..BrokerConfig::default()
    })
}

fn persistent() -> AMQPProperties {
    AMQPProperties::default().with_delivery_mode(2)
}

fn to(exchange: &'static str, properties: AMQPProperties) -> Properties {
    Properties {
        exchange,
        ..Properties::of(properties)
    }
}

fn with_headers(exchange: &'static str, headers: &[(&str, AMQPValue)]) -> Properties {
    to(exchange, persistent().with_headers(table(headers)))
}

/// By what a message is known that has this number.
type KnownBy = fn(&'static str, usize) -> Properties;

fn by_id(exchange: &'static str, which: usize) -> Properties {
    to(
        exchange,
        persistent().with_message_id(which.to_string().into()),
    )
}

fn by_number(exchange: &'static str, which: usize) -> Properties {
    let which = i64::try_from(which).unwrap();
    let producer = ("x-producer", string("p"));
    with_headers(exchange, &[producer, ("x-sequence", number(which))])
}

/// Ways past a gate to the queue `q`: through which exchange, and by what messages are known.
const GATES: [(&str, KnownBy); 4] = [("", by_id), ("x", by_id), ("", by_number), ("x", by_number)];

/// A client with a transaction open, of `MANY` messages that a gate is to be shut for, and another with confirms.
fn prepared(exchange: &'static str, known_by: KnownBy) -> (Rc<World>, Client, Client) {
    let world = world();
    let client = world.client();
    let window = [(WINDOW.0, number(WINDOW.1))];
    let (of_exchange, of_queue) = match exchange {
        "" => (&[][..], &window[..]),
        _ => (&window[..], &[][..]),
    };
    client.declare_exchange("x", "direct", &[Flag::Durable], of_exchange);
    client.expect(&["exchange.declare-ok"]);
    client.declare_ok("q", &[Flag::Durable], of_queue);
    client.bind("q", "x", "q");
    client.expect(&["bind-ok"]);
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    for which in 1..=MANY {
        client.publish_with("q", &format!("m{which}"), &known_by(exchange, which));
    }
    let other = world.client();
    other.confirms();
    (world, client, other)
}

fn ready(world: &World, queue: &str) -> u64 {
    let vhost = world.broker.vhost("/").unwrap();
    vhost.queue(queue).unwrap().counts().ready
}

/// All that a queue holds.
fn bodies(client: &Client, queue: &str) -> Vec<String> {
    client.seen();
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, true);
    }
    client.bodies()
}

fn names(range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|which| format!("m{which}")).collect()
}

/// Whether what is known like this finds a gate shut on its way.
fn is_shut(world: &World, exchange: &'static str, known_by: KnownBy) -> bool {
    let properties = known_by(exchange, 1).properties;
    let header = encode_header(0, &properties);
    let mut names = Vec::new();
    write_names(&mut names, exchange.as_bytes(), b"q");
    let header = decode_header(&header).unwrap();
    let number = number_of_producer(header.properties.headers);
    let body = Body::Borrowed(&[]);
    let message = Message::compose(&mut MessageScratch::default(), &names, &header, body);
    let strict = false;
    let incoming = Incoming {
        exchange,
        resumes: false,
        returned: false,
        look: number.map_or(Look::Published, |number| Look::Numbered { number, strict }),
        message: &message,
        random: 0,
        barred: &[],
    };
    let vhost = world.broker.vhost("/").unwrap();
    let mut gated = Gated::new();
    vhost.gates_on_the_way(&incoming, &mut gated);
    Gates::lock(&mut gated, Waker::noop()).is_none()
}

/// Commits, until a gate is shut and a few more steps are done.
fn half_commit(world: &World, client: &Client, exchange: &'static str, known_by: KnownBy) {
    world.stand_still();
    client.tx(COMMIT);
    while !is_shut(world, exchange, known_by) {
        assert!(world.turn(), "no gate is ever shut");
    }
    for _ in 0..10 {
        world.turn();
    }
    assert!(is_shut(world, exchange, known_by), "it is over too soon");
}

#[test]
fn what_comes_to_a_gate_that_is_shut_is_answered_behind_the_transaction() {
    for (exchange, known_by) in GATES {
        let (world, client, other) = prepared(exchange, known_by);
        let third = world.client();
        third.confirms();
        world.hold_commits();
        half_commit(&world, &client, exchange, known_by);
        other.publish_with("q", "again", &known_by(exchange, 2));
        other.publish_with("q", "more", &known_by(exchange, MANY + 1));
        // Who meets no gate does not wait.
        third.publish_with("amq.fanout", "lost", &Properties::default());
        while world.turn() {}
        assert!(third.lines().concat().contains("ack"));
        assert!(ready(&world, "q") <= 1, "of the transaction nothing shows");
        assert_eq!(other.lines(), Vec::<String>::new(), "not durable");
        client.expect_nothing();
        world.go_on();
        world.commit();
        client.expect(&["commit-ok"]);
        other.expect(&["ack 2 multiple"]);
        let mut expected = names(1..=MANY);
        expected.push("more".to_owned());
        for world in [Rc::clone(&world), world.restarted()] {
            let client = world.client();
            client.publish_with("q", "again", &known_by(exchange, 3));
            assert_eq!(bodies(&client, "q"), expected);
        }
    }
}

/// What is asked for behind a publish that waits comes behind it.
#[test]
fn a_method_waits_for_the_publish_before_it() {
    for (exchange, known_by) in GATES {
        let (world, client, other) = prepared(exchange, known_by);
        half_commit(&world, &client, exchange, known_by);
        let publish = other.publishing("q", b"more", &known_by(exchange, MANY + 1));
        other.write(&publish);
        other.declare("q", &[Flag::Passive], &[]);
        for _ in 0..10 {
            world.turn();
        }
        assert_eq!(other.lines(), Vec::<String>::new());
        world.go_on();
        let told = other.lines().concat();
        assert!(
            told.contains("declare-ok") && !told.contains("q 0 0"),
            "{told}"
        );
        assert_eq!(ready(&world, "q"), MANY as u64 + 1);
    }
}

/// Publisher or transaction: their connections are lost while the gate is shut.
#[test]
fn connections_that_are_lost_at_a_shut_gate() {
    for (exchange, known_by) in GATES {
        for publisher_goes_first in [false, true] {
            let (world, client, other) = prepared(exchange, known_by);
            half_commit(&world, &client, exchange, known_by);
            other.publish_with("q", "more", &known_by(exchange, MANY + 1));
            for _ in 0..3 {
                world.turn();
            }
            match publisher_goes_first {
                true => [&other, &client],
                false => [&client, &other],
            }
            .into_iter()
            .for_each(Client::disconnect);
            world.go_on();
            assert_eq!(ready(&world, "q"), MANY as u64 + 1);
            assert!(!is_shut(&world, exchange, known_by));
        }
    }
}

/// The broker ends, and whoever waits ends before the one it waits for.
#[test]
fn who_waits_at_a_gate_ends_with_the_broker() {
    for (exchange, known_by) in GATES {
        let (world, client, other) = prepared(exchange, known_by);
        let third = world.client();
        third.tx(SELECT);
        half_commit(&world, &client, exchange, known_by);
        other.publish_with("q", "more", &known_by(exchange, MANY + 1));
        third.publish_with("q", "more", &known_by(exchange, MANY + 2));
        third.tx(COMMIT);
        for _ in 0..3 {
            world.turn();
        }
        other.vanish();
        third.vanish();
        world.go_on();
        client.expect(&["commit-ok"]);
        assert_eq!(ready(&world, "q"), MANY as u64);
    }
}

#[test]
fn transactions_past_the_same_gate_come_one_after_another() {
    for (exchange, known_by) in GATES {
        let (world, client, _) = prepared(exchange, known_by);
        let other = world.client();
        other.tx(SELECT);
        other.expect(&["tx.select-ok"]);
        // The first half was published before.
        for which in MANY / 2..=MANY + MANY / 2 {
            other.publish_with("q", &format!("m{which}"), &known_by(exchange, which));
        }
        half_commit(&world, &client, exchange, known_by);
        other.tx(COMMIT);
        world.go_on();
        client.expect(&["commit-ok"]);
        other.expect(&["commit-ok"]);
        assert_eq!(bodies(&world.client(), "q"), names(1..=MANY + MANY / 2));
    }
}

/// Producers' numbers are looked at before anything is carried out, in steps too.
#[test]
fn a_number_left_out_refuses_all_of_a_large_transaction() {
    for exchange in ["", "x"] {
        let (world, client, other) = prepared(exchange, by_number);
        client.publish_with("q", "gap", &by_number(exchange, MANY + 2));
        client.tx(COMMIT);
        let told = client.lines().concat();
        assert!(told.contains("leaves out numbers"), "{told}");
        assert!(!is_shut(&world, exchange, by_number));
        other.publish_with("q", "m1", &by_number(exchange, 1));
        other.expect(&["ack 1"]);
        assert_eq!(bodies(&other, "q"), ["m1"]);
    }
}

/// Exclusive queues `q1` to `q300` bound to amq.fanout.
fn with_queues(world: &Rc<World>, arguments: &[(&str, AMQPValue)]) -> Client {
    let client = world.client();
    for which in 1..=QUEUES {
        let name = format!("q{which}");
        client.declare_ok(&name, &[Flag::Durable], arguments);
        client.bind(&name, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    client
}

/// Lets the pager do a few steps. What it has to do is far from done then: the last queue has nothing.
fn page_a_little(world: &World) {
    for _ in 0..10 {
        assert!(world.broker.run_pager_once(&mut Vec::new(), world.now()));
    }
    assert_eq!(ready(world, &format!("q{QUEUES}")), 0);
}

/// What is in all of these queues.
fn all_have(client: &Client, expected: &str) {
    for which in 1..=QUEUES {
        let bodies = bodies(client, &format!("q{which}")).join(" ");
        assert_eq!(bodies, expected, "{which}");
    }
}

#[test]
fn dead_letters_for_very_many_queues() {
    for window in [&[][..], &[(WINDOW.0, number(WINDOW.1))][..]] {
        let world = world();
        let client = with_queues(&world, window);
        let letters = [("x-dead-letter-exchange", string("amq.fanout"))];
        client.declare_ok("q", &[Flag::Durable], &letters);
        client.publish_all("q", "a b c", &Properties::persistent());
        client.consume_ok("q", "c");
        client.seen();
        world.hold_commits();
        world.hold_paging();
        client.nack(0, true, false);
        page_a_little(&world);
        let before = world.restarted();
        assert_eq!(ready(&before, "q"), 3);
        world.go_on_paging();
        world.commit();
        for world in [world.restarted(), world] {
            all_have(&world.client(), "a b c");
            assert_eq!(ready(&world, "q"), 0);
        }
    }
}

#[test]
fn delayed_messages_for_very_many_queues() {
    for mode in 1..=2 {
        let world = world();
        let client = with_queues(&world, &[]);
        let kind = [("x-delayed-type", string("fanout"))];
        client.declare_exchange("later", "x-delayed-message", &[Flag::Durable], &kind);
        client.expect(&["exchange.declare-ok"]);
        client.exchange_binding(EXCHANGE_BIND, "amq.fanout", "later", "");
        client.expect(&["exchange.bind-ok"]);
        let delay = table(&[("x-delay", number(100))]);
        let delayed = AMQPProperties::default().with_headers(delay);
        for body in ["a", "b", "c"] {
            client.publish_with(
                "",
                body,
                &to("later", delayed.clone().with_delivery_mode(mode)),
            );
        }
        world.hold_paging();
        world.pass(100);
        page_a_little(&world);
        assert_eq!(world.broker.poll_timeout(), None, "not in vain");
        world.go_on_paging();
        world.pass(10);
        all_have(&client, "a b c");
        assert_eq!(world.broker.delayed_count("/", "later"), Ok(0));
    }
}

#[test]
fn publishes_past_an_exchange_that_keeps_something_to_very_many_queues() {
    let world = world();
    let client = with_queues(&world, &[]);
    client.declare_exchange("talk", "x-recent-history", &[Flag::Durable], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.exchange_binding(EXCHANGE_BIND, "amq.fanout", "talk", "");
    client.expect(&["exchange.bind-ok"]);
    client.confirms();
    let late = world.client();
    late.declare_ok("late", &[Flag::Durable], &[]);
    world.hold_commits();
    world.stand_still();
    for body in ["a", "b"] {
        client.write(&client.publishing("", body.as_bytes(), &to("talk", persistent())));
    }
    for _ in 0..20 {
        world.turn();
    }
    late.bind("late", "talk", "");
    while world.turn() {}
    client.expect_nothing();
    world.go_on();
    world.commit();
    client.expect(&["ack 2 multiple"]);
    late.expect(&["bind-ok"]);
    assert_eq!(bodies(&late, "late"), ["a", "b"]);
    all_have(&late, "a b");
}

/// An exchange that remembers `MANY` messages.
fn with_history(world: &Rc<World>) -> Client {
    let client = world.client();
    let length = [("x-recent-history-length", number(1_000))];
    client.declare_exchange("talk", "x-recent-history", &[Flag::Durable], &length);
    client.expect(&["exchange.declare-ok"]);
    for body in names(1..=MANY) {
        client.write(&client.publishing("", body.as_bytes(), &to("talk", persistent())));
    }
    world.run();
    client.confirms();
    client
}

#[test]
fn a_long_history_goes_to_a_queue_in_steps() {
    let world = world();
    let client = with_history(&world);
    let other = world.client();
    other.declare_ok("q", &[Flag::Durable], &[]);
    other.consume_ok("q", "c");
    world.hold_commits();
    world.stand_still();
    other.bind("q", "talk", "");
    for _ in 0..5 {
        world.turn();
    }
    client.publish_with("", "new", &to("talk", persistent()));
    for _ in 0..3 {
        world.turn();
    }
    assert_eq!(ready(&world, "q"), 0);
    other.expect_nothing();
    world.go_on();
    let mut expected = names(1..=MANY);
    expected.push("new".to_owned());
    assert_eq!(other.bodies(), expected);
    client.expect_nothing();
    let before = world.restarted();
    let again = before.client();
    assert_eq!(again.counts("q").0, 0);
    again.publish_with("", "not bound", &to("talk", persistent()));
    assert_eq!(again.counts("q").0, 0);
    world.commit();
    other.expect(&["bind-ok"]);
    client.expect(&["ack 1"]);
    assert_eq!(bodies(&world.restarted().client(), "q"), expected);
}

#[test]
fn a_long_history_goes_to_an_exchange_in_steps() {
    let world = world();
    let client = with_history(&world);
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.bind("q", "amq.fanout", "");
    client.expect(&["bind-ok"]);
    world.stand_still();
    client.exchange_binding(EXCHANGE_BIND, "amq.fanout", "talk", "");
    let mut turns = 0;
    while client.lines().is_empty() {
        assert!(world.turn());
        turns += 1;
    }
    assert!(turns > MANY / 2, "{turns}");
    world.go_on();
    assert_eq!(bodies(&client, "q"), names(1..=MANY));
}

/// The queue, or the exchange, goes while its history is on its way.
#[test]
fn an_end_of_a_binding_goes_while_the_history_is_on_its_way() {
    for goes in ["queue", "exchange"] {
        let world = world();
        let client = with_history(&world);
        let other = world.client();
        other.declare_ok("q", &[Flag::Durable], &[]);
        world.stand_still();
        other.bind("q", "talk", "");
        for _ in 0..5 {
            world.turn();
        }
        match goes {
            "queue" => client.delete("q", false, false),
            _ => client.delete_exchange("talk", false),
        }
        world.go_on();
        let told = other.lines().concat();
        if goes == "queue" {
            assert!(told.contains("404"), "{told}");
        } else {
            assert_eq!(told, "bind-ok");
            assert_eq!(bodies(&other, "q"), names(1..=MANY));
        }
        let restarted = world.restarted();
        let client = restarted.client();
        client.declare_exchange("talk", "x-recent-history", &[Flag::Durable], &[]);
        client.seen();
    }
}

/// Nobody who binds while a transaction passes gets a message twice, or not at all.
#[test]
fn a_binding_that_comes_while_a_transaction_passes() {
    let world = world();
    let client = with_history(&world);
    let writer = world.client();
    writer.tx(SELECT);
    writer.expect(&["tx.select-ok"]);
    for which in MANY + 1..=2 * MANY {
        writer.publish_with("", &format!("m{which}"), &to("talk", persistent()));
    }
    client.declare_ok("q", &[Flag::Durable], &[]);
    half_commit(&world, &writer, "talk", by_id);
    client.bind("q", "talk", "");
    world.go_on();
    writer.expect(&["commit-ok"]);
    client.expect(&["bind-ok"]);
    assert_eq!(bodies(&client, "q"), names(1..=2 * MANY));
}
