//! Messages going out of a stream: to each reader what comes next for it.

use leveret_store_api::broken::{broken, without};
use std::sync::Arc;

use leveret_message::{Message, Timestamp};
use leveret_store_api::Sequence;

use crate::queue::settle::QueueSettlement;

use super::Stream;
use super::page::{Answer, Page, Wish};
use super::readers::{Position, Reader, Standing};
use super::tail::Tail;
use crate::credit::Grant;
use crate::mailbox::{ConsumerSlot, Delivery, InFlight, Mail};
use crate::queue::answers::Orphan;
use crate::queue::consumers::ConsumerRef;
use crate::queue::delivery_count::DeliveryCount;
use crate::queue::effects::Effects;

/// A reader's page is as large as unless there are many readers.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// A reader's page is at least as large as this.
const PAGE_BYTES_MIN: usize = 16 << 10;
/// All readers' pages together, as far as their number allows.
const PAGES_BYTES: usize = 16 << 20;
/// A reader has the page it is in and the next one.
const PAGES_PER_READER: usize = 2;

/// What there is for a reader at its position.
enum Next<'a> {
    Message(u64, &'a Message),
    /// Nothing yet.
    End,
    /// The store has it.
    NotLoaded(u64),
}

/// Finds the next message of a reader, passing over pages that it has behind it.
fn next_message<'a>(reader: &'a mut Reader, tail: &'a Tail, first: u64) -> Next<'a> {
    let Position::At(mut offset) = reader.position else {
        return Next::End;
    };
    while let Some(page) = reader.pages.front() {
        if page.get(reader.place).is_some() {
            break;
        }
        offset = offset.max(page.end());
        reader.position = Position::At(offset);
        reader.place = 0;
        reader.pages.pop_front();
    }
    if let Some((offset, message)) = reader.pages.front().and_then(|page| page.get(reader.place)) {
        return Next::Message(*offset, message);
    }
    // What retention has removed is passed over.
    let offset = offset.max(first);
    reader.position = Position::At(offset);
    match tail.get(offset) {
        Some(message) => Next::Message(offset, message),
        None if offset < tail.first() => Next::NotLoaded(offset),
        None => Next::End,
    }
}

fn delivery(consumer: ConsumerSlot, offset: u64, message: Message) -> Delivery {
    Delivery {
        consumer,
        in_flight: InFlight {
            message,
            sequence: Sequence(offset),
            expires_at: Timestamp::NEVER,
            delivery_count: DeliveryCount::NONE,
            level: 0,
            retries: 0,
            redelivered: false,
            // Settling changes nothing in the store.
            stored: false,
        },
    }
}

impl Stream {
    /// Delivers to one reader what it can take; answers how many messages that were.
    pub(super) fn serve(&mut self, index: u32, effects: &mut Effects) -> usize {
        let who = self.readers.reference(index);
        let Some(reader) = self.readers.get(index) else {
            // Whoever goes through the places comes by empty ones.
            return 0;
        };
        let (mailbox, slot) = (Arc::clone(&reader.spec.mailbox), reader.spec.slot);
        let mut mail = mailbox.lock();
        let before = mail.deliveries.len();
        let standing = loop {
            if !mail.has_room(mailbox.bytes_max()) {
                mail.stalled.push(slot);
                break Standing::Room;
            }
            match self.deliver_next(who, &mut mail) {
                Ok(()) => {}
                Err(standing) => break standing,
            }
        };
        let delivered = mail.deliveries.len() - before;
        if delivered > 0 && mail.needs_wake() {
            effects.wake(&mailbox);
        }
        drop(mail);
        // A stream's consumers always acknowledge.
        self.statistics.count_delivered(delivered as u64, false);
        if let Some(reader) = self.readers.get_mut(index) {
            reader.standing = standing;
            let wants = standing == Standing::Page || wants_read_ahead(reader, &self.tail);
            if wants && !reader.reading {
                self.ask_page_in(effects);
            }
        }
        delivered
    }

    /// Delivers one message, or says what the reader waits for instead.
    fn deliver_next(&mut self, who: ConsumerRef, mail: &mut Mail) -> Result<(), Standing> {
        let index = who.index;
        let first = self.segments.first();
        let single_active = self.readers.is_single_active();
        let Some(reader) = self.readers.get_mut(index) else {
            broken(&"it is the turn of no reader");
            return Err(Standing::Messages);
        };
        if matches!(reader.position, Position::Seeking(_)) {
            return Err(Standing::Page);
        }
        loop {
            let (offset, message) = match next_message(reader, &self.tail, first) {
                Next::Message(offset, message) => (offset, message.clone()),
                Next::End => return Err(Standing::Messages),
                Next::NotLoaded(offset) => return self.share_page(index, offset),
            };
            let filter = reader.filter.as_ref();
            let is_wanted = filter.is_none_or(|filter| filter.lets_through(&message));
            if is_wanted {
                // For a message only: taken and given back, credit would be missing to others of the channel.
                reader.take_credit(&mut self.grant)?;
            }
            reader.position = Position::At(offset + 1);
            reader.place += usize::from(!reader.pages.is_empty());
            if !is_wanted {
                continue;
            }
            if single_active {
                reader.unsettled.insert(offset);
            }
            mail.push(delivery(reader.spec.slot, offset, message));
            return Ok(());
        }
    }

    /// Takes over a page that another reader has; Err if there is none.
    fn share_page(&mut self, index: u32, offset: u64) -> Result<(), Standing> {
        let page = self.readers.page_with(offset).ok_or(Standing::Page)?;
        if let Some(reader) = self.readers.get_mut(index) {
            reader.add_page(page);
        }
        Ok(())
    }

    /// Settled deliveries give their credit back, whatever the outcome: a stream takes nothing back
    /// and lets go of nothing.
    pub(crate) fn settle(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.keep_time(now);
        self.count_acknowledged(settlements, now);
        self.tail.advance(self.store.durable_point());
        let mut served: Option<ConsumerRef> = None;
        for settlement in settlements {
            let Some(who) = settlement.consumer else {
                continue;
            };
            if let Some(before) = served.filter(|before| *before != who) {
                self.serve_waiting(before, Standing::Credit, effects);
            }
            served = Some(who);
            if let Some(reader) = self.readers.resolve_mut(who) {
                reader.in_flight = without(reader.in_flight, 1, "deliveries of a reader");
                let (_, offset, _) = settlement.delivery.place();
                reader.unsettled.remove(&offset.0);
            }
        }
        if let Some(who) = served {
            self.serve_waiting(who, Standing::Credit, effects);
        }
        self.ask_durable(effects);
    }

    /// Serves a reader if it waits for just this.
    fn serve_waiting(&mut self, who: ConsumerRef, standing: Standing, effects: &mut Effects) {
        let waits = |reader: &mut Reader| reader.standing == standing;
        if self.readers.resolve_mut(who).is_some_and(waits) {
            self.serve(who.index, effects);
        }
    }

    /// The reader's mailbox has room again; it is served with the next dispatch.
    pub(crate) fn resume_reader(&mut self, who: ConsumerRef) {
        if let Some(reader) = self.readers.resolve_mut(who)
            && reader.standing == Standing::Room
        {
            reader.standing = Standing::Messages;
            self.serving.add(who.index);
        }
    }

    /// Serves readers that waited for their channel's credit; answers how many deliveries of the grant were not made.
    pub(crate) fn grant(
        &mut self,
        grant: Grant,
        readers: &[ConsumerRef],
        effects: &mut Effects,
    ) -> u32 {
        self.tail.advance(self.store.durable_point());
        self.grant = Some(grant);
        for &who in readers {
            self.serve_waiting(who, Standing::Channel, effects);
        }
        self.ask_durable(effects);
        self.grant.take().map_or(0, |grant| grant.left())
    }

    /// Has the pager come, if it is not on its way.
    pub(super) fn ask_page_in(&mut self, effects: &mut Effects) {
        if !self.page_in_asked {
            self.page_in_asked = true;
            effects.page_in = true;
        }
    }

    /// For the pager: delivers what has become visible, then says what is to be read next.
    pub fn next_wish(&mut self, now: Timestamp, effects: &mut Effects) -> Option<Wish> {
        self.page_in_asked = true;
        self.reveal(now, effects);
        let wish = self.reader_wish().or_else(|| self.date_wish());
        self.page_in_asked = wish.is_some() || !self.serving.is_done();
        effects.page_in = self.page_in_asked && wish.is_none();
        wish
    }

    fn date_wish(&self) -> Option<Wish> {
        let log = self.log.filter(|_| !self.deleted)?;
        let offset = self.segments.undated()?;
        Some(Wish::Date { log, offset })
    }

    /// What the next reader in turn wants read.
    fn reader_wish(&mut self) -> Option<Wish> {
        let log = self.log?;
        let (low, until) = (self.segments.first(), self.tail.first());
        let readers = self.readers.count().max(1);
        let bytes_max =
            (PAGES_BYTES / PAGES_PER_READER / readers).clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX);
        let places = self.readers.places();
        for step in 1..=places {
            let index = self.turn.wrapping_add(step) % places;
            let reference = self.readers.reference(index);
            let Some(reader) = self.readers.get_mut(index) else {
                continue;
            };
            if reader.reading || reader.standing == Standing::Turn {
                continue;
            }
            let wish = match reader.position {
                Position::Seeking(time) => Wish::Seek {
                    reader: reference,
                    log,
                    time,
                    low,
                    high: until,
                },
                Position::At(offset) => {
                    let behind = reader.pages.back().map(|page| page.end());
                    let needs = reader.standing == Standing::Page && behind.is_none();
                    if !needs && !wants_read_ahead(reader, &self.tail) {
                        continue;
                    }
                    Wish::Page {
                        reader: reference,
                        log,
                        from: behind.unwrap_or(offset).max(low),
                        until,
                        bytes_max,
                    }
                }
            };
            reader.reading = true;
            self.turn = index;
            return Some(wish);
        }
        None
    }

    /// Takes in what the pager read; None: it could not. Answers a reader that cannot go on.
    pub fn fulfilled(
        &mut self,
        wish: &Wish,
        answer: Option<Answer>,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Option<Orphan> {
        let who = match wish {
            Wish::Page { reader, .. } | Wish::Seek { reader, .. } => *reader,
            Wish::Date { offset, .. } => {
                // A message that cannot be read is old enough to go.
                let time = match answer {
                    Some(Answer::Date(Some(time))) => time,
                    _ => Timestamp(0),
                };
                self.segments.date(*offset, time);
                self.retain(now, effects);
                return None;
            }
        };
        if let Some(Answer::Page(page)) = &answer {
            effects.damaged += self.count_damaged(page.damaged());
        }
        let reader = self.readers.resolve_mut(who)?;
        reader.reading = false;
        match answer {
            Some(Answer::Page(page)) => {
                let page = reader.take_page(page);
                self.readers.add_page(page);
            }
            Some(Answer::Found(offset)) => reader.go_to(offset),
            _ => {
                let lost = self.remove_one(who)?;
                self.dispatch(effects);
                return Some(Orphan::from(lost.spec));
            }
        }
        self.serve_waiting(who, Standing::Page, effects);
        self.ask_durable(effects);
        None
    }
}

impl Stream {
    /// Counts those that nobody met before. They stay in their places, and readers pass over them.
    fn count_damaged(&mut self, offsets: &[u64]) -> u64 {
        let new = offsets
            .iter()
            .filter(|offset| self.damaged.insert(**offset));
        let new = new.count() as u64;
        if new > 0 {
            self.statistics.record().totals.discarded.damaged += new;
        }
        new
    }
}

impl Reader {
    /// Takes a page that was read for it, unless it has moved on meanwhile.
    fn take_page(&mut self, page: Page) -> Option<Arc<Page>> {
        let wanted = match (self.pages.back(), self.position) {
            (Some(last), _) => last.end(),
            (None, Position::At(offset)) => offset,
            (None, Position::Seeking(_)) => return None,
        };
        let is_wanted = page.holds(wanted) || page.end() > wanted;
        is_wanted.then(|| {
            let page = Arc::new(page);
            self.add_page(Arc::clone(&page));
            page
        })
    }
}

/// Whether the page after the one a reader is in should be read now.
fn wants_read_ahead(reader: &Reader, tail: &Tail) -> bool {
    reader.pages.len() == 1
        && reader
            .pages
            .front()
            .is_some_and(|page| page.is_half_read(reader.place) && page.end() < tail.first())
}
