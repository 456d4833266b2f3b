//! A message passes exchanges that keep something, and enters its queues, as one [`Unit`]: first it is judged, which
//! queues get it and what is kept where, by the topology; then it is taken.

use std::sync::Arc;

use leveret_deduplication::{Look, NewKeys, Number, Standing};
use leveret_message::{Message, Timestamp};
use leveret_routing::{Exchange, Route, RouteInput};
use leveret_store_api::Change;
use smallvec::SmallVec;

use super::gates::{Gated, Gatekeeper, Gates};
use super::keeper::Opinion;
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

impl VirtualHost {
    /// Publishes a message past exchanges that keep something: `settles` becomes durable in the same commit, and only queues that
    /// `admits` names get it.
    pub fn publish_past(
        &self,
        incoming: &Incoming<'_>,
        settles: Vec<Change<Message>>,
        admits: &dyn Fn(&QueueHandle) -> bool,
        now: Timestamp,
    ) -> Shown {
        let mut gated = Gated::new();
        self.gates_on_the_way(incoming, &mut gated);
        let mut gates = Gates::lock(&mut gated);
        let mut verdict = self.judge(incoming, &mut gates, now);
        verdict.retain(admits);
        let mut unit = Unit::new(self.services.next_ticket(), settles);
        unit.take(verdict, incoming, &mut gates, now);
        let shown = unit.finish(self, now);
        gates.set_alarms(self, now);
        shown
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

impl Unit {
    /// Has queues and exchanges take the message; what makes that durable is added to the changes.
    pub fn take(
        &mut self,
        verdict: Verdict,
        incoming: &Incoming<'_>,
        gates: &mut Gates<'_>,
        now: Timestamp,
    ) {
        let message = incoming.message;
        let changes_before = self.changes.len();
        let waits = |(_, opinion): &(_, Opinion)| matches!(opinion, Opinion::Waits(_));
        let taken_by_some = !verdict.targets.is_empty() || verdict.kept.iter().any(waits);
        let mut refused = verdict.gap;
        if verdict.gap {
            self.refuse();
        }
        if verdict.duplicate {
            self.set_known();
        }
        let delivered = rewrite::without_blind_copies(message.clone());
        for queue in verdict.targets {
            let message = std::iter::once(delivered.clone());
            refused |= self.enter(&queue, message, incoming.look, now);
        }
        for (exchange, opinion) in verdict.kept {
            // Without its gate it would not be known who has it already.
            if !exchange.remembers() || gates.have(&exchange) {
                self.keep(exchange, message, opinion);
            }
        }
        let changes = &mut self.changes;
        // A key does not outlive the message, be that in a queue or in an exchange's history.
        let is_stored =
            |change: &Change<Message>| matches!(change, Change::Enqueue(it) if !it.transient);
        let survives = changes.iter().skip(changes_before).any(is_stored);
        // What is refused, or has nowhere to go, may come again.
        if taken_by_some && !refused {
            for (exchange, new_keys) in verdict.new_keys {
                gates.remember(&exchange, new_keys, survives, now, changes);
            }
        }
        // Numbers go on whatever becomes of the message, unless its publisher is told to send it again.
        for (keeper, number) in verdict.numbers.iter().filter(|_| !refused) {
            if let Some(producers) = gates.producers(keeper) {
                producers.remember(number, changes);
            }
        }
    }
}
