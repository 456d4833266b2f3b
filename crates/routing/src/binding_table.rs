//! All bindings of a virtual host: found by identity, listed by source and by destination, removed in
//! constant time however many share an end.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};
use leveret_codec::{FieldTable, encode_table};

use crate::binding::Binding;
use crate::target::{ExchangeIndex, Target};

/// A binding's place in the table. Reused after removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BindingIndex(u32);

/// A binding with both ends resolved.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) binding: Binding,
    pub(crate) source: ExchangeIndex,
    pub(crate) target: Target,
    /// Where the source's and the target's lists have it.
    pub(crate) in_source: usize,
    pub(crate) in_target: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct BindingTable {
    places: Vec<Option<Bound>>,
    free: Vec<BindingIndex>,
    by_identity: HashTable<BindingIndex>,
    hasher: DefaultHashBuilder,
}

impl BindingTable {
    pub(crate) fn get(&self, at: BindingIndex) -> Option<&Bound> {
        self.places.get(at.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: BindingIndex) -> Option<&mut Bound> {
        self.places.get_mut(at.0 as usize)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.places.iter().flatten().map(|bound| &bound.binding)
    }

    pub(crate) fn find(&self, binding: &Binding) -> Option<BindingIndex> {
        self.by_identity
            .find(identity_hash(&self.hasher, binding), |at| {
                self.get(*at)
                    .is_some_and(|bound| is_same(&bound.binding, binding))
            })
            .copied()
    }

    /// Adds a binding that [`Self::find`] does not know.
    pub(crate) fn insert(&mut self, bound: Bound) -> BindingIndex {
        let hash = identity_hash(&self.hasher, &bound.binding);
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            BindingIndex(u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(place) = self.places.get_mut(at.0 as usize) {
            *place = Some(bound);
        }
        let (places, hasher) = (&self.places, &self.hasher);
        self.by_identity.insert_unique(hash, at, |at| {
            let bound = places.get(at.0 as usize).and_then(Option::as_ref);
            bound.map_or(0, |bound| identity_hash(hasher, &bound.binding))
        });
        at
    }

    pub(crate) fn remove(&mut self, at: BindingIndex) -> Option<Bound> {
        let bound = self.places.get_mut(at.0 as usize)?.take()?;
        let hash = identity_hash(&self.hasher, &bound.binding);
        if let Ok(entry) = self.by_identity.find_entry(hash, |known| *known == at) {
            entry.remove();
        }
        self.free.push(at);
        Some(bound)
    }
}

fn is_same(one: &Binding, other: &Binding) -> bool {
    one.routing_key == other.routing_key
        && one.destination == other.destination
        && one.source == other.source
        && are_same_arguments(&one.arguments, &other.arguments)
}

/// Equal as they are encoded, so that a NaN is the same as itself.
fn are_same_arguments(one: &FieldTable, other: &FieldTable) -> bool {
    one == other || encode_table(one) == encode_table(other)
}

fn identity_hash(builder: &DefaultHashBuilder, binding: &Binding) -> u64 {
    let mut hasher = builder.build_hasher();
    binding.source.hash(&mut hasher);
    binding.destination.hash(&mut hasher);
    binding.routing_key.hash(&mut hasher);
    if !binding.arguments.inner().is_empty() {
        encode_table(&binding.arguments).hash(&mut hasher);
    }
    hasher.finish()
}
