//! What a connection takes no further input for: an answer that is not durable yet, those its publishes are too fast
//! for, memory, and what it does in steps.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::handle::QueueHandle;
use leveret_broker::memory_pool::STALL_MS;
use leveret_broker::vhost::VirtualHost;
use leveret_message::Timestamp;
use leveret_queue::queue::dispatch::TakenSoFar;
use leveret_store_api::CommitPoint;

use super::body_memory::Wanted;
use super::job::Job;
use super::link::Link;
use super::parked::Parked;
use super::pressure::Pressure;

/// How often it is asked whether consumers still keep up with a publisher that is held back for them.
const HOLD_TIMEOUT_MS: u64 = 50;

/// A publisher held back.
enum HeldBack {
    /// Until this queue has drained, or the time is up.
    Queue(QueueHandle, TakenSoFar, Timestamp),
    /// Until the store has caught up to this point.
    Store(CommitPoint),
    /// Until this queue's dead letters have gone.
    Letters(QueueHandle),
    /// Until there is memory.
    Memory(Wanted),
}

pub(super) struct Waiting {
    vhost: Arc<VirtualHost>,
    /// An answer that is not durable yet.
    parked: Option<Parked>,
    held_back: Option<HeldBack>,
    /// What is done in steps, the present one first.
    jobs: VecDeque<Job>,
    /// The next step is done when this is durable.
    work_point: Option<CommitPoint>,
    /// See [`Waiting::gives_up`].
    gives_up: bool,
    /// The commit point the store was asked to wake this session at.
    wake_point: Option<CommitPoint>,
    /// Nothing that has memory of all stands still for too long before this moment.
    stalls_at: Timestamp,
}

impl Waiting {
    pub(super) fn new(vhost: &Arc<VirtualHost>) -> Waiting {
        Waiting {
            vhost: Arc::clone(vhost),
            parked: None,
            held_back: None,
            jobs: VecDeque::new(),
            work_point: None,
            gives_up: false,
            wake_point: None,
            stalls_at: Timestamp::NEVER,
        }
    }

    /// There is nothing that input would have to wait for.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.parked.is_none() && self.held_back.is_none() && self.jobs.is_empty()
    }

    // Answers

    /// Keeps an answer until it is durable; hands it back if it is.
    pub(super) fn park(&mut self, parked: Parked) -> Option<Parked> {
        if self.vhost.services.is_durable(parked.point) {
            return Some(parked);
        }
        debug_assert!(self.parked.is_none(), "one answer is waited for at a time");
        self.parked = Some(parked);
        None
    }

    /// The answer that was waited for, if it has become durable.
    pub(super) fn take_durable(&mut self) -> Option<Parked> {
        let services = &self.vhost.services;
        self.parked
            .take_if(|parked| services.is_durable(parked.point))
    }

    /// The answer that was waited for, durable or not.
    pub(super) fn take_parked(&mut self) -> Option<Parked> {
        self.parked.take()
    }

    // Work in steps

    /// Whether something is under way.
    #[inline]
    pub(super) fn is_working(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Something is under way, or what is done shows when it is durable.
    #[cfg(debug_assertions)]
    pub(super) fn commits(&self) -> bool {
        let parked = self.parked.as_ref();
        self.is_working() || parked.is_some_and(|it| it.committed.is_some())
    }

    /// Has `job` done in steps, behind what is under way.
    pub(super) fn begin(&mut self, link: &Link, job: Job) {
        self.jobs.push_back(job);
        link.mailbox.wake();
    }

    /// Takes out what is under way, if the next step may be done now.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        let services = &self.vhost.services;
        if self
            .work_point
            .is_some_and(|point| !services.is_durable(point))
        {
            return None;
        }
        self.work_point = None;
        self.jobs.pop_front()
    }

    /// This is what goes on first.
    pub(super) fn go_on_with(&mut self, job: Job) {
        self.jobs.push_front(job);
    }

    /// A step is done: has the connection come back for the next one, if there is one. Messages that were read for a
    /// step may be staged again, as dead letters: where the store is behind, the next step waits for it, so that they
    /// are not all in memory together. What waits for a gate has been told who to wake.
    pub(super) fn end_step(&mut self, link: &Link, has_read: bool, waits: bool) {
        if !self.is_working() || waits {
            return;
        }
        let services = &self.vhost.services;
        if has_read && services.store_is_behind() {
            let store = &services.store;
            let point = store.stage(&mut Vec::new());
            self.work_point = store.wake_at(point, link.mailbox.waker()).then_some(point);
        }
        if self.work_point.is_none() {
            link.mailbox.wake();
        }
    }

    /// Nobody will come back for the next step: it is done at once.
    pub(super) fn wait_no_more(&mut self) {
        self.work_point = None;
        self.gives_up = true;
    }

    /// Whether what would wait for a gate is given up: whoever has shut it may never go on.
    pub(super) fn gives_up(&self) -> bool {
        self.gives_up
    }

    // Holding back

    /// Holds a publisher back for those it is too fast for, if need be. One that `consumes` is not held back for
    /// queues: its acknowledgements must be read. Where dead letters of these queues are made faster than they go on
    /// nobody's acknowledgement is needed, so those who consume wait too.
    pub(super) fn consider(
        &mut self,
        link: &Link,
        pressure: Pressure,
        consumes: bool,
        now: Timestamp,
    ) {
        let Pressure {
            queue,
            staged,
            letters,
        } = pressure;
        if self.held_back.is_none() && (queue.is_some() || staged > CommitPoint::NONE) {
            self.held_back = self.who_is_behind(link, queue, staged, consumes, now);
        }
        for queue in letters {
            if self.held_back.is_none() && queue.outbox().hold_back(&link.mailbox) {
                self.held_back = Some(HeldBack::Letters(queue));
            }
        }
    }

    fn who_is_behind(
        &self,
        link: &Link,
        queue: Option<QueueHandle>,
        staged: CommitPoint,
        consumes: bool,
        now: Timestamp,
    ) -> Option<HeldBack> {
        let services = &self.vhost.services;
        if services.store_is_behind() && !services.is_durable(staged) {
            return Some(HeldBack::Store(staged));
        }
        let queue = queue.filter(|_| !consumes)?;
        let mark = queue.hold_back(&link.mailbox)?;
        Some(HeldBack::Queue(queue, mark, now + HOLD_TIMEOUT_MS))
    }

    /// Holds it back until there is memory, unless it is held back already.
    pub(super) fn hold_back_for_memory(&mut self, wanted: Wanted) {
        self.held_back.get_or_insert(HeldBack::Memory(wanted));
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.held_back.is_some()
    }

    pub(super) fn is_held_back_for_memory(&self) -> bool {
        matches!(self.held_back, Some(HeldBack::Memory(_)))
    }

    /// What held it back is over, or of no use any more.
    pub(super) fn let_go(&mut self) {
        self.held_back = None;
    }

    /// Ends what held it back, if that is over. Answers what memory it was held back for, if that may be there now.
    pub(super) fn look_after_held_back(&mut self, link: &Link) -> Option<Wanted> {
        let released = link.mailbox.take_release();
        let over = match &self.held_back {
            Some(HeldBack::Memory(wanted)) => return released.then_some(*wanted),
            Some(HeldBack::Queue(..) | HeldBack::Letters(_)) => released,
            Some(HeldBack::Store(point)) => self.vhost.services.is_durable(*point),
            None => false,
        };
        if over {
            self.held_back = None;
        }
        None
    }

    /// Asks whether consumers still keep up with what it is held back for.
    pub(super) fn stays_held_back(&mut self, now: Timestamp) {
        if let Some(HeldBack::Queue(queue, mark, deadline)) = &mut self.held_back
            && *deadline <= now
        {
            match queue.stays_held_back(*mark) {
                Some(later) => (*mark, *deadline) = (later, now + HOLD_TIMEOUT_MS),
                None => self.held_back = None,
            }
        }
    }

    /// Nobody holds it back any more.
    pub(super) fn let_go_on(&mut self, link: &Link) {
        match self.held_back.take() {
            Some(HeldBack::Queue(queue, ..)) => queue.let_go_on(&link.mailbox),
            Some(HeldBack::Letters(queue)) => queue.outbox().let_go_on(&link.mailbox),
            Some(HeldBack::Memory(_)) => {
                self.vhost
                    .services
                    .assembly_memory
                    .stop_waiting(&link.mailbox);
                self.vhost
                    .services
                    .transaction_memory
                    .stop_waiting(&link.mailbox);
            }
            Some(HeldBack::Store(_)) | None => {}
        }
    }

    // Moments

    /// Something has memory of all: it is looked at again before it can have stood still for too long.
    pub(super) fn watch_memory(&mut self, now: Timestamp) {
        self.stalls_at = self.stalls_at.min(now + STALL_MS);
    }

    /// Whether what has memory of all is to be looked at now; then it is watched no longer.
    pub(super) fn ends_watch(&mut self, now: Timestamp) -> bool {
        let ends = self.stalls_at <= now;
        if ends {
            self.stalls_at = Timestamp::NEVER;
        }
        ends
    }

    /// When it is to be asked again.
    pub(super) fn deadline(&self) -> Timestamp {
        match &self.held_back {
            Some(HeldBack::Queue(.., deadline)) => self.stalls_at.min(*deadline),
            _ => self.stalls_at,
        }
    }

    /// Asks the store to wake the session at the earliest point it waits for, of its own ones and `others`.
    pub(super) fn register_wake(&mut self, link: &Link, others: impl Iterator<Item = CommitPoint>) {
        let parked = self.parked.as_ref().map(|parked| parked.point);
        let held = match &self.held_back {
            Some(HeldBack::Store(point)) => Some(*point),
            _ => None,
        };
        let point = others.chain(parked).chain(held).min();
        if point == self.wake_point {
            return;
        }
        self.wake_point = point;
        if let Some(point) = point
            && !self
                .vhost
                .services
                .store
                .wake_at(point, link.mailbox.waker())
        {
            // It has become durable in this moment: look again.
            self.wake_point = None;
            link.mailbox.wake();
        }
    }
}
