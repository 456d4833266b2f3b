//! The places of exchanges by their names, which are read where the exchanges are.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::sliced_table::{SlicedTable, spread};
use crate::target::ExchangeIndex;

#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    known: SlicedTable<Known>,
    hasher: DefaultHashBuilder,
}

/// A place with a part of the hash of its name.
#[derive(Clone, Copy, Debug)]
struct Known {
    hash: u32,
    at: ExchangeIndex,
}

impl Known {
    fn spread(&self) -> u64 {
        spread(self.hash.into())
    }
}

impl Names {
    /// The place of a name; `is_it` says whether the exchange at a place has it.
    #[inline]
    pub(crate) fn find(
        &self,
        name: &str,
        is_it: impl Fn(ExchangeIndex) -> bool,
    ) -> Option<ExchangeIndex> {
        let hash = self.hash(name);
        let is_it = |known: &Known| known.hash == hash && is_it(known.at);
        let found = self.known.find(spread(hash.into()), is_it);
        found.map(|known| known.at)
    }

    /// Adds a name that is not known yet.
    pub(crate) fn insert(&mut self, name: &str, at: ExchangeIndex) {
        let hash = self.hash(name);
        self.known.insert(Known { hash, at }, Known::spread);
    }

    pub(crate) fn remove(&mut self, name: &str, at: ExchangeIndex) {
        let hash = self.hash(name);
        self.known
            .remove(spread(hash.into()), |known| known.at == at);
    }

    #[inline]
    fn hash(&self, name: &str) -> u32 {
        u32::try_from(self.hasher.hash_one(name) >> 32).unwrap_or(u32::MAX)
    }
}
