//! A queue that does not take what was published to it before.
//!
//! Windows are [`leveret_deduplication`]'s; their keys are staged with the
//! messages. The plugin's form is different: a message is not taken while another with the same header
//! is in the queue, ready, waiting or unacknowledged. That needs no record of its own: after a restart
//! it is read from the messages.

use leveret_deduplication::{
    Deduplication, DeduplicationCounts, Key, KeyLogs, Keyed, Look, NewKeys, key_of_header,
};
use leveret_message::{Message, Store, Timestamp, damaged};
use leveret_store_api::{Change, LogId, Sequence};

use super::Queue;

/// Bytes read from the store at once.
const READ_BYTES: usize = 1 << 20;

/// What a queue knows of the messages published to it.
#[derive(Debug, Default)]
pub(crate) struct QueueDeduplication {
    published: Deduplication,
    /// The keys of the messages in the queue; None: not asked for.
    present: Option<Keyed<()>>,
    refused: u64,
    /// Of the message that was admitted last and is not remembered yet.
    new_keys: Option<NewKeys>,
    key: Option<Key>,
}

impl QueueDeduplication {
    /// Whether the message is to be taken.
    fn admits(&mut self, message: &Message, look: Look, now: Timestamp) -> bool {
        self.key = None;
        self.new_keys = None;
        let Ok(header) = message.decode_header() else {
            return true;
        };
        if let Some(present) = &self.present {
            self.key = key_of_header(header.properties.headers);
            if self.key.is_some_and(|key| present.contains(&key)) {
                self.refused += 1;
                return false;
            }
        }
        if look == Look::Moved {
            return true;
        }
        self.new_keys = self.published.judge(&header, now);
        self.new_keys.is_some()
    }

    /// The message admitted last is taken.
    fn remember(&mut self, survives: bool, now: Timestamp, changes: &mut Vec<Change<Message>>) {
        if let (Some(present), Some(key)) = (&mut self.present, self.key.take()) {
            present.insert(key, ());
        }
        if let Some(new_keys) = self.new_keys.take() {
            self.published.remember(new_keys, survives, now, changes);
        }
    }

    /// A message has left the queue for good.
    fn forget(&mut self, message: &Message) {
        if let Some(present) = &mut self.present
            && let Some(key) = key_of(message)
        {
            present.remove(&key);
        }
    }

    fn recover_present(&mut self, store: &Store, log: LogId) {
        let Some(present) = &mut self.present else {
            // It does not look whether a key is in the queue.
            return;
        };
        let mut next = Sequence(0);
        let mut messages = Vec::new();
        loop {
            messages.clear();
            let read = store.read(log, next, usize::MAX, READ_BYTES, &mut messages);
            let last = read
                .ok()
                .and_then(|damaged| damaged::last_of(&messages, &damaged));
            let Some(last) = last else {
                return;
            };
            next = Sequence(last.0 + 1);
            for key in messages.iter().filter_map(|stored| key_of(&stored.payload)) {
                present.insert(key, ());
            }
        }
    }
}

/// The plugin's key of a message.
fn key_of(message: &Message) -> Option<Key> {
    if !message.has_headers() {
        return None;
    }
    let header = message.decode_header().ok()?;
    key_of_header(header.properties.headers)
}

impl Queue {
    /// Begins to look at what the options ask for. `logs`: where a durable queue keeps its keys.
    /// Answers how many of the keys that the store had kept are damaged.
    pub(crate) fn set_key_logs(&mut self, logs: KeyLogs, recovers: bool) -> u64 {
        self.key_logs = Some(logs);
        // Made anew, with its logs.
        self.deduplication = None;
        self.apply_deduplication(recovers)
    }

    /// The options in force have changed. Answers how much is damaged of what is recovered.
    pub(crate) fn apply_deduplication(&mut self, recovers: bool) -> u64 {
        let rules = self.options.deduplication;
        let unique = self.options.unique;
        let logs = self.key_logs.filter(|_| !self.store.is_volatile());
        // Keys of a policy that applies no longer are kept until they expire.
        let has_keys = |logs: KeyLogs| {
            let log = LogId(logs.message_ids);
            self.store.log_state(log).is_some()
        };
        let on = rules.is_on() || unique || (recovers && logs.is_some_and(has_keys));
        if self.deduplication.is_none() && !on {
            return 0;
        }
        let it = self.deduplication.get_or_insert_with(|| {
            let published = Deduplication::new(rules, None, logs);
            Box::new(QueueDeduplication {
                published,
                ..QueueDeduplication::default()
            })
        });
        it.published.set_rules(rules);
        match unique {
            true => {
                it.present.get_or_insert_default();
            }
            false => it.present = None,
        }
        if !recovers {
            return 0;
        }
        for log in self.levels.iter().filter_map(|level| level.log) {
            it.recover_present(&self.store, log);
        }
        it.published.recover(&self.store, "a queue")
    }

    /// Whether a message is new here; [`Queue::remember_admitted`] follows if it is taken.
    pub(crate) fn admits(&mut self, message: &Message, look: Look, now: Timestamp) -> bool {
        match &mut self.deduplication {
            None => true,
            Some(it) => it.admits(message, look, now),
        }
    }

    /// The message admitted last is taken; its keys are staged with it if it survives a restart.
    pub(crate) fn remember_admitted(&mut self, survives: bool, now: Timestamp) {
        if let Some(it) = &mut self.deduplication {
            it.remember(survives, now, &mut self.changes);
        }
    }

    /// Whether a message's key is to be forgotten when it leaves.
    pub(crate) fn has_keys_of_messages(&self) -> bool {
        let deduplication = self.deduplication.as_ref();
        deduplication.is_some_and(|it| it.present.is_some())
    }

    /// A message has left the queue for good.
    pub(crate) fn forget_key(&mut self, message: &Message) {
        if let Some(it) = &mut self.deduplication {
            it.forget(message);
        }
    }

    /// All ready messages have left, but for those in memory.
    pub(crate) fn forget_keys(&mut self) {
        let Some(it) = &mut self.deduplication else {
            // It looks for no duplicates.
            return;
        };
        if let Some(present) = &mut it.present {
            // rabbitmq: the plugin forgets the keys of unacknowledged messages too
            let left = self.levels.iter().flat_map(super::Level::in_memory);
            *present = Keyed::default();
            for key in left.filter_map(|entry| key_of(&entry.message)) {
                present.insert(key, ());
            }
        }
    }

    /// Removes some of the keys that have expired; not while some may not be staged yet.
    pub(crate) fn expire_keys(&mut self, now: Timestamp) {
        if self.levels.iter().any(super::Level::has_unstaged) {
            return;
        }
        if let Some(it) = &mut self.deduplication {
            it.published.expire(now, &mut self.changes);
        }
    }

    /// When [`Queue::expire_keys`] has something to do.
    pub(crate) fn keys_expire_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.deduplication.as_ref()?.published.expires_at(now)
    }

    /// The queue is gone, and its keys with it.
    pub(crate) fn delete_keys(&mut self) {
        let counts = self.deduplication_counts().unwrap_or_default();
        if let Some(mut it) = self.deduplication.take() {
            it.published.delete(&mut self.changes);
            self.statistics.record().past_duplicates += counts.duplicates;
        }
    }

    /// How much was recognised so far; None: nothing is looked at.
    pub(crate) fn deduplication_counts(&self) -> Option<DeduplicationCounts> {
        let it = self.deduplication.as_ref()?;
        let counts = it.published.counts();
        Some(DeduplicationCounts {
            duplicates: counts.duplicates + it.refused,
            keys: counts.keys
                + it.present
                    .as_ref()
                    .map_or(0, |present| present.len() as u64),
            ..counts
        })
    }
}
