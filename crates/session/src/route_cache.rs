//! Routes this connection has used, by exchange and routing key.
//!
//! An entry is made only after existence and permission were checked, and only where exchange and
//! routing key alone decide. All entries are of one topology generation; a newer one voids them.

use std::sync::Arc;

use leveret_broker::budget::Budget;
use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::Targets;

use super::known_routes::KnownRoutes;

/// A full cache starts over after this many misses for each name it knows: often enough to follow a change
/// of keys, rarely enough that a publisher that goes round more keys than fit does not pay for keeping them.
const MISSES_MAX: usize = 8;

/// Of so many queues routes are forgotten at once. The queues may be deleted by now and freed with their last handles.
const QUEUES_AT_ONCE: usize = 256;

/// A route that a cache knows, until it forgets everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteNumber {
    epoch: u64,
    number: u32,
}

pub(super) struct RouteCache {
    generation: u64,
    /// How often it has forgotten everything; no number of before means anything now.
    epoch: u64,
    /// It was asked since [`RouteCache::rest`].
    asked: bool,
    budget: Arc<Budget>,
    known: Option<Box<KnownRoutes>>,
    /// Routes that found no place since it is full.
    missed: usize,
    /// Routes that are forgotten, to very many queues.
    forgotten: Vec<Targets>,
}

impl RouteCache {
    pub(super) fn new(budget: &Arc<Budget>) -> RouteCache {
        RouteCache {
            generation: 0,
            epoch: 0,
            asked: false,
            budget: Arc::clone(budget),
            known: None,
            missed: 0,
            forgotten: Vec::new(),
        }
    }

    /// Forgets everything if the topology has changed; true if it has.
    pub(super) fn renew(&mut self, generation: u64) -> bool {
        self.asked = true;
        if self.is_of(generation) {
            return false;
        }
        self.generation = generation;
        self.forget();
        true
    }

    /// Whether what it holds is of this generation.
    pub(super) fn is_of(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// The route of a publish with these names, if it is known; `behind` is what was read after it.
    pub(super) fn get(&mut self, names: &[u8], behind: &[u8]) -> Option<RouteNumber> {
        let number = self.known.as_mut()?.route_with_next(names, behind)?;
        Some(RouteNumber {
            epoch: self.epoch,
            number,
        })
    }

    /// The queues of a route; none if it is forgotten.
    pub(super) fn targets(&self, route: RouteNumber) -> &[QueueHandle] {
        let known = self.known.as_ref().filter(|_| self.epoch == route.epoch);
        known.map_or(&[], |known| known.targets(route.number))
    }

    /// Publishes with these names, which were not known, go to these queues.
    pub(super) fn insert(&mut self, names: &[u8], targets: &Targets) {
        let known = self
            .known
            .get_or_insert_with(|| Box::new(KnownRoutes::new(&self.budget)));
        if known.insert(names, targets) {
            return;
        }
        self.missed += 1;
        if self.missed > known.len().saturating_mul(MISSES_MAX) {
            self.forget();
        }
    }

    /// Lets go of everything if nobody has asked since the last time.
    pub(super) fn rest(&mut self) {
        if !std::mem::take(&mut self.asked) {
            self.end();
        }
    }

    /// Lets go of everything.
    pub(super) fn end(&mut self) {
        self.begin_anew();
        self.known = None;
    }

    /// Routes of which whoever drops them has much to do: nobody needs them any more.
    pub(super) fn take_forgotten(&mut self) -> Option<Vec<Targets>> {
        let some = !self.forgotten.is_empty();
        some.then(|| std::mem::take(&mut self.forgotten))
    }

    fn begin_anew(&mut self) {
        self.epoch += 1;
        self.missed = 0;
        let known = self.known.as_mut();
        if let Some(known) = known.filter(|known| known.queues() > QUEUES_AT_ONCE) {
            self.forgotten.append(&mut known.take_routes());
        }
    }

    fn forget(&mut self) {
        self.begin_anew();
        match &mut self.known {
            Some(known) if !known.is_large() => known.clear(),
            _ => self.known = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known_routes::tests::queues;

    fn cache(shared: usize) -> (RouteCache, Arc<Budget>) {
        let budget = Arc::new(Budget::new(shared));
        (RouteCache::new(&budget), budget)
    }

    fn names(number: usize) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    fn known(cache: &mut RouteCache, numbers: std::ops::Range<usize>) -> usize {
        numbers
            .filter(|number| cache.get(&names(*number), &[]).is_some())
            .count()
    }

    #[test]
    fn a_full_cache_keeps_what_it_has_until_many_others_were_asked_for() {
        let (mut cache, _) = cache(0);
        let mut count = 0;
        while cache.missed == 0 {
            cache.insert(&names(count), &Targets::new());
            count += 1;
        }
        let kept = count - 1;
        for _ in 0..kept * MISSES_MAX - 1 {
            cache.insert(&names(count), &Targets::new());
            count += 1;
        }
        assert_eq!(known(&mut cache, 0..kept), kept);
        assert_eq!(known(&mut cache, kept..count), 0);
        cache.insert(&names(count), &Targets::new());
        assert_eq!(known(&mut cache, 0..count + 1), 0);
        cache.insert(&names(count), &Targets::new());
        assert_eq!(known(&mut cache, 0..count + 1), 1);
    }

    #[test]
    fn a_new_generation_voids_all() {
        let (mut cache, _) = cache(0);
        cache.insert(&names(1), &Targets::new());
        assert!(!cache.renew(0));
        assert_eq!(known(&mut cache, 1..2), 1);
        assert!(cache.renew(1));
        assert_eq!(known(&mut cache, 1..2), 0);
    }

    #[test]
    fn a_route_of_before_leads_nowhere() {
        let (mut cache, _) = cache(0);
        let [one, other] = queues(2).try_into().unwrap();
        cache.insert(&names(1), &Targets::from_buf([one]));
        let before = cache.get(&names(1), &[]).unwrap();
        assert_eq!(cache.targets(before).len(), 1);
        cache.renew(1);
        assert!(cache.targets(before).is_empty());
        cache.insert(&names(1), &Targets::from_buf([other.clone()]));
        assert!(cache.targets(before).is_empty());
        let now = cache.get(&names(1), &[]).unwrap();
        assert_ne!(before, now);
        assert_eq!(cache.targets(now)[0].id(), other.id());
    }

    #[test]
    fn very_many_queues_are_not_let_go_of_at_once() {
        let queues = queues(QUEUES_AT_ONCE + 1);
        let (mut cache, _) = cache(0);
        let mut forgotten = |count: usize, forget: fn(&mut RouteCache)| {
            for (number, queue) in queues.iter().take(count).enumerate() {
                let targets = Targets::from_buf([queue.clone()]);
                cache.insert(&names(number), &targets);
            }
            forget(&mut cache);
            assert_eq!(known(&mut cache, 0..count), 0);
            cache.take_forgotten().map_or(0, |routes| routes.len())
        };
        let voided = |cache: &mut RouteCache| assert!(cache.renew(cache.generation + 1));
        assert_eq!(forgotten(QUEUES_AT_ONCE, voided), 0);
        assert_eq!(forgotten(QUEUES_AT_ONCE + 1, voided), QUEUES_AT_ONCE + 1);
        assert_eq!(
            forgotten(QUEUES_AT_ONCE + 1, RouteCache::end),
            QUEUES_AT_ONCE + 1
        );
    }

    #[test]
    fn who_does_not_ask_gives_the_memory_back() {
        let (mut cache, budget) = cache(1 << 20);
        for number in 0..20_000 {
            cache.insert(&names(number), &Targets::new());
        }
        assert!(budget.left() < 1 << 20);
        cache.renew(0);
        cache.rest();
        assert_eq!(known(&mut cache, 0..20_000), 20_000);
        cache.rest();
        assert_eq!(known(&mut cache, 0..20_000), 0);
        assert_eq!(budget.left(), 1 << 20);
    }

    #[test]
    fn what_was_shared_goes_back_when_the_topology_changes() {
        let (mut cache, budget) = cache(1 << 20);
        for number in 0..20_000 {
            cache.insert(&names(number), &Targets::new());
        }
        cache.renew(1);
        assert_eq!(budget.left(), 1 << 20);
    }
}
