//! Publisher deduplication: what was published before is known by a key, and is not taken again.
//!
//! Three forms, alone or together: the header of the community plugin (`x-deduplication-header`), the
//! `message_id` property for a window of time, and a producer's name with a sequence number
//! ([`Producers`]). Exchanges and queues use the same machines; they lock nothing, do no I/O after the
//! start and are told the time. What makes a key durable is a [`Change`], which the caller stages
//! together with the message's own: a key never outlives a message that a crash takes.

#![forbid(unsafe_code)]

mod counts;
mod key;
mod keyed;
mod producers;
mod record;
mod window;

use leveret_codec::{ContentHeader, FieldTable, value_as_integer};
use leveret_message::arguments::{argument, text};
use leveret_message::{Message, Store, Timestamp};
use leveret_store_api::{Change, LogId};
use serde::{Deserialize, Serialize};

pub use counts::DeduplicationCounts;
pub use key::{Key, Number, of_header as key_of_header, of_producer as number_of_producer};
pub use keyed::Keyed;
pub use producers::{Producers, Standing};
use window::Window;

/// Expired keys are removed in steps of so many.
const EXPIRE_MAX: usize = 1024;
/// How many expired keys go with each new one: more than one, so that a window shrinks in use.
const EXPIRE_ALONG: usize = 2;
/// Expired keys of a window that is not in use are removed this often.
const EXPIRE_INTERVAL_MS: u64 = 1_000;

/// The plugin's cache of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CacheRules {
    /// `x-cache-size`: so many keys at most; the oldest goes for a new one.
    pub(crate) size: usize,
    /// `x-cache-ttl`: how long a key is kept, milliseconds.
    pub(crate) ttl_ms: Option<u64>,
    /// `x-cache-persistence`: the keys survive a restart.
    pub(crate) kept: bool,
}

/// What messages are known by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// `x-dedup-window-ms`: the `message_id` property is a key for so long, milliseconds.
    pub window_ms: Option<u64>,
}

/// The argument that asks for a window.
pub const WINDOW: &str = "x-dedup-window-ms";

/// How a message comes to an exchange or a queue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Look {
    /// A client publishes it.
    #[default]
    Published,
    /// Likewise, with its producer's number.
    Numbered {
        /// The producer's number for it.
        number: Number,
        /// A number that leaves out others is refused, for there is a confirm to tell that with.
        strict: bool,
    },
    /// It was published before and comes by again: a dead letter, a recent history. Windows and caches
    /// have seen it.
    Moved,
}

impl Rules {
    /// What a queue's or exchange's arguments ask for.
    #[must_use]
    pub fn parse(arguments: &FieldTable) -> Rules {
        Rules {
            window_ms: argument(arguments, WINDOW)
                .and_then(value_as_integer)
                .and_then(|window| u64::try_from(window).ok()),
        }
    }

    /// These, and where they are silent those of a policy.
    #[must_use]
    pub fn or(self, policy: Rules) -> Rules {
        Rules {
            window_ms: self.window_ms.or(policy.window_ms),
        }
    }

    /// Whether anything is looked at.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.window_ms.is_some()
    }
}

impl CacheRules {
    /// The cache that an `x-message-deduplication` exchange's arguments ask for.
    ///
    /// # Errors
    /// The plugin's complaint.
    pub fn parse(arguments: &FieldTable) -> Result<CacheRules, &'static str> {
        // rabbitmq: numbers may be given as strings
        let number = |name| {
            let value = argument(arguments, name)?;
            let number = value_as_integer(value).or_else(|| text(value)?.parse().ok());
            Some(
                number
                    .and_then(|number| u64::try_from(number).ok())
                    .filter(|number| *number > 0),
            )
        };
        let size = number("x-cache-size").flatten().ok_or(
            "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0",
        )?;
        let ttl_ms = match number("x-cache-ttl") {
            None => None,
            Some(Some(ttl)) => Some(ttl),
            Some(None) => {
                return Err("Invalid argument, 'x-cache-ttl' must be an integer greater than 0");
            }
        };
        let kept = match argument(arguments, "x-cache-persistence").map(text) {
            None => false,
            Some(Some(how)) if how == "memory" => false,
            Some(Some(how)) if how == "disk" => true,
            Some(_) => {
                return Err(
                    "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'",
                );
            }
        };
        Ok(CacheRules {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            ttl_ms,
            kept,
        })
    }
}

/// The logs in which keys are kept, as definitions have them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeyLogs {
    pub(crate) headers: u64,
    /// Of the keys of a window.
    pub message_ids: u64,
    pub(crate) producers: u64,
}

impl KeyLogs {
    /// Names of logs; a log with nothing in it costs nothing.
    pub fn allocate(store: &Store) -> KeyLogs {
        KeyLogs {
            headers: store.allocate_log().0,
            message_ids: store.allocate_log().0,
            producers: store.allocate_log().0,
        }
    }

    /// The log of producers' numbers.
    pub fn of_producers(self) -> LogId {
        LogId(self.producers)
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = LogId> {
        [self.headers, self.message_ids, self.producers]
            .into_iter()
            .map(LogId)
    }
}

/// What a message is known by from now on, if it is taken.
#[derive(Debug, Default)]
pub struct NewKeys {
    header: Option<(Key, Timestamp)>,
    message_id: Option<(Key, Timestamp)>,
}

/// What was published before to one exchange or queue.
#[derive(Debug, Default)]
pub struct Deduplication {
    rules: Rules,
    cache: Option<CacheRules>,
    headers: Window,
    message_ids: Window,
    duplicates: u64,
    /// The alarm asked for last.
    scheduled: Option<Timestamp>,
}

impl Deduplication {
    /// Knows nothing yet. Without logs the keys do not survive a restart.
    pub fn new(rules: Rules, cache: Option<CacheRules>, logs: Option<KeyLogs>) -> Deduplication {
        let kept = cache.is_some_and(|cache| cache.kept);
        Deduplication {
            rules,
            cache,
            headers: Window::new(logs.filter(|_| kept).map(|logs| LogId(logs.headers))),
            message_ids: Window::new(logs.map(|logs| LogId(logs.message_ids))),
            ..Deduplication::default()
        }
    }

    /// Reads back what the store has kept; answers how much of it is damaged. Blocks on files.
    pub fn recover(&mut self, store: &Store, whose: &str) -> u64 {
        self.headers.recover(store, whose) + self.message_ids.recover(store, whose)
    }

    /// Other rules, by policy.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Whether anything is looked at.
    pub fn is_on(&self) -> bool {
        self.rules.is_on() || self.cache.is_some()
    }

    /// What a message will be known by; None: it was published before.
    pub fn judge(&mut self, header: &ContentHeader<'_>, now: Timestamp) -> Option<NewKeys> {
        let new_keys = self.new_keys(header, now);
        if new_keys.is_none() {
            self.duplicates += 1;
        }
        new_keys
    }

    fn new_keys(&self, header: &ContentHeader<'_>, now: Timestamp) -> Option<NewKeys> {
        let properties = &header.properties;
        let mut new_keys = NewKeys::default();
        if let Some(cache) = self.cache
            && let Some(key) = key::of_header(properties.headers)
        {
            if self.headers.contains(&key, now) {
                return None;
            }
            let ttl_ms = key::ttl_ms(properties.headers).or(cache.ttl_ms);
            let expires = ttl_ms.map_or(Timestamp::NEVER, |ttl| now + ttl);
            new_keys.header = Some((key, expires));
        }
        if let Some(window_ms) = self.rules.window_ms
            && let Some(message_id) = properties.message_id.filter(|id| !id.is_empty())
        {
            let key = Key::of(b'm', message_id);
            if self.message_ids.contains(&key, now) {
                return None;
            }
            new_keys.message_id = Some((key, now + window_ms));
        }
        Some(new_keys)
    }

    /// The message with these keys is taken; what makes that durable is added to `changes`, if the
    /// message survives a restart itself.
    pub fn remember(
        &mut self,
        new_keys: NewKeys,
        survives: bool,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
    ) {
        if let Some((key, expires)) = new_keys.header {
            if let Some(size) = self.cache.map(|cache| cache.size) {
                self.headers.shrink_to(size - 1, changes);
            }
            self.headers.expire(now, EXPIRE_ALONG, changes);
            self.headers.insert(key, expires, survives, changes);
        }
        if let Some((key, expires)) = new_keys.message_id {
            self.message_ids.expire(now, EXPIRE_ALONG, changes);
            self.message_ids.insert(key, expires, survives, changes);
        }
    }

    /// Removes some of what has expired.
    pub fn expire(&mut self, now: Timestamp, changes: &mut Vec<Change<Message>>) {
        self.headers.expire(now, EXPIRE_MAX, changes);
        self.message_ids.expire(now, EXPIRE_MAX, changes);
    }

    /// When [`Deduplication::expire`] has something to do: soon while there is much, else no more often
    /// than need be.
    pub fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self
            .headers
            .first_expires()
            .min(self.message_ids.first_expires());
        match first {
            Timestamp::NEVER => None,
            first if first <= now => Some(now + 1),
            first => Some(first.max(now + EXPIRE_INTERVAL_MS)),
        }
    }

    /// The alarm went off, perhaps another's: it is asked for again.
    pub fn woken(&mut self) {
        self.scheduled = None;
    }

    /// As [`Deduplication::expires_at`], if that is earlier than answered before.
    pub fn alarm(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.scheduled = self.scheduled.filter(|at| *at > now);
        let at = self.expires_at(now)?;
        if self.scheduled.is_some_and(|scheduled| scheduled <= at) {
            return None;
        }
        self.scheduled = Some(at);
        Some(at)
    }

    /// How much was recognised so far.
    pub fn counts(&self) -> DeduplicationCounts {
        DeduplicationCounts {
            duplicates: self.duplicates,
            keys: (self.headers.len() + self.message_ids.len()) as u64,
            ..DeduplicationCounts::default()
        }
    }

    /// Its queue or exchange is gone, with everything.
    pub fn delete(&mut self, changes: &mut Vec<Change<Message>>) {
        let logs = [self.headers.log(), self.message_ids.log()];
        changes.extend(
            logs.into_iter()
                .flatten()
                .map(|log| Change::DeleteLog { log }),
        );
        *self = Deduplication::default();
    }
}
