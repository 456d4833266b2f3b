//! All bindings of a virtual host: found by identity, listed by source and by destination, removed in
//! constant time however many share an end.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Range;

use hashbrown::DefaultHashBuilder;
use leveret_codec::{FieldTable, encode_table};

use crate::binding::Binding;
use crate::places::Places;
use crate::sliced_table::{SlicedTable, spread};
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
    places: Places<Bound>,
    by_identity: SlicedTable<Listed>,
    hasher: DefaultHashBuilder,
}

/// A place with a part of the hash of the binding there, so that a table that grows need not read very many bindings at
/// once.
#[derive(Clone, Copy, Debug)]
struct Listed {
    hash: u32,
    at: BindingIndex,
}

impl Listed {
    fn spread(&self) -> u64 {
        spread(self.hash.into())
    }
}

impl BindingTable {
    pub(crate) fn get(&self, at: BindingIndex) -> Option<&Bound> {
        self.places.get(at.0)
    }

    pub(crate) fn get_mut(&mut self, at: BindingIndex) -> Option<&mut Bound> {
        self.places.get_mut(at.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.places.iter().map(|bound| &bound.binding)
    }

    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        self.places.end()
    }

    /// The bindings at some of the places.
    pub(crate) fn at(&self, places: Range<usize>) -> impl Iterator<Item = &Binding> {
        let bounds = self.places.within(places.start, places.end);
        bounds.map(|bound| &bound.binding)
    }

    pub(crate) fn find(&self, binding: &Binding) -> Option<BindingIndex> {
        let hash = identity_hash(&self.hasher, binding);
        let found = self.by_identity.find(spread(hash.into()), |place| {
            let bound = self.get(place.at).filter(|_| place.hash == hash);
            bound.is_some_and(|bound| is_same(&bound.binding, binding))
        });
        found.map(|place| place.at)
    }

    /// Adds a binding that [`Self::find`] does not know.
    pub(crate) fn insert(&mut self, bound: Bound) -> BindingIndex {
        let hash = identity_hash(&self.hasher, &bound.binding);
        let at = BindingIndex(self.places.insert(bound));
        self.by_identity.insert(Listed { hash, at }, Listed::spread);
        at
    }

    pub(crate) fn remove(&mut self, at: BindingIndex) -> Option<Bound> {
        let bound = self.places.remove(at.0)?;
        let hash = identity_hash(&self.hasher, &bound.binding);
        self.by_identity
            .remove(spread(hash.into()), |place| place.at == at);
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

fn identity_hash(builder: &DefaultHashBuilder, binding: &Binding) -> u32 {
    let mut hasher = builder.build_hasher();
    binding.source.hash(&mut hasher);
    binding.destination.hash(&mut hasher);
    binding.routing_key.hash(&mut hasher);
    if !binding.arguments.inner().is_empty() {
        encode_table(&binding.arguments).hash(&mut hasher);
    }
    u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX)
}
