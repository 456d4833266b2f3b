//! A message's headers, read once for all patterns that are tried on it.

use leveret_codec::RawTable;
use smallvec::SmallVec;

use super::value::ValueRef;

/// A message's headers in key order, each key once.
pub(super) struct Headers<'a> {
    pub(super) sorted: SmallVec<[(&'a [u8], ValueRef<'a>); 12]>,
}

impl<'a> Headers<'a> {
    /// Reads up to the first header that cannot be decoded. Without `with_nested`, values of compound
    /// types are kept as present only.
    pub(super) fn read(table: Option<RawTable<'a>>, with_nested: bool) -> Self {
        let mut sorted = SmallVec::<[_; 12]>::new();
        for (key, value) in table.iter().flat_map(RawTable::iter).map_while(Result::ok) {
            sorted.push((key, ValueRef::of_header(value, with_nested)));
        }
        if !sorted.is_sorted_by(|one, next| one.0 < next.0) {
            // Of headers with one name the last counts, as in RabbitMQ: it has to come first here.
            sorted.reverse();
            sorted.sort_by_key(|(key, _)| *key);
            sorted.dedup_by_key(|(key, _)| *key);
        }
        Self { sorted }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&ValueRef<'a>> {
        let at = self
            .sorted
            .binary_search_by(|(known, _)| (*known).cmp(key))
            .ok()?;
        self.sorted.get(at).map(|(_, value)| value)
    }
}
