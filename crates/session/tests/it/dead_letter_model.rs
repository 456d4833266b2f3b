//! Queues that dead-letter to each other, in chains and circles, agree with a simple model of them:
//! where every message is, in which order, and what its `x-death` says.
//!
//! Settling and publishing happen at times that are multiples of [`TICK_MS`]; what a queue adds to that
//! before a message expires is its own, so that hardly ever two queues expire something at the same time.
//! Where they do, the order of what follows is nobody's promise, and the trial ends.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::dead_letters::deaths;
use crate::harness::calls::{Flag, number, string};
use crate::harness::client::Client;
use crate::harness::{Properties, World};

const QUEUES: usize = 3;
/// Of memory: no queue is paged out.
const WHOLE_BYTES: usize = 1 << 20;
const TICK_MS: u64 = 64;
/// What each queue's time to live is beyond a multiple of [`TICK_MS`].
const REST_MS: [u64; QUEUES] = [1, 5, 21];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Overflow {
    DropHead,
    Reject,
    RejectDeadLetter,
}

#[derive(Clone, Debug)]
struct Options {
    dead_letters_to: Option<usize>,
    /// In ticks.
    ttl: Option<u64>,
    max_length: Option<usize>,
    overflow: Overflow,
    max_priority: Option<u8>,
    delivery_limit: Option<u32>,
}

fn options() -> impl Strategy<Value = Options> {
    let overflow = prop_oneof![
        2 => Just(Overflow::DropHead),
        1 => Just(Overflow::Reject),
        1 => Just(Overflow::RejectDeadLetter),
    ];
    let kind = prop_oneof![
        Just((None, None)),
        (1u8..3).prop_map(|max| (Some(max), None)),
        (0u32..3).prop_map(|limit| (None, Some(limit))),
    ];
    (
        proptest::option::weighted(0.85, 0..QUEUES),
        proptest::option::weighted(0.5, 0u64..3),
        proptest::option::weighted(0.4, 0usize..4),
        overflow,
        kind,
    )
        .prop_map(
            |(dead_letters_to, ttl, max_length, overflow, (max_priority, delivery_limit))| {
                Options {
                    dead_letters_to,
                    ttl,
                    max_length,
                    overflow,
                    max_priority,
                    delivery_limit,
                }
            },
        )
}

impl Options {
    fn ttl_ms(&self, queue: usize) -> Option<u64> {
        self.ttl.map(|ticks| ticks * TICK_MS + REST_MS[queue])
    }

    fn declare(&self, queue: usize, client: &Client) {
        let mut arguments = Vec::new();
        let mut add = |name, value: Option<u64>| {
            arguments.extend(value.map(|value| (name, number(value as i64))));
        };
        add("x-message-ttl", self.ttl_ms(queue));
        add("x-max-length", self.max_length.map(|max| max as u64));
        add("x-max-priority", self.max_priority.map(u64::from));
        add("x-delivery-limit", self.delivery_limit.map(u64::from));
        if self.delivery_limit.is_some() {
            arguments.push(("x-queue-type", string("quorum")));
        }
        let overflow = match self.overflow {
            Overflow::DropHead => "drop-head",
            Overflow::Reject => "reject-publish",
            Overflow::RejectDeadLetter => "reject-publish-dlx",
        };
        arguments.push(("x-overflow", string(overflow)));
        if let Some(target) = self.dead_letters_to {
            arguments.push(("x-dead-letter-exchange", string("")));
            arguments.push(("x-dead-letter-routing-key", string(&name(target))));
        }
        client.declare_ok(&name(queue), &[Flag::Durable], &arguments);
    }
}

fn name(queue: usize) -> String {
    format!("q{queue}")
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        queue: usize,
        priority: u8,
        count: usize,
    },
    Get {
        queue: usize,
    },
    Settle {
        place: usize,
        fate: Fate,
    },
    Purge {
        queue: usize,
    },
    Pass {
        ticks: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Ack,
    Requeue,
    Reject,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![1 => Just(Fate::Ack), 4 => Just(Fate::Requeue), 4 => Just(Fate::Reject)];
    prop_oneof![
        6 => (0..QUEUES, 0u8..4, 1usize..4)
            .prop_map(|(queue, priority, count)| Step::Publish { queue, priority, count }),
        6 => (0..QUEUES).prop_map(|queue| Step::Get { queue }),
        6 => (any::<usize>(), fate).prop_map(|(place, fate)| Step::Settle { place, fate }),
        1 => (0..QUEUES).prop_map(|queue| Step::Purge { queue }),
        3 => (1u64..4).prop_map(|ticks| Step::Pass { ticks }),
    ]
}

#[derive(Clone, Debug)]
struct Letter {
    name: String,
    priority: u8,
    /// Level (the highest first) and place in the queue it is in.
    place: (u8, u64),
    expires_at: u64,
    redelivered: bool,
    returns: u32,
    /// Queue, reason and count, the newest first.
    deaths: Vec<(usize, &'static str, u32)>,
}

impl Letter {
    fn die(&mut self, queue: usize, reason: &'static str) {
        let earlier = self
            .deaths
            .iter()
            .position(|&(other, why, _)| (other, why) == (queue, reason));
        let count = earlier.map_or(0, |at| self.deaths.remove(at).2);
        self.deaths.insert(0, (queue, reason, count + 1));
    }

    /// It has been there before, and nobody rejected it since.
    fn goes_in_circles(&self, target: usize) -> bool {
        self.deaths
            .iter()
            .take_while(|(_, reason, _)| *reason != "rejected")
            .any(|(queue, _, _)| *queue == target)
    }

    fn deaths_text(&self) -> String {
        if self.deaths.is_empty() {
            return "without deaths".to_owned();
        }
        let told = self
            .deaths
            .iter()
            .map(|(queue, reason, count)| format!("q{queue} {reason} {count}"));
        told.collect::<Vec<_>>().join(", ")
    }
}

type Dying = (usize, &'static str, Letter);

#[derive(Default)]
struct Model {
    options: Vec<Options>,
    ready: [BTreeMap<(u8, u64), Letter>; QUEUES],
    /// By delivery tag.
    unacked: BTreeMap<u64, (usize, Letter)>,
    last_tag: u64,
    published: u64,
    arrivals: u64,
    /// Two queues expired something at the same time.
    tied: bool,
}

impl Model {
    fn is_full(&self, queue: usize, extra: usize) -> bool {
        let max = self.options[queue].max_length;
        max.is_some_and(|max| self.ready[queue].len() + extra > max)
    }

    /// Puts a message into a queue; what dies of that goes to `dying`.
    fn arrive(&mut self, queue: usize, letter: Letter, now: u64, dying: &mut VecDeque<Dying>) {
        let options = &self.options[queue];
        if options.overflow != Overflow::DropHead && self.is_full(queue, 1) {
            if options.overflow == Overflow::RejectDeadLetter {
                dying.push_back((queue, "maxlen", letter));
            }
            return;
        }
        self.arrivals += 1;
        let level = options
            .max_priority
            .map_or(0, |max| letter.priority.min(max));
        let letter = Letter {
            place: (u8::MAX - level, self.arrivals),
            expires_at: options.ttl_ms(queue).map_or(u64::MAX, |ttl| now + ttl),
            redelivered: false,
            returns: 0,
            ..letter
        };
        self.ready[queue].insert(letter.place, letter);
        self.drop_head(queue, dying);
    }

    fn drop_head(&mut self, queue: usize, dying: &mut VecDeque<Dying>) {
        while self.options[queue].overflow == Overflow::DropHead && self.is_full(queue, 0) {
            let Some((_, letter)) = self.ready[queue].pop_first() else {
                return;
            };
            dying.push_back((queue, "maxlen", letter));
        }
    }

    /// Every dying message to where its queue sends it, and what dies of that in turn.
    fn bury(&mut self, mut dying: VecDeque<Dying>, now: u64) {
        while let Some((queue, reason, mut letter)) = dying.pop_front() {
            letter.die(queue, reason);
            match self.options[queue].dead_letters_to {
                Some(target) if reason == "rejected" || !letter.goes_in_circles(target) => {
                    self.arrive(target, letter, now, &mut dying);
                }
                _ => {}
            }
        }
    }

    /// When the next one expires, if not before `now`, and in which queues.
    fn next_expiry(&self, now: u64) -> Option<(u64, Vec<usize>)> {
        let first = |queue: usize| {
            let times = self.ready[queue].values().map(|letter| letter.expires_at);
            times.min().map(|at| at.max(now))
        };
        let at = (0..QUEUES).filter_map(first).min()?;
        let queues = (0..QUEUES).filter(|&queue| first(queue) == Some(at));
        (at != u64::MAX).then(|| (at, queues.collect()))
    }

    /// Lets time pass. What came back too late expires now.
    fn pass(&mut self, now: u64, until: u64) {
        while let Some((at, queues)) = self.next_expiry(now).filter(|(at, _)| *at <= until) {
            self.tied |= queues.len() > 1;
            let mut dying = VecDeque::new();
            self.expire(queues[0], at, &mut dying);
            self.bury(dying, at);
        }
    }

    fn expire(&mut self, queue: usize, at: u64, dying: &mut VecDeque<Dying>) {
        let mut expired: Vec<(u8, u64)> = self.ready[queue]
            .values()
            .filter(|letter| letter.expires_at <= at)
            .map(|letter| letter.place)
            .collect();
        // The lowest priority first.
        expired.sort_unstable_by_key(|&(level, place)| (std::cmp::Reverse(level), place));
        let letters = expired
            .iter()
            .filter_map(|place| self.ready[queue].remove(place));
        dying.extend(letters.map(|letter| (queue, "expired", letter)));
    }
}

struct Trial {
    world: Rc<World>,
    client: Client,
    model: Model,
}

impl Trial {
    fn new(mut options: Vec<Options>, memory_bytes: usize) -> Trial {
        if memory_bytes < WHOLE_BYTES {
            // What expires at the same time does so a page after another, and of several levels in another order.
            // What a page pushes out of full queues is then pushed on before the next page comes.
            for options in &mut options {
                options.max_priority = None;
                options.max_length = None;
            }
        }
        let world = World::paging(memory_bytes);
        let client = world.client();
        for (queue, options) in options.iter().enumerate() {
            options.declare(queue, &client);
        }
        let model = Model {
            options,
            ..Model::default()
        };
        Trial {
            world,
            client,
            model,
        }
    }

    fn run(&mut self, step: &Step) {
        let now = self.world.now().0;
        match *step {
            Step::Publish {
                queue,
                priority,
                count,
            } => self.publish(queue, priority, count),
            Step::Get { queue } => self.get(queue),
            Step::Settle { place, fate } => self.settle(place, fate),
            Step::Purge { queue } => {
                self.model.ready[queue].clear();
                self.client.purge(&name(queue));
            }
            Step::Pass { ticks } => {
                self.world.pass(ticks * TICK_MS);
                self.model.pass(now, now + ticks * TICK_MS);
            }
        }
        // A message put back may have expired meanwhile.
        self.world.pass(0);
        let now = self.world.now().0;
        self.model.pass(now, now);
        if self.model.tied {
            return;
        }
        for queue in 0..QUEUES {
            let ready = self.client.counts(&name(queue)).0 as usize;
            assert_eq!(ready, self.model.ready[queue].len(), "in q{queue}");
        }
    }

    fn publish(&mut self, queue: usize, priority: u8, count: usize) {
        let properties = leveret_codec::AMQPProperties::default()
            .with_priority(priority)
            .with_delivery_mode(2);
        for _ in 0..count {
            self.model.published += 1;
            let body = format!("m{}", self.model.published);
            let properties = Properties::of(properties.clone());
            self.client.publish_with(&name(queue), &body, &properties);
            let letter = Letter {
                name: body,
                priority,
                place: (0, 0),
                expires_at: u64::MAX,
                redelivered: false,
                returns: 0,
                deaths: Vec::new(),
            };
            let mut dying = VecDeque::new();
            let now = self.world.now().0;
            self.model.arrive(queue, letter, now, &mut dying);
            self.model.bury(dying, now);
        }
    }

    fn get(&mut self, queue: usize) {
        self.client.seen();
        self.client.get(&name(queue), false);
        let Some((_, letter)) = self.model.ready[queue].pop_first() else {
            return self.client.expect(&["get-empty"]);
        };
        let seen = self.client.seen().remove(0);
        assert_eq!(
            (seen.body_text(), deaths(&seen.headers())),
            (letter.name.clone(), letter.deaths_text())
        );
        assert_eq!(
            seen.text.contains("redelivered"),
            letter.redelivered,
            "{}",
            seen.text
        );
        self.model.last_tag += 1;
        self.model
            .unacked
            .insert(self.model.last_tag, (queue, letter));
    }

    fn settle(&mut self, place: usize, fate: Fate) {
        let unacked = &mut self.model.unacked;
        let Some(&tag) = unacked.keys().nth(place % unacked.len().max(1)) else {
            return;
        };
        let Some((queue, letter)) = unacked.remove(&tag) else {
            return;
        };
        let mut dying = VecDeque::new();
        match fate {
            Fate::Ack => self.client.ack(tag, false),
            Fate::Reject => {
                dying.push_back((queue, "rejected", letter));
                self.client.reject(tag, false);
            }
            Fate::Requeue => {
                let returns = letter.returns + 1;
                let limit = self.model.options[queue].delivery_limit;
                if limit.is_some_and(|limit| returns > limit) {
                    dying.push_back((queue, "delivery_limit", letter));
                } else {
                    let letter = Letter {
                        redelivered: true,
                        returns,
                        ..letter
                    };
                    self.model.ready[queue].insert(letter.place, letter);
                    if limit.is_some() {
                        // A quorum queue looks at the time before it looks at its limit.
                        self.model.expire(queue, self.world.now().0, &mut dying);
                    }
                    self.model.drop_head(queue, &mut dying);
                }
                self.client.nack(tag, false, true);
            }
        }
        self.model.bury(dying, self.world.now().0);
    }

    /// What is left in the queues, in order.
    fn finish(&mut self) {
        for queue in 0..QUEUES {
            for _ in 0..=self.model.ready[queue].len() {
                self.get(queue);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn queues_of_dead_letters_agree_with_their_model(
        options in vec(options(), QUEUES),
        memory in prop_oneof![Just(0usize), Just(300), Just(WHOLE_BYTES)],
        steps in vec(step(), 1..60),
    ) {
        let mut trial = Trial::new(options, memory);
        for step in &steps {
            trial.run(step);
            if trial.model.tied {
                return Ok(());
            }
        }
        trial.finish();
    }
}
