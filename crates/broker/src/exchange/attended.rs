//! An exchange that keeps something, and where it keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_codec::value_as_integer;
use leveret_deduplication::{
    CacheRules, Deduplication, DeduplicationCounts, KeyLogs, Producers, Rules, WINDOW,
};
use leveret_message::arguments::argument;
use leveret_message::error::ChannelError;
use leveret_message::{Message, Store};
use leveret_routing::{Exchange, ExchangeKind};
use leveret_store_api::{Change, LogId};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::delayed::Delayed;
use super::history::History;

/// The logs in which a durable exchange keeps what it keeps, as its definition has them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ExchangeLogs {
    /// Messages that wait for their time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delayed: Option<u64>,
    /// The keys of what was published before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<KeyLogs>,
    /// The last messages that passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<u64>,
}

impl ExchangeLogs {
    /// The logs that `exchange` needs.
    pub(crate) fn allocate(exchange: &Exchange, store: &Store) -> ExchangeLogs {
        let allocate = |needed: bool| needed.then(|| store.allocate_log().0);
        ExchangeLogs {
            delayed: allocate(exchange.kind == ExchangeKind::DelayedMessage),
            // A policy may have a durable exchange keep keys at any time.
            keys: exchange.durable.then(|| KeyLogs::allocate(store)),
            history: allocate(exchange.durable && exchange.kind == ExchangeKind::RecentHistory),
        }
    }

    /// With logs for keys, where it had none.
    #[must_use]
    pub(crate) fn with_keys(self, store: &Store) -> ExchangeLogs {
        let keys = self.keys.unwrap_or_else(|| KeyLogs::allocate(store));
        ExchangeLogs {
            keys: Some(keys),
            ..self
        }
    }

    /// Where the keys are.
    pub(crate) fn keys(&self) -> Option<KeyLogs> {
        self.keys
    }

    /// All of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = LogId> {
        let keys = self.keys.into_iter().flat_map(KeyLogs::iter);
        let single = self.delayed.into_iter().chain(self.history);
        single.map(LogId).chain(keys)
    }
}

/// An exchange that keeps something.
pub struct Attended {
    /// Gates are locked in the order of these.
    pub(super) id: u64,
    pub(super) vhost: Arc<str>,
    pub(super) name: String,
    pub(super) logs: ExchangeLogs,
    pub(super) delayed: Option<Delayed>,
    /// The exchange was deleted.
    pub(super) gone: AtomicBool,
    /// Duplicates are looked for.
    pub(super) deduplicates: AtomicBool,
    /// The rules in force. A leaf of the lock order, so that policies may change them while the
    /// topology is locked; the gate learns of them when it is locked next.
    pub(super) rules: Mutex<Rules>,
    pub(super) has_cache: bool,
    /// The last messages are remembered.
    pub(super) has_history: bool,
    pub(super) gate: Mutex<Gate>,
    /// So much of what the store had kept could not be read.
    damaged: u64,
}

impl std::fmt::Debug for Attended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attended({})", self.name)
    }
}

impl Attended {
    /// What `exchange` has to keep under the rules of a policy. What the store has kept of it is read
    /// back.
    pub(crate) fn new(
        vhost: &Arc<str>,
        exchange: &Exchange,
        policy: Rules,
        logs: ExchangeLogs,
        id: u64,
        producers_max: usize,
        store: &Store,
    ) -> Arc<Attended> {
        let volatile = store.is_volatile();
        let rules = Rules::parse(&exchange.arguments).or(policy);
        let cache = (exchange.kind == ExchangeKind::MessageDeduplication)
            .then(|| CacheRules::parse(&exchange.arguments).ok())
            .flatten();
        let key_logs = logs.keys.filter(|_| !volatile);
        let keys = Deduplication::new(rules, cache, key_logs);
        let producer_log = key_logs.map(KeyLogs::of_producers);
        let (producers, damaged) =
            Producers::recovered(producer_log, producers_max, store, &exchange.name);
        let history = (exchange.kind == ExchangeKind::RecentHistory)
            .then(|| exchange.history_length().ok())
            .flatten()
            .map(|length| {
                let log = logs.history.filter(|_| !volatile).map(LogId);
                History::new(length, log)
            });
        let mut attended = Attended {
            damaged,
            id,
            gone: AtomicBool::new(false),
            deduplicates: AtomicBool::new(keys.is_on()),
            rules: Mutex::new(rules),
            has_cache: cache.is_some(),
            has_history: history.is_some(),
            gate: Mutex::new(Gate {
                keys,
                producers,
                history,
            }),
            vhost: Arc::clone(vhost),
            name: exchange.name.clone(),
            logs,
            delayed: logs
                .delayed
                .map(|log| Delayed::new(LogId(log), exchange.durable, volatile)),
        };
        attended.damaged += attended.recover(store);
        Arc::new(attended)
    }

    /// Its number among those that keep something.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The virtual host it is in.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The exchange's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn delayed(&self) -> Option<&Delayed> {
        self.delayed.as_ref()
    }

    /// Answers how much is damaged.
    fn recover(&self, store: &Store) -> u64 {
        let mut damaged = 0;
        if let Some(delayed) = &self.delayed {
            damaged += delayed.recover(store, &self.name);
        }
        let mut gate = self.gate.lock();
        damaged += gate.keys.recover(store, &self.name);
        if let Some(history) = &mut gate.history {
            damaged += history.recover(store, &self.name);
        }
        damaged
    }

    /// How much of what the store had kept could not be read when this was made.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Whether duplicates are looked for.
    pub(crate) fn deduplicates(&self) -> bool {
        self.deduplicates.load(Ordering::Relaxed)
    }

    /// Whether the last messages are remembered.
    pub(crate) fn has_history(&self) -> bool {
        self.has_history
    }

    /// Other rules, by policy.
    pub(crate) fn set_rules(&self, rules: Rules) {
        *self.rules.lock() = rules;
        self.deduplicates
            .store(rules.is_on() || self.has_cache, Ordering::Relaxed);
    }

    /// Locks the gate, with the rules in force.
    pub(super) fn lock_gate(&self) -> MutexGuard<'_, Gate> {
        let mut gate = self.gate.lock();
        gate.keys.set_rules(*self.rules.lock());
        gate
    }

    /// Duplicates and gaps in what was published to it; None: nobody looks for them.
    pub(crate) fn deduplication_counts(&self) -> Option<DeduplicationCounts> {
        let gate = self.gate.lock();
        if !self.deduplicates() && gate.producers.is_empty() {
            return None;
        }
        let mut counts = gate.keys.counts();
        gate.producers.add_to(&mut counts);
        Some(counts)
    }

    /// The exchange is gone, and all it kept with it; adds the removal of its logs to `changes`.
    pub(crate) fn delete(&self, changes: &mut Vec<Change<Message>>) {
        self.gone.store(true, Ordering::Release);
        if let Some(delayed) = &self.delayed {
            delayed.delete();
        }
        self.deduplicates.store(false, Ordering::Relaxed);
        changes.extend(self.delete_logs());
    }

    fn delete_logs(&self) -> impl Iterator<Item = Change<Message>> {
        self.logs.iter().map(|log| Change::DeleteLog { log })
    }
}

/// Checks the arguments that decide what an exchange keeps.
///
/// # Errors
/// 406, in the words of the plugins.
pub(crate) fn check(exchange: &Exchange) -> Result<(), ChannelError> {
    if exchange.kind == ExchangeKind::MessageDeduplication {
        CacheRules::parse(&exchange.arguments).map_err(ChannelError::precondition)?;
    }
    let wrong = |name: &str| {
        ChannelError::precondition(format_args!(
            "invalid arg '{name}' for exchange '{}'",
            exchange.name
        ))
    };
    if let Some(window) = argument(&exchange.arguments, WINDOW)
        && value_as_integer(window).is_none_or(|window| window <= 0)
    {
        return Err(wrong(WINDOW));
    }
    Ok(())
}

/// What an exchange knows of the messages that passed.
pub(crate) struct Gate {
    /// What they are known by.
    pub(super) keys: Deduplication,
    /// Who published them.
    pub(super) producers: Producers,
    /// The last of them.
    pub(super) history: Option<History>,
}
