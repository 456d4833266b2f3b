//! What clients have not settled leaves memory, and nobody sees that it did.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};
use leveret_store_api::{Damage, LogId, MessageLog, Sequence};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::wire::Arguments;
use crate::harness::{Client, Properties, World};
use crate::statistics::of;

/// Nothing that is not settled stays in memory.
pub fn frugal() -> Rc<World> {
    with_unacked(0)
}

fn with_unacked(bytes: usize) -> Rc<World> {
    World::durable_with(BrokerConfig {
        unacked_bytes_max: bytes,
        ..BrokerConfig::default()
    })
}

/// The first log of a queue.
fn log(world: &World, queue: &str) -> LogId {
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let (_, log) = vhost.queue(queue).expect("the queue").logs()[0];
    log
}

/// Live messages of a queue in the store.
pub fn stored(world: &World, queue: &str) -> u64 {
    let state = world.store().log_state(log(world, queue));
    state.map_or(0, |state| state.live)
}

/// Says whether these messages are in the store alone: a read finds them damaged.
fn damage(world: &World, queue: &str, sequences: impl IntoIterator<Item = u64>) {
    let log = log(world, queue);
    for sequence in sequences {
        world
            .store()
            .damage(log, Sequence(sequence), Some(Damage::Body));
    }
}

fn names(from: usize, to: usize) -> String {
    let names: Vec<String> = (from..=to).map(|n| format!("m{n}")).collect();
    names.join(" ")
}

pub fn returned(from: usize, to: usize) -> String {
    let names: Vec<String> = (from..=to).map(|n| format!("m{n}!")).collect();
    names.join(" ")
}

const LETTERS: [(&str, &str); 2] = [
    ("x-dead-letter-exchange", ""),
    ("x-dead-letter-routing-key", "dead"),
];

pub fn to_the_dead() -> Vec<(&'static str, AMQPValue)> {
    let arguments = LETTERS.iter();
    arguments
        .map(|(name, value)| (*name, string(value)))
        .collect()
}

/// A client that holds `count` messages of a queue.
pub fn held(
    world: &Rc<World>,
    count: usize,
    arguments: &[(&str, AMQPValue)],
    properties: &Properties,
) -> Client {
    let client = world.client();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], arguments);
    client.publish_all("q", &names(1, count), properties);
    client.consume_ok("q", "c");
    client.expect_bodies(&names(1, count));
    client
}

#[test]
fn what_leaves_memory_is_read_where_it_is_needed_and_only_there() {
    for (bytes, leaves) in [(0, true), (1 << 20, false)] {
        let world = with_unacked(bytes);
        let client = held(&world, 20, &to_the_dead(), &Properties::persistent());
        damage(&world, "q", 0..20);
        // An acknowledgement reads nothing.
        client.ack(5, true);
        client.reject(6, false);
        let letters = client.counts("dead").0;
        assert_eq!(letters, 1);
        client.get("dead", true);
        let letter = client.seen().remove(0);
        let reason = letter
            .headers()
            .inner()
            .get("x-first-death-reason")
            .cloned();
        let expected = if leaves { "damaged" } else { "rejected" };
        assert_eq!(reason, Some(string(expected)), "{leaves}");
        assert_eq!(stored(&world, "q"), 14);
    }
}

#[test]
fn transient_messages_are_spilled_and_gone_when_they_are_settled() {
    let world = frugal();
    let client = held(&world, 20, &[], &Properties::default());
    assert_eq!(stored(&world, "q"), 20);
    client.ack(10, true);
    assert_eq!(stored(&world, "q"), 10);
    client.nack(15, true, true);
    client.expect_bodies(&returned(11, 15));
    client.ack(0, true);
    assert_eq!((stored(&world, "q"), client.counts("q")), (0, (0, 1)));
}

#[test]
fn messages_of_a_queue_that_is_transient_itself_are_spilled_too() {
    let world = frugal();
    let client = world.client();
    client.declare_ok("t", &[], &[]);
    client.publish_all("t", &names(1, 20), &Properties::persistent());
    client.consume_ok("t", "c");
    client.expect_bodies(&names(1, 20));
    assert_eq!(stored(&world, "t"), 20);
    client.recover(true);
    client.expect_first("recover-ok");
    client.expect_bodies(&returned(1, 20));
    client.ack(0, true);
    assert_eq!(stored(&world, "t"), 0);
}

#[test]
fn what_is_not_durable_yet_stays_in_memory_until_it_is() {
    let world = frugal();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    world.hold_commits();
    client.publish_all("q", &names(1, 6), &Properties::persistent());
    client.consume_ok("q", "c");
    client.expect_bodies(&names(1, 6));
    // It is not in the store, and comes back nevertheless.
    client.nack(2, true, true);
    client.expect_bodies(&returned(1, 2));
    world.commit();
    damage(&world, "q", 2..6);
    client.nack(6, true, true);
    client.expect_nothing();
    assert_eq!(of(&world, "q").totals.discarded.damaged, 4);
    assert_eq!(client.counts("q"), (0, 1));
}

#[test]
fn after_a_kill_all_of_it_is_back_and_marked() {
    let world = frugal();
    let client = held(&world, 3000, &[], &Properties::persistent());
    client.publish("q", "transient");
    client.expect_bodies("transient");
    client.ack(1000, true);
    let again = world.restarted();
    let client = again.client();
    client.consume_ok("q", "c");
    client.expect_bodies(&returned(1001, 3000));
    client.ack(0, true);
    assert_eq!(stored(&again, "q"), 0);
}

#[test]
fn one_that_cannot_be_read_goes_alone() {
    let world = frugal();
    let client = held(&world, 3000, &[], &Properties::persistent());
    damage(&world, "q", [1999]);
    client.close_channel();
    client.expect(&["channel.close-ok"]);
    let client = client.with_channel(1);
    client.consume_ok("q", "c");
    let expected = format!("{} {}", returned(1, 1999), returned(2001, 3000));
    client.expect_bodies(&expected);
    assert_eq!(of(&world, "q").totals.discarded.damaged, 1);
}

#[test]
fn what_goes_on_to_other_places_is_read_for_that() {
    let delays = AMQPValue::FieldArray(FieldArray::from(vec![number(100)]));
    let elsewhere: [(&str, AMQPValue); 3] = [
        ("x-retry-delays", delays),
        ("x-delivery-limit", number(0)),
        ("x-queue-type", string("quorum")),
    ];
    for argument in elsewhere {
        let mut arguments = to_the_dead();
        if argument.0 == "x-delivery-limit" {
            arguments.push(("x-queue-type", string("quorum")));
        }
        let name = argument.0;
        arguments.push(argument);
        let world = frugal();
        let client = held(&world, 3, &arguments, &Properties::persistent());
        client.nack(3, true, true);
        match name {
            "x-retry-delays" => {
                client.expect_nothing();
                world.pass(100);
                client.expect_bodies(&returned(1, 3));
            }
            "x-delivery-limit" => assert_eq!(client.counts("dead"), (3, 0)),
            _ => client.expect_bodies(&returned(1, 3)),
        }
    }
}

#[test]
fn letters_of_one_step_keep_their_order_whatever_they_leave_for() {
    for is_limit in [true, false] {
        let mut arguments = to_the_dead();
        arguments.extend([
            ("x-queue-type", string("quorum")),
            ("x-delivery-limit", number(0)),
        ]);
        let world = frugal();
        let client = held(&world, 6, &arguments, &Properties::persistent());
        damage(&world, "q", [1, 4]);
        client.nack(6, true, is_limit);
        client.consume_ok("dead", "letters");
        client.expect_bodies("m1  m3 m4  m6");
    }
}

#[test]
fn large_bodies_leave_memory_and_are_read_a_few_at_a_time() {
    let world = frugal();
    let client = world.client();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], &to_the_dead());
    let body = "x".repeat(3 << 20);
    for _ in 0..12 {
        client.publish_with("q", &body, &Properties::persistent());
    }
    client.consume_ok("q", "c");
    assert_eq!(client.bodies().len(), 12);
    world.stand_still();
    client.nack(0, true, false);
    let mut turns = 0;
    while world.turn() {
        turns += 1;
    }
    world.go_on();
    assert!(turns > 2, "{turns}");
    assert_eq!(client.counts("dead"), (12, 0));
    assert_eq!(client.counts("q"), (0, 1));
}

/// What is read to go elsewhere is in memory again until the store has it there: never much of it at once.
#[test]
fn what_is_read_to_go_elsewhere_waits_for_the_store() {
    const MESSAGES: u32 = 30;
    /// Of 3 MiB, as many as a step reads.
    const TOGETHER: u32 = 11;
    let limit = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(0)),
    ];
    for closes in [false, true] {
        let world = frugal();
        let (client, other) = (world.client(), world.client());
        let mut arguments = to_the_dead();
        if closes {
            arguments.extend(limit.clone());
        }
        client.declare_ok("dead", &[Flag::Durable], &[]);
        client.declare_ok("q", &[Flag::Durable], &arguments);
        let body = "x".repeat(3 << 20);
        for _ in 0..MESSAGES {
            client.publish_with("q", &body, &Properties::persistent());
        }
        client.consume_ok("q", "c");
        assert_eq!(client.bodies().len(), MESSAGES as usize);
        world.hold_commits();
        if closes {
            client.disconnect();
            world.run();
        } else {
            client.nack(0, true, false);
        }
        let dead = || other.counts("dead").0;
        let mut before = dead();
        assert!((1..=TOGETHER).contains(&before), "{before}");
        while before < MESSAGES {
            world.commit();
            let now = dead();
            assert!(
                (before + 1..=before + TOGETHER).contains(&now),
                "{before} {now}"
            );
            before = now;
        }
        world.commit();
        assert_eq!(other.counts("q").0, 0);
    }
}

#[test]
fn a_queue_that_goes_or_is_purged_meanwhile_takes_nothing_back() {
    let world = frugal();
    let client = held(&world, 2000, &to_the_dead(), &Properties::persistent());
    let other = world.client();
    other.purge("q");
    other.expect(&["purge-ok 0"]);
    client.nack(500, true, false);
    assert_eq!(other.counts("dead"), (500, 0));
    other.delete("q", false, false);
    other.expect(&["delete-ok 0"]);
    client.expect(&["cancel c"]);
    client.nack(1000, true, false);
    client.nack(1500, true, true);
    client.ack(0, true);
    assert_eq!(other.counts("dead"), (500, 0));
    client.expect_nothing();
}

/// What kind of queue there is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Transient,
    Priority,
    Limited,
    Quorum,
    Retries,
    Unique,
    ShortLived,
    Stream,
}

impl Kind {
    fn declare(self, client: &Client) {
        let mut arguments = to_the_dead();
        let mut flags = vec![Flag::Durable];
        match self {
            Kind::Plain => {}
            Kind::Transient => flags.clear(),
            Kind::Priority => arguments.push(("x-max-priority", number(3))),
            Kind::Limited => arguments.push(("x-max-length", number(6))),
            Kind::Quorum => {
                arguments.push(("x-queue-type", string("quorum")));
                arguments.push(("x-delivery-limit", number(2)));
            }
            Kind::Retries => arguments.push((
                "x-retry-delays",
                AMQPValue::FieldArray(FieldArray::from(vec![number(20), number(50)])),
            )),
            Kind::Unique => {
                arguments.push(("x-message-deduplication", AMQPValue::Boolean(true)));
            }
            // Nothing happens in the very millisecond in which it expires.
            Kind::ShortLived => arguments.push(("x-message-ttl", number(101))),
            Kind::Stream => arguments = vec![("x-queue-type", string("stream"))],
        }
        client.declare_ok("q", &flags, &arguments);
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Plain),
        Just(Kind::Transient),
        Just(Kind::Priority),
        Just(Kind::Limited),
        Just(Kind::Quorum),
        Just(Kind::Retries),
        Just(Kind::Unique),
        Just(Kind::ShortLived),
        Just(Kind::Stream),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Publish { persistent: bool, mark: u8 },
    Consume(u16),
    Cancel,
    Get,
    Settle { tag: u8, multiple: bool, fate: u8 },
    Recover,
    Reopen,
    Transact(Vec<(u8, u8)>, bool),
    Pass(u8),
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    let settled = vec((any::<u8>(), any::<u8>()), 0..4);
    prop_oneof![
        6 => (any::<bool>(), any::<u8>())
            .prop_map(|(persistent, mark)| Step::Publish { persistent, mark }),
        2 => (1u16..6).prop_map(Step::Consume),
        1 => Just(Step::Cancel),
        1 => Just(Step::Get),
        5 => (any::<u8>(), any::<bool>(), any::<u8>())
            .prop_map(|(tag, multiple, fate)| Step::Settle { tag, multiple, fate }),
        1 => Just(Step::Recover),
        1 => Just(Step::Reopen),
        1 => (settled, any::<bool>()).prop_map(|(settled, commits)| Step::Transact(settled, commits)),
        2 => (0u8..30).prop_map(|half| Step::Pass(half * 2)),
        1 => Just(Step::Purge),
    ]
}

/// A broker, and what clients saw of it.
struct Play {
    world: Rc<World>,
    kind: Kind,
    client: Client,
    undertaker: Client,
    /// Tags of what the client holds.
    unsettled: Vec<u64>,
    consumes: bool,
    published: u32,
    seen: Vec<String>,
}

impl Play {
    fn new(unacked_bytes_max: usize, kind: Kind) -> Play {
        let world = with_unacked(unacked_bytes_max);
        let undertaker = world.client();
        undertaker.declare_ok("dead", &[Flag::Durable], &[]);
        undertaker.consume("dead", "u", &[Flag::NoAck], &[]);
        let client = world.client();
        kind.declare(&client);
        Play {
            world,
            kind,
            client,
            undertaker,
            unsettled: Vec::new(),
            consumes: false,
            published: 0,
            seen: Vec::new(),
        }
    }

    /// Remembers what was said.
    fn look(&mut self) {
        // What is due is done: nobody has to wait for a message to be read back.
        self.world.pass(0);
        for seen in self.client.seen() {
            let words: Vec<&str> = seen.text.split(' ').collect();
            let tag = match words.first() {
                Some(&"deliver") => words.get(2),
                Some(&"get-ok") => words.get(1),
                _ => None,
            };
            self.unsettled
                .extend(tag.map(|tag| tag.parse::<u64>().unwrap()));
            let count = match words.first() {
                Some(&"deliver" | &"get-ok") => {
                    let headers = seen.headers();
                    headers.inner().get("x-delivery-count").cloned()
                }
                _ => None,
            };
            self.seen
                .push(format!("{} {} {count:?}", seen.text, seen.body_text()));
        }
        for letter in self.undertaker.seen() {
            let reason = match letter.text.starts_with("deliver") {
                true => letter
                    .headers()
                    .inner()
                    .get("x-first-death-reason")
                    .cloned(),
                false => None,
            };
            let line = format!("dead: {} {reason:?}", letter.body_text());
            self.seen.push(line);
        }
    }

    fn settle(&mut self, place: u8, multiple: bool, fate: u8) {
        if self.unsettled.is_empty() {
            return;
        }
        let place = usize::from(place) % self.unsettled.len();
        let tag = self.unsettled[place];
        match multiple {
            true => drop(self.unsettled.drain(..=place)),
            false => drop(self.unsettled.remove(place)),
        }
        match fate % 3 {
            0 => self.client.ack(tag, multiple),
            1 => self.client.nack(tag, multiple, true),
            _ => self.client.nack(tag, multiple, false),
        }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Publish { persistent, mark } => {
                let mut properties = AMQPProperties::default().with_priority(mark % 4);
                if *persistent {
                    properties = properties.with_delivery_mode(2);
                }
                let key = table(&[("x-deduplication-header", string(&(mark % 8).to_string()))]);
                let properties = Properties::of(properties.with_headers(key));
                self.published += 1;
                let body = self.published.to_string();
                self.client.publish_with("q", &body, &properties);
            }
            Step::Consume(prefetch) if !self.consumes => {
                self.consumes = true;
                self.client.qos_ok(*prefetch, false);
                self.client.consume("q", "c", &[], &[]);
            }
            Step::Cancel if self.consumes => {
                self.consumes = false;
                self.client.cancel("c");
            }
            Step::Get if !matches!(self.kind, Kind::Stream) => self.client.get("q", false),
            Step::Settle {
                tag,
                multiple,
                fate,
            } => self.settle(*tag, *multiple, *fate),
            Step::Recover => {
                self.unsettled.clear();
                self.client.recover(true);
            }
            Step::Reopen => {
                (self.consumes, self.unsettled) = (false, Vec::new());
                self.client.close_channel();
                self.client.call((20, 10), Arguments::new().short(""));
            }
            Step::Transact(settled, commits) => {
                // On a channel of its own mode from here on.
                self.play(&Step::Reopen);
                self.client.tx(10);
                self.look();
                self.client.qos_ok(5, false);
                self.client.consume("q", "c", &[], &[]);
                self.look();
                let before = self.unsettled.clone();
                for (place, fate) in settled {
                    self.settle(*place, false, *fate);
                }
                if *commits {
                    self.client.tx(20);
                    self.look();
                } else {
                    self.client.tx(30);
                    self.look();
                    self.unsettled = before;
                }
                // Half of what is left is settled with it, the rest goes back.
                self.settle(1, true, 0);
                self.client.tx(20);
                self.look();
                self.play(&Step::Reopen);
            }
            Step::Pass(milliseconds) => self.world.pass(u64::from(*milliseconds)),
            Step::Purge if !matches!(self.kind, Kind::Stream) => self.client.purge("q"),
            Step::Consume(_) | Step::Cancel | Step::Get | Step::Purge => {}
        }
        self.look();
        let counts = self.client.counts("q");
        self.seen.push(format!("{counts:?}"));
    }

    /// What is left, out of the queue and of the store.
    fn end(&mut self) -> Vec<String> {
        self.play(&Step::Reopen);
        self.client.qos_ok(10, false);
        self.client.consume("q", "end", &[], &[]);
        self.world.pass(200);
        self.look();
        std::mem::take(&mut self.seen)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_sees_where_it_is(kind in kind(), steps in vec(step(), 1..60)) {
        let (mut in_memory, mut in_store) = (Play::new(usize::MAX, kind), Play::new(0, kind));
        for step in &steps {
            in_memory.play(step);
            in_store.play(step);
            prop_assert_eq!(&in_memory.seen, &in_store.seen);
        }
        prop_assert_eq!(in_memory.end(), in_store.end());
    }
}

/// A client that has settled each of m1 to m3000 in an open transaction before any of them was durable: acknowledged
/// the first thousand, rejected the second, put back the third.
fn settled_in_a_transaction(world: &Rc<World>, properties: &Properties) -> Client {
    let (client, publisher) = (world.client(), world.client());
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], &to_the_dead());
    client.tx(10);
    client.expect_first("tx.select-ok");
    world.hold_commits();
    publisher.publish_all("q", &names(1, 3000), properties);
    client.consume_ok("q", "c");
    client.expect_bodies(&names(1, 3000));
    client.ack(1000, true);
    (1001..=2000).for_each(|tag| client.reject(tag, false));
    client.nack(3000, true, true);
    // Some leave with each commit.
    (0..4).for_each(|_| world.commit());
    client
}

#[test]
fn what_a_transaction_keeps_back_leaves_memory() {
    for (bytes, reason) in [(0, "damaged"), (64 << 20, "rejected")] {
        let world = with_unacked(bytes);
        let client = settled_in_a_transaction(&world, &Properties::persistent());
        damage(&world, "q", 1000..2000);
        client.tx(20);
        world.commit();
        client.expect_first("commit-ok");
        client.expect_bodies(&returned(2001, 3000));
        assert_eq!(client.counts("dead").0, 1000);
        let reader = world.client();
        reader.get("dead", true);
        let letter = reader.seen().remove(0);
        let headers = letter.headers();
        let why = headers.inner().get("x-first-death-reason").cloned();
        assert_eq!(why, Some(string(reason)));
    }
}

#[test]
fn what_a_transaction_let_out_of_memory_is_settled_as_if_it_had_not() {
    for properties in [Properties::persistent(), Properties::default()] {
        let world = frugal();
        let client = settled_in_a_transaction(&world, &properties);
        client.tx(20);
        world.commit();
        client.expect_first("commit-ok");
        client.expect_bodies(&returned(2001, 3000));
        let reader = world.client();
        reader.consume_ok("dead", "d");
        reader.expect_bodies(&names(1001, 2000));

        let world = frugal();
        let client = settled_in_a_transaction(&world, &properties);
        client.tx(30);
        world.commit();
        client.expect_first("rollback-ok");
        client.ack(1, false);
        client.tx(20);
        world.commit();
        client.expect_first("commit-ok");
        client.close_channel();
        client.expect(&["channel.close-ok"]);
        let client = client.with_channel(1);
        client.consume_ok("q", "c");
        client.expect_bodies(&returned(2, 3000));
    }
}
