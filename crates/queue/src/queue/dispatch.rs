//! Messages going out: which message is next, and what is read from the store for it. To whom is in `turns`.

use leveret_store_api::broken::{broken, without};
use std::sync::Arc;

use leveret_message::{Message, Timestamp};
use leveret_store_api::{DamagedMessage, Sequence, StoredMessage};

use super::Queue;
use super::consumers::{ConsumerRef, ConsumerSpec};
use super::delivery_count::DeliveryCount;
use super::effects::{DeadLetter, DeadLetterReason, Effects};
use super::ready::{Entry, Level, Lost, PageIn, Unready, Whose};
use super::reference::expires_at;
use crate::credit::Grant;
use crate::mailbox::{InFlight, Mailbox};
use crate::queue::answers::{ConsumeError, GetResult};

/// A consumer keeps up if it takes this share of what publishers may be ahead within the time that one is held back.
const PROGRESS_SHARE: u64 = 16;

/// How far delivering had come when a publisher was held back.
#[derive(Clone, Copy, Debug)]
pub struct TakenSoFar(u64);

impl Queue {
    /// Delivers while there are messages in memory and consumers that can take them.
    pub(crate) fn dispatch(&mut self, now: Timestamp, effects: &mut Effects) {
        self.keep_time(now);
        let waits = self.givers.are_waited_for() || self.dropping.is_some();
        while self.ready > 0 && !waits {
            let Some(turn) = self.consumers.turn() else {
                break;
            };
            let goes_on = self.deliver(turn, now, effects);
            if !goes_on {
                break;
            }
        }
        self.record_taken(now);
        self.consider_page_in(effects);
        self.consider_release(effects);
        self.stage(effects);
        if self.expiring {
            self.ask_deadline(now, effects);
        }
    }

    /// Whether the message that is next is in memory and may be seen; passes over what had expired
    /// before `now`.
    #[inline(always)]
    pub(super) fn find_front(&mut self, now: Timestamp, effects: &mut Effects) -> bool {
        loop {
            let Some(level) = self.levels.get_mut(self.top) else {
                broken(&"there is no level at the top");
                return false;
            };
            if level.front_is_hidden() {
                return false;
            }
            match level.front().map(|front| front.expires_at) {
                None if self.top == 0 || !level.is_empty() => return false,
                None => self.leave_level(now),
                Some(expires_at) if expires_at < now => self.expire_front(effects),
                Some(_) => return true,
            }
        }
    }

    /// As [`Queue::find_front`], for who was not there when the message came: one with no time to live at all is
    /// not for him.
    fn find_living_front(&mut self, now: Timestamp, effects: &mut Effects) -> bool {
        while self.find_front(now, effects) {
            let time_to_live = self.options.message_ttl_ms;
            let front = self.levels.get_mut(self.top).and_then(Level::front);
            let lives = front.is_some_and(|front| {
                let published = Timestamp::default();
                front.expires_at > now
                    || front.message.expires_at(published, time_to_live) != Some(published)
            });
            if lives {
                return true;
            }
            self.expire_front(effects);
        }
        false
    }

    /// Whether there is a next message, and it must be read to be known.
    pub(super) fn is_front_unread(&mut self) -> bool {
        self.settle_top();
        self.levels[self.top].is_front_unread()
    }

    /// Takes the message that [`Queue::find_front`] found.
    #[inline(always)]
    pub(super) fn pop_front(&mut self, now: Timestamp) -> Option<InFlight> {
        let level = self.levels.get_mut(self.top)?;
        let entry = level.pop()?;
        self.statistics.count_taken(level, &entry, now);
        level.mark_delivered(entry.sequence);
        let number = self.top_level();
        self.forget_ready(&entry);
        let in_flight = entry.into_flight(number);
        if in_flight.redelivered {
            self.store_count(&in_flight, in_flight.delivery_count.again());
        }
        Some(in_flight)
    }

    #[inline]
    fn top_level(&self) -> u8 {
        u8::try_from(self.top).unwrap_or(u8::MAX)
    }

    #[inline]
    pub(crate) fn forget_ready(&mut self, entry: &Entry) {
        let (memory, body_bytes) = self.count_taken(&entry.message);
        self.ready -= 1;
        self.ready_memory = without(self.ready_memory, memory, "memory of the ready");
        self.ready_body_bytes = without(self.ready_body_bytes, body_bytes, "bytes of the ready");
    }

    /// A message leaves the ready ones, or would have been one of them; answers its memory and the bytes of its body.
    #[inline]
    pub(super) fn count_taken(&mut self, message: &Message) -> (u64, u64) {
        let memory = message.memory_bytes() as u64;
        let body_bytes = message.body_bytes();
        self.taken_memory += memory;
        self.taken_body_bytes += body_bytes;
        self.taken += 1;
        (memory, body_bytes)
    }

    fn settle_top(&mut self) {
        while self.top > 0 && self.levels[self.top].is_empty() {
            self.top -= 1;
        }
    }

    /// Whether the message that is next must not be seen yet.
    pub(crate) fn front_is_hidden(&mut self) -> bool {
        self.settle_top();
        self.levels[self.top].front_is_hidden()
    }

    /// Removes the front message of the top level for good, or sends it to the dead letters.
    pub(crate) fn discard_front(
        &mut self,
        reason: DeadLetterReason,
        effects: &mut Effects,
    ) -> bool {
        self.settle_top();
        let number = self.top_level();
        let Some(entry) = self.levels[self.top].pop() else {
            return false;
        };
        self.forget_ready(&entry);
        self.dead_letter(entry.into_flight(number), reason, effects);
        true
    }

    fn expire_front(&mut self, effects: &mut Effects) {
        self.discard_front(DeadLetterReason::Expired, effects);
    }

    /// To the dead-letter exchange if there is one, else gone.
    pub(crate) fn dead_letter(
        &mut self,
        in_flight: InFlight,
        reason: DeadLetterReason,
        effects: &mut Effects,
    ) {
        self.forget_key(&in_flight.message);
        let dead_lettered = self.options.dead_letter_exchange.is_some();
        if dead_lettered {
            let level = self.levels.get(usize::from(in_flight.level));
            let log = level
                .and_then(|level| level.log)
                .filter(|_| in_flight.stored);
            effects.dead_letters.push(DeadLetter {
                in_flight,
                reason,
                log,
            });
        } else if in_flight.stored {
            self.acknowledge_stored(in_flight.level, in_flight.sequence);
        }
        self.count_ended(reason, dead_lettered);
    }

    pub(crate) fn acknowledge_stored(&mut self, level: u8, sequence: Sequence) {
        if let Some(log) = self
            .levels
            .get(usize::from(level))
            .and_then(|level| level.log)
        {
            super::acknowledge(&mut self.changes, log, sequence, 1);
        }
    }

    /// Asks for the next run to be read when somebody may want it soon.
    pub(crate) fn consider_page_in(&mut self, effects: &mut Effects) {
        // Without consumers as well where messages expire: only what is in memory can.
        let window = self.memory.head_bytes;
        let of_ready = || self.levels.iter().any(|level| level.wants_page_in(window));
        let is_used = self.consumers.count() > 0 || self.expiring;
        if !self.page_in_asked && (self.wants_retry_page_in() || (is_used && of_ready())) {
            self.page_in_asked = true;
            effects.page_in = true;
        }
    }

    /// What is dropped next is read before it must be.
    pub(super) fn read_ahead_to_drop(&mut self, effects: &mut Effects) {
        let window = self.memory.head_bytes;
        if !self.page_in_asked && self.levels[self.top].wants_page_in(window) {
            self.page_in_asked = true;
            effects.page_in = true;
        }
    }

    /// What should be read for this queue now, the highest priority first.
    pub(crate) fn page_in_request(&mut self) -> Option<PageIn> {
        let window = self.memory.head_bytes;
        let request = self
            .levels
            .iter_mut()
            .enumerate()
            .rev()
            .filter_map(|(index, level)| Some((u8::try_from(index).ok()?, level)))
            .find_map(|(number, level)| level.page_in_request(number, window, window))
            .or_else(|| self.retry_page_in(window));
        self.page_in_asked = request.is_some();
        request
    }

    /// What must be read at once, for `basic.get` or because the queue has decided what it cannot carry out before.
    pub(crate) fn urgent_page_in(&mut self) -> Option<PageIn> {
        let window = self.memory.head_bytes;
        let levels = self.levels.iter_mut().zip(0u8..=255).rev();
        levels
            .filter_map(|(level, number)| level.urgent_request(number, window))
            .next()
    }

    /// Whether it must be read to be known what has expired, of the next message of some level.
    pub(super) fn expires_unread(&mut self) -> bool {
        self.expiring && self.levels.iter_mut().any(Level::is_front_unread)
    }

    /// Lets held-back publishers go on once the queue has drained.
    fn consider_release(&mut self, effects: &mut Effects) {
        if self.ready_memory <= self.memory.publisher_ahead_bytes as u64 / 2
            && (self.lagging || !self.held_back.is_empty())
        {
            self.release_publishers(effects);
        }
        if self.ready == 0 {
            self.levels.iter_mut().for_each(Level::shrink);
        }
    }
}

impl Queue {
    pub(crate) fn add_consumer(&mut self, spec: ConsumerSpec) -> Result<ConsumerRef, ConsumeError> {
        if self.deleted {
            return Err(ConsumeError::Deleted);
        }
        // rabbitmq: a queue with a single active consumer knows no exclusive ones
        let alone_elsewhere = self.options.single_active_consumer || self.consumers.count() > 0;
        if self.consumers.has_exclusive() || (spec.exclusive && alone_elsewhere) {
            return Err(ConsumeError::ExclusiveUse);
        }
        self.had_consumers = true;
        Ok(self.consumers.add(spec))
    }

    /// Delivers what waits, to the next single active consumer if the last one has gone.
    pub(crate) fn start(&mut self, now: Timestamp, effects: &mut Effects) {
        self.consumers.elect();
        self.deliver_returned(true, now, effects);
    }

    /// Removes consumers; nothing is delivered to others for that before [`Queue::start`].
    pub(crate) fn withdraw_consumers(
        &mut self,
        who: &[ConsumerRef],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if self.consumers.remove(who) == 0 {
            return;
        }
        if self.consumers.count() == 0 {
            self.release_publishers(effects);
            if self.auto_delete && self.had_consumers {
                effects.delete_queue = true;
                return;
            }
        }
        self.touch(now, effects);
    }

    pub(crate) fn resume_consumer(&mut self, who: ConsumerRef) {
        self.consumers.resume(who);
    }

    /// Delivers to consumers that waited for their channel's credit; answers how many deliveries of the grant were
    /// not made.
    pub(crate) fn grant(
        &mut self,
        grant: Grant,
        consumers: &[ConsumerRef],
        now: Timestamp,
        effects: &mut Effects,
    ) -> u32 {
        self.consumers.begin_grant(grant, consumers);
        self.dispatch(now, effects);
        self.consumers.end_grant()
    }

    pub(crate) fn is_active(&self, who: ConsumerRef) -> bool {
        self.consumers.is_active(who)
    }

    /// One message for `basic.get`.
    pub(crate) fn get(&mut self, no_ack: bool, now: Timestamp, effects: &mut Effects) -> GetResult {
        self.touch(now, effects);
        self.keep_time(now);
        let found = !self.is_still_dropping(effects) && self.find_living_front(now, effects);
        let taken = found.then(|| self.pop_front(now)).flatten();
        self.count_got(taken.is_some(), no_ack, now);
        if taken.is_some() {
            // What has expired behind it is not among those that are left.
            self.expire_heads(now, effects);
        }
        let result = match taken {
            Some(in_flight) => {
                if !no_ack || in_flight.stored {
                    self.in_flight += 1;
                } else {
                    self.forget_key(&in_flight.message);
                }
                if self.is_unread_behind() {
                    GetResult::BeforeUnread(in_flight)
                } else {
                    GetResult::Message(in_flight, self.visible())
                }
            }
            None if self.visible() > 0 => GetResult::NotLoaded,
            None => GetResult::Empty,
        };
        self.consider_page_in(effects);
        self.stage(effects);
        self.ask_deadline(now, effects);
        result
    }

    /// Whether it must be read to be known whether the next message has expired.
    fn is_unread_behind(&mut self) -> bool {
        if !self.expiring || self.visible() == 0 {
            return false;
        }
        self.is_front_unread()
    }

    /// How many messages are ready, without those that have expired. None: some must be read first.
    pub(crate) fn count_living(&mut self, now: Timestamp, effects: &mut Effects) -> Option<u64> {
        if self.is_still_dropping(effects) {
            return None;
        }
        loop {
            let before = self.taken;
            self.expire_heads(now, effects);
            if self.taken == before {
                break;
            }
        }
        self.consider_page_in(effects);
        self.stage(effects);
        self.ask_deadline(now, effects);
        let unread = self.is_unread_behind();
        (!unread).then(|| self.visible())
    }

    /// What `request` asked for could not be read: it stays where it is, and whoever needs it next
    /// asks again.
    pub(crate) fn read_failed(&mut self, request: &PageIn) {
        self.page_in_asked = false;
        // It would stand still for as long as its bytes cannot be had.
        self.dropping = None;
        if request.whose == Whose::Retries {
            self.retry_read_failed();
        } else if let Some(level) = self.levels.get_mut(usize::from(request.level)) {
            level.read_failed(request);
        }
    }

    /// Takes in what was read for `request`, and delivers it.
    pub(crate) fn loaded(
        &mut self,
        request: &PageIn,
        messages: &mut Vec<StoredMessage<Message>>,
        damaged: Vec<DamagedMessage<Message>>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if self.deleted {
            messages.clear();
            return;
        }
        if request.whose == Whose::Retries {
            self.retries_loaded(request, messages, damaged, effects);
            self.deliver_returned(true, now, effects);
        } else {
            self.ready_loaded(request, messages, damaged, now, effects);
            self.deliver_then_limit(now, effects);
        }
        self.ask_deadline(now, effects);
    }

    /// Takes in the front of a paged run.
    fn ready_loaded(
        &mut self,
        request: &PageIn,
        messages: &mut Vec<StoredMessage<Message>>,
        damaged: Vec<DamagedMessage<Message>>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let Some(level) = self.levels.get_mut(usize::from(request.level)) else {
            broken(&"messages were read for no level");
            return;
        };
        let time_to_live = self.options.message_ttl_ms;
        let expires = |stored: &StoredMessage<Message>| expires_at(stored, time_to_live);
        let mut unready = Unready {
            limit: self.options.delivery_limit.unwrap_or(u32::MAX),
            spent: Vec::new(),
            waiting: Vec::new(),
            damaged: Vec::new(),
            lost: Lost::default(),
        };
        level.loaded(request, messages, damaged, expires, now, &mut unready);
        let lost = unready.lost;
        self.ready -= lost.messages;
        self.ready_memory = self.ready_memory + lost.more_memory - lost.memory;
        self.ready_body_bytes = self.ready_body_bytes + lost.more_body_bytes - lost.body_bytes;
        self.taken += lost.messages;
        self.expiring |= level
            .front()
            .is_some_and(|front| front.expires_at != Timestamp::NEVER);
        self.wait_again(request.level, unready.waiting);
        let level = request.level;
        let mut damaged = unready.damaged.into_iter().peekable();
        // Both are in the order of their sequences, and leave in it.
        for entry in unready.spent {
            while let Some((damaged, count)) =
                damaged.next_if(|(damaged, _)| damaged.sequence < entry.sequence)
            {
                self.set_aside_unready(level, damaged, count, now, effects);
            }
            self.expire_before(level, entry.sequence, now, effects);
            // It was out once too often when the broker ended.
            self.forget_ready(&entry);
            self.dead_letter(
                entry.into_flight(level),
                DeadLetterReason::DeliveryLimit,
                effects,
            );
        }
        for (damaged, count) in damaged {
            self.set_aside_unready(level, damaged, count, now, effects);
        }
    }

    /// What stands before this message in its level and has expired leaves before it does.
    fn expire_before(
        &mut self,
        level: u8,
        sequence: Sequence,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        while let Some(ready) = self.levels.get_mut(usize::from(level))
            && ready.front_expires_at() <= now
            && ready.front().is_some_and(|front| front.sequence < sequence)
            && let Some(entry) = ready.pop()
        {
            self.forget_ready(&entry);
            self.dead_letter(entry.into_flight(level), DeadLetterReason::Expired, effects);
        }
    }

    fn set_aside_unready(
        &mut self,
        level: u8,
        damaged: DamagedMessage<Message>,
        delivery_count: DeliveryCount,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        self.expire_before(level, damaged.sequence, now, effects);
        let retries = damaged.head.as_ref().map_or(0, |head| head.flags);
        self.set_aside(level, damaged, delivery_count, retries, effects);
    }

    /// A message that the store cannot read goes to the dead letters without its body, if it is known what it was, or
    /// is gone. What may be read after the next start stays in the store until then.
    pub(crate) fn set_aside(
        &mut self,
        level: u8,
        damaged: DamagedMessage<Message>,
        delivery_count: DeliveryCount,
        retries: u8,
        effects: &mut Effects,
    ) {
        let DamagedMessage {
            sequence,
            head,
            is_lasting,
        } = damaged;
        effects.damaged += 1;
        match head.filter(|_| is_lasting) {
            Some(head) => {
                let in_flight = InFlight {
                    message: head.payload,
                    sequence,
                    expires_at: Timestamp::NEVER,
                    delivery_count,
                    level,
                    retries,
                    redelivered: !delivery_count.is_none(),
                    stored: true,
                };
                self.dead_letter(in_flight, DeadLetterReason::Damaged, effects);
            }
            None => {
                self.count_ended(DeadLetterReason::Damaged, false);
                if is_lasting {
                    self.acknowledge_stored(level, sequence);
                }
            }
        }
    }

    pub(crate) fn hold_back(&mut self, mailbox: &Arc<Mailbox>) -> Option<TakenSoFar> {
        let needed = self.consumers.count() > 0
            && !self.lagging
            && self.ready_memory > self.memory.publisher_ahead_bytes as u64 / 2;
        if needed {
            self.held_back.push(Arc::clone(mailbox));
        }
        needed.then_some(TakenSoFar(self.taken_memory))
    }

    /// A publisher has been held back for a while: None if that is over, else how much was taken by now.
    pub(crate) fn stays_held_back(
        &mut self,
        mark: TakenSoFar,
        effects: &mut Effects,
    ) -> Option<TakenSoFar> {
        let ahead = self.memory.publisher_ahead_bytes as u64;
        if self.ready_memory <= ahead / 2 {
            return None;
        }
        if self.taken_memory - mark.0 >= ahead / PROGRESS_SHARE {
            return Some(TakenSoFar(self.taken_memory));
        }
        effects.releases.append(&mut self.held_back);
        self.lagging = true;
        None
    }

    /// A publisher that is held back goes away.
    pub(crate) fn let_go_on(&mut self, mailbox: &Arc<Mailbox>) {
        self.held_back.retain(|held| !Arc::ptr_eq(held, mailbox));
    }
}
