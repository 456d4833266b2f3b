//! A store in which whoever stages a change can be stopped, so that another overtakes him.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::task::Waker;
use std::time::Duration;

use leveret_message::Message;
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, DefinitionStore, Definitions, Delivered, LogId, LogState,
    MessageLog, Numbered, Sequence, SteppedStore, StoreError, StoreStatus, StoredMessage,
};
use parking_lot::Mutex;

/// Nobody is stopped for longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// A store in which somebody who stages a change can be stopped.
pub struct Held {
    inside: Arc<SteppedStore<Message>>,
    holds: AtomicBool,
    arrived: SyncSender<()>,
    released: Mutex<Receiver<()>>,
}

impl Held {
    /// The store, who hears that somebody was stopped, and who lets him go on.
    pub fn new(inside: &Arc<SteppedStore<Message>>) -> (Arc<Held>, Receiver<()>, Sender<()>) {
        let (arrived, arrivals) = mpsc::sync_channel(1);
        let (release, released) = mpsc::channel();
        let held = Held {
            inside: Arc::clone(inside),
            holds: AtomicBool::new(false),
            arrived,
            released: Mutex::new(released),
        };
        (Arc::new(held), arrivals, release)
    }

    /// Whoever stages a change next is stopped.
    pub fn stop_the_next(&self) {
        self.holds.store(true, Ordering::SeqCst);
    }
}

impl MessageLog<Message> for Held {
    fn stage(&self, changes: &mut Vec<Change<Message>>) -> CommitPoint {
        if !changes.is_empty() && self.holds.swap(false, Ordering::SeqCst) {
            self.arrived.send(()).unwrap();
            self.released.lock().recv_timeout(DEADLINE).unwrap();
        }
        self.inside.stage(changes)
    }

    fn durable_point(&self) -> CommitPoint {
        self.inside.durable_point()
    }

    fn wake_at(&self, point: CommitPoint, waker: &Waker) -> bool {
        self.inside.wake_at(point, waker)
    }

    fn allocate_log(&self) -> LogId {
        self.inside.allocate_log()
    }

    fn read(
        &self,
        log: LogId,
        from: Sequence,
        count_max: usize,
        bytes_max: usize,
        out: &mut Vec<StoredMessage<Message>>,
    ) -> Result<Vec<DamagedMessage<Message>>, StoreError> {
        self.inside.read(log, from, count_max, bytes_max, out)
    }

    fn log_state(&self, log: LogId) -> Option<LogState> {
        self.inside.log_state(log)
    }

    fn numbered(&self, log: LogId, least: u32) -> Vec<Numbered> {
        self.inside.numbered(log, least)
    }

    fn logs(&self) -> Vec<LogId> {
        self.inside.logs()
    }

    fn staged_bytes(&self) -> u64 {
        self.inside.staged_bytes()
    }

    fn delivered(&self, log: LogId) -> Delivered {
        self.inside.delivered(log)
    }

    fn record_delivered(&self, log: LogId, below: Sequence) {
        self.inside.record_delivered(log, below);
    }

    fn status(&self) -> StoreStatus {
        self.inside.status()
    }

    fn on_status(&self, waker: Waker) {
        self.inside.on_status(waker);
    }

    fn is_volatile(&self) -> bool {
        false
    }
}

impl DefinitionStore for Held {
    fn definitions(&self) -> Result<Definitions, StoreError> {
        self.inside.definitions()
    }
}
