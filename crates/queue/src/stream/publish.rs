//! Messages coming into a stream, and old ones going.

use leveret_message::{Message, Timestamp};
use leveret_store_api::{Change, CommitPoint, Enqueue, Sequence};

use super::Stream;
use super::readers::Standing;
use super::tail::stored_bytes;
use crate::queue::effects::Effects;
use crate::queue::hidden::HiddenTicket;
use crate::queue::publish::Entered;

impl Stream {
    /// Appends a batch of messages.
    pub(crate) fn publish(
        &mut self,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if !self.deleted {
            self.keep_time(now);
            for message in messages {
                self.append(message, now);
            }
        }
        self.stage(effects);
        self.tail.staged(effects.point);
        self.settle_down(now, effects);
    }

    /// Appends messages; what makes them durable is added to `changes`, to be staged with what else enters under
    /// `ticket`. Until then they, and all behind them, are not seen.
    pub(crate) fn enter(
        &mut self,
        ticket: HiddenTicket,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
    ) -> Entered {
        if !self.deleted {
            self.keep_time(now);
            for message in messages {
                self.append(message, now);
            }
            self.tail.hide(ticket);
            changes.append(&mut self.changes);
        }
        Entered::all()
    }

    /// What was appended under `ticket` is staged at `point`.
    pub(crate) fn staged(&mut self, ticket: HiddenTicket, point: CommitPoint) {
        self.tail.staged_late(ticket, point);
    }

    /// Shows what has become durable.
    pub(crate) fn reveal(&mut self, now: Timestamp, effects: &mut Effects) {
        self.durable_asked = false;
        self.settle_down(now, effects);
    }

    /// The time has come to look at the oldest messages.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp, effects: &mut Effects) {
        self.scheduled = None;
        self.retain(now, effects);
    }

    fn append(&mut self, message: Message, now: Timestamp) {
        let offset = self.tail.next();
        let time = now.max(self.last_time);
        self.last_time = time;
        if !self.store.is_volatile() {
            let store = &self.store;
            let log = *self.log.get_or_insert_with(|| store.allocate_log());
            self.changes.push(Change::Enqueue(Enqueue {
                log,
                sequence: Sequence(offset),
                flags: 0,
                time_ms: time.0,
                transient: false,
                payload: message.clone(),
            }));
        }
        self.segments.add(offset, stored_bytes(&message), time);
        self.tail.push(message, time);
    }

    fn stage(&mut self, effects: &mut Effects) {
        if self.changes.is_empty() {
            return;
        }
        let point = self.store.stage(&mut self.changes);
        effects.point = effects.point.max(point);
        if self.changes.capacity() > 1024 {
            self.changes = Vec::new();
        }
    }

    /// Delivers what is visible, then lets go of what is too old, too much, or only in the way.
    fn settle_down(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.deleted {
            return;
        }
        self.dispatch(effects);
        self.retain(now, effects);
        if !self.store.is_volatile() {
            self.tail.shrink(self.memory.tail_bytes);
        }
    }

    /// Removes from the front what retention does not allow. Nothing that is not durable is removed.
    pub(super) fn retain(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.deleted {
            return;
        }
        if let Some((from, until)) = self.segments.retain(now, self.tail.visible()) {
            self.tail.forget_below(until);
            if let Some(log) = self.log.filter(|_| !self.store.is_volatile()) {
                self.changes.push(Change::Acknowledge {
                    log,
                    first: Sequence(from),
                    count: until - from,
                });
                // Nobody waits for this to be durable.
                let point = effects.point;
                self.stage(effects);
                effects.point = point;
            }
        }
        if self.segments.undated().is_some() {
            self.ask_page_in(effects);
        }
        self.ask_deadline(now, effects);
    }

    fn ask_deadline(&mut self, now: Timestamp, effects: &mut Effects) {
        let Some(deadline) = self.segments.front_expires_at() else {
            return;
        };
        let deadline = deadline.max(now + 1);
        if deadline < self.scheduled.unwrap_or(Timestamp::NEVER) {
            self.scheduled = Some(deadline);
            effects.deadline = Some(deadline);
        }
    }

    /// Asks to be told when the next messages are durable, if somebody waits for them.
    pub(super) fn ask_durable(&mut self, effects: &mut Effects) {
        if self.durable_asked {
            return;
        }
        let Some(point) = self.tail.awaited() else {
            return;
        };
        let mut readers = self.readers.iter();
        if self.segments.is_over_bytes()
            || readers.any(|reader| reader.standing == Standing::Messages)
        {
            self.durable_asked = true;
            effects.durable_at = Some(point);
        }
    }
}
