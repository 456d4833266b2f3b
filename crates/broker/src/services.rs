//! What all virtual hosts share: the store, the deadlines of queues and exchanges, and the list of
//! those that want messages read back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};

use leveret_message::{Message, Store, Timestamp};
use leveret_queue::queue::effects::Garbage;
use leveret_queue::queue::hidden::HiddenTicket;
use leveret_queue::queue::memory::QueueMemory;
use leveret_routing::QueueId;
use leveret_store_api::{Change, CommitPoint};
use parking_lot::Mutex;

use crate::aside::Asides;
use crate::budget::Budget;
use crate::census::Census;
use crate::churn::Churn;
use crate::config::BrokerConfig;
use crate::deadlines::{Deadlines, Owner};
use crate::events::{Event, Events};
use crate::exchange::StatefulExchange;
use crate::handle::{QueueHandle, WeakHandle};
use crate::memory_pool::Pool;
use crate::spans::Spans;
use crate::unacked_memory::UnackedMemory;

/// Work that goes on in steps.
pub(crate) trait Task: std::fmt::Debug + Send + Sync {
    /// Does the next step, and has the pager do the one after it.
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp);
}

/// Whose time has come, whose messages are to be read back, or who is durable by now. Events wait to be
/// published.
#[derive(Clone, Debug)]
pub(crate) enum Party {
    Queue(QueueHandle),
    /// Its dead letters are to be moved on.
    Letters(QueueHandle),
    Exchange(Arc<StatefulExchange>),
    Task(Arc<dyn Task>),
    Events,
}

impl From<QueueHandle> for Party {
    fn from(queue: QueueHandle) -> Party {
        Party::Queue(queue)
    }
}

impl From<Arc<StatefulExchange>> for Party {
    fn from(exchange: Arc<StatefulExchange>) -> Party {
        Party::Exchange(exchange)
    }
}

/// Bytes of routes that all connections may keep together, beyond what each has of its own.
const ROUTE_BYTES_MAX: usize = 64 << 20;
/// The list of those that ask keeps place for so many.
const PARTIES_KEPT: usize = 1024;
/// Messages freed before others have their turn.
const FREED_MAX: usize = 4096;

/// Those that want messages read back, the memory that nobody wants, and the pager's waker.
#[derive(Debug, Default)]
pub(crate) struct Pager {
    parties: Mutex<VecDeque<Party>>,
    garbage: Mutex<Vec<Garbage>>,
    waker: Mutex<Option<Waker>>,
}

impl Pager {
    /// Wakes at once where somebody has asked already.
    pub(crate) fn set_waker(&self, waker: Waker) {
        let mut place = self.waker.lock();
        let waker = place.insert(waker);
        if !self.parties.lock().is_empty() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn ask(&self, party: impl Into<Party>) {
        self.parties.lock().push_back(party.into());
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Whether nobody has asked.
    #[cfg(debug_assertions)]
    pub(crate) fn is_idle(&self) -> bool {
        self.parties.lock().is_empty()
    }

    /// Who has asked first; whoever asks again is behind all others.
    pub(crate) fn next(&self) -> Option<Party> {
        let mut parties = self.parties.lock();
        let party = parties.pop_front();
        if parties.is_empty() && parties.capacity() > PARTIES_KEPT {
            *parties = VecDeque::new();
        }
        party
    }

    /// Has memory freed: a million messages at once would hold up whoever did it for a while.
    pub(crate) fn free(&self, garbage: Vec<Garbage>) {
        if garbage.is_empty() {
            return;
        }
        self.garbage.lock().extend(garbage);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Frees a part of it; false: there is none.
    pub(crate) fn free_some(&self) -> bool {
        let Some(mut garbage) = self.garbage.lock().pop() else {
            return false;
        };
        if garbage.free_some(FREED_MAX) {
            self.garbage.lock().push(garbage);
        }
        true
    }
}

/// Shared by all virtual hosts.
pub struct Services {
    pub store: Store,
    pub(crate) memory: QueueMemory,
    /// A persistent message with a body of at least so many bytes is written ahead of its publish.
    pub write_ahead_bytes_min: u64,
    /// See [`BrokerConfig::producers_max`].
    pub(crate) producers_max: usize,
    /// See [`BrokerConfig::step_cost`].
    pub step_cost: usize,
    /// See [`BrokerConfig::store_behind_bytes`].
    store_behind_bytes: u64,
    pub(crate) deadlines: Deadlines<Party>,
    pub(crate) pager: Pager,
    pub events: Events,
    /// Who watches messages of traces; nobody, usually.
    pub spans: OnceLock<Arc<Spans>>,
    /// What comes and goes.
    pub churn: Churn,
    /// All queues.
    pub census: Census<WeakHandle>,
    /// Definitions that the start could not use.
    pub(crate) aside: Asides,
    /// What connections may use for routes beyond what each has of its own.
    pub route_memory: Arc<Budget>,
    /// Memory for bodies on their way.
    pub assembly_memory: Arc<Pool>,
    /// Memory for open transactions.
    pub transaction_memory: Arc<Pool>,
    /// Memory of what clients have not settled.
    pub unacked_memory: Arc<UnackedMemory>,
    next_queue: AtomicU64,
    next_ticket: AtomicU64,
    /// The commit point of the latest change of definitions.
    definitions: AtomicU64,
}

/// Has the pager go on with a task.
struct TaskWaker {
    services: Arc<Services>,
    task: Arc<dyn Task>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.services.pager.ask(Party::Task(Arc::clone(&self.task)));
    }
}

impl Services {
    /// A waker that has the pager go on with `task`.
    pub(crate) fn waker(self: &Arc<Self>, task: &Arc<dyn Task>) -> Waker {
        Waker::from(Arc::new(TaskWaker {
            services: Arc::clone(self),
            task: Arc::clone(task),
        }))
    }

    /// Has a queue told when it is `at`.
    pub(crate) fn wake_queue_at(&self, at: Timestamp, queue: &QueueHandle) {
        let party = Party::Queue(queue.clone());
        self.deadlines.add(at, Owner::Queue(queue.id().0), party);
    }

    /// Has an exchange told when it is `at`.
    pub(crate) fn wake_exchange_at(&self, at: Timestamp, exchange: &Arc<StatefulExchange>) {
        let party = Party::Exchange(Arc::clone(exchange));
        self.deadlines
            .add(at, Owner::Exchange(exchange.id()), party);
    }

    /// Has the events that wait published when it is `at`.
    pub(crate) fn publish_events_at(&self, at: Timestamp) {
        self.deadlines.add(at, Owner::Events, Party::Events);
    }

    pub(crate) fn new(store: Store, config: &BrokerConfig, now: Timestamp) -> Services {
        let unacked_bytes_max = match store.is_volatile() {
            // There is nowhere else for them to be.
            true => usize::MAX,
            false => config.unacked_bytes_max,
        };
        Services {
            write_ahead_bytes_min: store.write_ahead_bytes_min() as u64,
            store,
            memory: config.queue_memory(),
            producers_max: config.producers_max,
            step_cost: config.step_cost,
            store_behind_bytes: config.store_behind_bytes,
            deadlines: Deadlines::default(),
            pager: Pager::default(),
            events: Events::new(&config.cluster_name, now),
            spans: OnceLock::new(),
            census: Census::default(),
            churn: Churn::default(),
            aside: Asides::default(),
            route_memory: Arc::new(Budget::new(ROUTE_BYTES_MAX)),
            assembly_memory: Arc::new(Pool::new(
                config.assembly_bytes_max,
                usize::try_from(config.message_bytes_max).unwrap_or(usize::MAX),
            )),
            transaction_memory: Arc::new(Pool::new(
                config.transactions_bytes_max,
                config.transaction_bytes_max,
            )),
            unacked_memory: Arc::new(UnackedMemory::new(unacked_bytes_max)),
            next_queue: AtomicU64::new(1),
            next_ticket: AtomicU64::new(1),
            definitions: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_queue_id(&self) -> QueueId {
        QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed))
    }

    /// A ticket nobody else has.
    pub fn next_ticket(&self) -> HiddenTicket {
        HiddenTicket(self.next_ticket.fetch_add(1, Ordering::Relaxed))
    }

    /// Tells an event to whoever listens. It may be called under the topology's lock, not under a
    /// queue's.
    pub fn tell(&self, event: impl FnOnce(&Events) -> Event) {
        if self.events.is_heard() && self.events.push(event(&self.events)) {
            self.publish_events_at(Timestamp::default());
        }
    }

    /// Evenly distributed numbers, for exchanges that route by chance.
    pub(crate) fn next_random(&self) -> u64 {
        self.next_ticket().0.wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
    #[must_use]
    pub fn definitions_point(&self) -> CommitPoint {
        CommitPoint(self.definitions.load(Ordering::Acquire))
    }

    /// Whether the store has more to write than whoever makes more of it should add to.
    pub fn store_is_behind(&self) -> bool {
        self.store.staged_bytes() > self.store_behind_bytes
    }

    /// Whether everything up to `point` is on stable storage.
    pub fn is_durable(&self, point: CommitPoint) -> bool {
        point <= self.store.durable_point()
    }
}
