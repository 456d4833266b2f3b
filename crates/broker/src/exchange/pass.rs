//! A message passes exchanges that keep something, and enters its queues: all of it in one commit.
//!
//! ```text
//!  judge: which queues, and what is kept where    (topology)
//!  take:  into the queues, hidden                 (each queue in turn) ─┐ changes
//!         into the logs of exchanges                                   ─┤
//!  stage: everything at once                                            v
//!  show:  the queues deliver; delays begin
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_deduplication::{Look, Marks, Number, Standing};
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::effects::{DeadLetter, Effects};
use leveret_queue::queue::hidden::HiddenTicket;
use leveret_queue::queue::publish::Taken;
use leveret_routing::{Exchange, QueueId, Route, RouteInput};
use leveret_store_api::{Change, CommitPoint};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::gates::{Gated, Gatekeeper, Gates};
use super::{Attended, DelayedPlace, delay, history, rewrite};
use crate::exchange::passing::Passing;
use crate::handle::QueueHandle;
use crate::vhost::{Targets, VirtualHost, carbon_copies};

/// Where a message goes, and which exchanges on its way keep something of it.
#[derive(Default)]
pub struct Verdict {
    targets: Targets,
    delays: SmallVec<[(Arc<Attended>, Timestamp); 1]>,
    marks: SmallVec<[(Arc<Attended>, Marks); 1]>,
    /// Exchanges that remember it.
    histories: SmallVec<[Arc<Attended>; 1]>,
    /// What its producer's latest number will be, and for whom.
    numbers: SmallVec<[(Gatekeeper, Number); 1]>,
    /// Somebody on its way knows it already.
    duplicate: bool,
    /// Its producer left out numbers, and is to hear of it.
    gap: bool,
}

impl Verdict {
    /// Whether it was published before.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// Looks at a producer's number; false: the message is not for this one.
    fn count(
        &mut self,
        keeper: Gatekeeper,
        number: Number,
        strict: bool,
        gates: &mut Gates<'_>,
    ) -> bool {
        // None: the gate is there only since a moment ago.
        let standing = gates
            .producers(&keeper)
            .map(|producers| producers.judge(&number));
        match standing {
            Some(Standing::Past) => self.duplicate = true,
            Some(Standing::Gap) if strict => self.gap = true,
            _ => {
                self.numbers.push((keeper, number));
                return true;
            }
        }
        false
    }

    /// Only queues that `admits` names get it.
    pub fn retain(&mut self, admits: impl Fn(&QueueHandle) -> bool) {
        self.targets.retain(|queue| admits(queue));
    }
}

/// A message held back, once it is staged.
struct Hold {
    exchange: Arc<Attended>,
    place: DelayedPlace,
    message: Message,
}

/// What was taken and is to be shown once it is staged.
pub struct Plan {
    ticket: HiddenTicket,
    /// What makes all of it durable, to be staged as one.
    pub changes: Vec<Change<Message>>,
    /// Queues with something hidden.
    targets: Vec<QueueHandle>,
    /// These, where they are many.
    known_targets: FxHashSet<QueueId>,
    holds: VecDeque<Hold>,
    refused: bool,
    /// A queue knows a message already.
    duplicate: bool,
    letters: Vec<RefusedLetters>,
}

/// What a queue dead-letters of what its limit refuses, kept back until everything shows.
pub type RefusedLetters = (QueueHandle, Vec<DeadLetter>);

/// Targets up to this number are found by looking at each.
const SCANNED_TARGETS_MAX: usize = 8;

/// What became of a message.
pub struct Passed {
    /// When it is durable.
    pub point: CommitPoint,
    /// A queue's limit refused it, or its producer left out numbers.
    pub refused: bool,
    /// It was published before.
    pub duplicate: bool,
    /// A queue that wants its publisher held back.
    pub hold: Option<QueueHandle>,
    /// What the queues left to be done.
    pub left: Vec<(QueueHandle, Effects)>,
}

impl VirtualHost {
    /// Has a message pass: `settles` becomes durable in the same commit, and only queues that
    /// `admits` names get it.
    pub fn pass(
        &self,
        passing: &Passing<'_>,
        settles: Vec<Change<Message>>,
        admits: &dyn Fn(&QueueHandle) -> bool,
        now: Timestamp,
    ) -> Passed {
        let mut gated = Gated::new();
        self.gates_on_the_way(passing, &mut gated);
        let mut gates = Gates::lock(&mut gated);
        let mut verdict = self.judge(passing, &mut gates, now);
        verdict.retain(admits);
        let mut plan = Plan::new(self.services.next_ticket(), settles);
        plan.take(verdict, passing, &mut gates, now);
        // Nobody waits for what changes nothing; a duplicate waits for what it is a duplicate of.
        let point = if plan.duplicate || !plan.changes.is_empty() {
            self.services.store.stage(&mut plan.changes)
        } else {
            CommitPoint::NONE
        };
        plan.begin_delays(self, point, usize::MAX, now);
        gates.set_alarms(self, now);
        plan.show(point, now)
    }

    /// Routes a message; see [`leveret_routing::Topology::route_past`].
    pub(crate) fn route_passing(
        &self,
        passing: &Passing<'_>,
        passes: &mut dyn FnMut(&Exchange) -> bool,
    ) -> Route {
        let mut route = Route::new();
        let Ok(header) = passing.message.decode_header() else {
            return route;
        };
        let headers = header.properties.headers;
        let mut more_keys = carbon_copies(headers).unwrap_or_default();
        more_keys.extend(passing.message.marks().blind_keys());
        let input = RouteInput {
            routing_key: passing.message.exchange_and_key().1,
            headers,
            more_keys: &more_keys,
            message_id: header.properties.message_id,
            correlation_id: header.properties.correlation_id,
            timestamp: header.properties.timestamp,
            random: passing.random,
        };
        self.topology
            .read()
            .route_past(passing.exchange, &input, &mut route, passes);
        route
    }

    /// Where a message goes, and what is kept of it on the way.
    pub fn judge(&self, passing: &Passing<'_>, gates: &mut Gates<'_>, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        let Ok(header) = passing.message.decode_header() else {
            return verdict;
        };
        if let Look::Numbered { number, strict } = passing.look
            && let Some(first) = self.attended(passing.exchange)
            && !verdict.count(Gatekeeper::Exchange(first), number, strict, gates)
        {
            return verdict;
        }
        let delay_ms = delay::delay_ms(header.properties.headers);
        let remembered = history::is_remembered(header.properties.headers);
        let route = self.route_passing(passing, &mut |exchange: &Exchange| {
            let Some(attended) = self.attended(&exchange.name) else {
                return true;
            };
            if passing.is_past(exchange) {
                return true;
            }
            if passing.look != Look::Moved
                && attended.deduplicates()
                && let Some(gate) = gates.of(&attended)
            {
                match gate.keys.judge(&header, now) {
                    Some(marks) => verdict.marks.push((Arc::clone(&attended), marks)),
                    None => {
                        verdict.duplicate = true;
                        return false;
                    }
                }
            }
            if remembered && attended.has_history() {
                verdict.histories.push(Arc::clone(&attended));
            }
            match delay_ms.filter(|_| attended.delayed().is_some() && !passing.returned) {
                Some(delay_ms) => {
                    verdict.delays.push((attended, now + delay_ms));
                    false
                }
                None => true,
            }
        });
        if !passing.returned {
            verdict.targets = self.handles(&route.queues);
            self.count_at_queues(passing, &mut verdict, gates);
        }
        verdict
    }

    /// Producers' numbers of what is published through the default exchange are the queues' matter.
    fn count_at_queues(&self, passing: &Passing<'_>, verdict: &mut Verdict, gates: &mut Gates<'_>) {
        let Look::Numbered { number, strict } = passing.look else {
            return;
        };
        if !passing.exchange.is_empty() {
            return;
        }
        let mut targets = std::mem::take(&mut verdict.targets);
        targets
            .retain(|queue| verdict.count(Gatekeeper::Queue(queue.clone()), number, strict, gates));
        if !verdict.gap {
            verdict.targets = targets;
        }
    }
}

impl Plan {
    /// With `changes` that are to be staged with it.
    pub fn new(ticket: HiddenTicket, changes: Vec<Change<Message>>) -> Plan {
        Plan {
            ticket,
            changes,
            targets: Vec::new(),
            known_targets: FxHashSet::default(),
            holds: VecDeque::new(),
            refused: false,
            duplicate: false,
            letters: Vec::new(),
        }
    }

    /// What it hides is hidden under this ticket.
    pub fn ticket(&self) -> HiddenTicket {
        self.ticket
    }

    /// Has queues and exchanges take the message; what makes that durable is added to the changes.
    pub fn take(
        &mut self,
        verdict: Verdict,
        passing: &Passing<'_>,
        gates: &mut Gates<'_>,
        now: Timestamp,
    ) {
        let message = passing.message;
        let changes_before = self.changes.len();
        let taken_by_some = !verdict.targets.is_empty() || !verdict.delays.is_empty();
        let mut refused = verdict.gap;
        self.duplicate |= verdict.duplicate;
        let delivered = rewrite::without_blind_copies(message.clone());
        for queue in verdict.targets {
            refused |= self.enter(&queue, delivered.clone(), passing.look, now) == Taken::Refused;
        }
        let changes = &mut self.changes;
        for (exchange, due) in verdict.delays {
            let Some(delayed) = exchange.delayed() else {
                continue;
            };
            let (place, change) = delayed.reserve(message, due);
            changes.push(change);
            self.holds.push_back(Hold {
                exchange,
                place,
                message: message.clone(),
            });
        }
        for exchange in verdict.histories {
            gates.remember(&exchange, message, changes);
        }
        // A key does not outlive the message, be that in a queue or in an exchange's history.
        let is_stored =
            |change: &Change<Message>| matches!(change, Change::Enqueue(it) if !it.transient);
        let survives = changes.iter().skip(changes_before).any(is_stored);
        // What is refused, or has nowhere to go, may come again.
        if taken_by_some && !refused {
            for (exchange, marks) in verdict.marks {
                gates.note(&exchange, marks, survives, now, changes);
            }
        }
        // Numbers go on whatever becomes of the message, unless its publisher is told to send it again.
        for (keeper, number) in verdict.numbers.iter().filter(|_| !refused) {
            if let Some(producers) = gates.producers(keeper) {
                producers.note(number, changes);
            }
        }
        self.refused |= refused;
    }

    /// Has a queue take a message.
    pub(crate) fn enter(
        &mut self,
        queue: &QueueHandle,
        message: Message,
        look: Look,
        now: Timestamp,
    ) -> Taken {
        let (taken, letters) =
            queue.publish_apart(self.ticket, message, look, now, &mut self.changes);
        self.duplicate |= taken == Taken::Known;
        self.add_letters(queue, letters);
        if taken == Taken::Yes {
            self.add_target(queue);
        }
        taken
    }

    /// Has a queue take messages of a transaction.
    pub fn enter_all(
        &mut self,
        queue: &QueueHandle,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
    ) {
        let ticket = self.ticket;
        let (refused, letters) = queue.publish_hidden(ticket, messages, now, &mut self.changes);
        self.refused |= refused;
        self.add_letters(queue, letters);
        self.add_target(queue);
    }

    fn add_letters(&mut self, queue: &QueueHandle, letters: Vec<DeadLetter>) {
        if !letters.is_empty() {
            self.letters.push((queue.clone(), letters));
        }
    }

    fn add_target(&mut self, queue: &QueueHandle) {
        let id = queue.id();
        let mut ids = self.targets.iter().map(QueueHandle::id);
        let is_new = if self.targets.len() <= SCANNED_TARGETS_MAX {
            !ids.any(|other| other == id)
        } else {
            if self.known_targets.is_empty() {
                self.known_targets.extend(ids);
            }
            self.known_targets.insert(id)
        };
        if is_new {
            self.targets.push(queue.clone());
        }
    }

    /// Whether a queue's limit has refused a message so far.
    pub fn has_refused(&self) -> bool {
        self.refused
    }

    /// Everything is staged at `point`: so many of the messages that are held back begin to wait. Answers whether
    /// others are left.
    pub fn begin_delays(
        &mut self,
        vhost: &VirtualHost,
        point: CommitPoint,
        most: usize,
        now: Timestamp,
    ) -> bool {
        let store = &vhost.services.store;
        let count = self.holds.len().min(most);
        for hold in self.holds.drain(..count) {
            let Some(delayed) = hold.exchange.delayed() else {
                continue;
            };
            let durable = store.durable_point();
            match delayed.hold(hold.place, hold.message, point, now, durable) {
                Some(todo) => hold.exchange.look_after(vhost, todo),
                // The exchange was deleted meanwhile, and its log must not come back.
                None => {
                    store.stage(&mut vec![delayed.delete_log()]);
                }
            }
        }
        !self.holds.is_empty()
    }

    /// The queues with something hidden.
    pub fn targets(&self) -> &[QueueHandle] {
        &self.targets
    }

    /// The queues with something hidden, and what is dead-lettered with it; they are shown by other means.
    pub fn into_hidden(self) -> (Vec<QueueHandle>, Vec<RefusedLetters>) {
        (self.targets, self.letters)
    }

    /// Everything is staged at `point`: the queues show what they took.
    pub(crate) fn show(self, point: CommitPoint, now: Timestamp) -> Passed {
        let mut hold = None;
        let mut left = Vec::new();
        for (queue, letters) in self.letters {
            let effects = queue.send(letters, now);
            left.push((queue, effects));
        }
        for queue in self.targets {
            let effects = queue.show(self.ticket, point, now);
            if effects.hold {
                hold = Some(queue.clone());
            }
            left.push((queue, effects));
        }
        Passed {
            point,
            refused: self.refused,
            duplicate: self.duplicate,
            hold,
            left,
        }
    }
}
