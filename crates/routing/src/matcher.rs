//! One exchange's bindings, indexed by the rules of its kind.

use crate::binding::BindError;
use crate::consistent_hash::{self, ConsistentHash};
use crate::direct::DirectIndex;
use crate::exchange::{Exchange, ExchangeKind, HashOn};
use crate::headers::{HeadersIndex, Pattern};
use crate::modulus_hash::ModulusHash;
use crate::random;
use crate::route::{Route, RouteInput};
use crate::target::{ExchangeIndex, Target, TargetSet, Terms};
use crate::topic::TopicTrie;

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Direct(DirectIndex),
    Fanout(TargetSet),
    Topic(TopicTrie),
    Headers(HeadersIndex),
    ConsistentHash(ConsistentHash),
    Random(TargetSet),
    LocalRandom(TargetSet),
    ModulusHash(ModulusHash),
}

impl Matcher {
    pub(crate) fn new(exchange: &Exchange) -> Self {
        match exchange.matching_kind() {
            ExchangeKind::Direct => Self::Direct(DirectIndex::default()),
            ExchangeKind::Topic => Self::Topic(TopicTrie::default()),
            ExchangeKind::Headers => Self::Headers(HeadersIndex::default()),
            ExchangeKind::ConsistentHash => {
                let hash_on = HashOn::parse(&exchange.arguments).unwrap_or(HashOn::RoutingKey);
                Self::ConsistentHash(ConsistentHash::new(hash_on))
            }
            ExchangeKind::Random => Self::Random(TargetSet::default()),
            ExchangeKind::LocalRandom => Self::LocalRandom(TargetSet::default()),
            ExchangeKind::ModulusHash => Self::ModulusHash(ModulusHash::default()),
            ExchangeKind::Fanout
            | ExchangeKind::RecentHistory
            | ExchangeKind::MessageDeduplication
            | ExchangeKind::DelayedMessage => Self::Fanout(TargetSet::default()),
        }
    }

    /// Says why a binding is none, if so.
    pub(crate) fn check(&self, terms: &Terms<'_>) -> Result<(), BindError> {
        match self {
            Self::Headers(_) => Pattern::parse(terms.arguments).map(drop),
            Self::ConsistentHash(_) => consistent_hash::check(terms),
            Self::LocalRandom(_) => random::check_local(terms),
            Self::Direct(_)
            | Self::Fanout(_)
            | Self::Random(_)
            | Self::Topic(_)
            | Self::ModulusHash(_) => Ok(()),
        }
    }

    /// Adds a binding, or says why it is none and changes nothing.
    pub(crate) fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        match self {
            Self::Direct(index) => index.insert(terms.routing_key, terms.target),
            Self::Fanout(targets) | Self::Random(targets) => targets.insert(terms.target),
            Self::Topic(trie) => trie.insert(terms.routing_key, terms.target),
            Self::Headers(index) => index.insert(Pattern::parse(terms.arguments)?, terms.target),
            Self::ConsistentHash(hash) => hash.insert(terms)?,
            Self::LocalRandom(targets) => {
                random::check_local(terms)?;
                targets.insert(terms.target);
            }
            Self::ModulusHash(hash) => hash.insert(terms),
        }
        Ok(())
    }

    /// Removes a binding that was added with the same `terms`.
    pub(crate) fn remove(&mut self, terms: &Terms<'_>) {
        match self {
            Self::Direct(index) => index.remove(terms.routing_key, terms.target),
            Self::Fanout(targets) | Self::Random(targets) | Self::LocalRandom(targets) => {
                targets.remove(terms.target);
            }
            Self::Topic(trie) => trie.remove(terms.routing_key, terms.target),
            Self::Headers(index) => {
                if let Ok(pattern) = Pattern::parse(terms.arguments) {
                    index.remove(&pattern, terms.target);
                }
            }
            Self::ConsistentHash(hash) => hash.remove(terms),
            Self::ModulusHash(hash) => hash.remove(terms),
        }
    }

    /// Adds to `route` what matches; true when anything did. `at` is the exchange's place.
    pub(crate) fn collect(
        &self,
        input: &RouteInput<'_>,
        at: ExchangeIndex,
        route: &mut Route,
    ) -> bool {
        match self {
            Self::Direct(index) => {
                let found = input.keys().filter_map(|key| index.get(key));
                found.fold(false, |matched, targets| route.add_all(targets) | matched)
            }
            Self::Fanout(targets) => route.add_all(targets),
            Self::Topic(trie) => input
                .keys()
                .fold(false, |matched, key| trie.collect(key, route) | matched),
            Self::Headers(index) => index.collect(input.headers, route),
            Self::ConsistentHash(hash) => add(hash.pick(input), route),
            Self::Random(targets) | Self::LocalRandom(targets) => {
                add(random::pick(targets, input.random, at), route)
            }
            Self::ModulusHash(hash) => add(hash.pick(input), route),
        }
    }

    /// Whether what matches follows from the routing keys and is worth remembering for each.
    pub(crate) fn is_cacheable(&self) -> bool {
        matches!(self, Self::Direct(_) | Self::Fanout(_) | Self::Topic(_))
    }
}

fn add(target: Option<Target>, route: &mut Route) -> bool {
    target.inspect(|target| route.add(*target)).is_some()
}
