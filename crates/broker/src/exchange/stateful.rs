//! An exchange that keeps something, and where it keeps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_deduplication::{Deduplication, DeduplicationCounts, KeyLogs, Producers, Rules};
use leveret_message::{Message, Store};
use leveret_routing::Exchange;
use leveret_store_api::Change;
use parking_lot::{Mutex, MutexGuard};

use super::delayed::Delayed;
use super::keeper::Keeper;
use super::keepers;
use super::logs::ExchangeLogs;
use crate::latch::Latch;

/// An exchange that keeps something.
pub struct StatefulExchange {
    /// Gates are locked in the order of these.
    pub(super) id: u64,
    pub(super) vhost: Arc<str>,
    pub(super) name: String,
    pub(super) logs: ExchangeLogs,
    /// What it keeps for its type's sake.
    pub(super) keeper: Option<Box<dyn Keeper>>,
    /// The exchange was deleted.
    pub(super) gone: AtomicBool,
    /// Duplicates are looked for.
    pub(super) deduplicates: AtomicBool,
    /// The rules in force. A leaf of the lock order, so that policies may change them while the
    /// topology is locked; the gate learns of them when it is locked next.
    pub(super) rules: Mutex<Rules>,
    pub(super) has_cache: bool,
    pub(super) gate: Mutex<Gate>,
    /// So much of what the store had kept could not be read.
    damaged: u64,
}

impl std::fmt::Debug for StatefulExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StatefulExchange({})", self.name)
    }
}

impl StatefulExchange {
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
    ) -> Arc<StatefulExchange> {
        let volatile = store.is_volatile();
        let rules = Rules::parse(&exchange.arguments).or(policy);
        let keeper = keepers::keeper(exchange, logs, store);
        let cache = keeper.as_ref().and_then(|keeper| keeper.cache());
        let key_logs = logs.keys.filter(|_| !volatile);
        let keys = Deduplication::new(rules, cache, key_logs);
        let producer_log = key_logs.map(KeyLogs::of_producers);
        let (producers, damaged) =
            Producers::recovered(producer_log, producers_max, store, &exchange.name);
        let mut stateful = StatefulExchange {
            damaged,
            id,
            gone: AtomicBool::new(false),
            deduplicates: AtomicBool::new(keys.is_on()),
            rules: Mutex::new(rules),
            has_cache: cache.is_some(),
            gate: Mutex::new(Gate {
                keys,
                producers,
                latch: Latch::default(),
            }),
            vhost: Arc::clone(vhost),
            name: exchange.name.clone(),
            logs,
            keeper,
        };
        stateful.damaged += stateful.recover(store);
        Arc::new(stateful)
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
        self.keeper.as_ref()?.delayed()
    }

    /// Answers how much is damaged.
    fn recover(&self, store: &Store) -> u64 {
        let keeper = self.keeper.as_ref();
        let damaged = keeper.map_or(0, |keeper| keeper.recover(store, &self.name));
        damaged + self.gate.lock().keys.recover(store, &self.name)
    }

    /// How much of what the store had kept could not be read when this was made.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The exchange was deleted.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether duplicates are looked for.
    pub(crate) fn deduplicates(&self) -> bool {
        self.deduplicates.load(Ordering::Relaxed)
    }

    /// Whether whoever binds gets messages that it remembers.
    pub(crate) fn remembers(&self) -> bool {
        self.keeper
            .as_ref()
            .is_some_and(|keeper| keeper.remembers())
    }

    /// A part of what whoever binds gets, oldest first: at most `most` messages behind the first `from`. Its gate is shut.
    pub(crate) fn remembered(&self, from: usize, most: usize) -> Vec<Message> {
        let keeper = self.keeper.as_ref();
        keeper.map_or_else(Vec::new, |keeper| keeper.remembered(from, most))
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
        if let Some(keeper) = &self.keeper {
            keeper.delete();
        }
        self.deduplicates.store(false, Ordering::Relaxed);
        changes.extend(self.delete_logs());
    }

    fn delete_logs(&self) -> impl Iterator<Item = Change<Message>> {
        self.logs.iter().map(|log| Change::DeleteLog { log })
    }
}

/// What an exchange knows of the messages that passed.
pub(crate) struct Gate {
    /// What they are known by.
    pub(super) keys: Deduplication,
    /// Who published them.
    pub(super) producers: Producers,
    pub(super) latch: Latch,
}
