//! Who consumes from a queue, and whose turn it is.
//!
//! Consumers that can take a message stand in rings, one per priority; a consumer without credit
//! or with a full mailbox stands aside and costs nothing until it comes back. Round robin within a
//! ring, higher priorities first (`x-priority`). With a single active consumer only the active one
//! stands in a ring.
//!
//! Whoever finds its channel's limit reached (`basic.qos` global) waits in the line of [`ChannelCredit`] too, and
//! comes back with a `Grant` of its session.

#[cfg(debug_assertions)]
mod check;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_routing::QueueId;
use leveret_store_api::broken::{broken, without};

use super::bundles::{BundleNumber, Bundles};
use super::rings::Rings;
use crate::credit::{ChannelCredit, Grant};
use crate::mailbox::{ConsumerSlot, Mailbox};

/// A consumer as its queue knows it; stale references are harmless.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConsumerRef {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What a session asks for with `basic.consume`.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// The queue it consumes from: consumers of one share a place in line for their channel's credit.
    pub queue: QueueId,
    /// Where deliveries go.
    pub mailbox: Arc<Mailbox>,
    /// The consumer within its session.
    pub slot: ConsumerSlot,
    /// Deliveries are settled by being sent.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// `x-priority`.
    pub priority: i32,
    /// Unacknowledged deliveries this consumer may have; 0: no limit.
    pub prefetch: u16,
    /// The limit shared over the channel.
    pub channel_credit: Arc<ChannelCredit>,
}

/// Why a consumer stands aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    InRing,
    /// Its prefetch is used up.
    NoCredit,
    /// Its channel's is; it is in line for it.
    AwaitsChannel,
    /// Its mailbox is full.
    NoRoom,
    /// Another consumer is the single active one.
    Waiting,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) spec: ConsumerSpec,
    pub(crate) in_flight: u32,
    pub(crate) bundle: BundleNumber,
    standing: Standing,
    /// Where it stands in the order of registration.
    registered: u64,
}

impl Consumer {
    /// How many deliveries its own limit lets it have.
    pub(crate) fn credit_left(&self) -> usize {
        match self.spec.prefetch {
            0 => usize::MAX,
            prefetch => without(u32::from(prefetch), self.in_flight, "a prefetch") as usize,
        }
    }

    /// Takes credit for one delivery.
    #[inline]
    pub(crate) fn take_credit(&mut self) -> bool {
        if self.spec.no_ack {
            return self.spec.channel_credit.lets_out();
        }
        if self.spec.prefetch != 0 && self.in_flight >= u32::from(self.spec.prefetch) {
            return false;
        }
        if !self.spec.channel_credit.take() {
            return false;
        }
        self.in_flight += 1;
        true
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    consumer: Option<Consumer>,
}

/// All consumers of one queue.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    places: Vec<Place>,
    /// Places without a consumer.
    free: Vec<u32>,
    rings: Rings,
    /// With a single active consumer: highest priority first, then in the order of registration.
    order: BTreeMap<(Reverse<i32>, u64), u32>,
    registered: u64,
    count: usize,
    single_active: bool,
    active: Option<u32>,
    /// What a session grants, while its verb lasts.
    grant: Option<Grant>,
    pub(crate) bundles: Bundles,
}

/// Whether there is no consumer at a place.
fn has_gone(places: &[Place]) -> impl Fn(u32) -> bool {
    |index| {
        let place = places.get(index as usize);
        place.is_none_or(|place| place.consumer.is_none())
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) index: u32,
    /// How many stand in line, it included.
    pub(crate) in_line: usize,
}

impl Consumers {
    pub(crate) fn new(single_active: bool) -> Consumers {
        Consumers {
            single_active,
            ..Consumers::default()
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn has_exclusive(&self) -> bool {
        self.count == 1 && self.iter().any(|consumer| consumer.spec.exclusive)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.places
            .iter()
            .filter_map(|place| place.consumer.as_ref())
    }

    pub(crate) fn add(&mut self, spec: ConsumerSpec) -> ConsumerRef {
        self.registered += 1;
        let order = (Reverse(spec.priority), self.registered);
        let consumer = Consumer {
            bundle: self.bundles.acquire(&spec.mailbox),
            spec,
            in_flight: 0,
            standing: Standing::Waiting,
            registered: self.registered,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        place.consumer = Some(consumer);
        let generation = place.generation;
        self.count += 1;
        if self.single_active {
            self.order.insert(order, index);
            self.elect();
        } else {
            self.enter_ring(index);
        }
        ConsumerRef { index, generation }
    }

    /// Removes consumers and says how many were there; what that costs does not depend on how many others there are.
    /// Who is active next is for [`Consumers::elect`].
    pub(crate) fn remove(&mut self, who: &[ConsumerRef]) -> usize {
        let before = self.count;
        let mut left = None;
        for who in who {
            let Some(place) = self.places.get_mut(who.index as usize) else {
                continue;
            };
            if place.generation != who.generation {
                continue;
            }
            let Some(consumer) = place.consumer.take() else {
                continue;
            };
            self.bundles.release(consumer.bundle);
            self.count -= 1;
            let priority = consumer.spec.priority;
            if consumer.standing == Standing::InRing {
                if let Some(other) = left.replace(priority).filter(|it| *it != priority) {
                    self.tidy(other);
                }
                self.rings.leave(priority);
            } else {
                self.free.push(who.index);
            }
            self.order.remove(&(Reverse(priority), consumer.registered));
            if self.active == Some(who.index) {
                self.active = None;
            }
        }
        if let Some(priority) = left {
            self.tidy(priority);
        }
        if self.count == 0 {
            self.bundles = Bundles::default();
        }
        before - self.count
    }

    /// Looks after a ring that consumers have left.
    fn tidy(&mut self, priority: i32) {
        let has_gone = has_gone(&self.places);
        self.rings.tidy(priority, has_gone, &mut self.free);
    }

    /// Takes all consumers out (the queue is going), however many there are at once.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = ConsumerSpec> + Send + use<> {
        let taken = std::mem::take(&mut self.places);
        *self = Consumers::new(self.single_active);
        let taken = taken.into_iter().filter_map(|place| place.consumer);
        taken.map(|consumer| consumer.spec)
    }

    /// The single active consumer is the first in order of registration (highest priority first).
    pub(crate) fn elect(&mut self) {
        if !self.single_active || self.active.is_some() {
            return;
        }
        if let Some((_, &index)) = self.order.first_key_value() {
            self.active = Some(index);
            self.enter_ring(index);
        }
    }

    /// Whether the single active consumer has gone and the next one is not chosen yet.
    pub(crate) fn awaits_election(&self) -> bool {
        self.single_active && self.active.is_none() && self.count > 0
    }

    /// Whether `who` is the one that gets messages (always, without single active consumer).
    pub(crate) fn is_active(&self, who: ConsumerRef) -> bool {
        !self.single_active || self.active == Some(who.index)
    }

    fn get(&self, index: u32) -> Option<&Consumer> {
        self.places.get(index as usize)?.consumer.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Consumer> {
        self.places.get_mut(index as usize)?.consumer.as_mut()
    }

    pub(crate) fn resolve_mut(&mut self, who: ConsumerRef) -> Option<&mut Consumer> {
        let place = self.places.get_mut(who.index as usize)?;
        if place.generation != who.generation {
            None
        } else {
            place.consumer.as_mut()
        }
    }

    fn enter_ring(&mut self, index: u32) {
        let Some(consumer) = self
            .places
            .get_mut(index as usize)
            .and_then(|place| place.consumer.as_mut())
        else {
            broken(&"nobody is there to stand in a ring");
            return;
        };
        consumer.standing = Standing::InRing;
        let priority = consumer.spec.priority;
        self.rings.enter(index, priority);
    }

    /// Whose turn it is, of those with the highest priority.
    #[inline]
    pub(crate) fn turn(&self) -> Option<Turn> {
        let (index, in_line) = self.rings.turn()?;
        Some(Turn { index, in_line })
    }

    /// The one whose turn it was goes to the back.
    #[inline]
    pub(crate) fn rotate(&mut self) {
        self.rings.rotate(has_gone(&self.places), &mut self.free);
    }

    fn stand_aside(&mut self, standing: Standing) {
        let index = self.rings.pop(has_gone(&self.places), &mut self.free);
        if index.is_none() {
            broken(&"nobody's turn it is stands aside");
        }
        if let Some(consumer) = index.and_then(|index| self.get_mut(index)) {
            consumer.standing = standing;
        }
    }

    /// The one whose turn it is, which cannot take credit by itself: it uses what its session grants, or stands
    /// aside (false).
    #[cold]
    pub(crate) fn use_grant(&mut self, index: u32) -> bool {
        let grant = &mut self.grant;
        let place = self.places.get_mut(index as usize);
        let Some(consumer) = place.and_then(|place| place.consumer.as_mut()) else {
            broken(&"it is the turn of nobody");
            return false;
        };
        let counts = !consumer.spec.no_ack;
        if counts && consumer.credit_left() == 0 {
            self.stand_aside(Standing::NoCredit);
            return false;
        }
        let credit = &consumer.spec.channel_credit;
        let granted = grant
            .as_mut()
            .is_some_and(|grant| grant.covers(credit, counts));
        let has_credit =
            granted || credit.take_or_wait(consumer.spec.queue, consumer.spec.slot, counts);
        if has_credit {
            consumer.in_flight += u32::from(counts);
        } else {
            self.stand_aside(Standing::AwaitsChannel);
        }
        has_credit
    }

    /// How many messages those that stand in rings would take at once.
    pub(crate) fn appetite(&self) -> u64 {
        let standing = self.rings.iter().flat_map(|ring| &ring.ready);
        let consumers = standing.filter_map(|&index| self.get(index));
        let each = consumers.map(|consumer| match consumer.spec.no_ack {
            true => u64::MAX,
            false => {
                let room = u64::from(consumer.spec.channel_credit.room());
                room.min(consumer.credit_left() as u64)
            }
        });
        each.fold(0, u64::saturating_add)
    }

    /// Consumers that were in line for their channel's credit stand in their rings again, with a share of it.
    pub(crate) fn begin_grant(&mut self, grant: Grant, consumers: &[ConsumerRef]) {
        self.grant = Some(grant);
        for &who in consumers {
            let waits = |it: &mut Consumer| it.standing == Standing::AwaitsChannel;
            if self.resolve_mut(who).is_some_and(waits) {
                self.enter_ring(who.index);
            }
        }
    }

    /// Answers how many deliveries were not made of the grant.
    pub(crate) fn end_grant(&mut self) -> u32 {
        self.grant.take().map_or(0, |grant| grant.left())
    }

    /// The one whose turn it is has a full mailbox.
    pub(crate) fn set_aside_without_room(&mut self) {
        self.stand_aside(Standing::NoRoom);
    }

    /// Settled deliveries came back; the consumer may stand in line again.
    pub(crate) fn credit_returned(&mut self, who: ConsumerRef, count: u32) {
        let Some(consumer) = self.resolve_mut(who) else {
            // It was cancelled, and what it held stayed in flight.
            return;
        };
        consumer.in_flight = without(consumer.in_flight, count, "deliveries of a consumer");
        if consumer.standing == Standing::NoCredit {
            self.enter_ring(who.index);
        }
    }

    /// Its mailbox has room again; it will stand aside again if there is not enough.
    pub(crate) fn resume(&mut self, who: ConsumerRef) {
        if let Some(consumer) = self.resolve_mut(who)
            && consumer.standing == Standing::NoRoom
        {
            self.enter_ring(who.index);
        }
    }
}
