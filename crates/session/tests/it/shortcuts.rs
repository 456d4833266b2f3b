//! What is there for its speed alone changes nothing: clients see the same of the same history with each shortcut and
//! without it.

use std::collections::BTreeMap;
use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::AMQPProperties;
use leveret_queue::shortcuts::Shortcut;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::calls::{Flag, number, string};
use crate::harness::client::{Client, Seen};
use crate::harness::wire::Arguments;
use crate::harness::{Dial, Properties, World};

/// Each has a consumer or more of them.
const CLIENTS: usize = 3;
/// The publisher's: plain, with confirms, and with transactions.
const CHANNELS: u16 = 3;
const QUEUES: [&str; 4] = ["transient", "kept", "odd", "dead"];
/// Routing keys of publishes: to the default exchange, and to a topic exchange.
const PLACES: [(&str, &str); 7] = [
    ("", "transient"),
    ("", "kept"),
    ("", "odd"),
    ("t", "a.one"),
    ("t", "a.two"),
    ("t", "b"),
    ("", "nowhere"),
];

/// Publishes that follow each other.
#[derive(Clone, Debug)]
struct Row {
    place: usize,
    count: usize,
    bytes: usize,
    persistent: bool,
    expires: bool,
    mandatory: bool,
    priority: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Ack,
    AckAll,
    Requeue,
    Reject,
}

#[derive(Clone, Debug)]
enum Step {
    /// In one go.
    Publish(u16, Vec<Row>),
    Commit,
    Consume {
        client: usize,
        queue: usize,
        no_ack: bool,
        priority: i64,
    },
    Cancel(usize, usize),
    Settle(usize, usize, Fate),
    Prefetch(usize, u16, bool),
    Get(usize, usize),
    Purge(usize),
    Bind(bool),
    Pass(u64),
    Reads(usize, bool),
}

fn row() -> impl Strategy<Value = Row> {
    let often_many = prop_oneof![1usize..4, 8usize..40];
    let bytes = prop_oneof![Just(0usize), Just(5), Just(300), Just(5_000)];
    let marks = (
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
    );
    let priority = proptest::option::weighted(0.2, 0u8..5);
    let place = 0..PLACES.len();
    (place, often_many, bytes, marks, priority).prop_map(
        |(place, count, bytes, marks, priority)| {
            let (persistent, expires, mandatory) = marks;
            Row {
                place,
                count,
                bytes,
                persistent,
                expires,
                mandatory,
                priority,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let queue = 0..QUEUES.len();
    let fate = prop_oneof![
        3 => Just(Fate::Ack),
        3 => Just(Fate::AckAll),
        1 => Just(Fate::Requeue),
        1 => Just(Fate::Reject),
    ];
    let consume = (
        client.clone(),
        queue.clone(),
        prop::bool::weighted(0.3),
        0i64..2,
    );
    let prefetch = prop_oneof![Just(0u16), 1u16..6, Just(20)];
    prop_oneof![
        8 => (1..=CHANNELS, vec(row(), 1..4)).prop_map(|(channel, rows)| Step::Publish(channel, rows)),
        1 => Just(Step::Commit),
        4 => consume.prop_map(|(client, queue, no_ack, priority)| Step::Consume {
            client, queue, no_ack, priority
        }),
        1 => (client.clone(), 0usize..4).prop_map(|(client, which)| Step::Cancel(client, which)),
        6 => (client.clone(), 0usize..100, fate).prop_map(|(client, at, fate)| Step::Settle(client, at, fate)),
        2 => (client.clone(), prefetch, any::<bool>()).prop_map(|(client, count, global)| {
            Step::Prefetch(client, count, global)
        }),
        1 => (client.clone(), queue.clone()).prop_map(|(client, queue)| Step::Get(client, queue)),
        1 => queue.prop_map(Step::Purge),
        1 => any::<bool>().prop_map(Step::Bind),
        1 => (0u64..60).prop_map(Step::Pass),
        1 => (client, any::<bool>()).prop_map(|(client, reads)| Step::Reads(client, reads)),
    ]
}

/// A mailbox with room for all there is.
const ROOM: usize = 1 << 20;

#[derive(Clone, Debug)]
struct History {
    durable: bool,
    memory_bytes: usize,
    mailbox_bytes: usize,
    odd: Vec<(&'static str, i64)>,
    steps: Vec<Step>,
}

fn history() -> impl Strategy<Value = History> {
    let argument = |name, values: std::ops::Range<i64>| {
        proptest::option::weighted(0.3, values.prop_map(move |value| (name, value)))
    };
    let odd = (
        argument("x-max-priority", 1..4),
        argument("x-max-length", 1..40),
        argument("x-message-ttl", 0..50),
        argument("x-single-active-consumer", 1..2),
    );
    let memory = prop_oneof![Just(1_000usize), Just(1 << 20)];
    let mailbox = prop_oneof![Just(2_000usize), Just(ROOM)];
    (any::<bool>(), memory, mailbox, odd, vec(step(), 1..40)).prop_map(
        |(durable, memory_bytes, mailbox_bytes, odd, steps)| History {
            durable,
            memory_bytes,
            mailbox_bytes,
            odd: [odd.0, odd.1, odd.2, odd.3].into_iter().flatten().collect(),
            steps,
        },
    )
}

/// Everybody, and what they have seen.
struct Run {
    world: Rc<World>,
    publisher: Client,
    clients: Vec<Client>,
    /// Tags of consumers of each, and of what it has not settled.
    consumers: Vec<Vec<String>>,
    unsettled: Vec<Vec<u64>>,
    next: usize,
    seen: Vec<String>,
}

impl Run {
    fn new(history: &History) -> Run {
        let config = BrokerConfig {
            queue_memory_bytes: history.memory_bytes,
            mailbox_bytes: history.mailbox_bytes,
            ..BrokerConfig::default()
        };
        let world = match history.durable {
            true => World::durable_with(config),
            false => World::volatile_with(config),
        };
        let publisher = Client::connect(&world, Dial::default());
        for channel in 1..=CHANNELS {
            publisher.with_channel(channel);
        }
        publisher.on(1).declare_exchange("t", "topic", &[], &[]);
        publisher.on(1).expect(&["exchange.declare-ok"]);
        let dead = [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string("dead")),
        ];
        let odd = history.odd.iter().map(|&(name, value)| match name {
            "x-single-active-consumer" => (name, leveret_codec::AMQPValue::Boolean(value > 0)),
            name => (name, number(value)),
        });
        let odd: Vec<_> = odd.chain(dead.clone()).collect();
        publisher.on(1).declare_ok("transient", &[], &[]);
        publisher.on(1).declare_ok("kept", &[Flag::Durable], &dead);
        publisher.on(1).declare_ok("odd", &[Flag::Durable], &odd);
        publisher.on(1).declare_ok("dead", &[], &[]);
        for (queue, key) in [("transient", "a.*"), ("kept", "#"), ("odd", "b")] {
            publisher.on(1).bind(queue, "t", key);
        }
        publisher
            .on(2)
            .call((85, 10), Arguments::new().bits(&[false]));
        publisher.on(3).tx(10);
        publisher.seen();
        Run {
            clients: (0..CLIENTS).map(|_| world.client()).collect(),
            publisher,
            world,
            consumers: vec![Vec::new(); CLIENTS],
            unsettled: vec![Vec::new(); CLIENTS],
            next: 0,
            seen: Vec::new(),
        }
    }

    fn publish(&mut self, channel: u16, rows: &[Row]) {
        let publisher = self.publisher.on(channel);
        for row in rows {
            let (exchange, key) = PLACES[row.place];
            let mut properties = AMQPProperties::default();
            if row.persistent {
                properties = properties.with_delivery_mode(2);
            }
            if row.expires {
                properties = properties.with_expiration("30".into());
            }
            if let Some(priority) = row.priority {
                properties = properties.with_priority(priority);
            }
            let message = Properties {
                exchange,
                mandatory: row.mandatory,
                properties,
            };
            for _ in 0..row.count {
                let body = format!("{:05}{}", self.next, "x".repeat(row.bytes));
                self.next += 1;
                let body = &body.as_bytes()[..row.bytes];
                publisher.write(&publisher.publishing(key, body, &message));
            }
        }
        self.world.run();
    }

    fn settle(&mut self, client: usize, at: usize, fate: Fate) {
        let unsettled = &mut self.unsettled[client];
        if unsettled.is_empty() {
            return;
        }
        let at = at % unsettled.len();
        let tag = unsettled[at];
        let client = &self.clients[client];
        match fate {
            Fate::AckAll => {
                unsettled.drain(..=at);
                client.ack(tag, true);
                return;
            }
            Fate::Ack => client.ack(tag, false),
            Fate::Requeue => client.nack(tag, false, true),
            Fate::Reject => client.reject(tag, false),
        }
        unsettled.remove(at);
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish(channel, rows) => self.publish(*channel, rows),
            Step::Commit => self.publisher.on(3).tx(20),
            &Step::Consume {
                client,
                queue,
                no_ack,
                priority,
            } => {
                let tag = format!("c{}{}", self.next, if no_ack { "n" } else { "" });
                self.next += 1;
                let flags: &[Flag] = if no_ack { &[Flag::NoAck] } else { &[] };
                let arguments = [("x-priority", number(priority))];
                self.clients[client].consume(QUEUES[queue], &tag, flags, &arguments);
                self.consumers[client].push(tag);
            }
            &Step::Cancel(client, which) => {
                let consumers = &mut self.consumers[client];
                if !consumers.is_empty() {
                    let tag = consumers.remove(which % consumers.len());
                    self.clients[client].cancel(&tag);
                }
            }
            &Step::Settle(client, at, fate) => self.settle(client, at, fate),
            &Step::Prefetch(client, count, global) => {
                let arguments = Arguments::new().u32(0).u16(count).bits(&[global]);
                self.clients[client].call((60, 10), arguments);
            }
            &Step::Get(client, queue) => self.clients[client].get(QUEUES[queue], false),
            Step::Purge(queue) => self.publisher.on(1).purge(QUEUES[*queue]),
            Step::Bind(true) => self.publisher.on(1).bind("odd", "t", "a.one"),
            Step::Bind(false) => self.publisher.on(1).unbind("odd", "t", "a.one"),
            &Step::Pass(milliseconds) => self.world.pass(milliseconds),
            &Step::Reads(client, reads) => self.clients[client].set_reads(reads),
        }
        self.look();
    }

    fn look(&mut self) {
        for (number, client) in self.clients.iter().enumerate() {
            for seen in client.seen() {
                if let Some(tag) = unsettled_tag(&seen) {
                    self.unsettled[number].push(tag);
                }
                self.seen.push(format!("{number}: {}", told(&seen)));
            }
        }
        for seen in self.publisher.seen() {
            self.seen.push(format!("publisher: {}", told(&seen)));
        }
    }
}

fn told(seen: &Seen) -> String {
    format!("{} {:?} '{}'", seen.text, seen.header, seen.body_text())
}

/// The tag of a delivery that is to be acknowledged.
fn unsettled_tag(seen: &Seen) -> Option<u64> {
    let words: Vec<&str> = seen.text.split(' ').collect();
    match words[..] {
        ["deliver", consumer, tag, ..] if !consumer.ends_with('n') => tag.parse().ok(),
        ["get-ok", tag, ..] => tag.parse().ok(),
        _ => None,
    }
}

/// What everybody sees of a history, where these shortcuts are closed.
fn seen_without(history: &History, closed: &[Shortcut]) -> Vec<String> {
    Shortcut::close(closed);
    let mut run = Run::new(history);
    for (number, step) in history.steps.iter().enumerate() {
        run.seen.push(format!("step {number}: {step:?}"));
        run.take(step);
    }
    for client in 0..CLIENTS {
        run.clients[client].set_reads(true);
    }
    run.look();
    let counts: BTreeMap<_, _> = QUEUES
        .into_iter()
        .map(|queue| (queue, run.publisher.on(1).counts(queue)))
        .collect();
    run.seen.push(format!("{counts:?}"));
    Shortcut::close(&[]);
    run.seen
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn clients_see_the_same_of_the_same_history(history in history()) {
        // A mailbox is looked at for all that it gets: when it is full, whose turn it is may differ by one.
        let roomy = History { mailbox_bytes: ROOM, ..history.clone() };
        let expected_with_room = seen_without(&roomy, &[]);
        let expected = seen_without(&history, &[]);
        for shortcut in Shortcut::ALL {
            let (history, expected) = match shortcut {
                Shortcut::PastReady | Shortcut::Gathered => (&roomy, &expected_with_room),
                _ => (&history, &expected),
            };
            let seen = seen_without(history, &[shortcut]);
            let differs = seen.iter().zip(expected).position(|(one, other)| one != other);
            if let Some(at) = differs {
                let before = at.saturating_sub(20);
                prop_assert_eq!(&seen[before..=at], &expected[before..=at], "without {:?}", shortcut);
            }
            prop_assert_eq!(seen.len(), expected.len(), "without {:?}", shortcut);
        }
        prop_assert_eq!(seen_without(&roomy, &Shortcut::ALL), expected_with_room);
    }
}
