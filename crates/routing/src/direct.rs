//! Direct exchanges: the destinations of each binding key.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::target::{Target, TargetSet};

/// All binding keys of one direct exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirectIndex {
    keys: HashTable<Key>,
    hasher: DefaultHashBuilder,
}

/// A key with its hash, so that a table that grows need not read very many keys at once.
#[derive(Clone, Debug)]
struct Key {
    hash: u64,
    bytes: Box<[u8]>,
    targets: TargetSet,
}

impl DirectIndex {
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<&TargetSet> {
        let hash = self.hasher.hash_one(key);
        let found = self.keys.find(hash, |known| *known.bytes == *key);
        found.map(|known| &known.targets)
    }

    pub(crate) fn insert(&mut self, key: &[u8], target: Target) {
        let hash = self.hasher.hash_one(key);
        let is_it = |known: &Key| *known.bytes == *key;
        let entry = self.keys.entry(hash, is_it, |known| known.hash);
        let new = || Key {
            hash,
            bytes: key.into(),
            targets: TargetSet::default(),
        };
        entry.or_insert_with(new).get_mut().targets.insert(target);
    }

    pub(crate) fn remove(&mut self, key: &[u8], target: Target) {
        let hash = self.hasher.hash_one(key);
        if let Ok(mut known) = self.keys.find_entry(hash, |known| *known.bytes == *key) {
            known.get_mut().targets.remove(target);
            if known.get().targets.is_empty() {
                known.remove();
            }
        }
    }
}
