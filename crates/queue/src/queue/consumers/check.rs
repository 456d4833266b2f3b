//! See [`crate::check`].

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{ConsumerRef, Consumers, Standing};
use crate::check::Faults;

impl Consumers {
    pub(crate) fn check(&self, faults: &mut Faults) {
        let taken = |index: u32| self.get(index);
        faults.same("consumers", self.count, self.iter().count());
        let mut priorities: Vec<i32> = self.rings.iter().map(|ring| ring.priority).collect();
        priorities.reverse();
        faults.rise("priorities of the rings", priorities.into_iter());
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        for ring in self.rings.iter() {
            let gone = ring.ready.iter().filter(|&&index| taken(index).is_none());
            faults.same(
                "consumers of a ring that have gone",
                ring.gone,
                gone.count(),
            );
            for &index in &ring.ready {
                *seen.entry(index).or_default() += 1;
                if let Some(consumer) = taken(index) {
                    let stands = (consumer.spec.priority, consumer.standing);
                    let ring = (ring.priority, Standing::InRing);
                    faults.same("who stands in a ring", stands, ring);
                }
            }
        }
        for index in &self.free {
            *seen.entry(*index).or_default() += 1;
        }
        for (index, place) in (0u32..).zip(&self.places) {
            let stands_aside = |standing| standing != Standing::InRing;
            let aside = place
                .consumer
                .as_ref()
                .is_some_and(|it| stands_aside(it.standing));
            let times = seen.remove(&index).unwrap_or(0) + usize::from(aside);
            faults.same("where a consumer's place is", times, 1);
        }
        faults.holds("places that there are", seen.is_empty());
        if self.single_active {
            let mut order: Vec<u32> = self.order.values().copied().collect();
            order.sort_unstable();
            let indices = (0u32..).zip(&self.places);
            let there = indices.filter(|(_, place)| place.consumer.is_some());
            let there: Vec<u32> = there.map(|(index, _)| index).collect();
            faults.same("consumers in order", order, there);
            faults.holds(
                "the active one is there",
                self.active.is_none_or(|index| taken(index).is_some()),
            );
        }
        for consumer in self.iter() {
            let limit = u32::from(consumer.spec.prefetch);
            faults.holds("prefetch", limit == 0 || consumer.in_flight <= limit);
        }
        let mut bundles: FxHashMap<_, u32> = FxHashMap::default();
        for consumer in self.iter() {
            *bundles.entry(consumer.bundle).or_default() += 1;
        }
        self.bundles.check(&bundles, faults);
        faults.count(self.places.len());
        faults.holds("nothing is granted between verbs", self.grant.is_none());
    }

    /// What each of them holds.
    pub(crate) fn in_flight(&self) -> FxHashMap<ConsumerRef, u32> {
        let there = (0u32..).zip(&self.places);
        let there = there.filter_map(|(index, place)| {
            let consumer = place.consumer.as_ref()?;
            let generation = place.generation;
            Some((ConsumerRef { index, generation }, consumer.in_flight))
        });
        there.collect()
    }
}
