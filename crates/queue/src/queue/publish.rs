//! Messages coming in: limits, sequence numbers, staging, and out again if a consumer waits.

use std::iter::Enumerate;

use leveret_deduplication::Look;
use leveret_message::{Message, Timestamp};
use leveret_store_api::{Change, CommitPoint, Enqueue};

use super::Queue;
use super::delivery_count::DeliveryCount;
use super::effects::{DeadLetter, Effects};
use super::hidden::{HiddenCounts, HiddenTicket};
use super::ready::Entry;
use crate::queue::kind::{Overflow, QueueKind};

/// What became of messages that were to enter a queue.
#[derive(Debug, Default)]
pub struct Entered {
    /// Some are in the queue.
    pub taken: bool,
    /// Some were published before.
    pub known: bool,
    /// A limit keeps some out.
    pub refused: bool,
    /// Some have a time to live, which [begins](super::machine::Machine::begin_times) when they show.
    pub expire: bool,
    /// What is to be dead-lettered for that, once everything shows.
    pub letters: Vec<DeadLetter>,
}

impl Entered {
    /// All are in the queue.
    pub(crate) fn all() -> Entered {
        Entered {
            taken: true,
            ..Entered::default()
        }
    }
}

/// What is published to a queue together, as far as it has not taken it.
#[derive(Debug)]
pub struct Batch<I> {
    messages: Enumerate<I>,
    /// The next one, with its position.
    next: Option<(usize, Message)>,
    /// The queue has stopped: something must be read before it is known what becomes of the rest.
    stopped: bool,
    may_stop: bool,
}

impl<I: Iterator<Item = Message>> Batch<I> {
    /// All of these.
    pub fn of(messages: I) -> Batch<I> {
        Batch {
            messages: messages.enumerate(),
            next: None,
            stopped: false,
            may_stop: true,
        }
    }

    /// Whether it is to be published again once what the queue wanted is read.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What the queue wanted could not be read: it is not to stop for that again.
    pub fn go_on(&mut self) {
        self.may_stop = false;
    }

    /// What is left of it, for who never stops.
    pub(crate) fn messages(&mut self) -> impl Iterator<Item = Message> {
        let next = self.next.take().into_iter();
        next.chain(self.messages.by_ref())
            .map(|(_, message)| message)
    }
}

impl Queue {
    /// Takes a batch of messages. The positions of those refused by the queue's limit
    /// (`x-overflow` reject-publish) are added to `rejected`.
    pub(crate) fn publish(
        &mut self,
        batch: &mut Batch<impl Iterator<Item = Message>>,
        now: Timestamp,
        rejected: &mut Vec<usize>,
        effects: &mut Effects,
    ) {
        batch.stopped = false;
        if self.deleted {
            self.stage(effects);
            return;
        }
        self.keep_time(now);
        let limited = self.options.has_length_limit();
        let mut duplicates = false;
        let messages = &mut batch.messages;
        let first = match batch.next.take() {
            None => {
                let count = messages.size_hint().1.unwrap_or_default();
                self.deliver_past_ready(messages, count, now, effects)
            }
            next => next,
        };
        if let [level] = self.levels.as_mut_slice() {
            level.reserve(messages.size_hint().1.unwrap_or_default());
        }
        for (position, message) in first.into_iter().chain(messages) {
            if self.deduplication.is_some() && !self.admits(&message, Look::Published, now) {
                duplicates = true;
                continue;
            }
            let refuses = limited && self.options.overflow != Overflow::DropHead;
            if (refuses || (limited && self.expiring)) && self.is_full_for(&message) {
                // Consumers with room take what came before it first, and what has no time left makes room.
                self.commit_enqueued(effects);
                self.dispatch(now, effects);
                if self.dropping.is_none() {
                    self.expire_heads(now, effects);
                }
                if batch.may_stop && self.expires_unread() && self.is_full_for(&message) {
                    effects.read_first = true;
                    batch.next = Some((position, message));
                    batch.stopped = true;
                    break;
                }
                if refuses && self.is_full_for(&message) {
                    self.refuse(message, effects);
                    rejected.push(position);
                    continue;
                }
            }
            let stored = self.enqueue(message, now);
            self.remember_admitted(stored, now);
            if limited && self.is_over() {
                // A consumer with room takes the message before the limit does.
                self.commit_enqueued(effects);
                self.dispatch(now, effects);
                self.drop_what_nobody_awaits(effects);
                if effects.read_first && batch.may_stop {
                    batch.stopped = true;
                    break;
                }
            }
        }
        self.commit_enqueued(effects);
        if duplicates {
            // Confirmed when what they are duplicates of is durable.
            effects.point = effects.point.max(self.store.stage(&mut Vec::new()));
        }
        self.dispatch(now, effects);
        if self.expiring && self.dropping.is_none() {
            // A time to live of 0 is over where nobody waits.
            self.expire_heads(now, effects);
            self.stage(effects);
        }
        self.page_out(effects);
        self.ask_deadline(now, effects);
        self.consider_holding_back(effects);
    }

    /// Takes messages without showing them, as far as they are new and no limit refuses them; what makes them durable is
    /// added to `changes`, to be staged with what else enters under `ticket`.
    pub(crate) fn enter(
        &mut self,
        ticket: HiddenTicket,
        messages: impl Iterator<Item = Message>,
        look: Look,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
        effects: &mut Effects,
    ) -> Entered {
        if self.deleted {
            return Entered::all();
        }
        self.keep_time(now);
        let mut entered = Entered::default();
        for message in messages {
            self.hide(ticket, message, look, now, &mut entered, effects);
        }
        changes.append(&mut self.changes);
        entered.expire = self.expiring && entered.taken;
        entered
    }

    fn hide(
        &mut self,
        ticket: HiddenTicket,
        message: Message,
        look: Look,
        now: Timestamp,
        entered: &mut Entered,
        effects: &mut Effects,
    ) {
        if self.deduplication.is_some() && !self.admits(&message, look, now) {
            entered.known = true;
            return;
        }
        let refuses =
            self.options.has_length_limit() && self.options.overflow != Overflow::DropHead;
        if refuses && self.is_full_for(&message) {
            self.refuse(message, effects);
            entered.refused = true;
            return;
        }
        entered.taken = true;
        let index = self.level_of(&message);
        let body_bytes = message.body_bytes();
        if refuses {
            let expires_at = message.expires_at(now, self.options.message_ttl_ms);
            self.promise(body_bytes, expires_at.is_none_or(|at| at > now));
        }
        let sequence = self.levels[index].peek_next();
        let stored = self.enqueue(message, now);
        self.remember_admitted(stored, now);
        self.levels[index].hide(ticket, sequence, body_bytes);
        self.hidden.add(HiddenCounts {
            messages: 1,
            body_bytes,
        });
    }

    /// What entered under `ticket` is staged at `point`.
    pub(crate) fn staged(&mut self, ticket: HiddenTicket, point: CommitPoint) {
        if self.deleted {
            return;
        }
        for level in &mut self.levels {
            level.hidden_staged_at(ticket, point);
        }
    }

    /// What entered under `ticket` is about to [show](Queue::show): the times to live of so many of its messages begin.
    /// Answers how many these were, none if all have begun or nothing here has one.
    pub(crate) fn begin_times(
        &mut self,
        ticket: HiddenTicket,
        most: usize,
        now: Timestamp,
    ) -> usize {
        if !self.expiring {
            return 0;
        }
        let time_to_live_ms = self.options.message_ttl_ms;
        let most = most as u64;
        let mut left = most;
        for level in &mut self.levels {
            left -= level.begin_each(ticket, left, |entry: &mut Entry| {
                let expires_at = entry.message.expires_at(now, time_to_live_ms);
                entry.expires_at = expires_at.unwrap_or(Timestamp::NEVER);
            });
        }
        usize::try_from(most - left).unwrap_or(usize::MAX)
    }

    /// Shows what entered under `ticket` and is staged. It is delivered by [`Queue::deliver_shown`].
    pub(crate) fn show(&mut self, ticket: HiddenTicket) {
        for level in &mut self.levels {
            let shown = level.show(ticket);
            self.hidden.subtract(shown);
            self.promised.subtract_up_to(shown);
        }
    }

    /// Some of what was hidden is not any more.
    pub(crate) fn deliver_shown(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.hidden.messages == 0 {
            self.promised = HiddenCounts::default();
        }
        self.deliver_then_limit(now, effects);
        self.page_out(effects);
        self.ask_deadline(now, effects);
        self.consider_holding_back(effects);
    }

    /// Whether a message is to survive a restart in this queue.
    pub(crate) fn keeps(&self, message: &Message) -> bool {
        self.keeps_if(message.is_persistent())
    }

    /// Whether one that is persistent, or not, is to.
    #[inline]
    pub(crate) fn keeps_if(&self, persistent: bool) -> bool {
        // rabbitmq: quorum queues persist whatever they are given
        self.durable && (persistent || self.options.kind == QueueKind::Quorum)
    }

    /// Adds a message behind all others; answers whether it survives a restart.
    #[inline]
    fn enqueue(&mut self, message: Message, now: Timestamp) -> bool {
        let index = self.level_of(&message);
        let stored = self.keeps(&message) && !self.store.is_volatile();
        let store = &self.store;
        let level = &mut self.levels[index];
        let sequence = level.next_sequence(now);
        let expires_at = message
            .expires_at(now, self.options.message_ttl_ms)
            .unwrap_or(Timestamp::NEVER);
        self.expiring |= expires_at != Timestamp::NEVER;
        if stored {
            let log = *level.log.get_or_insert_with(|| store.allocate_log());
            self.changes.push(Change::Enqueue(Enqueue {
                log,
                sequence,
                flags: 0,
                time_ms: expires_at.0,
                transient: false,
                payload: message.clone(),
            }));
        }
        self.ready += 1;
        self.ready_memory += message.memory_bytes() as u64;
        self.ready_body_bytes += message.body_bytes();
        self.top = self.top.max(index);
        let entry = Entry {
            sequence,
            message,
            expires_at,
            delivery_count: DeliveryCount::NONE,
            retries: 0,
            redelivered: false,
            stored,
        };
        level.push(entry, self.memory.head_bytes);
        stored
    }

    pub(super) fn commit_enqueued(&mut self, effects: &mut Effects) {
        if self.changes.is_empty() {
            return;
        }
        self.stage(effects);
        for level in &mut self.levels {
            if level.log.is_some() {
                level.staged_at(effects.point);
            }
        }
    }

    /// The level a message belongs to: its priority, at most the queue's maximum.
    #[inline]
    fn level_of(&mut self, message: &Message) -> usize {
        match self.options.max_priority {
            None => 0,
            Some(max) => self.level_up_to(message, max),
        }
    }

    fn level_up_to(&mut self, message: &Message, max: u8) -> usize {
        let index = usize::from(message.priority().unwrap_or(0).min(max));
        while self.levels.len() <= index {
            self.levels.push(super::Level::default());
        }
        index
    }

    pub(crate) fn page_out(&mut self, effects: &mut Effects) {
        if !self.can_spill() {
            return;
        }
        let durable = self.store.durable_point();
        let mut spilled = false;
        self.leaving = false;
        for level in &mut self.levels {
            let store = &self.store;
            let before = self.changes.len();
            self.leaving |= level.page_out(
                self.memory.tail_bytes,
                durable,
                || store.allocate_log(),
                &mut self.changes,
            );
            spilled |= self.changes.len() > before;
        }
        if spilled {
            let mut spilling = Effects::default();
            self.stage(&mut spilling);
            for level in &mut self.levels {
                if level.log.is_some() {
                    level.staged_at(spilling.point);
                }
            }
            effects.spilled = effects.spilled.max(spilling.point);
        }
        let window = self.memory.tail_bytes;
        self.crowded = self.levels.iter().any(|level| level.is_crowded(window));
        self.page_out_returned();
        self.page_out_retries();
        self.consider_page_in(effects);
    }

    /// Publishers are held back while a consumer that keeps up has a full mailbox before it.
    fn consider_holding_back(&mut self, effects: &mut Effects) {
        let ahead = self.memory.publisher_ahead_bytes as u64;
        if self.consumers.count() > 0 && !self.lagging && self.ready_memory > ahead {
            effects.hold_back = true;
        }
    }
}
