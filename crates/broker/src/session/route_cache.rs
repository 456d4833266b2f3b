//! Routes this connection has used, by exchange and routing key.
//!
//! An entry is made only after existence and permission were checked, and only where exchange and
//! routing key alone decide. All entries are of one topology generation; a newer one voids them.

use rustc_hash::FxHashMap;

use crate::vhost::Targets;

/// Routes kept at most.
const ROUTES_MAX: usize = 8192;
/// Misses of a full cache after which it starts over: often enough to follow a change of keys, rarely
/// enough that a publisher that goes round more keys than fit does not pay for keeping them.
const MISSES_MAX: usize = 8 * ROUTES_MAX;

#[derive(Default)]
pub(super) struct RouteCache {
    generation: u64,
    routes: FxHashMap<Box<[u8]>, Targets>,
    /// Routes that found no place since the cache is full.
    missed: usize,
}

impl RouteCache {
    /// Forgets everything if the topology has changed; true if it has.
    pub(super) fn renew(&mut self, generation: u64) -> bool {
        if self.is_of(generation) {
            return false;
        }
        self.generation = generation;
        self.clear();
        true
    }

    /// Whether what it holds is of this generation.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        self.generation == generation
    }

    pub(super) fn get(&self, names: &[u8]) -> Option<&Targets> {
        self.routes.get(names)
    }

    pub(super) fn insert(&mut self, names: &[u8], targets: &Targets) {
        if self.routes.len() >= ROUTES_MAX {
            self.missed += 1;
            if self.missed < MISSES_MAX {
                return;
            }
            self.clear();
        }
        self.routes.insert(names.into(), targets.clone());
    }

    fn clear(&mut self) {
        self.routes.clear();
        self.missed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(number: usize) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    fn known(cache: &RouteCache, numbers: std::ops::Range<usize>) -> usize {
        numbers
            .filter(|number| cache.get(&names(*number)).is_some())
            .count()
    }

    #[test]
    fn a_full_cache_keeps_what_it_has_until_many_others_were_asked_for() {
        let mut cache = RouteCache::default();
        let kept = 0..ROUTES_MAX;
        let others = ROUTES_MAX..ROUTES_MAX + MISSES_MAX - 1;
        for number in kept.start..others.end {
            cache.insert(&names(number), &Targets::new());
        }
        assert_eq!(known(&cache, kept.clone()), ROUTES_MAX);
        assert_eq!(known(&cache, others.clone()), 0);
        cache.insert(&names(others.end), &Targets::new());
        assert_eq!(known(&cache, kept), 0);
        assert_eq!(known(&cache, others.end..others.end + 1), 1);
    }

    #[test]
    fn a_new_generation_voids_all() {
        let mut cache = RouteCache::default();
        cache.insert(&names(1), &Targets::new());
        assert!(!cache.renew(0));
        assert_eq!(known(&cache, 1..2), 1);
        assert!(cache.renew(1));
        assert_eq!(known(&cache, 1..2), 0);
    }
}
