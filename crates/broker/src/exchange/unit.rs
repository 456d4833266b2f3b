//! Messages enter queues and exchanges that keep something, together with what becomes durable with them: one unit of
//! the store. Transactions, dead letters, delays that end, histories and publishes past exchanges that keep something
//! are such units; only plain publishes enter a queue without one.
//!
//! ```text
//!  enter:  into the queues, hidden; into the logs of exchanges   (each queue in turn) ─┐ changes
//!  settle: what becomes durable with that                                             ─┤
//!  stage:  everything at once                                                          v
//!  show:   delays begin; the queues show what they hide, then deliver it
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_deduplication::Look;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::effects::{DeadLetter, Effects};
use leveret_queue::queue::hidden::HiddenTicket;
use leveret_routing::QueueId;
use leveret_store_api::failpoint::{self, Failpoint};
use leveret_store_api::{Change, CommitPoint};
use rustc_hash::FxHashSet;

use super::keeper::Opinion;
use super::{DelayedId, StatefulExchange};
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

/// A message that waits, once it is staged.
struct Delay {
    exchange: Arc<StatefulExchange>,
    place: DelayedId,
    message: Message,
}

/// What enters queues and exchanges as one.
#[derive(Default)]
pub struct Unit {
    ticket: HiddenTicket,
    /// What makes all of it durable, to be staged as one.
    pub changes: Vec<Change<Message>>,
    /// When it is.
    point: CommitPoint,
    /// Queues with something hidden.
    targets: Once,
    /// Those of them in which something of it may have a time to live.
    expiring: Once,
    delays: VecDeque<Delay>,
    refused: bool,
    known: bool,
    letters: VecDeque<RefusedLetters>,
    /// So many of the targets know where it is staged, show what they hide, have delivered it.
    told: usize,
    /// In so many of those that are expiring all times to live have begun.
    begun: usize,
    shown: usize,
    delivered: usize,
}

/// What a queue dead-letters of what its limit refuses, kept back until everything shows.
type RefusedLetters = (QueueHandle, Vec<DeadLetter>);

/// What it costs to lock a queue in which all times to live have begun, where the time of a message costs 1.
const BEGUN_COST: usize = 4;
/// Queues up to this number are found by looking at each.
const SCANNED_MAX: usize = 8;

/// Queues, each of them once.
#[derive(Default)]
struct Once {
    queues: Vec<QueueHandle>,
    /// These, where they are many.
    known: FxHashSet<QueueId>,
}

impl Once {
    fn add(&mut self, queue: &QueueHandle) {
        let id = queue.id();
        let mut ids = self.queues.iter().map(QueueHandle::id);
        let is_new = if self.queues.len() <= SCANNED_MAX {
            !ids.any(|other| other == id)
        } else {
            if self.known.is_empty() {
                self.known.extend(ids);
            }
            self.known.insert(id)
        };
        if is_new {
            self.queues.push(queue.clone());
        }
    }

    /// All but the first `from`.
    fn behind(&self, from: usize) -> &[QueueHandle] {
        self.queues.get(from..).unwrap_or_default()
    }
}

/// What became of a unit that shows at once.
pub struct Shown {
    /// When it is durable.
    pub point: CommitPoint,
    /// A queue's limit refused a message, or its producer left out numbers.
    pub refused: bool,
    /// A message was published before.
    pub duplicate: bool,
    /// A queue that wants its publisher held back.
    pub hold_back: Option<QueueHandle>,
    /// What the queues left to be done.
    pub left: Vec<(QueueHandle, Effects)>,
}

impl Unit {
    /// One with nothing in it yet but what becomes durable with it.
    pub fn new(ticket: HiddenTicket, settles: Vec<Change<Message>>) -> Unit {
        Unit {
            ticket,
            changes: settles,
            ..Unit::default()
        }
    }

    /// What it enters queues under.
    pub fn ticket(&self) -> HiddenTicket {
        self.ticket
    }

    /// Has a queue take messages; answers whether a limit refused some.
    pub fn enter(
        &mut self,
        queue: &QueueHandle,
        messages: impl Iterator<Item = Message>,
        look: Look,
        now: Timestamp,
    ) -> bool {
        let entered = queue.enter(self.ticket, messages, look, now, &mut self.changes);
        self.known |= entered.known;
        self.refused |= entered.refused;
        if !entered.letters.is_empty() {
            self.letters.push_back((queue.clone(), entered.letters));
        }
        if entered.taken {
            self.targets.add(queue);
        }
        if entered.expire {
            self.expiring.add(queue);
        }
        entered.refused
    }

    /// Has an exchange keep a message.
    pub(super) fn keep(
        &mut self,
        exchange: Arc<StatefulExchange>,
        message: &Message,
        opinion: Opinion,
    ) {
        let keeper = exchange.keeper.as_ref();
        let place = keeper.and_then(|keeper| keeper.keep(message, opinion, &mut self.changes));
        if let Some(place) = place {
            self.delays.push_back(Delay {
                exchange,
                place,
                message: message.clone(),
            });
        }
    }

    /// A message was refused, before any queue was asked.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Somebody knows a message already.
    pub(super) fn set_known(&mut self) {
        self.known = true;
    }

    /// Whether a message was refused so far.
    pub fn has_refused(&self) -> bool {
        self.refused
    }

    /// Has `stage` stage everything.
    pub fn stage(&mut self, stage: impl FnOnce(&mut Vec<Change<Message>>) -> CommitPoint) {
        self.point = stage(&mut self.changes);
    }

    /// When it is durable.
    pub fn point(&self) -> CommitPoint {
        self.point
    }

    /// It is staged: so many of the messages that are held back begin to wait. Answers whether others are left.
    pub fn begin_delays(&mut self, vhost: &VirtualHost, most: usize, now: Timestamp) -> bool {
        let count = self.delays.len().min(most);
        for delay in self.delays.drain(..count) {
            if let Some(delayed) = delay.exchange.delayed() {
                let durable = vhost.services.store.durable_point();
                let todo = delayed.begin(delay.place, delay.message, self.point, now, durable);
                // None: the exchange was deleted meanwhile, and the store has nothing of it.
                if let Some(todo) = todo {
                    delay.exchange.look_after(vhost, todo);
                }
            }
        }
        !self.delays.is_empty()
    }

    /// Tells so many of the queues where it is staged; answers how many, none if all know.
    pub fn tell_some(&mut self, most: usize) -> usize {
        let untold = self.targets.behind(self.told).iter().take(most);
        let told = untold.map(|queue| queue.staged(self.ticket, self.point));
        let told = told.count();
        self.told += told;
        told
    }

    /// It is about to show: times to live begin, of at most `most` messages. Answers what that cost, where a message
    /// costs 1; none if all have begun.
    pub(crate) fn begin_times(&mut self, most: usize, now: Timestamp) -> usize {
        let mut left = most;
        while let Some(queue) = self.expiring.behind(self.begun).first() {
            let begun = queue.begin_times(self.ticket, left, now);
            left -= begun;
            if left == 0 {
                break;
            }
            self.begun += 1;
            left = left.saturating_sub(BEGUN_COST);
        }
        most - left
    }

    /// Has so many of the queues show what they hide; answers how many, none if all do. They are delivered when all do:
    /// nobody sees a part of it.
    pub(crate) fn show_some(&mut self, most: usize) -> usize {
        let unshown = self.targets.behind(self.shown);
        if !unshown.is_empty() {
            failpoint::reached(Failpoint::BeforeReveal);
        }
        let some = unshown.iter().take(most);
        let shown = some.map(|queue| queue.show(self.ticket)).count();
        self.shown += shown;
        shown
    }

    /// Has the next queue deliver what it shows; answers what that leaves to be done.
    pub(crate) fn deliver_next(&mut self, now: Timestamp) -> Option<(QueueHandle, Effects)> {
        let queue = self.targets.behind(self.delivered).first()?;
        self.delivered += 1;
        Some((queue.clone(), queue.deliver_shown(now)))
    }

    /// Has the next dead letters of what was refused go on; answers how many, and what that leaves to be done.
    pub(crate) fn send_next(&mut self, now: Timestamp) -> Option<(usize, QueueHandle, Effects)> {
        let (queue, letters) = self.letters.pop_front()?;
        let count = letters.len();
        let effects = queue.send(letters, now);
        Some((count, queue, effects))
    }

    /// Stages everything, and has it show, durable or not.
    pub(crate) fn finish(mut self, vhost: &VirtualHost, now: Timestamp) -> Shown {
        self.stage_alone(vhost);
        self.show_at_once(vhost, now)
    }

    /// Stages everything, if there is something.
    pub(super) fn stage_alone(&mut self, vhost: &VirtualHost) {
        // Nobody waits for what changes nothing; a duplicate waits for what it is a duplicate of.
        if self.known || !self.changes.is_empty() {
            self.stage(|changes| vhost.services.store.stage(changes));
        }
    }

    /// Has the next queue show and deliver what it hides, durable or not; answers what that leaves to be done.
    pub(super) fn show_next(&mut self, now: Timestamp) -> Option<(QueueHandle, Effects)> {
        let queue = self.targets.behind(self.delivered).first()?;
        self.delivered += 1;
        let effects = queue.show_staged(self.ticket, self.point, now);
        Some((queue.clone(), effects))
    }

    /// A message was published before.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// It is staged, and shows, durable or not.
    pub(crate) fn show_at_once(mut self, vhost: &VirtualHost, now: Timestamp) -> Shown {
        self.begin_delays(vhost, usize::MAX, now);
        let mut left = Vec::with_capacity(self.targets.queues.len());
        while let Some((_, queue, effects)) = self.send_next(now) {
            left.push((queue, effects));
        }
        let mut hold_back = None;
        for queue in self.targets.queues {
            let effects = queue.show_staged(self.ticket, self.point, now);
            if effects.hold_back {
                hold_back = Some(queue.clone());
            }
            left.push((queue, effects));
        }
        Shown {
            point: self.point,
            refused: self.refused,
            duplicate: self.known,
            hold_back,
            left,
        }
    }
}
