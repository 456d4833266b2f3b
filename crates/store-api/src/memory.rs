//! A store that keeps nothing: for brokers without a disk. Owns log ids and definitions.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::{
    Change, CommitPoint, DamagedMessage, DefinitionStore, Definitions, Delivered, LogId, LogState,
    MessageLog, Numbered, Payload, Sequence, StoreError, StoreStatus, StoredMessage,
};

/// Keeps definitions for as long as it lives and messages not at all. Everything is durable at once,
/// as durable as it will ever be.
#[derive(Debug)]
pub struct MemoryStore<P> {
    next_log: AtomicU64,
    definitions: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    payload: PhantomData<fn(P)>,
}

impl<P> MemoryStore<P> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        MemoryStore {
            next_log: AtomicU64::new(1),
            definitions: Mutex::new(BTreeMap::new()),
            payload: PhantomData,
        }
    }
}

impl<P> Default for MemoryStore<P> {
    fn default() -> Self {
        MemoryStore::new()
    }
}

impl<P: Payload> MessageLog<P> for MemoryStore<P> {
    fn stage(&self, changes: &mut Vec<Change<P>>) -> CommitPoint {
        for change in changes.drain(..) {
            match change {
                Change::PutDefinition { key, value } => {
                    self.definitions.lock().insert(key, value);
                }
                Change::RemoveDefinition { key } => {
                    self.definitions.lock().remove(&key);
                }
                Change::Enqueue(_)
                | Change::Acknowledge { .. }
                | Change::SetCount { .. }
                | Change::DeleteLog { .. } => {}
            }
        }
        CommitPoint::NONE
    }

    fn durable_point(&self) -> CommitPoint {
        CommitPoint::NONE
    }

    fn wake_at(&self, _point: CommitPoint, _waker: &Waker) -> bool {
        false
    }

    fn allocate_log(&self) -> LogId {
        LogId(self.next_log.fetch_add(1, Ordering::Relaxed))
    }

    fn read(
        &self,
        _log: LogId,
        _from: Sequence,
        _count_max: usize,
        _bytes_max: usize,
        _out: &mut Vec<StoredMessage<P>>,
    ) -> Result<Vec<DamagedMessage<P>>, StoreError> {
        Ok(Vec::new())
    }

    fn log_state(&self, _log: LogId) -> Option<LogState> {
        None
    }

    fn numbered(&self, _log: LogId, _least: u32) -> Vec<Numbered> {
        Vec::new()
    }

    fn logs(&self) -> Vec<LogId> {
        Vec::new()
    }

    fn staged_bytes(&self) -> u64 {
        0
    }

    fn delivered(&self, _log: LogId) -> Delivered {
        Delivered::default()
    }

    fn record_delivered(&self, _log: LogId, _below: Sequence) {}

    fn status(&self) -> StoreStatus {
        StoreStatus::Running
    }

    fn on_status(&self, _waker: Waker) {}

    fn is_volatile(&self) -> bool {
        true
    }
}

impl<P> DefinitionStore for MemoryStore<P> {
    fn definitions(&self) -> Result<Definitions, StoreError> {
        let definitions = self.definitions.lock();
        Ok(definitions
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }
}
