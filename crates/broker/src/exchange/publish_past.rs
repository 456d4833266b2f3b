//! A message passes exchanges that keep something, and enters its queues, as one [`Unit`]: first it is judged, which
//! queues get it and what is kept where, by the topology; then it is taken.

use std::sync::Arc;
use std::task::Waker;

use leveret_deduplication::{Look, NewKeys, Number, Standing};
use leveret_message::{Message, Timestamp};
use leveret_routing::{Exchange, Route, RouteInput};
use leveret_store_api::Change;
use smallvec::SmallVec;

use super::gates::{Gated, Gatekeeper, Gates};
use super::keeper::Opinion;
use super::passage::{AT_ONCE_MAX, Passage};
use super::unit::{Shown, Unit};
use super::{StatefulExchange, rewrite};
use crate::exchange::incoming::Incoming;
use crate::handle::QueueHandle;
use crate::vhost::{Targets, VirtualHost, carbon_copies};

/// Where a message goes, and which exchanges on its way keep something of it.
#[derive(Default)]
pub struct Verdict {
    targets: Targets,
    /// Exchanges that keep it.
    kept: SmallVec<[(Arc<StatefulExchange>, Opinion); 1]>,
    new_keys: SmallVec<[(Arc<StatefulExchange>, NewKeys); 1]>,
    /// What its producer's latest number will be, and for whom.
    numbers: SmallVec<[(Gatekeeper, Number); 1]>,
    /// Somebody on its way knows it already.
    duplicate: bool,
    /// Its producer left out numbers, and is to hear of it.
    gap: bool,
}

impl Verdict {
    /// These get it, and nobody is asked.
    pub(super) fn to_queues(targets: Targets) -> Verdict {
        Verdict {
            targets,
            ..Verdict::default()
        }
    }

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
}

impl VirtualHost {
    /// Publishes a message past exchanges that keep something: `settles` becomes durable in the same commit. What cannot be done at once is answered, and
    /// goes on in slices.
    ///
    /// # Errors
    /// That.
    pub fn publish_past(
        &self,
        incoming: &Incoming<'_>,
        settles: Vec<Change<Message>>,
        now: Timestamp,
    ) -> Result<Shown, Box<Passage>> {
        let mut gated = Gated::new();
        if self.gates_on_the_way(incoming, &mut gated) > AT_ONCE_MAX {
            return Err(Passage::seen(incoming, settles, gated, self));
        }
        // What finds a gate shut comes back with a waker of its own.
        let Some(mut gates) = Gates::lock(&mut gated, Waker::noop()) else {
            return Err(Passage::new(incoming, settles, self));
        };
        let verdict = self.judge(incoming, &mut gates, now);
        let mut unit = Unit::new(self.services.next_ticket(), settles);
        unit.take(verdict, incoming, &mut gates, now);
        let shown = unit.finish(self, now);
        gates.set_alarms(self, now);
        Ok(shown)
    }

    /// Routes a message; see [`leveret_routing::Topology::route_past`].
    pub(crate) fn route_incoming(
        &self,
        incoming: &Incoming<'_>,
        goes_on: &mut dyn FnMut(&Exchange) -> bool,
    ) -> Route {
        let mut route = Route::new();
        let Ok(header) = incoming.message.decode_header() else {
            return route;
        };
        let headers = header.properties.headers;
        let mut more_keys = carbon_copies(headers).unwrap_or_default();
        more_keys.extend(incoming.message.marks().blind_keys());
        let input = RouteInput {
            routing_key: incoming.message.exchange_and_key().1,
            headers,
            more_keys: &more_keys,
            message_id: header.properties.message_id,
            correlation_id: header.properties.correlation_id,
            timestamp: header.properties.timestamp,
            random: incoming.random,
        };
        self.topology
            .read()
            .route_past(incoming.exchange, &input, &mut route, goes_on);
        route
    }

    /// Where a message goes, and what is kept of it on the way.
    pub fn judge(&self, incoming: &Incoming<'_>, gates: &mut Gates<'_>, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        let Ok(header) = incoming.message.decode_header() else {
            return verdict;
        };
        if let Look::Numbered { number, strict } = incoming.look
            && let Some(first) = self.stateful(incoming.exchange)
            && !verdict.count(Gatekeeper::Exchange(first), number, strict, gates)
        {
            return verdict;
        }
        let headers = header.properties.headers;
        let route = self.route_incoming(incoming, &mut |exchange: &Exchange| {
            let Some(stateful) = self.stateful(&exchange.name) else {
                return true;
            };
            if incoming.is_past(exchange) {
                return true;
            }
            if incoming.look != Look::Moved
                && stateful.deduplicates()
                && let Some(gate) = gates.of(&stateful)
            {
                match gate.keys.judge(&header, now) {
                    Some(new_keys) => verdict.new_keys.push((Arc::clone(&stateful), new_keys)),
                    None => {
                        verdict.duplicate = true;
                        return false;
                    }
                }
            }
            let opinion = match &stateful.keeper {
                Some(keeper) => keeper.look(headers, now),
                None => Opinion::GoesOn,
            };
            match opinion {
                Opinion::GoesOn => true,
                // What goes back to its publisher does not go on later.
                Opinion::Waits(_) if incoming.returned => true,
                Opinion::IsKept => {
                    verdict.kept.push((stateful, opinion));
                    true
                }
                Opinion::Waits(_) => {
                    verdict.kept.push((stateful, opinion));
                    false
                }
            }
        });
        if !incoming.returned {
            verdict.targets = self.handles(&route.queues);
            if !incoming.barred.is_empty() {
                verdict.targets.retain(|queue| incoming.admits(queue));
            }
            self.count_at_queues(incoming, &mut verdict, gates);
        }
        verdict
    }

    /// Producers' numbers of what is published through the default exchange are the queues' matter.
    fn count_at_queues(
        &self,
        incoming: &Incoming<'_>,
        verdict: &mut Verdict,
        gates: &mut Gates<'_>,
    ) {
        let Look::Numbered { number, strict } = incoming.look else {
            // Its producer gives no numbers.
            return;
        };
        if !incoming.exchange.is_empty() {
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

/// A verdict that is being carried out.
pub struct Taking {
    targets: smallvec::IntoIter<[QueueHandle; 1]>,
    kept: SmallVec<[(Arc<StatefulExchange>, Opinion); 1]>,
    new_keys: SmallVec<[(Arc<StatefulExchange>, NewKeys); 1]>,
    numbers: SmallVec<[(Gatekeeper, Number); 1]>,
    /// As its queues get it.
    delivered: Message,
    taken_by_some: bool,
    refused: bool,
    /// It is in a queue or an exchange's history that survives a restart.
    survives: bool,
}

impl Taking {
    /// How many queues are left.
    pub fn left(&self) -> usize {
        self.targets.len()
    }
}

fn is_stored(change: &Change<Message>) -> bool {
    matches!(change, Change::Enqueue(it) if !it.transient)
}

impl Unit {
    /// Has queues and exchanges take the message; what makes that durable is added to the changes.
    pub fn take(
        &mut self,
        verdict: Verdict,
        incoming: &Incoming<'_>,
        gates: &mut Gates<'_>,
        now: Timestamp,
    ) {
        let mut taking = self.begin_to_take(verdict, incoming);
        self.take_some(&mut taking, incoming, gates, usize::MAX, now);
    }

    /// As [`Unit::take`], by [`Unit::take_some`].
    pub fn begin_to_take(&mut self, verdict: Verdict, incoming: &Incoming<'_>) -> Taking {
        let waits = |(_, opinion): &(_, Opinion)| matches!(opinion, Opinion::Waits(_));
        let taken_by_some = !verdict.targets.is_empty() || verdict.kept.iter().any(waits);
        if verdict.gap {
            self.refuse();
        }
        if verdict.duplicate {
            self.set_known();
        }
        Taking {
            targets: verdict.targets.into_iter(),
            kept: verdict.kept,
            new_keys: verdict.new_keys,
            numbers: verdict.numbers,
            delivered: rewrite::without_blind_copies(incoming.message.clone()),
            taken_by_some,
            refused: verdict.gap,
            survives: false,
        }
    }

    /// Has at most `most` queues take the message, and after the last of them the exchanges. Answers whether there are
    /// more.
    pub fn take_some(
        &mut self,
        taking: &mut Taking,
        incoming: &Incoming<'_>,
        gates: &mut Gates<'_>,
        most: usize,
        now: Timestamp,
    ) -> bool {
        let changes_before = self.changes.len();
        for queue in taking.targets.by_ref().take(most) {
            let message = std::iter::once(taking.delivered.clone());
            taking.refused |= self.enter(&queue, message, incoming.look, now);
        }
        let is_last = taking.targets.len() == 0;
        if is_last {
            for (exchange, opinion) in taking.kept.drain(..) {
                // Without its gate it would not be known who has it already.
                if !exchange.remembers() || gates.have(&exchange) {
                    self.keep(exchange, incoming.message, opinion);
                }
            }
        }
        let changes = &mut self.changes;
        if !taking.survives {
            // A key does not outlive the message, be that in a queue or in an exchange's history.
            taking.survives = changes.iter().skip(changes_before).any(is_stored);
        }
        if !is_last {
            return true;
        }
        // What is refused, or has nowhere to go, may come again.
        if taking.taken_by_some && !taking.refused {
            for (exchange, new_keys) in taking.new_keys.drain(..) {
                gates.remember(&exchange, new_keys, taking.survives, now, changes);
            }
        }
        // Numbers go on whatever becomes of the message, unless its publisher is told to send it again.
        if !taking.refused {
            for (keeper, number) in &taking.numbers {
                if let Some(producers) = gates.producers(keeper) {
                    producers.remember(number, changes);
                }
            }
        }
        false
    }
}
