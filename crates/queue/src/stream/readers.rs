//! Who reads a stream, and how far each has got.
//!
//! Readers do not compete: each has a position of its own and gets every message from there on.
//! With a single active consumer only one reads; the next one goes on where it left off, at the
//! first message that was not settled.

#[cfg(debug_assertions)]
mod check;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use leveret_message::Timestamp;

use super::page::Page;
use super::read::StreamFilter;
use crate::credit::Grant;
use crate::queue::consumers::{ConsumerRef, ConsumerSpec};

/// How far a reader has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Position {
    /// At this offset.
    At(u64),
    /// At the first message of this time, which must be looked for in the store.
    Seeking(Timestamp),
}

/// What a reader waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Messages that are not published or not durable yet.
    Messages,
    /// Messages that must be read from the store.
    Page,
    /// Its prefetch is used up.
    Credit,
    /// Its channel's is; it is in line for it.
    Channel,
    /// Its mailbox is full.
    Room,
    /// Another reader is the single active one.
    Turn,
}

/// One consumer of a stream.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) spec: ConsumerSpec,
    pub(crate) filter: Option<StreamFilter>,
    pub(crate) in_flight: u32,
    pub(crate) position: Position,
    pub(crate) standing: Standing,
    /// What was read from the store for it: the page it is in, and the next one.
    pub(crate) pages: VecDeque<Arc<Page>>,
    /// Which message of the first page is next.
    pub(crate) place: usize,
    /// The pager reads for it.
    pub(crate) reading: bool,
    /// Delivered and not settled; only kept for a single active consumer.
    pub(crate) unsettled: BTreeSet<u64>,
    /// Where it stands in the order of registration.
    registered: u64,
}

impl Reader {
    pub(crate) fn new(
        spec: ConsumerSpec,
        filter: Option<StreamFilter>,
        position: Position,
    ) -> Reader {
        Reader {
            spec,
            filter,
            in_flight: 0,
            position,
            standing: Standing::Messages,
            pages: VecDeque::new(),
            place: 0,
            reading: false,
            unsettled: BTreeSet::new(),
            registered: 0,
        }
    }

    /// Takes credit for one delivery, or says what the reader waits for.
    pub(crate) fn take_credit(&mut self, grant: &mut Option<Grant>) -> Result<(), Standing> {
        if self.spec.prefetch != 0 && self.in_flight >= u32::from(self.spec.prefetch) {
            return Err(Standing::Credit);
        }
        let credit = &self.spec.channel_credit;
        let mut granted = || grant.as_mut().is_some_and(|it| it.covers(credit, true));
        if !credit.take()
            && !granted()
            && !credit.take_or_wait(self.spec.queue, self.spec.slot, true)
        {
            return Err(Standing::Channel);
        }
        self.in_flight += 1;
        Ok(())
    }

    /// Goes to another position; what was read for the old one is of no use.
    pub(crate) fn go_to(&mut self, offset: u64) {
        self.position = Position::At(offset);
        self.pages.clear();
        self.place = 0;
    }

    /// Puts a page behind those it has.
    pub(crate) fn add_page(&mut self, page: Arc<Page>) {
        if self.pages.is_empty()
            && let Position::At(offset) = self.position
        {
            self.place = page.place_of(offset);
        }
        self.pages.push_back(page);
    }

    /// The first offset that nobody has taken care of, should this reader go.
    fn left_off(&self) -> Option<u64> {
        match (self.unsettled.first(), self.position) {
            (Some(&unsettled), _) => Some(unsettled),
            (None, Position::At(offset)) => Some(offset),
            (None, Position::Seeking(_)) => None,
        }
    }
}

#[derive(Debug, Default)]
struct Place {
    generation: u32,
    reader: Option<Reader>,
}

/// All readers of a stream.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    places: Vec<Place>,
    /// Places without a reader.
    free: Vec<u32>,
    /// Highest priority first, then in the order of registration.
    order: BTreeMap<(Reverse<i32>, u64), u32>,
    registered: u64,
    single_active: bool,
    active: Option<u32>,
    /// It has just become the active one.
    elected: Option<u32>,
    /// Pages that readers have, by the offsets they begin with, and some that nobody has any more.
    pages: BTreeMap<u64, Weak<Page>>,
}

/// Pages that nobody has any more are forgotten when there are so many more than readers.
const PAGES_SPARE: usize = 64;

impl Readers {
    pub(crate) fn new(single_active: bool) -> Readers {
        Readers {
            single_active,
            ..Readers::default()
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_single_active(&self) -> bool {
        self.single_active
    }

    /// How many places there are, taken or not; for going through them by index.
    pub(crate) fn places(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Reader> {
        self.places.iter().filter_map(|place| place.reader.as_ref())
    }

    pub(crate) fn add(&mut self, mut reader: Reader) -> ConsumerRef {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        self.registered += 1;
        reader.registered = self.registered;
        let order = (Reverse(reader.spec.priority), reader.registered);
        self.order.insert(order, number);
        if self.single_active && self.active.is_some() {
            reader.standing = Standing::Turn;
        } else if self.single_active {
            self.active = Some(number);
        }
        let place = &mut self.places[number as usize];
        place.generation = place.generation.wrapping_add(1);
        place.reader = Some(reader);
        ConsumerRef {
            index: number,
            generation: place.generation,
        }
    }

    /// Removes a reader; None if it is gone already.
    pub(crate) fn remove(&mut self, who: ConsumerRef) -> Option<Reader> {
        self.resolve_mut(who)?;
        let reader = self.places.get_mut(who.index as usize)?.reader.take()?;
        let order = (Reverse(reader.spec.priority), reader.registered);
        self.order.remove(&order);
        self.free.push(who.index);
        if self.active == Some(who.index) {
            self.active = None;
            self.hand_over(reader.left_off());
        }
        Some(reader)
    }

    /// The next single active consumer is the first in order of registration, highest priority first.
    fn hand_over(&mut self, offset: Option<u64>) {
        self.active = self.order.first_key_value().map(|(_, &index)| index);
        self.elected = self.active;
        if let Some(reader) = self.active.and_then(|index| self.get_mut(index)) {
            reader.standing = Standing::Messages;
            if let Some(offset) = offset {
                reader.go_to(offset);
            }
        }
    }

    /// Who has become the single active reader since this was asked last.
    pub(crate) fn take_elected(&mut self) -> Option<u32> {
        self.elected.take()
    }

    /// Takes all readers out.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Reader> {
        self.order.clear();
        self.free.clear();
        self.active = None;
        std::mem::take(&mut self.places)
            .into_iter()
            .filter_map(|place| place.reader)
    }

    pub(crate) fn is_active(&self, who: ConsumerRef) -> bool {
        !self.single_active || self.active == Some(who.index)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Reader> {
        self.places.get(index as usize)?.reader.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Reader> {
        self.places.get_mut(index as usize)?.reader.as_mut()
    }

    pub(crate) fn resolve_mut(&mut self, who: ConsumerRef) -> Option<&mut Reader> {
        let place = self.places.get_mut(who.index as usize)?;
        if place.generation == who.generation {
            place.reader.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn reference(&self, index: u32) -> ConsumerRef {
        let place = self.places.get(index as usize);
        ConsumerRef {
            index,
            generation: place.map_or(0, |place| place.generation),
        }
    }

    /// A page that some reader has and that holds `offset`.
    pub(crate) fn page_with(&self, offset: u64) -> Option<Arc<Page>> {
        let mut before = self.pages.range(..=offset);
        let page = before.next_back()?.1.upgrade()?;
        page.holds(offset).then_some(page)
    }

    /// A reader has this page.
    pub(crate) fn add_page(&mut self, page: Option<Arc<Page>>) {
        let Some(page) = page else { return };
        if self.pages.len() >= 2 * self.count() + PAGES_SPARE {
            self.pages.retain(|_, page| page.strong_count() > 0);
        }
        self.pages.insert(page.first(), Arc::downgrade(&page));
    }
}
