//! The locks of exchanges with a memory that a message passes, and of queues that look for duplicates,
//! all held until it is staged: of two equal messages one is the first, and the other is answered when
//! the first is safe; and a message is in an exchange's history for whoever binds, or comes by
//! afterwards, never both.
//!
//! An exchange's gate is the lock of what it knows. A queue's gate holds the producers that published to
//! it through the default exchange; what else it knows is under its own lock, and the gate only keeps
//! others out as long as something is hidden in it and not staged.

use std::sync::Arc;

use leveret_deduplication::{Look, NewKeys, Producers};
use leveret_message::{Message, Timestamp};
use leveret_routing::Exchange;
use leveret_store_api::Change;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::{Incoming, StatefulExchange};
use crate::exchange::stateful::Gate;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

/// Who has a gate: an exchange with a memory, or a queue that looks for duplicates.
#[derive(Clone)]
pub enum Gatekeeper {
    /// An exchange with a memory.
    Exchange(Arc<StatefulExchange>),
    /// A queue that looks for duplicates.
    Queue(QueueHandle),
}

impl Gatekeeper {
    /// Gates are locked in this order.
    pub(super) fn order(&self) -> (u8, u64) {
        match self {
            Gatekeeper::Exchange(exchange) => (0, exchange.id),
            Gatekeeper::Queue(queue) => (1, queue.id().0),
        }
    }
}

/// Those whose gates are to be locked.
pub type Gated = SmallVec<[Gatekeeper; 2]>;

enum Locked<'a> {
    Exchange(MutexGuard<'a, Gate>),
    Queue(MutexGuard<'a, Producers>),
}

/// Locked gates.
pub struct Gates<'a>(SmallVec<[(&'a Gatekeeper, Locked<'a>); 2]>);

/// Leaves each of them in once.
pub fn sort_gated(gated: &mut Gated) {
    gated.sort_unstable_by_key(Gatekeeper::order);
    gated.dedup_by_key(|keeper| keeper.order());
}

impl<'a> Gates<'a> {
    /// Locks the gates of all these, in the one order that everybody keeps to.
    pub fn lock(gated: &'a mut Gated) -> Gates<'a> {
        sort_gated(gated);
        let lock = |keeper: &'a Gatekeeper| {
            let locked = match keeper {
                Gatekeeper::Exchange(exchange) => Locked::Exchange(exchange.lock_gate()),
                Gatekeeper::Queue(queue) => Locked::Queue(queue.lock_gate()),
            };
            (keeper, locked)
        };
        Gates(gated.iter().map(lock).collect())
    }

    /// The gate of an exchange; None if it was not locked: it is met only since a moment ago.
    pub(crate) fn of(&mut self, exchange: &StatefulExchange) -> Option<&mut Gate> {
        self.0.iter_mut().find_map(|(keeper, locked)| match locked {
            Locked::Exchange(gate) if keeper.order() == (0, exchange.id) => Some(&mut **gate),
            _ => None,
        })
    }

    /// The producers of one whose gate was locked.
    pub(crate) fn producers(&mut self, keeper: &Gatekeeper) -> Option<&mut Producers> {
        let order = keeper.order();
        let mut gates = self.0.iter_mut();
        let found = gates.find(|(other, _)| other.order() == order);
        found.map(|(_, locked)| match locked {
            Locked::Exchange(gate) => &mut gate.producers,
            Locked::Queue(producers) => &mut **producers,
        })
    }

    /// Notes what a message that was taken is known by.
    pub(crate) fn remember(
        &mut self,
        exchange: &StatefulExchange,
        new_keys: NewKeys,
        survives: bool,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
    ) {
        if let Some(gate) = self.of(exchange) {
            gate.keys.remember(new_keys, survives, now, changes);
        }
    }

    /// Whether the gate of an exchange is locked. It is not if the exchange is met only since a moment ago.
    pub(crate) fn have(&mut self, exchange: &StatefulExchange) -> bool {
        self.of(exchange).is_some()
    }

    /// Has expired keys removed in time.
    pub fn set_alarms(&mut self, vhost: &VirtualHost, now: Timestamp) {
        for (keeper, locked) in &mut self.0 {
            if let (Gatekeeper::Exchange(exchange), Locked::Exchange(gate)) = (keeper, locked)
                && let Some(at) = gate.keys.alarm(now)
            {
                vhost.services.wake_exchange_at(at, exchange);
            }
        }
    }
}

impl VirtualHost {
    /// Adds those with a gate on a message's way.
    pub fn gates_on_the_way(&self, incoming: &Incoming<'_>, gated: &mut Gated) {
        let route = self.route_incoming(incoming, &mut |exchange: &Exchange| {
            let stateful = self.stateful(&exchange.name);
            if let Some(stateful) = stateful.filter(|it| it.deduplicates() || it.remembers())
                && !incoming.is_past(exchange)
            {
                gated.push(Gatekeeper::Exchange(stateful));
            }
            true
        });
        let numbered = matches!(incoming.look, Look::Numbered { .. });
        let by_queue = numbered && incoming.exchange.is_empty();
        if numbered && !by_queue {
            let first = self.stateful(incoming.exchange);
            gated.extend(first.map(Gatekeeper::Exchange));
        }
        let queues = self.handles(&route.queues).into_iter();
        let queues = queues.filter(|queue| by_queue || queue.deduplicates());
        gated.extend(queues.map(Gatekeeper::Queue));
    }
}
