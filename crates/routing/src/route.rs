//! What routing is asked and what it answers: a message's routing facts in, queues out.

use leveret_codec::RawTable;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::binding::QueueId;
use crate::number_set::NumberSet;
use crate::target::{ExchangeIndex, Target, TargetSet};

/// What a message says about itself, as far as routing looks. All of it is borrowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteInput<'a> {
    /// The routing key of the publish.
    pub routing_key: &'a [u8],
    /// The `headers` property.
    pub headers: Option<RawTable<'a>>,
    /// The keys in the `CC` and `BCC` headers.
    pub more_keys: &'a [&'a [u8]],
    /// The `message_id` property, for `x-consistent-hash` with `hash-property`.
    pub message_id: Option<&'a [u8]>,
    /// The `correlation_id` property, likewise.
    pub correlation_id: Option<&'a [u8]>,
    /// The `timestamp` property in seconds, likewise.
    pub timestamp: Option<u64>,
    /// Any evenly distributed number, for `x-random` and `x-local-random`.
    pub random: u64,
}

impl<'a> RouteInput<'a> {
    /// A message with nothing but a routing key.
    #[must_use]
    pub fn new(routing_key: &'a [u8]) -> Self {
        Self {
            routing_key,
            ..Self::default()
        }
    }

    /// The routing key, then those of `CC` and `BCC`.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        std::iter::once(self.routing_key).chain(self.more_keys.iter().copied())
    }
}

/// Queues up to this number are scanned for duplicates; beyond it they are hashed.
const SCANNED_MAX: usize = 32;

/// The answer of [`Topology::route`](crate::Topology::route), meant to be reused: it keeps the working
/// memory of routing, so that a route allocates nothing once the first few have been found.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The queues, each once, in no particular order.
    pub queues: SmallVec<[QueueId; 4]>,
    /// Whether exchange and routing key alone decided, so that the answer holds for every message with
    /// the same two until the topology changes. False as soon as headers, further keys, a hash or
    /// chance had a say, or an exchange was passed at which the broker must see the message.
    pub cacheable: bool,
    seen: Seen,
    reached: Vec<ExchangeIndex>,
    visited: NumberSet,
    pub(crate) topic: TopicScratch,
}

/// Working memory of the topic trie's walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicScratch {
    /// Nodes reached by the words so far.
    pub(crate) active: Vec<u32>,
    /// Nodes reached by one word more.
    pub(crate) next: Vec<u32>,
    /// '#' nodes: once reached, they stay reached.
    pub(crate) sticky: Vec<u32>,
    pub(crate) sticky_seen: NumberSet,
}

/// Queues that were seen. Their numbers are given one after the other, so that many of those that are bound together
/// share a word.
#[derive(Clone, Debug, Default)]
struct Seen(FxHashMap<u64, u64>);

impl Seen {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        if !self.is_empty() {
            self.0.clear();
        }
    }

    /// Whether it had not been seen.
    fn insert(&mut self, queue: QueueId) -> bool {
        let word = self.0.entry(queue.0 / 64).or_default();
        let bit = 1 << (queue.0 % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

impl Route {
    /// An empty route.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins anew at `start`.
    pub(crate) fn begin(&mut self, start: ExchangeIndex) {
        self.clear();
        self.cacheable = true;
        self.visit(start);
    }

    pub(crate) fn clear(&mut self) {
        self.queues.clear();
        self.cacheable = false;
        self.seen.clear();
        self.reached.clear();
        self.visited.clear();
    }

    /// The exchange that was reached as number `position`, in order of discovery.
    pub(crate) fn reached(&self, position: usize) -> Option<ExchangeIndex> {
        self.reached.get(position).copied()
    }

    /// Has `exchange` looked at later, unless it was or will be anyway.
    pub(crate) fn visit(&mut self, exchange: ExchangeIndex) {
        if self.visited.insert(exchange.0) {
            self.reached.push(exchange);
        }
    }

    fn add(&mut self, target: Target) {
        match target {
            Target::Queue(queue) => self.add_queue(queue),
            Target::Exchange(exchange) => self.visit(exchange),
        }
    }

    /// Adds a target; true when there is one.
    pub(crate) fn add_one(&mut self, target: Option<Target>) -> bool {
        target.inspect(|target| self.add(*target)).is_some()
    }

    /// Adds all of `targets`; true when there were any.
    pub(crate) fn add_all(&mut self, targets: &TargetSet) -> bool {
        if self.queues.is_empty() {
            // A set has no duplicates within itself.
            self.queues.reserve(targets.len());
            targets.iter().for_each(|target| match target {
                Target::Queue(queue) => self.queues.push(queue),
                Target::Exchange(exchange) => self.visit(exchange),
            });
        } else {
            targets.iter().for_each(|target| self.add(target));
        }
        !targets.is_empty()
    }

    fn add_queue(&mut self, queue: QueueId) {
        let is_new = if self.queues.len() <= SCANNED_MAX {
            !self.queues.contains(&queue)
        } else {
            if self.seen.is_empty() {
                for known in &self.queues {
                    self.seen.insert(*known);
                }
            }
            self.seen.insert(queue)
        };
        if is_new {
            self.queues.push(queue);
        }
    }
}
