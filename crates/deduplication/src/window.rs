//! Keys in the order in which they came, and found by what they are.
//!
//! ```text
//!   entries:  [ oldest … | … | … newest ]   chunks of 4096, 24 bytes a key
//!   shards:   64 hash tables of the entries' positions, 5 bytes a slot
//! ```
//! A key costs 30 to 36 bytes. Nothing ever moves more than one shard or allocates more than a
//! chunk, so that a million keys make no pause. The position of an entry is its sequence in the log.
//! An entry whose key came again after it had expired stays in its place and counts for nothing.

use leveret_store_api::broken::broken;
use std::collections::VecDeque;

use hashbrown::HashTable;
use leveret_message::{Message, Store, Timestamp};
use leveret_store_api::{Change, Enqueue, LogId, Sequence};

use super::key::Key;
use super::record;

const CHUNK: usize = 4096;
const SHARDS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    expires: Timestamp,
}

/// The entries by position; positions go up by one.
#[derive(Debug, Default)]
struct Entries {
    chunks: VecDeque<Vec<Entry>>,
    /// The position of the first chunk's first entry.
    base: u64,
    /// The position of the oldest entry.
    first: u64,
    next: u64,
}

impl Entries {
    fn get(&self, position: u64) -> Option<&Entry> {
        let at = usize::try_from(position.checked_sub(self.base)?).ok()?;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    fn push(&mut self, entry: Entry) -> u64 {
        if self.chunks.back().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = self.chunks.back_mut() {
            last.push(entry);
        }
        self.next += 1;
        self.next - 1
    }

    fn pop(&mut self) -> Option<(u64, Entry)> {
        let position = self.first;
        let entry = *self.get(position)?;
        self.first += 1;
        if self.first - self.base == CHUNK as u64 {
            self.chunks.pop_front();
            self.base = self.first;
        } else if self.first == self.next {
            self.chunks.clear();
            self.base = self.first;
        }
        Some((position, entry))
    }

    /// The position whose low half this is.
    fn widen(&self, low: u32) -> u64 {
        self.first + u64::from(low.wrapping_sub(low_half(self.first)))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low_half(position: u64) -> u32 {
    position as u32
}

/// Keys, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Window {
    entries: Entries,
    /// Low halves of positions; made with the first key.
    shards: Vec<HashTable<u32>>,
    log: Option<LogId>,
}

impl Window {
    pub(crate) fn new(log: Option<LogId>) -> Window {
        Window {
            log,
            ..Window::default()
        }
    }

    /// Reads back what the store has kept; answers how much of it is damaged.
    pub(crate) fn recover(&mut self, store: &Store, whose: &str) -> u64 {
        let Some(log) = self.log else { return 0 };
        let read = record::read_all(store, log, whose, |stored| {
            if let Some(key) = record::key(&stored.payload) {
                self.skip_to(stored.sequence.0);
                self.put(key, Timestamp(stored.time_ms));
            }
        });
        self.skip_to(read.next);
        read.damaged
    }

    /// The next entry has this position; entries that are missing before it are made up.
    fn skip_to(&mut self, position: u64) {
        if self.entries.first == self.entries.next {
            self.entries = Entries {
                base: position,
                first: position,
                next: position,
                ..Entries::default()
            };
        }
        while self.entries.next < position {
            self.entries.push(Entry {
                key: Key([0; 16]),
                expires: Timestamp(0),
            });
        }
    }

    pub(crate) fn log(&self) -> Option<LogId> {
        self.log
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.entries.next - self.entries.first).unwrap_or(usize::MAX)
    }

    fn find(&self, key: &Key) -> Option<u64> {
        let shard = self.shards.get(key.shard(SHARDS))?;
        let same = |low: &u32| {
            let entry = self.entries.get(self.entries.widen(*low));
            entry.is_some_and(|entry| entry.key == *key)
        };
        let low = shard.find(key.hash(), same)?;
        Some(self.entries.widen(*low))
    }

    /// Whether the key came before and has not expired: in the millisecond in which it does it is known still.
    pub(crate) fn contains(&self, key: &Key, now: Timestamp) -> bool {
        let entry = self
            .find(key)
            .and_then(|position| self.entries.get(position));
        entry.is_some_and(|entry| entry.expires >= now)
    }

    /// Adds a key behind all others; if it is to survive a restart, what makes it durable is added to
    /// `changes`.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        expires: Timestamp,
        survives: bool,
        changes: &mut Vec<Change<Message>>,
    ) {
        let position = self.put(key, expires);
        if let Some(log) = self.log.filter(|_| survives) {
            changes.push(Change::Enqueue(Enqueue {
                log,
                sequence: Sequence(position),
                flags: 0,
                time_ms: expires.0,
                transient: false,
                payload: record::of_key(&key),
            }));
        }
    }

    fn put(&mut self, key: Key, expires: Timestamp) -> u64 {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashTable::new);
        }
        if let Some(earlier) = self.find(&key) {
            self.unlink(&key, earlier);
        }
        let position = self.entries.push(Entry { key, expires });
        let entries = &self.entries;
        if let Some(shard) = self.shards.get_mut(key.shard(SHARDS)) {
            shard.insert_unique(key.hash(), low_half(position), |low| {
                entries
                    .get(entries.widen(*low))
                    .map_or(0, |entry| entry.key.hash())
            });
        }
        position
    }

    /// The key is no longer found at this position; nothing happens if it never was.
    fn unlink(&mut self, key: &Key, position: u64) {
        let low = low_half(position);
        let Some(shard) = self.shards.get_mut(key.shard(SHARDS)) else {
            broken(&"a key is of no shard");
            return;
        };
        if let Ok(slot) = shard.find_entry(key.hash(), |other| *other == low) {
            slot.remove();
        }
    }

    /// When the oldest key expires.
    pub(crate) fn first_expires(&self) -> Timestamp {
        let first = self.entries.get(self.entries.first);
        first.map_or(Timestamp::NEVER, |entry| entry.expires)
    }

    /// Removes the oldest keys as far as they have expired, at most `max`.
    pub(crate) fn expire(
        &mut self,
        now: Timestamp,
        max: usize,
        changes: &mut Vec<Change<Message>>,
    ) {
        let first = self.entries.first;
        for _ in 0..max {
            if self.first_expires() >= now || !self.pop() {
                break;
            }
        }
        self.acknowledge(first, changes);
    }

    /// Removes the oldest keys until there are no more than `max`.
    pub(crate) fn shrink_to(&mut self, max: usize, changes: &mut Vec<Change<Message>>) {
        let first = self.entries.first;
        while self.len() > max && self.pop() {}
        self.acknowledge(first, changes);
    }

    fn pop(&mut self) -> bool {
        // Unlinked first: a slot must never name an entry that is gone.
        let Some(key) = self.entries.get(self.entries.first).map(|entry| entry.key) else {
            return false;
        };
        self.unlink(&key, self.entries.first);
        self.entries.pop().is_some()
    }

    /// Everything from `first` up to what is the oldest now is gone.
    fn acknowledge(&self, first: u64, changes: &mut Vec<Change<Message>>) {
        let count = self.entries.first - first;
        if let Some(log) = self.log.filter(|_| count > 0) {
            changes.push(Change::Acknowledge {
                log,
                first: Sequence(first),
                count,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Key {
        Key::of(b'm', &number.to_be_bytes())
    }

    fn insert(window: &mut Window, number: u32, expires: u64) {
        window.insert(key(number), Timestamp(expires), true, &mut Vec::new());
    }

    fn known(window: &Window, now: u64) -> Vec<u32> {
        (0..20)
            .filter(|number| window.contains(&key(*number), Timestamp(now)))
            .collect()
    }

    #[test]
    fn keys_expire() {
        let mut window = Window::default();
        assert!(!window.contains(&key(1), Timestamp(0)));
        insert(&mut window, 1, 10);
        insert(&mut window, 2, 30);
        insert(&mut window, 3, 20);
        assert_eq!(known(&window, 10), [1, 2, 3]);
        assert_eq!(known(&window, 11), [2, 3]);
        assert_eq!(known(&window, 21), [2]);
        window.expire(Timestamp(25), 100, &mut Vec::new());
        assert_eq!(window.len(), 2, "the third waits behind the second");
        window.expire(Timestamp(31), 100, &mut Vec::new());
        assert_eq!(window.len(), 0);
        assert_eq!(window.first_expires(), Timestamp::NEVER);
    }

    #[test]
    fn a_key_that_comes_again_is_kept_by_its_later_time() {
        let mut window = Window::default();
        insert(&mut window, 1, 10);
        insert(&mut window, 1, 40);
        assert_eq!(known(&window, 39), [1]);
        window.expire(Timestamp(15), 100, &mut Vec::new());
        assert_eq!((window.len(), known(&window, 39)), (1, vec![1]));
    }

    #[test]
    fn the_oldest_go_first() {
        let mut window = Window::default();
        for number in 0..5 {
            insert(&mut window, number, u64::MAX);
        }
        window.shrink_to(2, &mut Vec::new());
        assert_eq!(known(&window, 0), [3, 4]);
    }

    #[test]
    fn changes_name_positions() {
        let mut window = Window::new(Some(LogId(7)));
        let mut changes = Vec::new();
        for number in 0..3 {
            window.insert(key(number), Timestamp(5), true, &mut changes);
        }
        window.expire(Timestamp(6), 2, &mut changes);
        let shown: Vec<String> = changes
            .iter()
            .map(|change| match change {
                Change::Enqueue(it) => format!("+{} {}", it.log.0, it.sequence.0),
                Change::Acknowledge { log, first, count } => {
                    format!("-{} {} {count}", log.0, first.0)
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, ["+7 0", "+7 1", "+7 2", "-7 0 2"]);
    }

    #[test]
    fn many_keys_are_as_a_set_has_them() {
        let mut window = Window::default();
        let mut model = VecDeque::new();
        for number in 0..50_000u32 {
            if number % 3 == 0 && model.len() > 9_000 {
                window.shrink_to(model.len() - 1, &mut Vec::new());
                model.pop_front();
            }
            insert(&mut window, number, u64::MAX);
            model.push_back(number);
        }
        assert_eq!(window.len(), model.len());
        let oldest = model.front().copied().unwrap();
        for number in (0..50_000).step_by(7) {
            assert_eq!(
                window.contains(&key(number), Timestamp(0)),
                number >= oldest,
                "{number}"
            );
        }
        window.shrink_to(0, &mut Vec::new());
        assert!(window.shards.iter().all(HashTable::is_empty));
    }
}
