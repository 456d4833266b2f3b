//! The locks of exchanges with a memory that a message passes, all held until it is staged: of two
//! equal messages one is the first, and the other is answered when the first is safe; and a message
//! is in an exchange's history for whoever binds, or comes by afterwards, never both.

use std::sync::Arc;

use leveret_routing::Exchange;
use leveret_store::Change;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::history::History;
use super::{Attended, Passing};
use crate::deduplication::{Deduplication, Marks};
use crate::message::Message;
use crate::time::Timestamp;
use crate::vhost::VirtualHost;

/// Exchanges whose gates are to be locked.
pub(crate) type Gated = SmallVec<[Arc<Attended>; 1]>;

/// What an exchange knows of the messages that passed.
pub(crate) struct Gate {
    /// What they are known by.
    pub(super) keys: Deduplication,
    /// The last of them.
    pub(super) history: Option<History>,
}

/// Locked gates.
pub(crate) struct Gates<'a>(SmallVec<[(&'a Arc<Attended>, MutexGuard<'a, Gate>); 1]>);

impl<'a> Gates<'a> {
    /// Locks the gates of all these, in the one order that everybody keeps to.
    pub(crate) fn lock(gated: &'a mut Gated) -> Gates<'a> {
        gated.sort_unstable_by_key(|exchange| exchange.id);
        gated.dedup_by_key(|exchange| exchange.id);
        Gates(
            gated
                .iter()
                .map(|exchange| (exchange, exchange.lock_gate()))
                .collect(),
        )
    }

    /// The gate of an exchange; None if it was not locked: it is met only since a moment ago.
    pub(crate) fn of(&mut self, exchange: &Attended) -> Option<&mut Gate> {
        self.0
            .iter_mut()
            .find(|(other, _)| other.id == exchange.id)
            .map(|(_, gate)| &mut **gate)
    }

    /// Notes what a message that was taken is known by.
    pub(crate) fn note(
        &mut self,
        exchange: &Attended,
        marks: Marks,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
    ) {
        if let Some(gate) = self.of(exchange) {
            gate.keys.note(marks, now, changes);
        }
    }

    /// Has an exchange remember a message.
    pub(crate) fn remember(
        &mut self,
        exchange: &Attended,
        message: &Message,
        changes: &mut Vec<Change<Message>>,
    ) {
        if let Some(history) = self.of(exchange).and_then(|gate| gate.history.as_mut()) {
            history.remember(message, changes);
        }
    }

    /// What an exchange remembers, oldest first.
    pub(crate) fn history(&mut self, exchange: &Attended) -> Vec<Message> {
        let history = self.of(exchange).and_then(|gate| gate.history.as_ref());
        history.map_or_else(Vec::new, |history| history.messages().cloned().collect())
    }

    /// Has expired keys removed in time.
    pub(crate) fn set_alarms(&mut self, vhost: &VirtualHost, now: Timestamp) {
        for (exchange, gate) in &mut self.0 {
            if let Some(at) = gate.keys.alarm(now) {
                vhost.services.deadlines.add(at, Arc::clone(exchange));
            }
        }
    }
}

impl VirtualHost {
    /// Adds the exchanges with a memory on a message's way.
    pub(crate) fn gates_on_the_way(&self, passing: &Passing<'_>, gated: &mut Gated) {
        self.route_passing(passing, &mut |exchange: &Exchange| {
            let attended = self.attended(&exchange.name);
            if let Some(attended) = attended.filter(|it| it.deduplicates() || it.has_history())
                && !passing.is_past(exchange)
            {
                gated.push(attended);
            }
            true
        });
    }
}
