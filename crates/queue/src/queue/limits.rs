//! Length limits, time to live and the queue's own expiry.
//!
//! What is over a limit goes before anybody gets it and before its time is over, wherever its bytes are. Where only the
//! store has them the queue has decided, and stands still until they are read: `dropping` is set, nothing is delivered,
//! expires or is got meanwhile, and the handle reads at once (`Effects::read_first`).

use leveret_message::{Message, Timestamp};
use leveret_store_api::Sequence;
use leveret_store_api::broken::without;

use super::Queue;
use super::delivery_count::DeliveryCount;
use super::effects::{DeadLetter, DeadLetterReason, Effects};
use super::hidden::HiddenCounts;
use super::options::QueueOptions;
use crate::mailbox::InFlight;
use crate::queue::kind::Overflow;

/// So many messages expire or are dropped for a limit before others may have the queue.
const SLICE: usize = 4096;
/// When a queue without further publishes looks again whether messages can leave its memory.
const RELIEF_MS: u64 = 50;

/// The queue is over a limit, and what is to be dropped for that has not all been: it must be read first, or is much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropping {
    /// What comes to the head meanwhile and had expired by then goes for that, and not for the limit.
    expired_by: Timestamp,
}

impl Dropping {
    /// For the limit alone.
    const ALL: Dropping = Dropping {
        expired_by: Timestamp(0),
    };
}

impl Queue {
    /// Whether this message would bring the queue over a limit. What goes on as soon as it shows is not in its way.
    pub(crate) fn is_full_for(&self, message: &Message) -> bool {
        let ready = without(self.ready, self.promised.messages, "ready");
        let bytes = without(
            self.ready_body_bytes,
            self.promised.body_bytes,
            "bytes of the ready",
        );
        let options = &self.options;
        options.max_length.is_some_and(|max| ready >= max)
            || options
                .max_length_bytes
                .is_some_and(|max| bytes + message.body_bytes() > max)
    }

    /// A message with a body of so many bytes is about to be hidden behind all others: whether it will go on as soon as
    /// it shows, because a consumer waits that has room for it and all before it, or because it lives for no time and
    /// all before it are gone.
    pub(crate) fn promise(&mut self, body_bytes: u64, lives_on: bool) {
        let stays = self.ready > self.promised.messages;
        if self.consumers.appetite() > self.ready || !(stays || lives_on) {
            self.promised.add(HiddenCounts {
                messages: 1,
                body_bytes,
            });
        }
    }

    /// Whether the queue is over a limit that is kept by dropping the oldest. What must not be seen yet
    /// counts when it shows, what comes back a part at a time when all of it is back.
    pub(crate) fn is_over(&self) -> bool {
        if self.options.overflow != Overflow::DropHead || self.givers.are_waited_for() {
            return false;
        }
        let bytes = self.visible_body_bytes();
        let options = &self.options;
        options.max_length.is_some_and(|max| self.visible() > max)
            || options.max_length_bytes.is_some_and(|max| bytes > max)
    }

    /// Drops from the head until the limits hold. With another overflow behaviour a queue may stay over a limit that came
    /// later than its messages. Of very many some are left for the deadline that is asked for next.
    pub(crate) fn drop_head(&mut self, effects: &mut Effects) {
        let dropping = self.dropping.unwrap_or(Dropping::ALL);
        self.drop_as(dropping, effects);
    }

    /// Goes on with what was decided; answers whether it is not done.
    pub(crate) fn is_still_dropping(&mut self, effects: &mut Effects) -> bool {
        if let Some(dropping) = self.dropping
            && !self.givers.are_waited_for()
        {
            self.drop_as(dropping, effects);
        }
        self.dropping.is_some()
    }

    fn drop_as(&mut self, dropping: Dropping, effects: &mut Effects) {
        self.dropping = None;
        let mut left = SLICE;
        loop {
            if dropping.expired_by > Dropping::ALL.expired_by && self.expiring {
                self.expire_heads(dropping.expired_by, effects);
            }
            if !self.is_over() || self.front_is_hidden() {
                break;
            }
            if left == 0 {
                self.dropping = Some(dropping);
                break;
            }
            if !self.discard_front(DeadLetterReason::MaxLength, effects) {
                self.dropping = Some(dropping);
                effects.read_first = true;
                break;
            }
            left -= 1;
            self.read_ahead_to_drop(effects);
        }
        self.stage(effects);
    }

    /// Somebody waits for the next message, which must be read, so that no limit takes it.
    fn is_awaited_unread(&mut self) -> bool {
        self.consumers.turn().is_some() && self.is_front_unread()
    }

    /// As [`Queue::drop_head`], once consumers with room have taken what they can.
    pub(super) fn drop_what_nobody_awaits(&mut self, effects: &mut Effects) {
        if self.dropping.is_none() && self.is_awaited_unread() {
            effects.read_first = true;
        } else {
            self.drop_head(effects);
        }
    }

    /// A message that the limit keeps out (`x-overflow` reject-publish and reject-publish-dlx).
    pub(crate) fn refuse(&mut self, message: Message, effects: &mut Effects) {
        self.statistics.record().totals.refused += 1;
        if self.options.overflow == Overflow::RejectPublishDeadLetter
            && self.options.dead_letter_exchange.is_some()
        {
            let in_flight = InFlight {
                message,
                sequence: Sequence(u64::MAX),
                expires_at: Timestamp::NEVER,
                delivery_count: DeliveryCount::NONE,
                level: 0,
                retries: 0,
                redelivered: false,
                stored: false,
            };
            self.count_ended(DeadLetterReason::MaxLength, true);
            effects.dead_letters.push(DeadLetter {
                in_flight,
                reason: DeadLetterReason::MaxLength,
                log: None,
            });
        }
    }

    /// Drops what has expired, and says whether the queue itself has (`x-expires`).
    pub(crate) fn handle_timeout(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.deleted {
            return;
        }
        if let Some(later) = self.scheduled.filter(|at| *at > now) {
            // Woken by a deadline that has moved away.
            effects.deadline = Some(later);
            return;
        }
        self.scheduled = None;
        self.keep_time(now);
        if self.unused_until().is_some_and(|deadline| deadline <= now) {
            effects.delete_queue = true;
            return;
        }
        let came_back = self.return_due(now);
        self.expire_keys(now);
        if !self.is_still_dropping(effects) {
            self.expire_heads(now, effects);
        }
        self.stage(effects);
        self.deliver_returned(came_back, now, effects);
        self.page_out(effects);
        self.ask_deadline(now, effects);
    }

    /// Messages came into sight: consumers with room take them before their time is over (0 is over where nobody
    /// waits), and both come before a limit.
    pub(crate) fn deliver_then_limit(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.is_still_dropping(effects) {
            return;
        }
        self.dispatch(now, effects);
        if !self.expiring && !self.is_over() {
            return;
        }
        self.expire_heads(now, effects);
        if self.is_over() && self.is_awaited_unread() {
            effects.read_first = true;
            return;
        }
        self.drop_as(Dropping { expired_by: now }, effects);
        self.dispatch(now, effects);
    }

    /// Each level's head is looked at: a message of low priority expires on time as well. Of very many some are left
    /// for the deadline that is asked for next.
    pub(crate) fn expire_heads(&mut self, now: Timestamp, effects: &mut Effects) {
        for index in 0..self.levels.len() {
            let mut left = SLICE;
            while left > 0 && self.levels[index].front_expires_at() <= now {
                left -= 1;
                let Some(entry) = self.levels[index].pop() else {
                    break;
                };
                self.forget_ready(&entry);
                let level = u8::try_from(index).unwrap_or(u8::MAX);
                self.dead_letter(entry.into_flight(level), DeadLetterReason::Expired, effects);
            }
        }
    }

    /// Other options, by policy; they are in force at once. Messages already here keep the time to
    /// live they came with.
    pub(crate) fn set_options(
        &mut self,
        options: QueueOptions,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if self.deleted || self.options == options {
            return;
        }
        if self.options.expires_ms != options.expires_ms {
            // rabbitmq: a new expiry starts from now
            self.last_used = now;
        }
        self.options = options;
        self.apply_deduplication(false);
        let waited = self.dropping.is_some();
        self.drop_head(effects);
        if waited {
            self.dispatch(now, effects);
        }
        self.ask_deadline(now, effects);
    }

    fn unused_until(&self) -> Option<Timestamp> {
        let expires_ms = self.options.expires_ms?;
        (self.consumers.count() == 0).then(|| self.last_used + expires_ms)
    }

    /// The queue was declared, consumed from or got from: its expiry starts anew.
    pub(crate) fn touch(&mut self, now: Timestamp, effects: &mut Effects) {
        self.last_used = now;
        self.ask_deadline(now, effects);
    }

    /// Asks for [`Queue::handle_timeout`] when it is needed earlier than asked before.
    pub(crate) fn ask_deadline(&mut self, now: Timestamp, effects: &mut Effects) {
        let retry = self.retries.earliest();
        let keys = self.keys_expire_at(now);
        if !self.expiring
            && !self.crowded
            && self.dropping.is_none()
            && self.options.expires_ms.is_none()
            && retry.is_none()
            && keys.is_none()
        {
            return;
        }
        let fronts = self.levels.iter_mut().map(super::Level::front_expires_at);
        let earliest = fronts.min().unwrap_or(Timestamp::NEVER);
        let drops = self.dropping.is_some() && !effects.read_first;
        let relief = if drops || self.leaving {
            now
        } else if self.crowded {
            now + RELIEF_MS
        } else {
            Timestamp::NEVER
        };
        let deadline = earliest
            .min(relief)
            .min(retry.unwrap_or(Timestamp::NEVER))
            .min(keys.unwrap_or(Timestamp::NEVER))
            .min(self.unused_until().unwrap_or(Timestamp::NEVER))
            .max(now);
        if deadline < self.scheduled.unwrap_or(Timestamp::NEVER) {
            self.scheduled = Some(deadline);
            effects.deadline = Some(deadline);
        }
    }
}
