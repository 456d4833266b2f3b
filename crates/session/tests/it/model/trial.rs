//! The steps, carried out on the queue and on its model.

use std::collections::BTreeMap;
use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::AMQPProperties;

use super::options::{Options, Overflow};
use super::queue::{Channel, Letter, Model};
use super::steps::{Fate, Step};
use crate::harness::calls::Flag;
use crate::harness::client::Client;
use crate::harness::{Properties, World};

/// Channels 1 to 3 consume, this one gets.
pub(super) const GETTER: u16 = 4;

/// The real queue beside the model of it.
pub(super) struct Trial {
    pub(super) world: Rc<World>,
    pub(super) client: Client,
    /// Consumes the dead letters.
    pub(super) undertaker: Client,
    pub(super) model: Model,
}

impl Trial {
    pub(super) fn new(options: Options) -> Trial {
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
            expired: Vec::new(),
        };
        Trial {
            world,
            client,
            undertaker,
            model,
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
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
        self.look_what_expired();
        let mut room = self.model.room();
        self.model.dispatch(&mut room, now, &mut expected);
        if self.model.is_quorum() {
            self.model.keep_limit_after_all(now);
        }
        self.check(expected);
    }

    pub(super) fn publish(
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
        let first = self.model.published + 1;
        let names: Vec<String> = (first..first + u64::from(count))
            .map(|number| format!("m{number}"))
            .collect();
        self.client.publish_all("q", &names.join(" "), &properties);
        self.look_what_expired();
        for name in names {
            self.model.published += 1;
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
        self.hand_out_unseen(expected);
    }

    /// Keeps what a publish delivered from being dispatched a second time.
    pub(super) fn hand_out_unseen(&mut self, expected: &mut Vec<Letter>) {
        let delivered = std::mem::take(expected);
        self.check_delivered(delivered);
    }

    pub(super) fn settle(&mut self, channel: u16, place: usize, multiple: bool, fate: Fate) {
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
