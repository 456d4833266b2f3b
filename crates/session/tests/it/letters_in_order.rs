//! Dead letters arrive in the order in which they left their queue, whoever moves them.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use leveret_broker::{Broker, BrokerConfig};
use leveret_codec::protocol::basic::AMQPProperties;
use leveret_message::Timestamp;
use leveret_queue::queue::answers::GetResult;
use leveret_store_api::{MemoryStore, SteppedStore};

use crate::harness::calls::{Flag, number, string};
use crate::harness::held::Held;
use crate::harness::{Client, Properties, World};

const NOW: Timestamp = Timestamp(1_000_000);
const DEADLINE: Duration = Duration::from_secs(20);

/// What is in a queue, taken out.
fn take_all(broker: &Broker, queue: &str) -> Vec<String> {
    let queue = broker.vhost("/").unwrap().queue(queue).unwrap();
    let mut bodies = Vec::new();
    while let (GetResult::Message(in_flight, _), _) = queue.get(true, NOW) {
        bodies.push(String::from_utf8(in_flight.message.body().to_vec()).unwrap());
    }
    bodies
}

/// The deadline thread is stopped while it moves the first of two that have expired; what a client rejects
/// meanwhile goes behind both, also where its next queue is another one than that which is stopped; in a transaction
/// too.
#[test]
fn nobody_overtakes_whoever_moves_them() {
    for in_a_transaction in [false, true] {
        nobody_overtakes(in_a_transaction);
    }
}

fn nobody_overtakes(in_a_transaction: bool) {
    let store = Arc::new(SteppedStore::new());
    let (held, arrivals, release) = Held::new(&store);
    let broker = Broker::open(BrokerConfig::default(), Arc::clone(&held) as _, NOW).unwrap();
    let world = World::around(Arc::clone(&broker), Some(Arc::clone(&store)), NOW);
    let client = world.client();
    client.declare_exchange("in", "fanout", &[Flag::Durable], &[]);
    client.declare_exchange("out", "direct", &[Flag::Durable], &[]);
    client.seen();
    let letters = [("x-dead-letter-exchange", string("out"))];
    client.declare_ok("q", &[Flag::Durable], &letters);
    client.bind("q", "in", "");
    client.expect(&["bind-ok"]);
    for queue in ["one", "two"] {
        client.declare_ok(queue, &[Flag::Durable], &[]);
        client.bind(queue, "out", queue);
        client.expect(&["bind-ok"]);
    }
    client.publish_with("two", "rejected", &Properties::to("in"));
    client.get("q", false);
    for (key, body) in [("one", "first"), ("two", "second")] {
        let message = Properties {
            exchange: "in",
            ..Properties::of(
                AMQPProperties::default()
                    .with_delivery_mode(2)
                    .with_expiration("10".into()),
            )
        };
        client.publish_with(key, body, &message);
    }
    client.seen();
    world.is_not_alone();
    if in_a_transaction {
        client.tx(10);
        client.expect_first("tx.select-ok");
        client.nack(1, false, false);
    }
    held.stop_the_next();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn({
        let broker = Arc::clone(&broker);
        move || {
            broker.handle_timeout(NOW + 100);
            done.send(()).unwrap();
        }
    });
    arrivals.recv_timeout(DEADLINE).unwrap();
    if in_a_transaction {
        client.tx(20);
        world.commit();
        client.expect_first("commit-ok");
    } else {
        client.nack(1, false, false);
    }
    assert_eq!(take_all(&broker, "two"), [""; 0]);
    release.send(()).unwrap();
    is_done.recv_timeout(DEADLINE).unwrap();
    assert_eq!(take_all(&broker, "one"), ["first"]);
    assert_eq!(take_all(&broker, "two"), ["second", "rejected"]);
}

fn publish_numbers(broker: &Arc<Broker>, publisher: usize, rounds: usize) {
    let world = World::around(Arc::clone(broker), None, NOW);
    world.is_not_alone();
    let client: Client = world.client();
    for round in 0..rounds {
        let first = round * 8;
        let bodies: Vec<String> = (first..first + 8)
            .map(|it| format!("{publisher}:{it}"))
            .collect();
        client.publish_all("q", &bodies.join(" "), &Properties::default());
        // Letters go on more slowly than they are made.
        while !client.wants_input() {
            world.page();
        }
    }
}

/// Everybody's publishes push everybody's messages out of a short queue, and on through a second one.
#[test]
fn publishers_push_each_others_messages_out_in_order() {
    const PUBLISHERS: usize = 4;
    const ROUNDS: usize = 300;
    let store = Arc::new(MemoryStore::new());
    let broker = Broker::open(BrokerConfig::default(), store, NOW).unwrap();
    let world = World::around(Arc::clone(&broker), None, NOW);
    let client = world.client();
    for (queue, next) in [("q", "between"), ("between", "dead")] {
        let arguments = [
            ("x-max-length", number(5)),
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string(next)),
        ];
        client.declare_ok(queue, &[], &arguments);
    }
    client.declare_ok("dead", &[], &[]);
    let threads: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let broker = Arc::clone(&broker);
            std::thread::spawn(move || publish_numbers(&broker, publisher, ROUNDS))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    broker.run_pager(NOW);
    let mut bodies = take_all(&broker, "dead");
    bodies.extend(take_all(&broker, "between"));
    bodies.extend(take_all(&broker, "q"));
    let mut expected = [0; PUBLISHERS];
    for body in bodies {
        let (publisher, body) = body.split_once(':').unwrap();
        let expected = &mut expected[publisher.parse::<usize>().unwrap()];
        assert_eq!(body.parse(), Ok(*expected), "of publisher {publisher}");
        *expected += 1;
    }
    assert_eq!(expected, [ROUNDS * 8; PUBLISHERS]);
}

/// More letters than one turn moves: they all arrive, and a publisher that makes them faster than they go on waits.
#[test]
fn many_letters_go_on_in_turns() {
    let world = World::volatile();
    let client = world.client();
    let arguments = [
        ("x-max-length", number(1)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("q", &[], &arguments);
    client.declare_ok("dead", &[], &[]);
    let bodies: Vec<String> = (0..3000).map(|it: u32| it.to_string()).collect();
    client.publish_all("q", &bodies.join(" "), &Properties::default());
    assert_eq!(client.counts("dead"), (2999, 0));
    assert_eq!(take_all(&world.broker, "dead"), bodies[..2999]);
}

#[test]
fn a_publisher_waits_for_the_letters_it_makes() {
    let world = World::volatile();
    let client = world.client();
    let arguments = [
        ("x-max-length", number(1)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("q", &[], &arguments);
    client.declare_ok("dead", &[], &[]);
    world.hold_paging();
    let mut bytes = Vec::new();
    for body in 0..8000 {
        let body: String = body.to_string();
        bytes.extend(client.publishing("q", body.as_bytes(), &Properties::default()));
    }
    client.send(&bytes);
    assert!(!client.wants_input());
    while !client.wants_input() {
        world.page();
    }
    world.page();
    assert_eq!(client.counts("dead"), (7999, 0));
}

/// Whoever moves a letter may have asked for the time before it left: its next delay begins when it left, all the same.
#[test]
fn what_begins_with_a_letter_begins_when_it_left() {
    let world = World::volatile();
    let client = world.client();
    let onwards = |next| {
        [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string(next)),
        ]
    };
    client.declare_ok("q", &[], &onwards("later"));
    let [exchange, key] = onwards("back");
    client.declare_ok(
        "later",
        &[],
        &[exchange, key, ("x-message-ttl", number(100))],
    );
    client.declare_ok("back", &[], &[]);
    // More than one turn moves, so that the pager is left the last ones.
    let bodies: Vec<String> = (0..300).map(|it: u32| it.to_string()).collect();
    client.publish_all("q", &bodies.join(" "), &Properties::default());
    client.consume("q", "c", &[], &[]);
    world.hold_paging();
    let early = world.now();
    world.pass(50);
    client.nack(0, true, false);
    world.broker.run_pager(early);
    world.pass(99);
    assert_eq!(client.counts("back"), (0, 0));
    world.pass(1);
    world.page();
    assert_eq!(client.counts("back"), (300, 0));
}

/// After a start it is found out of both as they are read.
#[test]
fn what_was_delivered_too_often_keeps_its_place_among_what_expires() {
    let world = World::durable();
    let client = world.client();
    let arguments = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(1)),
        ("x-message-ttl", number(1_000)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], &arguments);
    client.publish_all("q", "a b c d e f", &Properties::persistent());
    client.consume_ok("q", "c");
    client.expect_bodies("a b c d e f");
    for tag in [2, 5] {
        client.nack(tag, false, true);
    }
    client.expect_bodies("b! e!");
    let after = world.restarted_at(world.now() + 1_000);
    let client = after.client();
    after.run();
    assert_eq!(client.counts("q"), (0, 0));
    for (body, reason) in [
        ("a", "expired"),
        ("b", "delivery_limit"),
        ("c", "expired"),
        ("d", "expired"),
        ("e", "delivery_limit"),
        ("f", "expired"),
    ] {
        client.get("dead", true);
        let letter = client.seen().remove(0);
        let headers = letter.headers();
        let told = headers.inner().get("x-first-death-reason");
        assert_eq!(letter.body_text(), body);
        assert_eq!(told, Some(&string(reason)));
    }
}
