//! A block of older deliveries: as they were, or, once their messages have left memory, packed.

#[cfg(debug_assertions)]
mod check;

use leveret_codec::DeliveryTag;
use leveret_queue::mailbox::InFlight;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_queue::queue::reference::{Outstanding, Reference};
use leveret_store_api::CommitPoint;

use super::packed::Packed;
use super::{Due, KeepInStore, Unacked};
use crate::queue_table::QueueNumber;

#[derive(Debug)]
enum Places {
    Whole(Vec<Option<Unacked>>),
    Packed(Packed),
    /// So many, and nothing in them.
    Empty(usize),
}

/// Places of tags that follow each other. Settled ones are empty.
#[derive(Debug)]
pub(super) struct Block {
    places: Places,
    /// How many deliveries there are.
    count: usize,
    /// Memory of its messages.
    memory: usize,
    /// The store has all of its messages once this is durable.
    leaving: Option<CommitPoint>,
}

/// What became of a block whose messages are to leave memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leaving {
    /// There is nothing that can.
    Nothing,
    /// The store has been told to keep them, and has them once this is durable.
    Told(CommitPoint),
    /// The store does not have them all yet.
    Waits(CommitPoint),
    /// They have left.
    Left,
}

impl Block {
    pub(super) fn new(places: Vec<Option<Unacked>>) -> Block {
        let held = || places.iter().flatten();
        Block {
            memory: held().map(|it| it.delivery.memory()).sum(),
            count: held().count(),
            places: Places::Whole(places),
            leaving: None,
        }
    }

    /// So many places that are settled.
    pub(super) fn empty(length: usize) -> Block {
        Block {
            places: Places::Empty(length),
            ..Block::new(Vec::new())
        }
    }

    pub(super) fn clear(&mut self) {
        let places = match std::mem::replace(&mut self.places, Places::Empty(0)) {
            Places::Whole(mut places) => {
                places.clear();
                places
            }
            Places::Packed(_) | Places::Empty(_) => Vec::new(),
        };
        *self = Block::new(places);
    }

    /// Nothing is kept of a full block in which all are settled: one before it may stay for long.
    #[inline]
    pub(super) fn shrink(&mut self) {
        if self.count == 0 {
            self.places = Places::Empty(self.len());
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.places {
            Places::Whole(places) => places.len(),
            Places::Packed(packed) => packed.len(),
            Places::Empty(length) => *length,
        }
    }

    /// How many places take memory.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        match self.places {
            Places::Empty(_) => 0,
            _ => self.len(),
        }
    }

    /// Memory of its messages.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    #[inline]
    fn comes(&mut self, unacked: &Unacked) {
        let memory = unacked.delivery.memory();
        self.count += 1;
        if memory > 0 {
            self.memory += memory;
            self.leaving = None;
        }
    }

    #[inline]
    pub(super) fn push(&mut self, place: Option<Unacked>) {
        if let Some(unacked) = &place {
            self.comes(unacked);
        }
        match &mut self.places {
            Places::Whole(places) => places.push(place),
            Places::Packed(packed) => packed.push(place),
            Places::Empty(length) => match place {
                None => *length += 1,
                Some(_) => {
                    let mut packed = Packed::empty(*length);
                    packed.push(place);
                    self.places = Places::Packed(packed);
                }
            },
        }
    }

    /// Puts a delivery into a place that is empty.
    pub(super) fn set(&mut self, at: usize, unacked: Unacked) {
        self.comes(&unacked);
        match &mut self.places {
            Places::Whole(places) => {
                if let Some(place) = places.get_mut(at) {
                    *place = Some(unacked);
                }
            }
            Places::Packed(packed) => packed.set(at, unacked),
            Places::Empty(length) => {
                let mut packed = Packed::empty(*length);
                packed.set(at, unacked);
                self.places = Places::Packed(packed);
            }
        }
    }

    #[inline]
    pub(super) fn take(&mut self, at: usize, tag: DeliveryTag) -> Option<Unacked> {
        let taken = match &mut self.places {
            Places::Whole(places) => places.get_mut(at)?.take(),
            Places::Packed(packed) => packed.take(at, tag),
            Places::Empty(_) => None,
        };
        if let Some(unacked) = &taken {
            self.count -= 1;
            self.memory -= unacked.delivery.memory();
        }
        taken
    }

    /// Whether there is one that went to this consumer of this queue.
    pub(super) fn is_of(&self, at: usize, queue: QueueNumber, consumer: ConsumerRef) -> bool {
        match &self.places {
            Places::Whole(places) => {
                let unacked = places.get(at).and_then(Option::as_ref);
                unacked.is_some_and(|it| it.is_of(queue, consumer))
            }
            Places::Packed(packed) => packed.is_of(at, queue, consumer),
            Places::Empty(_) => false,
        }
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        match &self.places {
            Places::Whole(places) => places.get(at).is_some_and(Option::is_some),
            Places::Packed(packed) => packed.contains(at),
            Places::Empty(_) => false,
        }
    }

    /// When the one that stands there, with this tag, must be settled.
    pub(super) fn due(&self, at: usize, tag: DeliveryTag) -> Option<Due> {
        match &self.places {
            Places::Whole(places) => places.get(at)?.as_ref().map(Unacked::due),
            Places::Packed(packed) => packed.due(at, tag),
            Places::Empty(_) => None,
        }
    }

    /// Memory of the message that stands there if it must be read.
    pub(super) fn unread(&self, at: usize) -> usize {
        match &self.places {
            Places::Whole(places) => {
                let unacked = places.get(at).and_then(Option::as_ref);
                unacked.map_or(0, |it| it.delivery.unread())
            }
            Places::Packed(packed) => packed.unread(at),
            Places::Empty(_) => 0,
        }
    }

    /// One more step on the messages' way out of memory.
    pub(super) fn leave(&mut self, durable: CommitPoint, keep: &mut KeepInStore<'_>) -> Leaving {
        match self.leaving {
            _ if self.memory == 0 => Leaving::Nothing,
            None => {
                let point = self.tell(keep);
                self.leaving = Some(point);
                if self.memory > 0 {
                    return Leaving::Told(point);
                }
                self.pack();
                Leaving::Left
            }
            Some(point) if point > durable => Leaving::Waits(point),
            Some(_) => {
                self.pack();
                Leaving::Left
            }
        }
    }

    /// Has the store keep the messages, queue by queue. Those that nobody will ask for are forgotten.
    fn tell(&mut self, keep: &mut KeepInStore<'_>) -> CommitPoint {
        let held: Vec<&mut Unacked> = match &mut self.places {
            Places::Whole(places) => places.iter_mut().flatten().collect(),
            Places::Packed(packed) => packed.messages().collect(),
            Places::Empty(_) => Vec::new(),
        };
        let (point, freed) = keep_all(held, keep);
        self.memory -= freed;
        point
    }

    /// What the store has leaves memory.
    fn pack(&mut self) {
        let places = std::mem::replace(&mut self.places, Places::Empty(0));
        self.places = match places {
            Places::Whole(mut places) => {
                for unacked in places.iter_mut().flatten() {
                    self.memory -= let_go_stored(unacked);
                }
                Places::Packed(Packed::of(places))
            }
            Places::Packed(mut packed) => {
                for unacked in packed.messages() {
                    self.memory -= let_go_stored(unacked);
                }
                packed.pack_again();
                Places::Packed(packed)
            }
            Places::Empty(length) => Places::Empty(length),
        };
    }
}

/// Has the store keep the messages, queue by queue. Those that nobody will ask for leave memory at once. Answers when the
/// store has the others, and how much memory was freed.
pub(crate) fn keep_all(
    mut held: Vec<&mut Unacked>,
    keep: &mut KeepInStore<'_>,
) -> (CommitPoint, usize) {
    held.sort_by_key(|it| it.queue);
    let mut point = CommitPoint::NONE;
    let mut freed = 0;
    for of_queue in held.chunk_by_mut(|one, other| one.queue == other.queue) {
        let Some(queue) = of_queue.first().map(|it| it.queue) else {
            continue;
        };
        let mut messages: Vec<&mut InFlight> = of_queue
            .iter_mut()
            .filter_map(|it| match &mut it.delivery {
                Outstanding::Message(in_flight) => Some(in_flight),
                Outstanding::Reference(_) | Outstanding::Damaged(_) => None,
            })
            .collect();
        match keep(queue, &mut messages) {
            Some(kept_at) => point = point.max(kept_at),
            None => {
                let gone = of_queue.iter_mut();
                freed += gone.map(|it| let_go(&mut it.delivery)).sum::<usize>();
            }
        }
    }
    (point, freed)
}

/// The message leaves memory if the store has it; answers how much that was.
pub(crate) fn let_go_stored(unacked: &mut Unacked) -> usize {
    match &unacked.delivery {
        Outstanding::Message(message) if message.stored => let_go(&mut unacked.delivery),
        _ => 0,
    }
}

/// The message leaves memory; answers how much that was.
fn let_go(delivery: &mut Outstanding) -> usize {
    let memory = delivery.memory();
    if let Outstanding::Message(in_flight) = delivery
        && let Some(reference) = Reference::of(in_flight)
    {
        *delivery = Outstanding::Reference(reference);
        return memory;
    }
    0
}
