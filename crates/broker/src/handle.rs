//! The only way to a queue, and the only place that locks one.
//!
//! Lock policy: a verb locks this one queue, never a second; nothing is awaited, logged or called
//! back meanwhile. The gate of a queue that looks for duplicates comes before its lock. Store stage,
//! mailboxes and credit are leaves below it. Sessions are woken and memory is freed after unlocking.

#[cfg(debug_assertions)]
mod check;
pub mod giving_back;
mod reading;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use leveret_deduplication::{DeduplicationCounts, KeyLogs, Look, Producers};
use leveret_message::{Message, Store, Timestamp};
use leveret_queue::credit::Grant;
use leveret_queue::mailbox::{InFlight, Mailbox};
use leveret_queue::queue::answers::{ConsumeError, Deleted, GetResult, Orphan};
use leveret_queue::queue::consumers::{ConsumerRef, ConsumerSpec};
use leveret_queue::queue::counts::QueueCounts;
use leveret_queue::queue::dispatch::TakenSoFar;
use leveret_queue::queue::effects::{DeadLetter, Effects};
use leveret_queue::queue::hidden::HiddenTicket;
use leveret_queue::queue::identity::QueueIdentity;
use leveret_queue::queue::kind::QueueKind;
use leveret_queue::queue::machine::Machine;
use leveret_queue::queue::options::QueueOptions;
use leveret_queue::queue::outbox::Outbox;
use leveret_queue::queue::publish::{Batch, Entered};

use leveret_queue::queue::settle::QueueSettlement;
use leveret_queue::queue::statistics::{QueueStatistics, QueueSum};
use leveret_queue::stream::StreamRead;
use leveret_routing::QueueId;
use leveret_store_api::{Change, CommitPoint, LogId};
use parking_lot::{Mutex, MutexGuard};

use crate::census::{Census, Home, Resident};
use crate::latch::Latch;

/// Wakes a queue by its handle; a queue that is gone is not woken.
struct QueueWaker<F> {
    queue: Weak<Shared>,
    wake: F,
}

impl<F: Fn(QueueHandle) + Send + Sync + 'static> Wake for QueueWaker<F> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(queue) = self.queue.upgrade() {
            (self.wake)(QueueHandle(queue));
        }
    }
}

/// What is behind a queue's gate.
pub(crate) struct QueueGate {
    /// Those that number what they publish here through the default exchange.
    pub(crate) producers: Producers,
    pub(crate) latch: Latch,
}

/// The gate of a queue that publishes may pass, locked where the queue looks for duplicates.
pub struct OpenGate<'a>(
    #[expect(dead_code, reason = "it is held")] Option<MutexGuard<'a, QueueGate>>,
);

/// No `x-consumer-timeout`.
const NO_TIMEOUT_SET: u64 = u64::MAX;

struct Shared {
    identity: QueueIdentity,
    kind: QueueKind,
    /// `x-consumer-timeout` in force, readable without the lock.
    consumer_timeout_ms: AtomicU64,
    /// Duplicates are looked for, so that publishers take the gate.
    deduplicates: AtomicBool,
    /// See [`crate::exchange`]: taken before the queue is locked, and kept until what is published is
    /// staged.
    gate: Mutex<QueueGate>,
    damaged_numbers: u64,
    /// Where they are kept.
    producer_log: Option<LogId>,
    /// The log of each level, if messages survive a restart and leave when they are settled.
    level_logs: Box<[LogId]>,
    machine: Mutex<Machine>,
    outbox: Outbox,
    /// Where it is counted.
    home: Home<WeakHandle>,
}

impl Shared {
    fn add_to_sum(&self, sum: &mut QueueSum) {
        let gate = self.gate.lock();
        if !gate.producers.is_empty() {
            let mut counts = DeduplicationCounts::default();
            gate.producers.add_to(&mut counts);
            sum.add_duplicates(counts);
        }
        drop(gate);
        self.machine.lock().add_to_sum(sum);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut past = QueueSum::default();
        self.add_to_sum(&mut past);
        self.home.leave(&past.of_the_past());
    }
}

/// A reference that does not keep its queue.
#[derive(Clone)]
pub struct WeakHandle(Weak<Shared>);

impl Resident for WeakHandle {
    type Queue = QueueHandle;

    fn found(&self) -> Option<QueueHandle> {
        self.0.upgrade().map(QueueHandle)
    }

    fn add_to_sum(queue: &QueueHandle, sum: &mut QueueSum) {
        queue.add_to_sum(sum);
    }
}

impl std::fmt::Debug for WeakHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeakHandle({})", self.0.strong_count())
    }
}

/// A shared reference to one queue.
#[derive(Clone)]
pub struct QueueHandle(Arc<Shared>);

impl std::fmt::Debug for QueueHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueueHandle({})", self.name())
    }
}

fn timeout_set(options: &QueueOptions) -> u64 {
    options.consumer_timeout_ms.unwrap_or(NO_TIMEOUT_SET)
}

impl QueueHandle {
    /// `logs`: where a durable queue keeps the keys of what is published to it. Blocks on files where
    /// there is something to read back.
    pub(crate) fn new(
        identity: QueueIdentity,
        machine: Machine,
        logs: Option<KeyLogs>,
        producers_max: usize,
        store: &Store,
        census: &Census<WeakHandle>,
    ) -> QueueHandle {
        let producer_log = logs
            .filter(|_| !store.is_volatile())
            .map(KeyLogs::of_producers);
        let (producers, damaged) =
            Producers::recovered(producer_log, producers_max, store, &identity.name);
        let keeps = identity.durable && machine.kind() != QueueKind::Stream && !store.is_volatile();
        let level_logs = machine.logs().into_iter().filter(|_| keeps);
        let kind = machine.kind();
        QueueHandle(Arc::new_cyclic(|queue| Shared {
            home: census.enter(kind, WeakHandle(Weak::clone(queue))),
            level_logs: level_logs.map(|(_, log)| log).collect(),
            gate: Mutex::new(QueueGate {
                producers,
                latch: Latch::default(),
            }),
            damaged_numbers: damaged,
            producer_log,
            identity,
            kind,
            consumer_timeout_ms: AtomicU64::new(timeout_set(machine.options())),
            deduplicates: AtomicBool::new(machine.options().deduplicates()),
            machine: Mutex::new(machine),
            outbox: Outbox::default(),
        }))
    }

    /// How many of the producers' numbers that the store had kept could not be read.
    pub(crate) fn damaged_numbers(&self) -> u64 {
        self.0.damaged_numbers
    }

    /// A waker that calls `wake` with this queue, as long as it exists.
    pub(crate) fn waker(&self, wake: impl Fn(QueueHandle) + Send + Sync + 'static) -> Waker {
        Waker::from(Arc::new(QueueWaker {
            queue: Arc::downgrade(&self.0),
            wake,
        }))
    }

    /// What type of queue it is.
    #[must_use]
    pub fn kind(&self) -> QueueKind {
        self.0.kind
    }

    /// How long a delivery may stay unacknowledged, milliseconds; 0 is for ever, None asks the
    /// broker's setting.
    #[must_use]
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        let set = self.0.consumer_timeout_ms.load(Ordering::Relaxed);
        (set != NO_TIMEOUT_SET).then_some(set)
    }

    /// What never changes about the queue.
    #[must_use]
    pub fn identity(&self) -> &QueueIdentity {
        &self.0.identity
    }

    /// Its identity in the topology.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.0.identity.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// Locks, runs the verb, unlocks, then wakes whom the verb wants woken.
    fn with<T>(&self, verb: impl FnOnce(&mut Machine, &mut Effects) -> T) -> (T, Effects) {
        self.at(Timestamp::default(), verb)
    }

    /// As [`QueueHandle::with`], of a verb that dead letters may come of, and that may have to read what only the store
    /// has to be done.
    fn at<T>(
        &self,
        now: Timestamp,
        verb: impl FnOnce(&mut Machine, &mut Effects) -> T,
    ) -> (T, Effects) {
        let mut effects = Effects::at(now);
        let result = self.run(&mut effects, verb);
        if effects.read_first {
            self.read_first(&mut effects);
        }
        (result, effects)
    }

    /// Locks, runs the verb, unlocks, then wakes whom it wants woken; what else it leaves to be done joins what there
    /// is of that.
    #[inline]
    fn run<T>(
        &self,
        effects: &mut Effects,
        verb: impl FnOnce(&mut Machine, &mut Effects) -> T,
    ) -> T {
        let result = {
            let mut machine = self.0.machine.lock();
            let result = verb(&mut machine, effects);
            if !effects.dead_letters.is_empty() {
                let letters = std::mem::take(&mut effects.dead_letters);
                self.0.outbox.put(letters, effects.now);
                effects.letters = true;
            }
            self.0.home.touch();
            result
        };
        for mailbox in effects.wakes.drain(..) {
            mailbox.wake();
        }
        for mailbox in effects.releases.drain(..) {
            mailbox.release();
        }
        effects.free_little();
        result
    }

    /// What a publish passes: nobody shuts the queue's gate before it is dropped. None: the gate is shut, and `waker` is
    /// woken when it is open.
    #[inline]
    pub fn open_gate(&self, waker: &Waker) -> Option<OpenGate<'_>> {
        let mut gate = self.gate_if_needed();
        if let Some(gate) = &mut gate
            && !gate.latch.is_off_for(waker)
        {
            return None;
        }
        Some(OpenGate(gate))
    }

    /// Publishes a batch; positions refused by the queue's limit are added to `rejected`.
    pub fn publish(
        &self,
        _gate: &OpenGate<'_>,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
        rejected: &mut Vec<usize>,
    ) -> Effects {
        let mut batch = Batch::of(messages);
        let mut effects = Effects::at(now);
        loop {
            self.run(&mut effects, |queue, effects| {
                queue.publish(&mut batch, now, rejected, effects);
            });
            if effects.read_first {
                self.read_first(&mut effects);
            }
            if !batch.is_stopped() {
                return effects;
            }
            if std::mem::take(&mut effects.read_first) {
                batch.go_on();
            }
        }
    }

    /// Has messages enter without being seen, as far as they are new and no limit refuses them. What makes them durable
    /// is added to `changes`: once that is staged the queue is [told](QueueHandle::staged), and they may
    /// [show](QueueHandle::show).
    pub fn enter(
        &self,
        ticket: HiddenTicket,
        messages: impl Iterator<Item = Message>,
        look: Look,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
    ) -> Entered {
        let verb = |queue: &mut Machine, effects: &mut Effects| {
            let entered = queue.enter(ticket, messages, look, now, changes, effects);
            Entered {
                letters: std::mem::take(&mut effects.dead_letters),
                ..entered
            }
        };
        self.with(verb).0
    }

    /// Letters that were kept back go on.
    pub fn send(&self, letters: Vec<DeadLetter>, now: Timestamp) -> Effects {
        self.at(now, |_, effects| effects.dead_letters = letters).1
    }

    /// What entered under `ticket` is staged at `point`.
    pub fn staged(&self, ticket: HiddenTicket, point: CommitPoint) {
        self.with(|queue, _| queue.staged(ticket, point));
    }

    /// Times to live of what entered under `ticket` begin, of at most `most` messages; answers of how many, none if all
    /// have begun.
    pub fn begin_times(&self, ticket: HiddenTicket, most: usize, now: Timestamp) -> usize {
        self.with(|queue, _| queue.begin_times(ticket, most, now)).0
    }

    /// What entered under `ticket` and is staged shows from now on; what of it has a time to live has
    /// [begun](QueueHandle::begin_times). It is delivered by [`QueueHandle::deliver_shown`]. A stream shows what is
    /// durable, and no earlier.
    pub fn show(&self, ticket: HiddenTicket) {
        self.with(|queue, _| queue.show(ticket));
    }

    /// Delivers what shows.
    pub fn deliver_shown(&self, now: Timestamp) -> Effects {
        self.at(now, |queue, effects| {
            queue.deliver_shown(now, effects);
        })
        .1
    }

    /// What entered under `ticket` is staged at `point`, shows and is delivered.
    pub(crate) fn show_staged(
        &self,
        ticket: HiddenTicket,
        point: CommitPoint,
        now: Timestamp,
    ) -> Effects {
        self.at(now, |queue, effects| {
            queue.staged(ticket, point);
            queue.begin_times(ticket, usize::MAX, now);
            queue.show(ticket);
            queue.deliver_shown(now, effects);
        })
        .1
    }

    /// Duplicates and gaps in what was published to it; None: they are not looked for.
    #[must_use]
    pub fn deduplication_counts(&self) -> Option<DeduplicationCounts> {
        let counts = self.0.machine.lock().deduplication_counts();
        let gate = self.0.gate.lock();
        if counts.is_none() && gate.producers.is_empty() {
            return None;
        }
        let mut counts = counts.unwrap_or_default();
        gate.producers.add_to(&mut counts);
        Some(counts)
    }

    /// Whether duplicates are looked for in all that is published to it.
    pub fn deduplicates(&self) -> bool {
        self.0.deduplicates.load(Ordering::Relaxed)
    }

    /// Keeps others from publishing, if the queue looks for duplicates; see [`crate::exchange`].
    pub(crate) fn lock_gate(&self) -> MutexGuard<'_, QueueGate> {
        let gate = self.0.gate.lock();
        // A duplicate is counted there, and may get no further.
        self.0.home.touch();
        gate
    }

    fn gate_if_needed(&self) -> Option<MutexGuard<'_, QueueGate>> {
        self.deduplicates().then(|| self.lock_gate())
    }

    fn delete_numbers(&self) -> Option<Change<Message>> {
        self.0.producer_log.map(|log| Change::DeleteLog { log })
    }

    /// Whether the queue was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.0.machine.lock().is_deleted()
    }

    /// Settles deliveries.
    pub fn settle(&self, settlements: &[QueueSettlement], now: Timestamp) -> Effects {
        self.at(now, |queue, effects| {
            queue.settle(settlements, now, effects);
        })
        .1
    }

    /// Settles a part of what is settled together, while there is a `GivingBack`: only when all of it is, what came
    /// back is delivered, so that it goes out in the queue's order.
    pub fn settle_quietly(&self, settlements: &[QueueSettlement], now: Timestamp) -> Effects {
        self.with(|queue, effects| queue.settle_quietly(settlements, now, effects))
            .1
    }

    /// Adds to `changes` what makes these settlements of a transaction durable; [`QueueHandle::settle`] carries them out
    /// when they are.
    pub fn settle_apart(
        &self,
        settlements: &mut [QueueSettlement],
        changes: &mut Vec<Change<Message>>,
    ) {
        self.with(|queue, _| queue.settle_apart(settlements, changes));
    }

    /// Has the store keep the messages of deliveries of this queue, so that they can leave memory. Answers when it has
    /// them; None: nobody will ask for them.
    pub fn keep_in_store(&self, deliveries: &mut [&mut InFlight]) -> Option<CommitPoint> {
        self.with(|queue, _| queue.keep_in_store(deliveries)).0
    }

    /// Adds a consumer; deliveries begin at once.
    ///
    /// # Errors
    /// When exclusive use forbids it, or the queue is gone.
    pub fn consume(
        &self,
        spec: ConsumerSpec,
        now: Timestamp,
    ) -> (Result<ConsumerRef, ConsumeError>, Effects) {
        self.with(|queue, effects| {
            let who = queue.add_consumer(spec)?;
            queue.touch(now, effects);
            Ok(who)
        })
    }

    /// Adds a consumer of a stream, which reads from where `read` says.
    ///
    /// # Errors
    /// When the stream is gone.
    pub fn consume_stream(
        &self,
        spec: ConsumerSpec,
        read: StreamRead,
        now: Timestamp,
    ) -> (Result<ConsumerRef, ConsumeError>, Effects) {
        self.with(|machine, effects| machine.add_reader(spec, read, now, effects))
    }

    /// Delivers what waits; called once the session has told its client about the consumer.
    pub fn start(&self, now: Timestamp) -> Effects {
        self.at(now, |queue, effects| queue.start(now, effects)).1
    }

    /// Removes a consumer. Its unsettled deliveries stay in flight.
    pub fn cancel(&self, who: ConsumerRef, now: Timestamp) -> Effects {
        self.with(|queue, effects| {
            queue.withdraw_consumers(&[who], now, effects);
            queue.start(now, effects);
        })
        .1
    }

    /// Removes consumers whose deliveries are about to come back: they are settled next, and then
    /// [`QueueHandle::start`] delivers to others.
    pub fn withdraw(&self, who: &[ConsumerRef], now: Timestamp) -> Effects {
        self.with(|queue, effects| queue.withdraw_consumers(who, now, effects))
            .1
    }

    /// Gives consumers that wait for their channel's credit a share of it; answers how many deliveries were not made
    /// of that.
    pub fn grant(&self, grant: Grant, consumers: &[ConsumerRef], now: Timestamp) -> (u32, Effects) {
        self.at(now, |queue, effects| {
            queue.grant(grant, consumers, now, effects)
        })
    }

    /// The consumer's mailbox has room again.
    pub fn resume(&self, who: ConsumerRef, now: Timestamp) -> Effects {
        self.at(now, |queue, effects| {
            queue.resume_consumer(who);
            queue.dispatch(now, effects);
        })
        .1
    }

    /// Takes one message for `basic.get`.
    pub fn get(&self, no_ack: bool, now: Timestamp) -> (GetResult, Effects) {
        self.at(now, |queue, effects| queue.get(no_ack, now, effects))
    }

    /// How many messages are ready, without those that have expired; None: more of them must be read.
    pub fn count_living(&self, now: Timestamp) -> (Option<u64>, Effects) {
        self.at(now, |queue, effects| queue.count_living(now, effects))
    }

    /// Removes all ready messages; answers how many.
    pub fn purge(&self) -> (u64, Effects) {
        self.with(|queue, effects| queue.purge(effects))
    }

    /// Empties the queue for good.
    pub fn delete(&self) -> (Deleted, Effects) {
        self.with(|queue, effects| self.empty(queue, effects))
    }

    /// As [`QueueHandle::delete`], unless its counts are refused.
    pub(crate) fn delete_if<E>(
        &self,
        check: impl FnOnce(QueueCounts) -> Result<(), E>,
    ) -> Result<(Deleted, Effects), E> {
        let (deleted, effects) = self.with(|queue, effects| {
            check(queue.counts())?;
            Ok(self.empty(queue, effects))
        });
        Ok((deleted?, effects))
    }

    fn empty(&self, queue: &mut Machine, effects: &mut Effects) -> Deleted {
        let (messages, consumers) = queue.delete(effects);
        let orphans = Box::new(consumers.map(Orphan::from));
        let mut changes = queue.take_changes();
        changes.extend(self.delete_numbers());
        Deleted {
            messages,
            orphans,
            changes,
        }
    }

    /// Expires messages, or the queue.
    pub fn handle_timeout(&self, now: Timestamp) -> Effects {
        self.at(now, |queue, effects| {
            queue.handle_timeout(now, effects);
        })
        .1
    }

    /// Puts other options in force.
    pub fn set_options(&self, options: QueueOptions, now: Timestamp) -> Effects {
        let timeout_ms = timeout_set(&options);
        self.0
            .consumer_timeout_ms
            .store(timeout_ms, Ordering::Relaxed);
        self.0
            .deduplicates
            .store(options.deduplicates(), Ordering::Relaxed);
        self.at(now, |queue, effects| {
            queue.set_options(options, now, effects);
        })
        .1
    }

    /// The queue was used: its expiry (`x-expires`) starts anew.
    pub fn touch(&self, now: Timestamp) -> Effects {
        self.with(|queue, effects| queue.touch(now, effects)).1
    }

    /// Holds a publisher back until the queue has drained; None if it need not wait.
    #[must_use]
    pub fn hold_back(&self, mailbox: &Arc<Mailbox>) -> Option<TakenSoFar> {
        self.0.machine.lock().hold_back(mailbox)
    }

    /// A publisher has been held back for a while. None: that is over, because the queue has drained, or because its
    /// consumers do not keep up and nobody is held back for them.
    pub fn stays_held_back(&self, mark: TakenSoFar) -> Option<TakenSoFar> {
        self.with(|queue, effects| queue.stays_held_back(mark, effects))
            .0
    }

    /// A publisher that is held back goes away.
    pub fn let_go_on(&self, mailbox: &Arc<Mailbox>) {
        self.with(|queue, _| queue.let_go_on(mailbox));
    }

    /// What leaves it for its dead-letter exchange.
    pub fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    /// Ready, unacknowledged, consumers.
    #[must_use]
    pub fn counts(&self) -> QueueCounts {
        self.0.machine.lock().counts()
    }

    /// Counts, rates, times and where they lead, as of `now`.
    #[must_use]
    pub fn statistics(&self, now: Timestamp) -> QueueStatistics {
        self.0.machine.lock().statistics(now)
    }

    /// Adds what it has and has done.
    pub fn add_to_sum(&self, sum: &mut QueueSum) {
        self.0.add_to_sum(sum);
    }

    /// Whether `who` gets messages now (single active consumer).
    #[must_use]
    pub fn is_active(&self, who: ConsumerRef) -> bool {
        self.0.machine.lock().is_active(who)
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> QueueOptions {
        self.0.machine.lock().options().clone()
    }

    /// The logs of a durable queue's levels, without its lock. Empty where nothing survives a restart, and
    /// for a stream.
    pub fn level_logs(&self) -> &[LogId] {
        &self.0.level_logs
    }

    /// The logs of its levels.
    #[must_use]
    pub fn logs(&self) -> Vec<(u8, leveret_store_api::LogId)> {
        self.0.machine.lock().logs()
    }
}
