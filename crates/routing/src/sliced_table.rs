//! A hash table that grows a little at a time: one that is large consists of many, of which each doubles by itself.
//! Whoever adds the one entry too many does not have to move all of them.

use hashbrown::HashTable;

/// A table of more entries than this is cut up. Moving them is a matter of a few tenths of a millisecond.
const WHOLE_MAX: usize = 4096;
const SLICES: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct SlicedTable<T> {
    /// All entries, until the table is cut up; then none.
    whole: HashTable<T>,
    slices: Option<Box<[HashTable<T>]>>,
    len: usize,
}

impl<T> Default for SlicedTable<T> {
    fn default() -> Self {
        Self {
            whole: HashTable::new(),
            slices: None,
            len: 0,
        }
    }
}

impl<T> SlicedTable<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let slices = self.slices.iter().flatten().flatten();
        self.whole.iter().chain(slices)
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let slices = self.slices.as_deref();
        let slice = slices.and_then(|slices| slices.get(slice_of(hash)));
        slice.unwrap_or(&self.whole).find(hash, is_it)
    }

    pub(crate) fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        self.slice_mut(hash).find_mut(hash, is_it)
    }

    /// The entry, which is made if there is none.
    pub(crate) fn find_or_insert(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(&T) -> bool,
        hash_of: impl Fn(&T) -> u64,
        new: impl FnOnce() -> T,
    ) -> &mut T {
        if self.find(hash, &mut is_it).is_none() {
            self.make_room(&hash_of);
            self.len += 1;
        }
        let entry = self.slice_mut(hash).entry(hash, is_it, hash_of);
        entry.or_insert_with(new).into_mut()
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert(&mut self, entry: T, hash_of: impl Fn(&T) -> u64) {
        self.make_room(&hash_of);
        self.len += 1;
        let hash = hash_of(&entry);
        self.slice_mut(hash).insert_unique(hash, entry, hash_of);
    }

    pub(crate) fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let found = self.slice_mut(hash).find_entry(hash, is_it).ok()?;
        let (entry, _) = found.remove();
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        }
        Some(entry)
    }

    fn slice_mut(&mut self, hash: u64) -> &mut HashTable<T> {
        let slices = self.slices.as_deref_mut();
        let slice = slices.and_then(|slices| slices.get_mut(slice_of(hash)));
        slice.unwrap_or(&mut self.whole)
    }

    /// Cuts up a table that is to grow beyond what may be moved at once.
    fn make_room(&mut self, hash_of: impl Fn(&T) -> u64) {
        if self.slices.is_some() || self.len < WHOLE_MAX {
            return;
        }
        self.slices = Some((0..SLICES).map(|_| HashTable::new()).collect());
        for entry in std::mem::take(&mut self.whole) {
            let hash = hash_of(&entry);
            self.slice_mut(hash).insert_unique(hash, entry, &hash_of);
        }
    }
}

/// Bits that a table itself does not look at, unless it is larger than any memory.
fn slice_of(hash: u64) -> usize {
    let [_, _, slice, ..] = hash.to_be_bytes();
    usize::from(slice)
}

/// A hash for the table, which looks at several parts of it, of any number.
#[inline]
pub(crate) fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_cut_up_has_what_it_had() {
        let mut table = SlicedTable::default();
        let hash_of = |number: &u64| spread(*number);
        let many = 3 * WHOLE_MAX as u64;
        for number in 0..many {
            if number % 2 == 0 {
                table.insert(number, hash_of);
            } else {
                let is_it = |known: &u64| *known == number;
                for _ in 0..2 {
                    let entry = table.find_or_insert(spread(number), is_it, hash_of, || number);
                    assert_eq!(*entry, number);
                }
            }
        }
        assert!(table.slices.as_ref().is_some_and(|slices| {
            let largest = slices.iter().map(HashTable::len).max();
            largest.is_some_and(|most| most < 2 * WHOLE_MAX / SLICES * 3)
        }));
        let mut all: Vec<u64> = table.iter().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..many).collect::<Vec<_>>());
        for number in 0..many {
            let is_it = |known: &u64| *known == number;
            assert_eq!(table.find(spread(number), is_it), Some(&number));
            assert!(table.find_mut(spread(number), is_it).is_some());
            assert_eq!(table.remove(spread(number), is_it), Some(number));
            assert_eq!(table.remove(spread(number), is_it), None);
        }
        assert!(table.is_empty() && table.slices.is_none());
    }
}
