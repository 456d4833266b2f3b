//! Which patterns a message's headers fulfil, without trying each.
//!
//! Every pattern waits in slots, one slot a (header, value) or (header, any value): an `any` pattern
//! in those of all its pairs, an `all` pattern in one, chosen when it comes as the one where fewest
//! wait. A message looks into the two slots of each of its headers; whoever waits there as `any`
//! matches, whoever waits as `all` is tried in full.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use leveret_codec::RawTable;
use slab::Slab;
use smallvec::SmallVec;

use super::message::Headers;
use super::pattern::{Mode, Pair, Pattern};
use super::value::{Value, ValueRef};
use crate::route::Route;
use crate::target::{Target, TargetSet};

/// All patterns of one headers exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadersIndex {
    places: Slab<Waiting>,
    by_pattern: HashMap<Pattern, usize>,
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    /// Targets of the `all` pattern without pairs, which waits nowhere and matches everything.
    always: TargetSet,
    /// Patterns that expect arrays, tables or decimals. Without any, a message's are not read.
    nested: usize,
}

#[derive(Clone, Debug)]
struct Waiting {
    pattern: Pattern,
    /// Of an `all` pattern: the pair in whose slot it waits.
    waits_at: usize,
    targets: TargetSet,
}

#[derive(Clone, Debug)]
struct Slot {
    key: Box<[u8]>,
    expected: Option<Value>,
    waiting: SmallVec<[usize; 2]>,
}

impl HeadersIndex {
    pub(super) fn add(&mut self, pattern: Pattern, target: Target) {
        if pattern.pairs.is_empty() {
            if pattern.mode == Mode::All {
                self.always.insert(target);
            }
            return;
        }
        let at = match self.by_pattern.get(&pattern) {
            Some(at) => *at,
            None => self.add_pattern(pattern),
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
        let at = self.by_pattern.get(pattern).copied();
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
        let slot = self
            .slots
            .find(hash_slot(&self.hasher, key, value), |slot| {
                slot.is(key, value)
            });
        let mut matched = false;
        for at in slot.iter().flat_map(|slot| &slot.waiting) {
            if let Some(waiting) = self.places.get(*at)
                && (waiting.pattern.mode == Mode::Any || waiting.pattern.holds(headers))
            {
                matched |= route.add_all(&waiting.targets);
            }
        }
        matched
    }

    fn add_pattern(&mut self, pattern: Pattern) -> usize {
        let waits_at = self.emptiest_slot(&pattern.pairs);
        let at = self.places.vacant_key();
        for pair in waited_pairs(&pattern, waits_at) {
            self.enter_slot(pair, at);
        }
        self.nested += usize::from(pattern.is_nested());
        self.by_pattern.insert(pattern.clone(), at);
        self.places.insert(Waiting {
            pattern,
            waits_at,
            targets: TargetSet::default(),
        })
    }

    fn remove_pattern(&mut self, pattern: &Pattern, at: usize, waits_at: usize) {
        for pair in waited_pairs(pattern, waits_at) {
            self.leave_slot(pair, at);
        }
        self.nested -= usize::from(pattern.is_nested());
        self.by_pattern.remove(pattern);
        self.places.try_remove(at);
    }

    /// Which of `pairs` has the fewest patterns waiting; a value is better than mere presence.
    fn emptiest_slot(&self, pairs: &[Pair]) -> usize {
        let crowd = |pair: &Pair| {
            let value = pair.expected.as_ref().map(Value::as_ref);
            self.slots
                .find(hash_slot(&self.hasher, &pair.key, value.as_ref()), |slot| {
                    slot.is(&pair.key, value.as_ref())
                })
                .map_or(0, |slot| slot.waiting.len())
        };
        (0..pairs.len())
            .min_by_key(|at| {
                pairs
                    .get(*at)
                    .map(|pair| (pair.expected.is_none(), crowd(pair)))
            })
            .unwrap_or(0)
    }

    fn enter_slot(&mut self, pair: &Pair, at: usize) {
        let value = pair.expected.as_ref().map(Value::as_ref);
        let hasher = &self.hasher;
        self.slots
            .entry(
                hash_slot(&self.hasher, &pair.key, value.as_ref()),
                |slot| slot.is(&pair.key, value.as_ref()),
                |slot| {
                    let value = slot.expected.as_ref().map(Value::as_ref);
                    hash_slot(hasher, &slot.key, value.as_ref())
                },
            )
            .or_insert_with(|| Slot {
                key: pair.key.clone(),
                expected: pair.expected.clone(),
                waiting: SmallVec::new(),
            })
            .get_mut()
            .waiting
            .push(at);
    }

    fn leave_slot(&mut self, pair: &Pair, at: usize) {
        let value = pair.expected.as_ref().map(Value::as_ref);
        let found = self
            .slots
            .find_entry(hash_slot(&self.hasher, &pair.key, value.as_ref()), |slot| {
                slot.is(&pair.key, value.as_ref())
            });
        let Ok(mut slot) = found else {
            debug_assert!(false, "a pair that is left was waited for");
            return;
        };
        let waiting = &mut slot.get_mut().waiting;
        if let Some(position) = waiting.iter().position(|known| *known == at) {
            waiting.swap_remove(position);
        }
        if waiting.is_empty() {
            slot.remove();
        }
    }
}

impl Slot {
    fn is(&self, key: &[u8], value: Option<&ValueRef<'_>>) -> bool {
        *self.key == *key && self.expected.as_ref().map(Value::as_ref).as_ref() == value
    }
}

/// The pairs in whose slots `pattern` waits.
fn waited_pairs(pattern: &Pattern, waits_at: usize) -> &[Pair] {
    match pattern.mode {
        Mode::Any => &pattern.pairs,
        Mode::All => pattern.pairs.get(waits_at..=waits_at).unwrap_or_default(),
    }
}

fn hash_slot(builder: &DefaultHashBuilder, key: &[u8], value: Option<&ValueRef<'_>>) -> u64 {
    let mut hasher = builder.build_hasher();
    key.hash(&mut hasher);
    value.hash(&mut hasher);
    hasher.finish()
}
