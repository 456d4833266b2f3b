//! Deliveries whose messages only the store has, closely packed: 16 bytes for each, and what many have in common once.

#[cfg(debug_assertions)]
mod check;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use leveret_codec::DeliveryTag;
use leveret_message::Timestamp;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_queue::queue::delivery_count::DeliveryCount;
use leveret_queue::queue::reference::{Outstanding, Reference};
use leveret_store_api::Sequence;

use super::{Due, Unacked};
use crate::queue_table::QueueNumber;

/// So many facts are kept for one block at most.
const FACTS_MAX: usize = 1024;
/// So many of the latest are looked through for those of the next delivery.
const LOOKED_AT: usize = 16;

/// What many deliveries have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Facts {
    queue: QueueNumber,
    consumer: Option<ConsumerRef>,
    delivered_at: Timestamp,
    due: Timestamp,
    delivery_count: DeliveryCount,
    level: u8,
    retries: u8,
    redelivered: bool,
    stored: bool,
    persistent: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct PackedDelivery {
    /// What its sequence is beyond the first of its facts.
    beyond: u32,
    memory: u32,
    body_bytes: u32,
    /// The number of its facts, counted from 1.
    facts: NonZeroU16,
}

/// Places of tags that follow each other.
#[derive(Debug, Default)]
pub(super) struct Packed {
    places: Vec<Option<PackedDelivery>>,
    /// Each with the sequence that is counted from.
    facts: Vec<(Facts, Sequence)>,
    /// What is not, or not yet, as the others are.
    others: BTreeMap<usize, Unacked>,
}

impl Packed {
    /// Packs what is held by reference.
    pub(super) fn of(block: Vec<Option<Unacked>>) -> Packed {
        let mut packed = Packed {
            places: Vec::with_capacity(block.len()),
            ..Packed::default()
        };
        for place in block {
            packed.push(place);
        }
        packed.facts.shrink_to_fit();
        packed
    }

    /// So many empty places.
    pub(super) fn empty(length: usize) -> Packed {
        Packed {
            places: vec![None; length],
            ..Packed::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn push(&mut self, unacked: Option<Unacked>) {
        let at = self.places.len();
        self.places.push(None);
        if let Some(unacked) = unacked {
            self.set(at, unacked);
        }
    }

    /// Puts a delivery into a place that is empty.
    pub(super) fn set(&mut self, at: usize, unacked: Unacked) {
        let packed = match unacked.delivery {
            Outstanding::Reference(reference) => self.pack(&unacked, &reference),
            Outstanding::Message(_) | Outstanding::Damaged(_) => None,
        };
        match (packed, self.places.get_mut(at)) {
            (Some(packed), Some(place)) => *place = Some(packed),
            _ => drop(self.others.insert(at, unacked)),
        }
    }

    fn pack(&mut self, unacked: &Unacked, reference: &Reference) -> Option<PackedDelivery> {
        let facts = Facts {
            queue: unacked.queue,
            consumer: unacked.consumer,
            delivered_at: unacked.delivered_at,
            due: unacked.due,
            delivery_count: reference.delivery_count,
            level: reference.level,
            retries: reference.retries,
            redelivered: reference.redelivered,
            stored: reference.stored,
            persistent: reference.persistent,
        };
        let sequence = reference.sequence;
        let beyond = |first: Sequence| u32::try_from(sequence.0.checked_sub(first.0)?).ok();
        let mut latest = self.facts.iter().enumerate().rev().take(LOOKED_AT);
        let known = latest.find_map(|(number, (known, first))| {
            let beyond = beyond(*first).filter(|_| *known == facts);
            Some((number, beyond?))
        });
        let (number, beyond) = match known {
            Some(known) => known,
            None if self.facts.len() < FACTS_MAX => {
                self.facts.push((facts, sequence));
                (self.facts.len() - 1, 0)
            }
            None => return None,
        };
        Some(PackedDelivery {
            beyond,
            memory: reference.memory,
            body_bytes: reference.body_bytes,
            facts: NonZeroU16::new(u16::try_from(number + 1).ok()?)?,
        })
    }

    fn facts_of(&self, place: PackedDelivery) -> Option<&(Facts, Sequence)> {
        self.facts.get(usize::from(place.facts.get()) - 1)
    }

    /// Takes out the delivery with this tag, which stands there.
    pub(super) fn take(&mut self, at: usize, tag: DeliveryTag) -> Option<Unacked> {
        let Some(place) = self.places.get_mut(at)?.take() else {
            return self.others.remove(&at);
        };
        let (facts, first) = self.facts_of(place)?;
        Some(Unacked {
            tag,
            delivery: Outstanding::Reference(Reference {
                sequence: Sequence(first.0 + u64::from(place.beyond)),
                memory: place.memory,
                body_bytes: place.body_bytes,
                delivery_count: facts.delivery_count,
                level: facts.level,
                retries: facts.retries,
                redelivered: facts.redelivered,
                stored: facts.stored,
                persistent: facts.persistent,
            }),
            queue: facts.queue,
            consumer: facts.consumer,
            delivered_at: facts.delivered_at,
            due: facts.due,
        })
    }

    /// Whether there is one that went to this consumer of this queue.
    pub(super) fn is_of(&self, at: usize, queue: QueueNumber, consumer: ConsumerRef) -> bool {
        match self.places.get(at).copied().flatten() {
            Some(place) => self
                .facts_of(place)
                .is_some_and(|(facts, _)| facts.queue == queue && facts.consumer == Some(consumer)),
            None => (self.others.get(&at)).is_some_and(|it| it.is_of(queue, consumer)),
        }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.places.get(at).is_some_and(Option::is_some) || self.others.contains_key(&at)
    }

    /// When the one that stands there, with this tag, must be settled.
    pub(super) fn due(&self, at: usize, tag: DeliveryTag) -> Option<Due> {
        match self.places.get(at).copied().flatten() {
            Some(place) => self.facts_of(place).map(|(facts, _)| Due {
                tag,
                delivered_at: facts.delivered_at,
                due: facts.due,
            }),
            None => self.others.get(&at).map(Unacked::due),
        }
    }

    /// Memory of the message that stands there if it must be read.
    pub(super) fn unread(&self, at: usize) -> usize {
        match self.places.get(at).copied().flatten() {
            Some(place) => place.memory as usize,
            None => self.others.get(&at).map_or(0, |it| it.delivery.unread()),
        }
    }

    /// Those whose messages are in memory.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = &mut Unacked> {
        let others = self.others.values_mut();
        others.filter(|it| matches!(it.delivery, Outstanding::Message(_)))
    }

    /// Packs what has become a reference since.
    pub(super) fn pack_again(&mut self) {
        for (at, unacked) in std::mem::take(&mut self.others) {
            self.set(at, unacked);
        }
    }
}
