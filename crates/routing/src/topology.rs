//! The control plane: exchanges, queues and bindings come and go, and take with them what depends on
//! them. Everything here is checked and may be slow; `topology_routing` is the part that is fast.
//!
//! What goes is no longer found, and no message goes its way, from one moment to the next. Its bindings may be very
//! many, and each may take an exchange along that nothing else keeps: of them only some go in that moment, the others
//! by [`Topology::clear_away`]. Until then it is said to be leaving.

use std::ops::Range;

use leveret_codec::FieldTable;

use crate::binding::{BindError, Binding, Destination, QueueId};
use crate::binding_table::{BindingIndex, BindingTable, Bound};
use crate::exchange::Exchange;
use crate::kind::ExchangeKind;
use crate::matcher::Matcher;
use crate::names::Names;
use crate::places::Places;
use crate::sliced_table::{SlicedTable, spread};
use crate::stable_hash;
use crate::target::{ExchangeIndex, Target, Terms};

/// All exchanges and bindings of one virtual host.
#[derive(Clone, Debug)]
pub struct Topology {
    places: Places<Node>,
    by_name: Names,
    queues: SlicedTable<QueueNode>,
    bindings: BindingTable,
    /// What is leaving, the latest last.
    leaving: Vec<Target>,
    /// The exchanges among it.
    leaving_names: Names,
}

/// So many bindings and exchanges go in the moment in which something is removed.
const AT_ONCE: usize = 512;

/// What a removal took with it, auto-deleted exchanges included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Removed {
    /// The bindings that went. The default exchange's, which nobody made, are not among them.
    pub bindings: Vec<Binding>,
    /// The exchanges that are no longer found. Some of their bindings may be left.
    pub exchanges: Vec<Exchange>,
    /// Exchanges and queues of which nothing is left.
    pub cleared: Vec<Cleared>,
}

/// Something of which nothing is left.
#[derive(Clone, Debug, PartialEq)]
pub enum Cleared {
    /// It may be declared again.
    Exchange(Exchange),
    /// Nothing leads to it.
    Queue(QueueId),
}

impl Removed {
    /// Whether nothing went.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.exchanges.is_empty()
    }
}

/// An exchange with its bindings in both directions.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) exchange: Exchange,
    pub(crate) matcher: Box<dyn Matcher>,
    /// See [`Exchange::is_stateful`].
    pub(crate) stateful: bool,
    pub(crate) leaving: bool,
    outgoing: Vec<BindingIndex>,
    incoming: Vec<BindingIndex>,
}

#[derive(Clone, Debug)]
struct QueueNode {
    id: QueueId,
    name: Box<str>,
    leaving: bool,
    incoming: Vec<BindingIndex>,
}

impl QueueNode {
    fn spread(&self) -> u64 {
        spread(self.id.0)
    }
}

/// Where the default exchange is, for ever.
const DEFAULT: ExchangeIndex = ExchangeIndex(0);

/// The exchanges every virtual host has: name, kind, internal.
const PREDECLARED: [(&str, ExchangeKind, bool); 7] = [
    ("", ExchangeKind::Direct, false),
    ("amq.direct", ExchangeKind::Direct, false),
    ("amq.fanout", ExchangeKind::Fanout, false),
    ("amq.topic", ExchangeKind::Topic, false),
    ("amq.headers", ExchangeKind::Headers, false),
    ("amq.match", ExchangeKind::Headers, false),
    ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
];

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

impl Topology {
    /// The default exchange and the six `amq.*` exchanges, all durable, with nothing bound.
    #[must_use]
    pub fn new() -> Self {
        let mut topology = Self {
            places: Places::default(),
            by_name: Names::default(),
            queues: SlicedTable::default(),
            bindings: BindingTable::default(),
            leaving: Vec::new(),
            leaving_names: Names::default(),
        };
        for (name, kind, internal) in PREDECLARED {
            topology.declare_exchange(Exchange {
                name: name.to_owned(),
                kind,
                durable: true,
                auto_delete: false,
                internal,
                arguments: FieldTable::default(),
                alternate: None,
            });
        }
        topology
    }

    /// The exchange called `name`.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.node(self.index(name)?).map(|node| &node.exchange)
    }

    /// The exchange called `name`, also if it is leaving.
    #[must_use]
    pub fn exchange_even_leaving(&self, name: &str) -> Option<&Exchange> {
        let leaving = || self.find(&self.leaving_names, name);
        self.node(self.index(name).or_else(leaving)?)
            .map(|node| &node.exchange)
    }

    /// All exchanges, the default exchange first.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let nodes = self.places.iter();
        nodes.filter(|it| !it.leaving).map(|it| &it.exchange)
    }

    /// The exchanges at some of the places for exchanges. An exchange keeps its place for as long as it is there, so
    /// that all can be seen a few at a time; those that come meanwhile may be missed.
    pub fn exchanges_at(&self, places: Range<usize>) -> impl Iterator<Item = &Exchange> {
        let nodes = self.places.within(places.start, places.end);
        nodes.filter(|it| !it.leaving).map(|it| &it.exchange)
    }

    /// How many places for exchanges there are.
    #[must_use]
    pub fn exchange_places(&self) -> usize {
        self.places.end()
    }

    /// Adds an exchange; false, and no change, if there is one of that name, or one is leaving. Whether the arguments make
    /// sense is [`Exchange::check`]'s question.
    pub fn declare_exchange(&mut self, exchange: Exchange) -> bool {
        let name = exchange.name.as_str();
        if self.find(&self.by_name, name).is_some() || self.is_leaving(name) {
            return false;
        }
        let at = self.places.insert(Node {
            stateful: exchange.is_stateful(),
            leaving: false,
            matcher: exchange.matcher(),
            exchange,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        });
        let at = ExchangeIndex(at);
        if let Some(node) = self.places.get(at.0) {
            self.by_name.insert(&node.exchange.name, at);
        }
        true
    }

    /// Removes an exchange and all bindings from and to it. A missing one is no error. The default
    /// exchange stays; that the other predeclared ones stay is the caller's rule.
    pub fn delete_exchange(&mut self, name: &str) -> Removed {
        let mut removed = Removed::default();
        if let Some(at) = self.index(name).filter(|at| *at != DEFAULT) {
            self.let_exchange_go(at, &mut removed);
            self.clear(AT_ONCE, &mut removed);
        }
        removed
    }

    /// Whether an exchange of that name is leaving.
    #[must_use]
    pub fn is_leaving(&self, exchange: &str) -> bool {
        self.find(&self.leaving_names, exchange).is_some()
    }

    /// Whether anything is left for [`Self::clear_away`].
    #[must_use]
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Removes up to about `most` bindings and exchanges of what is leaving.
    pub fn clear_away(&mut self, most: usize) -> Removed {
        let mut removed = Removed::default();
        self.clear(most, &mut removed);
        removed
    }

    /// Changes where `name`'s unroutable messages go, as a policy does; false if there is no such
    /// exchange.
    pub fn set_alternate(&mut self, name: &str, alternate: Option<String>) -> bool {
        let node = self.index(name).and_then(|at| self.node_mut(at));
        node.map(|node| node.exchange.alternate = alternate)
            .is_some()
    }

    /// Has the broker see each message that comes by `name`, as a policy does for an exchange whose
    /// kind and arguments do not ask for it; false if there is no such exchange.
    pub fn set_stateful(&mut self, name: &str, by_policy: bool) -> bool {
        let node = self.index(name).and_then(|at| self.node_mut(at));
        node.map(|node| node.stateful = by_policy || node.exchange.is_stateful())
            .is_some()
    }

    /// Whether anything is bound to `name` as source.
    #[must_use]
    pub fn exchange_in_use(&self, name: &str) -> bool {
        let node = self.index(name).and_then(|at| self.node(at));
        node.is_some_and(|node| !node.outgoing.is_empty())
    }

    /// Makes a queue known, which binds it to the default exchange by its name.
    pub fn add_queue(&mut self, name: &str, id: QueueId) {
        if self.queue(id).is_some() {
            return;
        }
        let node = QueueNode {
            id,
            name: name.into(),
            leaving: false,
            incoming: Vec::new(),
        };
        self.queues.insert(node, QueueNode::spread);
        self.with_default(name, id, |matcher, terms| {
            // A direct exchange takes every binding.
            let _ = matcher.insert(terms);
        });
    }

    /// Forgets a queue and all bindings to it. An unknown one, or one of another name, is no error.
    pub fn remove_queue(&mut self, name: &str, id: QueueId) -> Removed {
        let mut removed = Removed::default();
        match self.queue_mut(id) {
            Some(queue) if *queue.name == *name && !queue.leaving => queue.leaving = true,
            _ => return removed,
        }
        self.with_default(name, id, |matcher, terms| matcher.remove(terms));
        self.leaving.push(Target::Queue(id));
        self.clear(AT_ONCE, &mut removed);
        removed
    }

    /// Adds a binding; `Ok(false)` if it was there already.
    ///
    /// # Errors
    /// An end that does not exist, or a key or arguments that the source's kind refuses.
    pub fn bind(&mut self, binding: Binding) -> Result<bool, BindError> {
        let (source, target) = self.resolve(&binding)?;
        if self.bindings.find(&binding).is_some() {
            return Ok(false);
        }
        let seed = self.seed(&binding.destination);
        let missing = || BindError::NoExchange(binding.source.clone());
        let node = self.node_mut(source).ok_or_else(missing)?;
        node.matcher.insert(&terms(&binding, target, seed))?;
        let in_source = node.outgoing.len();
        let in_target = self
            .incoming_mut(target)
            .map_or(0, |incoming| incoming.len());
        let at = self.bindings.insert(Bound {
            binding,
            source,
            target,
            in_source,
            in_target,
        });
        if let Some(node) = self.node_mut(source) {
            node.outgoing.push(at);
        }
        if let Some(incoming) = self.incoming_mut(target) {
            incoming.push(at);
        }
        Ok(true)
    }

    /// Says why [`Self::bind`] would refuse a binding, and adds nothing.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn check_binding(&self, binding: &Binding) -> Result<(), BindError> {
        let (source, target) = self.resolve(binding)?;
        let terms = terms(binding, target, 0);
        self.node(source)
            .map_or(Ok(()), |node| node.matcher.check(&terms))
    }

    /// Removes a binding, and its source if that is auto-delete and has no other. A missing binding is
    /// no error.
    pub fn unbind(&mut self, binding: &Binding) -> Removed {
        let mut removed = Removed::default();
        if let Some(at) = self.bindings.find(binding) {
            self.remove_binding(at, &mut removed);
            self.clear(AT_ONCE, &mut removed);
        }
        removed
    }

    /// Whether there is such a binding.
    #[must_use]
    pub fn is_bound(&self, binding: &Binding) -> bool {
        self.bindings.find(binding).is_some()
    }

    /// All bindings that were made, those of what is leaving included; the default exchange's follow from
    /// [`Self::queues`].
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.iter()
    }

    /// How many places for bindings there are.
    #[must_use]
    pub fn binding_places(&self) -> usize {
        self.bindings.places()
    }

    /// The bindings at some of the places for bindings, as [`Self::exchanges_at`].
    pub fn bindings_at(&self, places: Range<usize>) -> impl Iterator<Item = &Binding> {
        self.bindings.at(places)
    }

    /// How many bindings lead from exchange `name`.
    #[must_use]
    pub fn binding_count(&self, name: &str) -> usize {
        let node = self.index(name).and_then(|at| self.node(at));
        node.map_or(0, |node| node.outgoing.len())
    }

    /// Some of the bindings from exchange `name`, by their numbers; one that goes has another take its number.
    pub fn bindings_of_source_at(
        &self,
        name: &str,
        numbers: Range<usize>,
    ) -> impl Iterator<Item = &Binding> {
        let node = self.index(name).and_then(|at| self.node(at));
        self.at_places(node.map(|node| part(&node.outgoing, numbers)))
    }

    /// Some of the bindings to `destination`, as [`Self::bindings_of_source_at`].
    pub fn bindings_of_destination_at(
        &self,
        destination: &Destination,
        numbers: Range<usize>,
    ) -> impl Iterator<Item = &Binding> {
        let incoming = self.incoming(destination);
        self.at_places(incoming.map(|incoming| part(incoming, numbers)))
    }

    /// The bindings from exchange `name`.
    pub fn bindings_of_source(&self, name: &str) -> impl Iterator<Item = &Binding> {
        let node = self.index(name).and_then(|at| self.node(at));
        self.at_places(node.map(|node| node.outgoing.as_slice()))
    }

    /// The bindings to `destination`.
    pub fn bindings_of_destination(
        &self,
        destination: &Destination,
    ) -> impl Iterator<Item = &Binding> {
        self.at_places(self.incoming(destination))
    }

    /// The queues that were added, by name and id, in no particular order.
    pub fn queues(&self) -> impl Iterator<Item = (&str, QueueId)> {
        let queues = self.queues.iter().filter(|queue| !queue.leaving);
        queues.map(|queue| (&*queue.name, queue.id))
    }

    pub(crate) fn index(&self, name: &str) -> Option<ExchangeIndex> {
        // Comparing empty strings is slow: their dangling pointers make the processor's masked loads
        // take the long way.
        if name.is_empty() {
            return Some(DEFAULT);
        }
        self.find(&self.by_name, name)
    }

    #[inline]
    fn find(&self, names: &Names, name: &str) -> Option<ExchangeIndex> {
        let is_it = |at| self.node(at).is_some_and(|it| it.exchange.name == name);
        names.find(name, is_it)
    }

    #[inline]
    pub(crate) fn node(&self, at: ExchangeIndex) -> Option<&Node> {
        self.places.get(at.0)
    }

    fn node_mut(&mut self, at: ExchangeIndex) -> Option<&mut Node> {
        self.places.get_mut(at.0)
    }

    fn queue(&self, id: QueueId) -> Option<&QueueNode> {
        self.queues.find(spread(id.0), |queue| queue.id == id)
    }

    fn queue_mut(&mut self, id: QueueId) -> Option<&mut QueueNode> {
        self.queues.find_mut(spread(id.0), |queue| queue.id == id)
    }

    fn at_places(&self, places: Option<&[BindingIndex]>) -> impl Iterator<Item = &Binding> {
        let bounds = places
            .unwrap_or_default()
            .iter()
            .filter_map(|at| self.bindings.get(*at));
        bounds.map(|bound| &bound.binding)
    }

    fn resolve(&self, binding: &Binding) -> Result<(ExchangeIndex, Target), BindError> {
        let exchange = |name: &str| match name {
            "" => Err(BindError::DefaultExchange),
            name => self
                .index(name)
                .ok_or_else(|| BindError::NoExchange(name.to_owned())),
        };
        let source = exchange(&binding.source)?;
        let target = match &binding.destination {
            Destination::Queue(id) if self.queue(*id).is_some_and(|it| !it.leaving) => {
                Target::Queue(*id)
            }
            Destination::Queue(id) => return Err(BindError::NoQueue(*id)),
            Destination::Exchange(name) => Target::Exchange(exchange(name)?),
        };
        Ok((source, target))
    }

    /// What hash exchanges know a destination by.
    fn seed(&self, destination: &Destination) -> u64 {
        match destination {
            Destination::Exchange(name) => stable_hash::hash_bytes(1, name.as_bytes()),
            Destination::Queue(id) => {
                let queue = self.queue(*id);
                let name = queue.map_or(&b""[..], |queue| queue.name.as_bytes());
                stable_hash::hash_bytes(0, name)
            }
        }
    }

    fn incoming(&self, destination: &Destination) -> Option<&[BindingIndex]> {
        match destination {
            Destination::Queue(id) => self.queue(*id).map(|queue| queue.incoming.as_slice()),
            Destination::Exchange(name) => {
                let node = self.index(name).and_then(|at| self.node(at));
                node.map(|node| node.incoming.as_slice())
            }
        }
    }

    fn incoming_mut(&mut self, target: Target) -> Option<&mut Vec<BindingIndex>> {
        match target {
            Target::Queue(id) => self.queue_mut(id).map(|queue| &mut queue.incoming),
            Target::Exchange(at) => self.node_mut(at).map(|node| &mut node.incoming),
        }
    }

    /// Changes the default exchange's binding of queue `id` to its name.
    fn with_default(
        &mut self,
        name: &str,
        id: QueueId,
        change: impl FnOnce(&mut dyn Matcher, &Terms<'_>),
    ) {
        let arguments = FieldTable::default();
        let terms = Terms {
            target: Target::Queue(id),
            seed: 0,
            routing_key: name.as_bytes(),
            arguments: &arguments,
        };
        if let Some(node) = self.node_mut(DEFAULT) {
            change(node.matcher.as_mut(), &terms);
        }
    }

    /// An exchange is no longer found.
    fn let_exchange_go(&mut self, at: ExchangeIndex, removed: &mut Removed) {
        let Some(node) = self.places.get_mut(at.0) else {
            return;
        };
        node.leaving = true;
        self.by_name.remove(&node.exchange.name, at);
        self.leaving_names.insert(&node.exchange.name, at);
        removed.exchanges.push(node.exchange.clone());
        self.leaving.push(Target::Exchange(at));
    }

    /// [`Self::clear_away`]; the latest goes first, and what goes for want of it before the rest of its bindings.
    fn clear(&mut self, most: usize, removed: &mut Removed) {
        let mut left = most.max(1);
        while left > 0
            && let Some(&target) = self.leaving.last()
        {
            let places = self.take_bindings(target, left);
            left = left.saturating_sub(places.len().max(1));
            if places.is_empty() {
                self.leaving.pop();
                self.finish(target, removed);
            }
            for binding in places {
                self.remove_binding(binding, removed);
            }
        }
    }

    /// Takes up to `most` bindings off the lists of what they lead to or from. Their order is that of the list.
    fn take_bindings(&mut self, target: Target, most: usize) -> Vec<BindingIndex> {
        let split = |list: &mut Vec<BindingIndex>, most: usize| {
            list.split_off(list.len().saturating_sub(most))
        };
        match target {
            Target::Queue(id) => {
                let queue = self.queue_mut(id);
                queue.map(|queue| split(&mut queue.incoming, most))
            }
            Target::Exchange(at) => self.node_mut(at).map(|node| {
                let mut places = split(&mut node.outgoing, most);
                places.extend(split(&mut node.incoming, most - places.len()));
                places
            }),
        }
        .unwrap_or_default()
    }

    /// Nothing leads to or from it any more.
    fn finish(&mut self, target: Target, removed: &mut Removed) {
        match target {
            Target::Queue(id) => {
                self.queues.remove(spread(id.0), |queue| queue.id == id);
                removed.cleared.push(Cleared::Queue(id));
            }
            Target::Exchange(at) => {
                if let Some(node) = self.places.remove(at.0) {
                    self.leaving_names.remove(&node.exchange.name, at);
                    removed.cleared.push(Cleared::Exchange(node.exchange));
                }
            }
        }
    }

    /// Removes a binding, and has its source leave if that is auto-delete and has no other.
    fn remove_binding(&mut self, at: BindingIndex, removed: &mut Removed) {
        let Some(bound) = self.bindings.remove(at) else {
            // Of an exchange that is bound to itself it is among those in and those out.
            return;
        };
        let Bound {
            binding,
            source,
            target,
            in_source,
            in_target,
        } = bound;
        let seed = self.seed(&binding.destination);
        if let Some(node) = self.node_mut(source) {
            node.matcher.remove(&terms(&binding, target, seed));
            let moved = swap_remove(&mut node.outgoing, in_source, at);
            let is_unused = node.exchange.auto_delete && node.outgoing.is_empty() && !node.leaving;
            if let Some(moved) = moved.and_then(|moved| self.bindings.get_mut(moved)) {
                moved.in_source = in_source;
            }
            if is_unused {
                self.let_exchange_go(source, removed);
            }
        }
        let moved = self
            .incoming_mut(target)
            .and_then(|incoming| swap_remove(incoming, in_target, at));
        if let Some(moved) = moved.and_then(|moved| self.bindings.get_mut(moved)) {
            moved.in_target = in_target;
        }
        removed.bindings.push(binding);
    }
}

/// As much of a list as is there at `numbers`.
fn part(list: &[BindingIndex], numbers: Range<usize>) -> &[BindingIndex] {
    let end = numbers.end.min(list.len());
    list.get(numbers.start..end).unwrap_or_default()
}

fn terms(binding: &Binding, target: Target, seed: u64) -> Terms<'_> {
    let Binding {
        routing_key,
        arguments,
        ..
    } = binding;
    Terms {
        target,
        seed,
        routing_key,
        arguments,
    }
}

/// Takes `at` out of `list`, where it is at `position` unless it has been taken with others;
/// answers which one has moved to `position` instead.
fn swap_remove(
    list: &mut Vec<BindingIndex>,
    position: usize,
    at: BindingIndex,
) -> Option<BindingIndex> {
    if list.get(position) != Some(&at) {
        return None;
    }
    list.swap_remove(position);
    list.get(position).copied()
}
