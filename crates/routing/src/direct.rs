//! Direct exchanges: the destinations of each binding key.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::binding::BindError;
use crate::matcher::{ExchangeType, Matcher, any_arguments};
use crate::route::{Route, RouteInput};
use crate::sliced_table::SlicedTable;
use crate::target::{ExchangeIndex, Target, TargetSet, Terms};

pub(crate) static DIRECT: ExchangeType = ExchangeType {
    name: "direct",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(DirectIndex::default()),
};

/// All binding keys of one direct exchange.
#[derive(Clone, Debug, Default)]
struct DirectIndex {
    keys: SlicedTable<Key>,
    hasher: DefaultHashBuilder,
}

/// A key with its hash, so that a table that grows need not read very many keys at once.
#[derive(Clone, Debug)]
struct Key {
    hash: u64,
    bytes: Box<[u8]>,
    targets: TargetSet,
}

impl Matcher for DirectIndex {
    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        self.add(terms.routing_key, terms.target);
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        self.take(terms.routing_key, terms.target);
    }

    fn collect(&self, input: &RouteInput<'_>, _: ExchangeIndex, route: &mut Route) -> bool {
        let found = input.keys().filter_map(|key| self.get(key));
        found.fold(false, |matched, targets| route.add_all(targets) | matched)
    }

    fn is_cacheable(&self) -> bool {
        true
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}

impl DirectIndex {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<&TargetSet> {
        let hash = self.hasher.hash_one(key);
        let found = self.keys.find(hash, |known| *known.bytes == *key);
        found.map(|known| &known.targets)
    }

    fn add(&mut self, key: &[u8], target: Target) {
        let hash = self.hasher.hash_one(key);
        let is_it = |known: &Key| *known.bytes == *key;
        let new = || Key {
            hash,
            bytes: key.into(),
            targets: TargetSet::default(),
        };
        let known = self
            .keys
            .find_or_insert(hash, is_it, |known| known.hash, new);
        known.targets.insert(target);
    }

    fn take(&mut self, key: &[u8], target: Target) {
        let hash = self.hasher.hash_one(key);
        let is_it = |known: &Key| *known.bytes == *key;
        if let Some(known) = self.keys.find_mut(hash, is_it) {
            known.targets.remove(target);
            if known.targets.is_empty() {
                self.keys.remove(hash, is_it);
            }
        }
    }
}
