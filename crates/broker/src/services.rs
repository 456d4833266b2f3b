//! What all virtual hosts share: the store, the deadlines of queues, and the list of queues that
//! want messages read back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use leveret_routing::QueueId;
use leveret_store::{Change, CommitPoint};
use parking_lot::Mutex;

use crate::message::Message;
use crate::queue::handle::QueueHandle;
use crate::queue::{QueueMemory, Store};
use crate::time::Timestamp;

/// The earliest deadlines of queues, in one heap for the whole broker.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Mutex<BinaryHeap<Reverse<Deadline>>>,
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct Deadline {
    at: Timestamp,
    queue: QueueHandle,
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Deadline {}
impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Deadlines {
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.heap.lock().peek().map(|Reverse(deadline)| deadline.at)
    }

    /// Adds a deadline; wakes the timer task if it is now the earliest.
    pub(crate) fn add(&self, at: Timestamp, queue: QueueHandle) {
        let earlier = {
            let mut heap = self.heap.lock();
            let earlier = heap.peek().is_none_or(|Reverse(first)| at < first.at);
            heap.push(Reverse(Deadline { at, queue }));
            earlier
        };
        if earlier && let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Takes one deadline that has come.
    pub(crate) fn pop_due(&self, now: Timestamp) -> Option<QueueHandle> {
        let mut heap = self.heap.lock();
        if heap.peek()?.0.at > now {
            return None;
        }
        heap.pop().map(|Reverse(deadline)| deadline.queue)
    }
}

/// Queues that want a paged run read, and the pager's waker.
#[derive(Debug, Default)]
pub(crate) struct Pager {
    queues: Mutex<Vec<QueueHandle>>,
    waker: Mutex<Option<Waker>>,
}

impl Pager {
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    pub(crate) fn ask(&self, queue: QueueHandle) {
        self.queues.lock().push(queue);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn take(&self) -> Vec<QueueHandle> {
        std::mem::take(&mut self.queues.lock())
    }
}

/// Shared by all virtual hosts.
pub(crate) struct Services {
    pub(crate) store: Store,
    pub(crate) memory: QueueMemory,
    pub(crate) deadlines: Deadlines,
    pub(crate) pager: Pager,
    next_queue: AtomicU64,
    /// The commit point of the latest change of definitions.
    definitions: AtomicU64,
}

impl Services {
    pub(crate) fn new(store: Store, memory: QueueMemory) -> Services {
        Services {
            store,
            memory,
            deadlines: Deadlines::default(),
            pager: Pager::default(),
            next_queue: AtomicU64::new(1),
            definitions: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_queue_id(&self) -> QueueId {
        QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed))
    }

    /// Stages changes that include definitions; answers when they are durable.
    pub(crate) fn stage_definitions(&self, changes: &mut Vec<Change<Message>>) -> CommitPoint {
        if changes.is_empty() {
            return CommitPoint::NONE;
        }
        let point = self.store.stage(changes);
        self.definitions.fetch_max(point.0, Ordering::AcqRel);
        point
    }

    /// When every definition made so far is durable: what is found must be as durable as what is made.
    pub(crate) fn definitions_point(&self) -> CommitPoint {
        CommitPoint(self.definitions.load(Ordering::Acquire))
    }

    /// Whether everything up to `point` is on stable storage.
    pub(crate) fn is_durable(&self, point: CommitPoint) -> bool {
        point <= self.store.durable_point()
    }
}
