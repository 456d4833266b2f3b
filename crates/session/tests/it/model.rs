//! A queue agrees with a simple model of it, whatever happens to it and however little memory it has.
//!
//! Which of several consumers gets a message is left open here; that consumers take turns is tested
//! elsewhere. Everything else must be as the model says: which messages are delivered, in which order,
//! with which marks, that nobody waits in front of a message, and which go to the dead-letter queue and
//! why.

use std::collections::BTreeMap;
use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::AMQPProperties;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::dead_letters::deaths;
use crate::harness::calls::{Flag, number, string};
use crate::harness::client::Client;
use crate::harness::{Properties, World};

/// Channels 1 to 3 consume, this one gets.
const GETTER: u16 = 4;

#[derive(Clone, Debug)]
struct Options {
    max_priority: Option<u8>,
    ttl_ms: Option<u64>,
    max_length: Option<u64>,
    max_bytes: Option<u64>,
    overflow: Overflow,
    delivery_limit: Option<u32>,
    single_active: bool,
    memory_bytes: usize,
    unacked_bytes: usize,
    step_cost: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Overflow {
    DropHead,
    Reject,
    RejectDeadLetter,
}

fn options() -> impl Strategy<Value = Options> {
    let kind = prop_oneof![
        Just((None, None)),
        (1u8..4).prop_map(|max| (Some(max), None)),
        (0u32..3).prop_map(|limit| (None, Some(limit))),
    ];
    let length = proptest::option::weighted(0.4, 0u64..8);
    let bytes = proptest::option::weighted(0.2, 0u64..20);
    let overflow = prop_oneof![
        Just(Overflow::DropHead),
        Just(Overflow::Reject),
        Just(Overflow::RejectDeadLetter),
    ];
    let limits = (length, bytes, overflow);
    let ttl_ms = proptest::option::weighted(0.3, 0u64..40);
    let memory = prop_oneof![Just(0usize), Just(300), Just(1000), Just(1 << 20)];
    let unacked = prop_oneof![Just(0usize), Just(1 << 20)];
    let memory = (memory, unacked);
    let step = prop_oneof![Just(1usize), Just(9), Just(4096)];
    (kind, ttl_ms, limits, any::<bool>(), memory, step).prop_map(
        |(
            (max_priority, delivery_limit),
            ttl_ms,
            (max_length, max_bytes, overflow),
            single_active,
            (memory_bytes, unacked_bytes),
            step_cost,
        )| {
            // What is over a limit goes after each step: with one step it is known what goes.
            let is_limited = max_length.is_some() || max_bytes.is_some();
            let step_cost = if is_limited { 4096 } else { step_cost };
            Options {
                max_priority,
                ttl_ms,
                max_length,
                max_bytes,
                overflow,
                delivery_limit,
                single_active,
                memory_bytes,
                unacked_bytes,
                step_cost,
            }
        },
    )
}

impl Options {
    /// A quorum queue with a single active consumer.
    fn refuses_get(&self) -> bool {
        self.delivery_limit.is_some() && self.single_active
    }

    fn arguments(&self) -> Vec<(&'static str, leveret_codec::AMQPValue)> {
        let mut arguments = Vec::new();
        let mut add = |name, value: Option<i64>| {
            arguments.extend(value.map(|value| (name, number(value))));
        };
        add("x-max-priority", self.max_priority.map(i64::from));
        add("x-message-ttl", self.ttl_ms.map(|ttl| ttl as i64));
        add("x-max-length", self.max_length.map(|max| max as i64));
        add("x-max-length-bytes", self.max_bytes.map(|max| max as i64));
        add("x-delivery-limit", self.delivery_limit.map(i64::from));
        if self.delivery_limit.is_some() {
            arguments.push(("x-queue-type", string("quorum")));
        }
        let overflow = match self.overflow {
            Overflow::DropHead => "drop-head",
            Overflow::Reject => "reject-publish",
            Overflow::RejectDeadLetter => "reject-publish-dlx",
        };
        arguments.push(("x-overflow", string(overflow)));
        arguments.push(("x-dead-letter-exchange", string("")));
        arguments.push(("x-dead-letter-routing-key", string("dead")));
        let single_active = leveret_codec::AMQPValue::Boolean(self.single_active);
        arguments.push(("x-single-active-consumer", single_active));
        arguments
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        count: u8,
        priority: u8,
        ttl_ms: Option<u8>,
        persistent: bool,
    },
    Consume {
        channel: u16,
        prefetch: u16,
    },
    Cancel {
        channel: u16,
    },
    CloseChannel {
        channel: u16,
    },
    /// One of the channel's deliveries, by its place among them.
    Settle {
        channel: u16,
        place: usize,
        multiple: bool,
        fate: Fate,
    },
    Get,
    Recover {
        channel: u16,
    },
    Purge,
    Pass {
        milliseconds: u64,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Ack,
    Requeue,
    Reject,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![3 => Just(Fate::Ack), 3 => Just(Fate::Requeue), 1 => Just(Fate::Reject)];
    let ttl = proptest::option::weighted(0.2, 0u8..40);
    prop_oneof![
        8 => (1u8..6, 0u8..5, ttl, any::<bool>()).prop_map(|(count, priority, ttl_ms, persistent)| {
            Step::Publish { count, priority, ttl_ms, persistent }
        }),
        3 => (1u16..4, 0u16..4).prop_map(|(channel, prefetch)| Step::Consume { channel, prefetch }),
        1 => (1u16..4).prop_map(|channel| Step::Cancel { channel }),
        1 => (1u16..5).prop_map(|channel| Step::CloseChannel { channel }),
        8 => (1u16..5, any::<usize>(), any::<bool>(), fate).prop_map(|(channel, place, multiple, fate)| {
            Step::Settle { channel, place, multiple, fate }
        }),
        4 => Just(Step::Get),
        1 => (1u16..5).prop_map(|channel| Step::Recover { channel }),
        1 => Just(Step::Purge),
        3 => (0u64..30).prop_map(|milliseconds| Step::Pass { milliseconds }),
    ]
}

#[derive(Clone, Debug)]
struct Letter {
    name: String,
    /// Level (the highest first) and place in the queue.
    place: (u8, u64),
    expires_at: u64,
    redelivered: bool,
    returns: u32,
}

#[derive(Debug, Default)]
struct Channel {
    /// Prefetch of its consumer, if it has one, and when that came.
    consumer: Option<(u16, u64)>,
    /// Unacknowledged by tag, and whether they count for the prefetch.
    unacked: BTreeMap<u64, (Letter, bool)>,
    last_tag: u64,
}

impl Channel {
    fn room(&self) -> usize {
        match self.consumer {
            None => 0,
            Some((0, _)) => usize::MAX,
            Some((prefetch, _)) => {
                let counted = self.unacked.values().filter(|(_, counts)| *counts).count();
                usize::from(prefetch).saturating_sub(counted)
            }
        }
    }
}

struct Model {
    options: Options,
    ready: BTreeMap<(u8, u64), Letter>,
    channels: BTreeMap<u16, Channel>,
    published: u64,
    consumers_ever: u64,
    /// What has died since somebody looked, and why.
    dead: Vec<(String, &'static str)>,
}

impl Model {
    fn room(&self) -> usize {
        let active = self
            .channels
            .values()
            .filter_map(|channel| channel.consumer.map(|(_, since)| since))
            .min();
        self.channels
            .values()
            .filter(|channel| {
                !self.options.single_active || channel.consumer.map(|(_, since)| since) == active
            })
            .map(Channel::room)
            .fold(0, usize::saturating_add)
    }

    /// Whether it is over a limit with these names more.
    fn is_full(&self, extra: &[&str]) -> bool {
        let names = self.ready.values().map(|letter| letter.name.as_str());
        let names = names.chain(extra.iter().copied());
        let (count, bytes) = names.fold((0, 0), |(count, bytes), name| {
            (count + 1, bytes + name.len() as u64)
        });
        self.options.max_length.is_some_and(|max| count > max)
            || self.options.max_bytes.is_some_and(|max| bytes > max)
    }

    fn is_quorum(&self) -> bool {
        self.options.delivery_limit.is_some()
    }

    /// Messages came back: a classic queue keeps its limit at once.
    fn keep_limit(&mut self) {
        if !self.is_quorum() {
            self.drop_head();
        }
    }

    /// A quorum queue does when consumers have had their turn, and time has.
    fn keep_limit_after_all(&mut self, now: u64) {
        self.expire(now);
        while self.options.overflow == Overflow::DropHead
            && self.is_full(&[])
            && let Some((_, letter)) = self.ready.pop_first()
        {
            self.dead.push((letter.name, "maxlen"));
            self.expire(now);
        }
    }

    fn drop_head(&mut self) {
        while self.options.overflow == Overflow::DropHead && self.is_full(&[]) {
            let Some((_, letter)) = self.ready.pop_first() else {
                return;
            };
            self.dead.push((letter.name, "maxlen"));
        }
    }

    /// What the next `room` deliveries are.
    fn dispatch(&mut self, room: &mut usize, now: u64, delivered: &mut Vec<Letter>) {
        while *room > 0
            && let Some((_, letter)) = self.ready.pop_first()
        {
            if letter.expires_at >= now {
                *room -= 1;
                delivered.push(letter);
            } else {
                self.dead.push((letter.name, "expired"));
            }
        }
    }

    /// The first of each level goes when its time has come.
    fn expire(&mut self, now: u64) {
        for level in 0..=u8::MAX {
            while let Some((&place, letter)) =
                self.ready.range((level, 0)..=(level, u64::MAX)).next()
                && letter.expires_at <= now
            {
                self.dead.push((letter.name.clone(), "expired"));
                self.ready.remove(&place);
            }
        }
    }

    fn put_back(&mut self, letter: Letter) {
        let returns = letter.returns + 1;
        if self
            .options
            .delivery_limit
            .is_none_or(|limit| returns <= limit)
        {
            let letter = Letter {
                redelivered: true,
                returns,
                ..letter
            };
            self.ready.insert(letter.place, letter);
        } else {
            self.dead.push((letter.name, "delivery_limit"));
        }
    }
}

/// The real queue beside the model of it.
struct Trial {
    world: Rc<World>,
    client: Client,
    /// Consumes the dead letters.
    undertaker: Client,
    model: Model,
}

impl Trial {
    fn new(options: Options) -> Trial {
        let world = World::durable_with(BrokerConfig {
            queue_memory_bytes: options.memory_bytes,
            unacked_bytes_max: options.unacked_bytes,
            step_cost: options.step_cost,
            ..BrokerConfig::default()
        });
        let undertaker = world.client();
        undertaker.declare_ok("dead", &[Flag::Durable], &[]);
        undertaker.consume("dead", "u", &[Flag::NoAck], &[]);
        undertaker.expect_first("consume-ok u");
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &options.arguments());
        for channel in 2..=GETTER {
            client.with_channel(channel);
        }
        let model = Model {
            options,
            ready: BTreeMap::new(),
            channels: (1..=GETTER)
                .map(|number| (number, Channel::default()))
                .collect(),
            published: 0,
            consumers_ever: 0,
            dead: Vec::new(),
        };
        Trial {
            world,
            client,
            undertaker,
            model,
        }
    }

    fn run(&mut self, step: &Step) {
        let now = self.world.now().0;
        let mut expected = Vec::new();
        match *step {
            Step::Publish {
                count,
                priority,
                ttl_ms,
                persistent,
            } => self.publish(count, priority, ttl_ms, persistent, &mut expected),
            Step::Consume { channel, prefetch } => {
                let place = self.model.channels.get_mut(&channel).unwrap();
                if place.consumer.is_none() {
                    self.model.consumers_ever += 1;
                    place.consumer = Some((prefetch, self.model.consumers_ever));
                    let on = self.client.on(channel);
                    on.qos_ok_anywhere(prefetch);
                    on.consume("q", &format!("c{channel}"), &[], &[]);
                }
            }
            Step::Cancel { channel } => {
                let place = self.model.channels.get_mut(&channel).unwrap();
                place.consumer = None;
                for (_, counts) in place.unacked.values_mut() {
                    *counts = false;
                }
                self.client.on(channel).cancel(&format!("c{channel}"));
            }
            Step::CloseChannel { channel } => {
                let gone = self.model.channels.insert(channel, Channel::default());
                for (letter, _) in gone.unwrap().unacked.into_values() {
                    self.model.put_back(letter);
                }
                self.model.keep_limit();
                self.client.on(channel).close_channel();
                self.client.on(channel).reopen();
            }
            Step::Settle {
                channel,
                place,
                multiple,
                fate,
            } => self.settle(channel, place, multiple, fate),
            Step::Recover { channel } => {
                let unacked = &mut self.model.channels.get_mut(&channel).unwrap().unacked;
                for (letter, _) in std::mem::take(unacked).into_values() {
                    self.model.put_back(letter);
                }
                self.model.keep_limit();
                self.client.on(channel).recover(true);
            }
            Step::Get if self.model.options.refuses_get() => {
                let getter = self.client.on(GETTER);
                getter.get("q", false);
                getter.expect_channel_error(
                    405,
                    "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not \
                     supported by quorum queues with single active consumer",
                );
            }
            Step::Get => {
                self.client.on(GETTER).get("q", false);
                while let Some((_, letter)) = self.model.ready.pop_first() {
                    if letter.expires_at > now {
                        // What has expired behind it is not counted, unless only the store has it.
                        let most = self.model.ready.len();
                        self.model.expire(now);
                        self.check_got(letter, most);
                        self.world.pass(0);
                        return self.check_dead();
                    }
                    self.model.dead.push((letter.name, "expired"));
                }
                self.client.expect(&["4: get-empty"]);
            }
            Step::Purge => {
                self.model.ready.clear();
                self.client.purge("q");
            }
            Step::Pass { milliseconds } => self.world.pass(milliseconds),
        }
        let mut room = self.model.room();
        self.model.dispatch(&mut room, now, &mut expected);
        if self.model.is_quorum() {
            self.model.keep_limit_after_all(now);
        }
        self.check(expected);
    }

    fn publish(
        &mut self,
        count: u8,
        priority: u8,
        ttl_ms: Option<u8>,
        persistent: bool,
        expected: &mut Vec<Letter>,
    ) {
        let now = self.world.now().0;
        let mut room = self.model.room();
        let own = ttl_ms.map(u64::from);
        let ttl = match (own, self.model.options.ttl_ms) {
            (Some(own), Some(queue)) => Some(own.min(queue)),
            (own, queue) => own.or(queue),
        };
        let level = self
            .model
            .options
            .max_priority
            .map_or(0, |max| priority.min(max));
        let mut properties = AMQPProperties::default()
            .with_priority(priority)
            .with_delivery_mode(if persistent { 2 } else { 1 });
        if let Some(ttl_ms) = ttl_ms {
            properties = properties.with_expiration(ttl_ms.to_string().into());
        }
        let properties = Properties::of(properties);
        let mut names = Vec::new();
        for _ in 0..count {
            self.model.published += 1;
            let name = format!("m{}", self.model.published);
            names.push(name.clone());
            let overflow = self.model.options.overflow;
            if self.model.is_full(&[&name]) {
                self.model.expire(now);
            }
            if overflow != Overflow::DropHead && self.model.is_full(&[&name]) {
                if overflow == Overflow::RejectDeadLetter {
                    self.model.dead.push((name, "maxlen"));
                }
                continue;
            }
            let letter = Letter {
                name,
                place: (u8::MAX - level, self.model.published),
                expires_at: ttl.map_or(u64::MAX, |ttl| now + ttl),
                redelivered: false,
                returns: 0,
            };
            self.model.ready.insert(letter.place, letter);
            self.model.dispatch(&mut room, now, expected);
            self.model.drop_head();
        }
        self.client.publish_all("q", &names.join(" "), &properties);
        self.hand_out_unseen(expected);
    }

    /// Keeps what a publish delivered from being dispatched a second time.
    fn hand_out_unseen(&mut self, expected: &mut Vec<Letter>) {
        let delivered = std::mem::take(expected);
        self.check_delivered(delivered);
    }

    fn settle(&mut self, channel: u16, place: usize, multiple: bool, fate: Fate) {
        let unacked = &mut self.model.channels.get_mut(&channel).unwrap().unacked;
        let Some(&tag) = unacked.keys().nth(place % unacked.len().max(1)) else {
            return;
        };
        let tags: Vec<u64> = unacked
            .keys()
            .copied()
            .filter(|&it| it == tag || (multiple && it < tag))
            .collect();
        let letters: Vec<Letter> = tags
            .iter()
            .filter_map(|tag| unacked.remove(tag).map(|(letter, _)| letter))
            .collect();
        let on = self.client.on(channel);
        match fate {
            Fate::Ack => on.ack(tag, multiple),
            Fate::Reject => {
                let names = letters.into_iter().map(|letter| letter.name);
                self.model.dead.extend(names.map(|name| (name, "rejected")));
                on.nack(tag, multiple, false);
            }
            Fate::Requeue => {
                for letter in letters {
                    self.model.put_back(letter);
                }
                self.model.keep_limit();
                on.nack(tag, multiple, true);
            }
        }
    }

    fn check_got(&mut self, letter: Letter, most: usize) {
        let channel = self.model.channels.get_mut(&GETTER).unwrap();
        channel.last_tag += 1;
        let redelivered = if letter.redelivered {
            " redelivered"
        } else {
            ""
        };
        let seen = self.client.seen();
        let (line, left) = seen[0].text.rsplit_once(" left=").unwrap();
        let expected = format!("4: get-ok {}{redelivered}", channel.last_tag);
        assert_eq!(
            (line, seen[0].body_text()),
            (expected.as_str(), letter.name.clone())
        );
        let left: usize = left.parse().unwrap();
        assert!((self.model.ready.len()..=most).contains(&left), "{left}");
        channel.unacked.insert(channel.last_tag, (letter, false));
    }

    /// Compares what was seen with what was expected, and the counts.
    fn check(&mut self, expected: Vec<Letter>) {
        self.check_delivered(expected);
        self.world.pass(0);
        self.model.expire(self.world.now().0);
        self.check_delivered(Vec::new());
        let consumers = self
            .model
            .channels
            .values()
            .filter(|it| it.consumer.is_some())
            .count();
        let counts = self.client.counts("q");
        assert_eq!(
            (counts.0 as usize, counts.1 as usize),
            (self.model.ready.len(), consumers),
            "ready {:?}",
            self.model.ready.keys()
        );
        self.check_dead();
    }

    /// Compares what has died; in which order, is tested elsewhere.
    fn check_dead(&mut self) {
        let mut seen: Vec<(String, String)> = self
            .undertaker
            .seen()
            .iter()
            .map(|seen| (seen.body_text(), deaths(&seen.headers())))
            .collect();
        let dead = std::mem::take(&mut self.model.dead).into_iter();
        let mut expected: Vec<(String, String)> = dead
            .map(|(name, why)| (name, format!("q {why} 1")))
            .collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }

    fn check_delivered(&mut self, expected: Vec<Letter>) {
        let mut missing = expected.clone();
        let mut latest: BTreeMap<u16, usize> = BTreeMap::new();
        for seen in self.client.seen() {
            let (number, text) = match seen.text.split_once(": ") {
                Some((number, text)) => (number.parse().unwrap(), text),
                None => (1, seen.text.as_str()),
            };
            if !text.starts_with("deliver ") {
                continue;
            }
            let name = seen.body_text();
            let place = expected.iter().position(|it| it.name == name);
            let place = place.unwrap_or_else(|| panic!("{name} delivered, expected {expected:?}"));
            let letter = expected[place].clone();
            missing.retain(|it| it.name != name);
            let before = latest.insert(number, place);
            assert!(
                before.is_none_or(|before| before < place),
                "out of order: {name}"
            );
            let channel = self.model.channels.get_mut(&number).unwrap();
            assert!(channel.room() > 0, "more than the prefetch on {number}");
            channel.last_tag += 1;
            let redelivered = if letter.redelivered {
                " redelivered"
            } else {
                ""
            };
            assert_eq!(
                text,
                format!("deliver c{number} {}{redelivered}", channel.last_tag)
            );
            let returns = seen.headers().inner().get("x-delivery-count").cloned();
            let returns = returns.as_ref().and_then(leveret_codec::value_as_integer);
            assert_eq!(returns.unwrap_or(0), i64::from(letter.returns), "{name}");
            channel.unacked.insert(channel.last_tag, (letter, true));
        }
        assert!(missing.is_empty(), "not delivered: {missing:?}");
    }
}

impl Client {
    fn qos_ok_anywhere(&self, prefetch: u16) {
        self.qos_ok(prefetch, false);
    }

    /// Opens the channel again, whatever else was said.
    fn reopen(&self) {
        let arguments = crate::harness::wire::Arguments::new().short("");
        self.call((20, 10), arguments);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_agrees_with_its_model(options in options(), steps in vec(step(), 1..60)) {
        let mut trial = Trial::new(options);
        for step in &steps {
            trial.run(step);
        }
    }
}
