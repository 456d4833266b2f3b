//! A map by keys that never makes a pause: it grows by a sixty-fourth at a time.

use rustc_hash::FxHashMap;

use super::key::Key;

const SHARDS: usize = 64;

/// Values by key.
#[derive(Debug)]
pub struct Keyed<V> {
    /// Made with the first key.
    shards: Vec<FxHashMap<[u8; 16], V>>,
    count: usize,
}

impl<V> Default for Keyed<V> {
    fn default() -> Keyed<V> {
        Keyed {
            shards: Vec::new(),
            count: 0,
        }
    }
}

impl<V> Keyed<V> {
    /// How many keys there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&V> {
        self.shards.get(key.shard(SHARDS))?.get(&key.0)
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// Puts it in; answers what it stood for before.
    pub fn insert(&mut self, key: Key, value: V) -> Option<V> {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, FxHashMap::default);
        }
        let before = self.shards.get_mut(key.shard(SHARDS))?.insert(key.0, value);
        self.count += usize::from(before.is_none());
        before
    }

    /// Takes it out, if it is there.
    pub fn remove(&mut self, key: &Key) {
        let shard = self.shards.get_mut(key.shard(SHARDS));
        if shard.is_some_and(|shard| shard.remove(&key.0).is_some()) {
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map() {
        let mut map = Keyed::default();
        let key = |number: u32| Key::of(b'm', &number.to_be_bytes());
        for number in 0..1_000 {
            assert_eq!(map.insert(key(number), number), None);
        }
        assert_eq!(map.insert(key(5), 6), Some(5));
        assert_eq!((map.len(), map.get(&key(5))), (1_000, Some(&6)));
        map.remove(&key(5));
        map.remove(&key(5));
        assert_eq!((map.len(), map.contains(&key(5))), (999, false));
    }
}
