//! What is bounded: mailboxes, publishers that run ahead, a store that is behind or full.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_store_api::{Shortage, StoreStatus};

use crate::harness::calls::Flag;
use crate::harness::{Client, Dial, Properties, World};

const KIB: usize = 1 << 10;

fn small() -> BrokerConfig {
    BrokerConfig {
        mailbox_bytes: 64 * KIB,
        publisher_ahead_bytes: 128 * KIB,
        ..BrokerConfig::default()
    }
}

fn consumer(world: &Rc<World>) -> Client {
    let client = world.client();
    client.consume_ok("q", "c");
    client
}

#[test]
fn a_client_that_does_not_read_holds_little_and_nobody_back() {
    let world = World::volatile_with(small());
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    let (deaf, good) = (consumer(&world), consumer(&world));
    deaf.set_reads(false);
    let body = "x".repeat(KIB);
    let mut received = 0;
    for _ in 0..2_000 {
        client.publish("q", &body);
        received += good.bodies().len();
    }
    assert!(deaf.output_length() < 600 * KIB, "{}", deaf.output_length());
    assert!(received > 1_400, "{received}");
    // Once it reads again, everything comes.
    deaf.set_reads(true);
    assert_eq!(client.counts("q"), (0, 2));
    assert_eq!(received + deaf.bodies().len() + good.bodies().len(), 2_000);
}

#[test]
fn publishers_are_held_while_a_consumer_has_much_before_it() {
    let world = World::volatile_with(small());
    let publisher = world.client();
    publisher.declare_ok("q", &[], &[]);
    let reader = world.client();
    reader.qos_ok(1, false);
    reader.consume_ok("q", "c");
    let body = "x".repeat(KIB);
    let mut published = 0;
    while publisher.wants_input() {
        publisher.publish("q", &body);
        published += 1;
        assert!(published < 1_000, "never held");
    }
    assert!(published > 100);
    // What it sends now waits.
    publisher.publish("q", &body);
    let (ready, _) = reader.counts("q");
    assert_eq!(ready, published - 1);
    // Enough is consumed: it goes on.
    for tag in 1..published as u64 {
        reader.ack(tag, false);
        if publisher.wants_input() {
            break;
        }
    }
    assert!(publisher.wants_input());
    let (left, _) = reader.counts("q");
    assert!(left > 20, "released with {left} left");
}

#[test]
fn a_hold_does_not_last_for_consumers_that_do_not_keep_up() {
    let world = World::volatile_with(small());
    let publisher = world.client();
    publisher.declare_ok("q", &[], &[]);
    let slow = world.client();
    slow.qos_ok(1, false);
    slow.consume_ok("q", "c");
    let body = "x".repeat(KIB);
    while publisher.wants_input() {
        publisher.publish("q", &body);
    }
    world.pass(49);
    assert!(!publisher.wants_input());
    world.pass(1);
    assert!(publisher.wants_input());
    for _ in 0..500 {
        publisher.publish("q", &body);
        assert!(
            publisher.wants_input(),
            "held a second time for the same consumer"
        );
    }
}

#[test]
fn a_queue_without_consumers_holds_nobody() {
    let world = World::volatile_with(small());
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    for _ in 0..500 {
        client.publish("q", &"x".repeat(KIB));
        assert!(client.wants_input());
    }
}

#[test]
fn holds_end_with_the_consumer() {
    let world = World::volatile_with(small());
    let publisher = world.client();
    publisher.declare_ok("q", &[], &[]);
    let slow = world.client();
    slow.qos_ok(1, false);
    slow.consume_ok("q", "c");
    while publisher.wants_input() {
        publisher.publish("q", &"x".repeat(KIB));
    }
    slow.vanish();
    assert!(publisher.wants_input());
}

fn behind(message: &Properties, flags: &[Flag]) {
    let world = World::durable_with(BrokerConfig {
        store_behind_bytes: 256 * KIB as u64,
        queue_memory_bytes: 64 * KIB,
        ..BrokerConfig::default()
    });
    let client = world.client();
    client.declare_ok("q", flags, &[]);
    world.hold_commits();
    let mut published = 0;
    while client.wants_input() {
        client.publish_with("q", &"x".repeat(KIB), message);
        published += 1;
        assert!(published < 2_000, "never held");
    }
    world.commit();
    assert!(client.wants_input());
    assert_eq!(client.counts("q"), (published, 0));
}

#[test]
fn publishers_wait_for_a_store_that_is_behind() {
    behind(&Properties::persistent(), &[Flag::Durable]);
}

#[test]
fn publishers_wait_for_a_store_that_is_behind_with_spilled_messages() {
    behind(&Properties::default(), &[]);
    behind(&Properties::default(), &[Flag::Durable]);
}

#[test]
fn a_full_store_blocks_publishers_and_tells_who_understands() {
    let world = World::durable();
    let (publisher, reader) = (world.client(), world.client());
    let dial = Dial {
        capabilities: Vec::new(),
        ..Dial::default()
    };
    let simple = Client::connect(&world, dial).with_channel(1);
    publisher.declare_ok("q", &[Flag::Durable], &[]);
    publisher.publish("q", "before");
    world.store().set_status(StoreStatus::Full {
        path: "/data".into(),
        free_bytes: 5,
        lacks: Shortage::Disk,
    });
    world.broker.handle_store_status();
    world.run();
    publisher.expect(&["blocked low on disk"]);
    reader.expect(&["blocked low on disk"]);
    simple.expect_nothing();
    // The next publish of anybody waits; readers go on.
    publisher.publish("q", "later");
    simple.publish("q", "later still");
    assert!(!publisher.wants_input() && !simple.wants_input());
    reader.get("q", true);
    let lines = reader.lines();
    assert!(
        lines[0].starts_with("get-ok") && lines[0].ends_with("'before'"),
        "{lines:?}"
    );
    let late = world.client_told("blocked low on disk");
    world.store().set_status(StoreStatus::Running);
    world.broker.handle_store_status();
    world.run();
    publisher.expect(&["unblocked"]);
    late.expect(&["unblocked"]);
    assert!(publisher.wants_input() && simple.wants_input());
    assert_eq!(late.counts("q"), (2, 0));
}

impl World {
    /// A client that is told something right after it connected.
    fn client_told(self: &Rc<Self>, line: &str) -> Client {
        let dial = Dial::default();
        let client = Client::socket(self, &dial);
        client.send(&leveret_codec::PROTOCOL_HEADER);
        client.send(&dial.start_ok());
        client.send(&dial.tune_ok());
        client.send(&dial.open());
        client.expect(&["start", "tune 2047 131072 60", "open-ok", line]);
        client.with_channel(1)
    }
}
