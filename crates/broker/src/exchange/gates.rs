//! The locks of exchanges with a memory that a message passes, and of queues that look for duplicates,
//! all held until it is staged: of two equal messages one is the first, and the other is answered when
//! the first is safe; and a message is in an exchange's history for whoever binds, or comes by
//! afterwards, never both.
//!
//! An exchange's gate is the lock of what it knows. A queue's gate holds the producers that published to
//! it through the default exchange; what else it knows is under its own lock, and the gate only keeps
//! others out as long as something is hidden in it and not staged.
//!
//! What takes more than a step shuts the gates before its first look and opens them once all of it is staged
//! ([`ShutGates`]). Whoever meets one that is shut is woken when it is open, and begins anew.

use std::sync::Arc;
use std::task::Waker;

use leveret_deduplication::{Look, NewKeys, Producers};
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::hidden::HiddenTicket;
use leveret_routing::Exchange;
use leveret_store_api::Change;
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::{Incoming, StatefulExchange};
use crate::exchange::stateful::Gate;
use crate::handle::{QueueGate, QueueHandle};
use crate::latch::Latch;
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
    #[must_use]
    pub fn order(&self) -> (u8, u64) {
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
    Queue(MutexGuard<'a, QueueGate>),
}

impl<'a> Locked<'a> {
    fn lock(keeper: &'a Gatekeeper) -> Locked<'a> {
        match keeper {
            Gatekeeper::Exchange(exchange) => Locked::Exchange(exchange.lock_gate()),
            Gatekeeper::Queue(queue) => Locked::Queue(queue.lock_gate()),
        }
    }

    fn latch(&mut self) -> &mut Latch {
        match self {
            Locked::Exchange(gate) => &mut gate.latch,
            Locked::Queue(gate) => &mut gate.latch,
        }
    }

    fn gate(&mut self) -> Option<&mut Gate> {
        match self {
            Locked::Exchange(gate) => Some(gate),
            Locked::Queue(_) => None,
        }
    }

    fn producers(&mut self) -> &mut Producers {
        match self {
            Locked::Exchange(gate) => &mut gate.producers,
            Locked::Queue(gate) => &mut gate.producers,
        }
    }
}

/// Gates that nobody else gets into.
pub struct Gates<'a> {
    /// In the order of the gates.
    keepers: &'a [Gatekeeper],
    held: Outstanding<'a>,
}

enum Outstanding<'a> {
    /// All of them are locked.
    All(SmallVec<[Locked<'a>; 2]>),
    /// All of them are shut. The one that was looked at last is locked: whoever else locks one lets go at once.
    Shut(Option<(usize, Locked<'a>)>),
}

/// Leaves each of them in once.
fn sort_gated(gated: &mut Gated) {
    gated.sort_unstable_by_key(Gatekeeper::order);
    gated.dedup_by_key(|keeper| keeper.order());
}

impl<'a> Gates<'a> {
    /// Locks the gates of all these, in the one order that everybody keeps to. None: one of them is shut, and `waker`
    /// is woken when it is open.
    pub fn lock(gated: &'a mut Gated, waker: &Waker) -> Option<Gates<'a>> {
        sort_gated(gated);
        let mut all = SmallVec::new();
        for keeper in gated.iter() {
            let mut locked = Locked::lock(keeper);
            if !locked.latch().is_off_for(waker) {
                return None;
            }
            all.push(locked);
        }
        Some(Gates {
            keepers: gated,
            held: Outstanding::All(all),
        })
    }

    /// Of nobody.
    pub fn none() -> Gates<'a> {
        Gates {
            keepers: &[],
            held: Outstanding::Shut(None),
        }
    }

    fn find(&mut self, order: (u8, u64)) -> Option<&mut Locked<'a>> {
        let at = self
            .keepers
            .binary_search_by_key(&order, Gatekeeper::order)
            .ok()?;
        match &mut self.held {
            Outstanding::All(all) => all.get_mut(at),
            Outstanding::Shut(one) => {
                if one.as_ref().is_none_or(|(other, _)| *other != at) {
                    // Two are never locked out of their order.
                    *one = None;
                    let keeper = self.keepers.get(at)?;
                    *one = Some((at, Locked::lock(keeper)));
                }
                one.as_mut().map(|(_, locked)| locked)
            }
        }
    }

    /// Gates that are shut are locked by nobody for now.
    pub fn let_go(&mut self) {
        if let Outstanding::Shut(one) = &mut self.held {
            *one = None;
        }
    }

    /// The gate of an exchange; None if it was not locked: it is met only since a moment ago.
    pub(crate) fn of(&mut self, exchange: &StatefulExchange) -> Option<&mut Gate> {
        self.find((0, exchange.id))?.gate()
    }

    /// The producers of one whose gate was locked.
    pub(crate) fn producers(&mut self, keeper: &Gatekeeper) -> Option<&mut Producers> {
        self.find(keeper.order()).map(Locked::producers)
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
        if let Outstanding::All(all) = &mut self.held {
            for (keeper, locked) in self.keepers.iter().zip(all) {
                set_alarm(keeper, locked, vhost, now);
            }
        }
    }
}

fn set_alarm(keeper: &Gatekeeper, locked: &mut Locked<'_>, vhost: &VirtualHost, now: Timestamp) {
    if let (Gatekeeper::Exchange(exchange), Some(gate)) = (keeper, locked.gate())
        && let Some(at) = gate.keys.alarm(now)
    {
        vhost.services.wake_exchange_at(at, exchange);
    }
}

/// How far one has come with shutting gates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shutting {
    /// All are shut.
    Done,
    /// There are more.
    More,
    /// Somebody else has shut the next one. The waker is woken when it is open.
    Waits,
}

/// Gates that are kept shut from one slice to the next. They are shut one after another, in the order in which others
/// lock them, so that nobody waits in a circle.
pub struct ShutGates {
    ticket: HiddenTicket,
    keepers: Gated,
    /// So many of them are shut, but for those that are open again.
    shut: usize,
    opened: usize,
}

impl ShutGates {
    /// None of these is shut yet.
    pub fn new(ticket: HiddenTicket, mut gated: Gated) -> ShutGates {
        sort_gated(&mut gated);
        ShutGates {
            ticket,
            keepers: gated,
            shut: 0,
            opened: 0,
        }
    }

    /// Shuts at most `most` more.
    pub fn shut_some(&mut self, most: usize, waker: &Waker) -> Shutting {
        let rest = self.keepers.get(self.shut..).unwrap_or_default();
        for keeper in rest.iter().take(most) {
            let mut locked = Locked::lock(keeper);
            if !locked.latch().is_off_for(waker) {
                return Shutting::Waits;
            }
            locked.latch().put_on(self.ticket);
            self.shut += 1;
        }
        match self.shut < self.keepers.len() {
            true => Shutting::More,
            false => Shutting::Done,
        }
    }

    /// They are all shut.
    pub fn gates(&mut self) -> Gates<'_> {
        debug_assert_eq!(self.shut, self.keepers.len(), "what is shut");
        Gates {
            keepers: &self.keepers,
            held: Outstanding::Shut(None),
        }
    }

    /// What was done behind them is staged: opens at most `most`, and has expired keys removed in time. Answers whether
    /// others are left.
    pub fn open_some(&mut self, vhost: &VirtualHost, most: usize, now: Timestamp) -> bool {
        self.open(most, |keeper, locked| {
            set_alarm(keeper, locked, vhost, now);
        })
    }

    fn open(&mut self, most: usize, also: impl Fn(&Gatekeeper, &mut Locked<'_>)) -> bool {
        let shut = self.keepers.get(self.opened..self.shut).unwrap_or_default();
        for keeper in shut.iter().take(most) {
            let mut locked = Locked::lock(keeper);
            let waiting = locked.latch().take_off(self.ticket);
            also(keeper, &mut locked);
            drop(locked);
            waiting.into_iter().for_each(Waker::wake);
            self.opened += 1;
        }
        self.opened < self.shut
    }
}

impl Drop for ShutGates {
    fn drop(&mut self) {
        self.open(usize::MAX, |_, _| ());
    }
}

impl VirtualHost {
    /// Adds those with a gate on a message's way; answers how many queues are at its end.
    pub fn gates_on_the_way(&self, incoming: &Incoming<'_>, gated: &mut Gated) -> usize {
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
        route.queues.len()
    }
}
