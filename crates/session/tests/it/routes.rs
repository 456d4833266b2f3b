//! Routes are remembered; nobody can tell, whatever is bound and taken away meanwhile.

use std::collections::BTreeSet;
use std::rc::Rc;

use leveret_codec::FieldTable;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::calls::Flag;
use crate::harness::wire::{self, Arguments};
use crate::harness::{Client, Dial, Properties, World};

const HEARTBEAT_S: u16 = 60;
const QUEUES: [&str; 3] = ["one", "two", "three"];

#[derive(Clone, Debug)]
enum Step {
    /// Publishes with these routing keys, read at once.
    Publish(Vec<String>),
    Bind(&'static str, String),
    Unbind(&'static str, String),
    /// The publisher does nothing for as long as a heartbeat: what is not in use is forgotten.
    Wait,
}

fn words(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(proptest::sample::select(of), 0..4).prop_map(|words| words.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    words(&["a", "b", "*", "#"])
}

fn step() -> impl Strategy<Value = Step> {
    let queue = || proptest::sample::select(&QUEUES);
    prop_oneof![
        6 => vec(words(&["a", "b", "c"]), 1..40).prop_map(Step::Publish),
        3 => (queue(), pattern()).prop_map(|(queue, pattern)| Step::Bind(queue, pattern)),
        1 => (queue(), pattern()).prop_map(|(queue, pattern)| Step::Unbind(queue, pattern)),
        1 => Just(Step::Wait),
    ]
}

/// Whether a binding key matches, word by word.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], _) => key.is_empty(),
        (["#", rest @ ..], _) => (0..=key.len()).any(|taken| matches(rest, &key[taken..])),
        (["*", rest @ ..], [_, others @ ..]) => matches(rest, others),
        ([word, rest @ ..], [other, others @ ..]) => word == other && matches(rest, others),
        (_, []) => false,
    }
}

fn split(key: &str) -> Vec<&str> {
    key.split('.').filter(|word| !word.is_empty()).collect()
}

/// What is bound, and what each queue has to get.
#[derive(Default)]
struct Model {
    bound: BTreeSet<(&'static str, String)>,
    published: usize,
}

impl Model {
    /// The bodies that go to each queue, of publishes with these keys.
    fn publish(&mut self, keys: &[String]) -> Vec<Vec<String>> {
        let numbers = self.published..;
        self.published += keys.len();
        let wants = |queue: &str, key: &str| {
            let mut bound = self.bound.iter().filter(|(name, _)| *name == queue);
            bound.any(|(_, pattern)| matches(&split(pattern), &split(key)))
        };
        let bodies = QUEUES.iter().map(|queue| {
            let each = keys.iter().zip(numbers.clone());
            each.filter(|(key, _)| wants(queue, key))
                .map(|(_, number)| number.to_string())
                .collect()
        });
        bodies.collect()
    }
}

fn binding(queue: &str, key: &str, bound: bool) -> Vec<u8> {
    let names = Arguments::new().ticket().short(queue).short("x").short(key);
    let table = FieldTable::default();
    match bound {
        true => wire::method(1, (50, 20), names.bits(&[false]).table(&table)),
        false => wire::method(1, (50, 50), names.table(&table)),
    }
}

fn check(steps: &[Step]) {
    let world: Rc<World> = World::volatile();
    let dial = Dial {
        heartbeat_s: HEARTBEAT_S,
        ..Dial::default()
    };
    let publisher = Client::connect(&world, dial).with_channel(1);
    publisher.declare_exchange("x", "topic", &[], &[]);
    let consumers = QUEUES.map(|queue| {
        publisher.declare(queue, &[], &[]);
        let consumer = world.client();
        consumer.consume(queue, "c", &[Flag::NoAck], &[]);
        consumer.seen();
        consumer
    });
    let other = world.client();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Publish(keys) => {
                let first = model.published;
                let expected = model.publish(keys);
                publish(&publisher, keys, first);
                let got = consumers.each_ref().map(Client::bodies);
                assert_eq!(got.as_slice(), expected, "{keys:?}");
            }
            Step::Bind(queue, pattern) => {
                other.send(&binding(queue, pattern, true));
                model.bound.insert((queue, pattern.clone()));
            }
            Step::Unbind(queue, pattern) => {
                other.send(&binding(queue, pattern, false));
                model.bound.remove(&(*queue, pattern.clone()));
            }
            Step::Wait => {
                world.pass(u64::from(HEARTBEAT_S) * 1000);
                publisher.send(&wire::frame(8, 0, &[]));
            }
        }
    }
}

fn publish(publisher: &Client, keys: &[String], first: usize) {
    let to = Properties::to("x");
    let bytes: Vec<u8> = keys
        .iter()
        .zip(first..)
        .flat_map(|(key, number)| publisher.publishing(key, number.to_string().as_bytes(), &to))
        .collect();
    publisher.send(&bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_message_goes_where_the_bindings_of_its_moment_say(steps in vec(step(), 1..30)) {
        check(&steps);
    }
}

/// More keys than a connection may remember, in turn and backwards, with a change between.
#[test]
fn very_many_keys_go_where_they_belong() {
    let keys = |numbers: std::ops::Range<usize>| numbers.map(|n| format!("g{}.k{n}", n % 3));
    let all: Vec<String> = keys(0..30_000).collect();
    let mut back = all.clone();
    back.reverse();
    // In another order, some of them twice, and some that lead nowhere.
    let another = (0..20_000).map(|n| n * 7919 % 31_000);
    let mixed = another.flat_map(|n| vec![format!("g{}.k{n}", n % 4); n % 5 % 3]);
    let mixed = mixed.collect();
    let bind = |queue, pattern: &str| Step::Bind(queue, pattern.to_owned());
    check(&[
        bind("one", "g0.*"),
        bind("two", "g1.#"),
        bind("three", "*.k7"),
        Step::Publish(all.clone()),
        Step::Publish(back.clone()),
        bind("three", "g1.*"),
        Step::Publish(all),
        Step::Publish(back),
        Step::Publish(mixed),
    ]);
}
