//! Which patterns a message's headers fulfil, without trying each.
//!
//! Every pattern waits in slots, one slot a (header, value) or (header, any value): one of which a single pair is enough
//! in those of all its pairs, any other in one, chosen when it comes as the one where fewest wait. A message looks into
//! the two slots of each of its headers. Where the first kind leads to is certain then, and known without a look at the
//! patterns; who waits there of the second kind is tried in full.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::DefaultHashBuilder;
use leveret_codec::RawTable;
use smallvec::SmallVec;

use super::message::Headers;
use super::pattern::{Mode, Pair, Pattern};
use super::value::{Value, ValueRef};
use crate::places::Places;
use crate::route::Route;
use crate::sliced_table::{SlicedTable, spread};
use crate::target::{Target, TargetSet};

/// A slot of any value is looked into by more messages than one of a certain value: who waits there counts for so many.
const ANY_VALUE: usize = 8;

/// All patterns of one headers exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadersIndex {
    /// Patterns that are tried.
    places: Places<Waiting>,
    by_pattern: SlicedTable<Known>,
    slots: SlicedTable<Slot>,
    hasher: DefaultHashBuilder,
    /// Targets of the `all` pattern without pairs, which waits nowhere and matches everything.
    always: TargetSet,
    /// Bindings that expect arrays, tables or decimals. Without any, a message's are not read.
    nested: usize,
}

#[derive(Clone, Debug)]
struct Waiting {
    pattern: Pattern,
    /// The pair in whose slot it waits.
    waits_at: usize,
    targets: TargetSet,
}

/// Where a pattern is, with a part of its hash.
#[derive(Clone, Copy, Debug)]
struct Known {
    hash: u32,
    at: u32,
}

impl Known {
    fn spread(&self) -> u64 {
        spread(self.hash.into())
    }
}

#[derive(Clone, Debug)]
struct Slot {
    key: Box<[u8]>,
    expected: Option<Value>,
    /// Where every message leads to that looks in here.
    certain: TargetSet,
    /// The patterns that it has to be tried on.
    waiting: SmallVec<[u32; 2]>,
}

impl HeadersIndex {
    pub(super) fn add(&mut self, pattern: Pattern, target: Target) {
        if pattern.pairs.is_empty() {
            if pattern.mode == Mode::All {
                self.always.insert(target);
            }
            return;
        }
        self.nested += usize::from(pattern.is_nested());
        if pattern.is_fulfilled_by_one() {
            for pair in &pattern.pairs {
                self.slot_or_new(pair).certain.insert(target);
            }
            return;
        }
        let hash = self.hash_pattern(&pattern);
        let at = match self.known(&pattern, hash) {
            Some(at) => at,
            None => self.add_pattern(pattern, hash),
        };
        if let Some(waiting) = self.places.get_mut(at) {
            waiting.targets.insert(target);
        }
    }

    pub(super) fn take(&mut self, pattern: &Pattern, target: Target) {
        if pattern.pairs.is_empty() {
            if pattern.mode == Mode::All {
                self.always.remove(target);
            }
            return;
        }
        self.nested -= usize::from(pattern.is_nested());
        if pattern.is_fulfilled_by_one() {
            for pair in &pattern.pairs {
                self.leave_slot(pair, |slot| {
                    slot.certain.remove(target);
                });
            }
            return;
        }
        let hash = self.hash_pattern(pattern);
        let at = self.known(pattern, hash);
        let waiting = at.and_then(|at| Some((at, self.places.get_mut(at)?)));
        let Some((at, waiting)) = waiting else {
            debug_assert!(false, "a pattern that is removed was added");
            return;
        };
        waiting.targets.remove(target);
        if waiting.targets.is_empty() {
            let waits_at = waiting.waits_at;
            self.remove_pattern(pattern, at, waits_at);
        }
    }

    /// Adds to `route` what `headers` match; true when anything did.
    pub(super) fn find(&self, headers: Option<RawTable<'_>>, route: &mut Route) -> bool {
        let mut matched = route.add_all(&self.always);
        if self.slots.is_empty() {
            return matched;
        }
        let headers = Headers::read(headers, self.nested > 0);
        for (key, value) in &headers.sorted {
            matched |= self.collect_slot(key, Some(value), &headers, route);
            matched |= self.collect_slot(key, None, &headers, route);
        }
        matched
    }

    fn collect_slot(
        &self,
        key: &[u8],
        value: Option<&ValueRef<'_>>,
        headers: &Headers<'_>,
        route: &mut Route,
    ) -> bool {
        let Some(slot) = self.slot(key, value) else {
            return false;
        };
        let mut matched = route.add_all(&slot.certain);
        for at in &slot.waiting {
            if let Some(waiting) = self.places.get(*at)
                && waiting.pattern.holds(headers)
            {
                matched |= route.add_all(&waiting.targets);
            }
        }
        matched
    }

    fn known(&self, pattern: &Pattern, hash: u32) -> Option<u32> {
        let is_it = |known: &Known| {
            let waiting = (known.hash == hash).then(|| self.places.get(known.at));
            waiting
                .flatten()
                .is_some_and(|waiting| waiting.pattern == *pattern)
        };
        let found = self.by_pattern.find(spread(hash.into()), is_it);
        found.map(|known| known.at)
    }

    fn add_pattern(&mut self, pattern: Pattern, hash: u32) -> u32 {
        let waits_at = self.emptiest_slot(&pattern.pairs);
        let waited = pattern.pairs.get(waits_at).cloned();
        let at = self.places.insert(Waiting {
            pattern,
            waits_at,
            targets: TargetSet::default(),
        });
        if let Some(pair) = waited {
            self.slot_or_new(&pair).waiting.push(at);
        }
        self.by_pattern.insert(Known { hash, at }, Known::spread);
        at
    }

    fn remove_pattern(&mut self, pattern: &Pattern, at: u32, waits_at: usize) {
        if let Some(pair) = pattern.pairs.get(waits_at) {
            self.leave_slot(pair, |slot| {
                let position = slot.waiting.iter().position(|known| *known == at);
                position.map(|position| slot.waiting.swap_remove(position));
            });
        }
        let hash = self.hash_pattern(pattern);
        self.by_pattern
            .remove(spread(hash.into()), |known| known.at == at);
        self.places.remove(at);
    }

    /// Which of `pairs` has the fewest patterns waiting.
    fn emptiest_slot(&self, pairs: &[Pair]) -> usize {
        let crowd = |pair: &Pair| {
            let slot = self.slot(
                &pair.key,
                pair.expected.as_ref().map(Value::as_ref).as_ref(),
            );
            let waiting = slot.map_or(0, |slot| slot.waiting.len()) + 1;
            waiting * pair.expected.as_ref().map_or(ANY_VALUE, |_| 1)
        };
        (0..pairs.len())
            .min_by_key(|at| pairs.get(*at).map(crowd))
            .unwrap_or(0)
    }

    fn slot(&self, key: &[u8], value: Option<&ValueRef<'_>>) -> Option<&Slot> {
        let hash = hash_slot(&self.hasher, key, value);
        self.slots.find(hash, |slot| slot.is(key, value))
    }

    fn slot_or_new(&mut self, pair: &Pair) -> &mut Slot {
        let value = pair.expected.as_ref().map(Value::as_ref);
        let hasher = &self.hasher;
        self.slots.find_or_insert(
            hash_slot(hasher, &pair.key, value.as_ref()),
            |slot| slot.is(&pair.key, value.as_ref()),
            |slot| {
                let value = slot.expected.as_ref().map(Value::as_ref);
                hash_slot(hasher, &slot.key, value.as_ref())
            },
            || Slot {
                key: pair.key.clone(),
                expected: pair.expected.clone(),
                certain: TargetSet::default(),
                waiting: SmallVec::new(),
            },
        )
    }

    /// Takes something out of a slot, which goes if nothing is left in it.
    fn leave_slot(&mut self, pair: &Pair, take: impl FnOnce(&mut Slot)) {
        let value = pair.expected.as_ref().map(Value::as_ref);
        let hash = hash_slot(&self.hasher, &pair.key, value.as_ref());
        let is_it = |slot: &Slot| slot.is(&pair.key, value.as_ref());
        let Some(slot) = self.slots.find_mut(hash, is_it) else {
            debug_assert!(false, "a pair that is left was waited for");
            return;
        };
        take(slot);
        if slot.certain.is_empty() && slot.waiting.is_empty() {
            self.slots.remove(hash, is_it);
        }
    }

    fn hash_pattern(&self, pattern: &Pattern) -> u32 {
        u32::try_from(self.hasher.hash_one(pattern) >> 32).unwrap_or(u32::MAX)
    }
}

impl Slot {
    fn is(&self, key: &[u8], value: Option<&ValueRef<'_>>) -> bool {
        *self.key == *key && self.expected.as_ref().map(Value::as_ref).as_ref() == value
    }
}

fn hash_slot(builder: &DefaultHashBuilder, key: &[u8], value: Option<&ValueRef<'_>>) -> u64 {
    let mut hasher = builder.build_hasher();
    key.hash(&mut hasher);
    value.hash(&mut hasher);
    hasher.finish()
}
