//! What runs behind a handle: a queue, or a stream. Both answer the same verbs, so that nobody who
//! holds a handle need know which it is; what a stream has no use for does nothing there.

use std::sync::Arc;

use leveret_deduplication::{DeduplicationCounts, KeyLogs, Look};
use leveret_message::{Message, Store, Timestamp};
use leveret_store_api::{Change, CommitPoint, DamagedMessage, LogId, StoredMessage};

use super::consumers::{ConsumerRef, ConsumerSpec};
use super::dispatch::TakenSoFar;
use super::effects::Effects;
use super::hidden::HiddenTicket;
use super::options::QueueOptions;
use super::publish::{Batch, Entered};
use super::ready::PageIn;
use super::reference::{MustRead, ToRead};
use super::settle::QueueSettlement;
use super::statistics::{QueueStatistics, QueueSum};
use super::{Leaving, Queue};
use crate::credit::Grant;
use crate::mailbox::{InFlight, Mailbox};
use crate::queue::answers::{ConsumeError, GetResult};
use crate::queue::counts::QueueCounts;
use crate::queue::kind::QueueKind;
use crate::queue::memory::QueueMemory;
use crate::stream::{Stream, StreamRead};

/// The state behind a handle.
#[allow(
    clippy::large_enum_variant,
    reason = "an ordinary queue is reached without another pointer"
)]
pub enum Machine {
    /// Messages leave it.
    Queue(Queue),
    /// Messages stay.
    Stream(Box<Stream>),
}

/// Calls a verb that both machines have.
macro_rules! either {
    ($self:expr, $machine:ident => $call:expr) => {
        match $self {
            Machine::Queue($machine) => $call,
            Machine::Stream($machine) => $call,
        }
    };
}

impl Machine {
    /// As the options say. Nothing is in it.
    pub fn new(
        options: QueueOptions,
        durable: bool,
        auto_delete: bool,
        store: Store,
        memory: QueueMemory,
        now: Timestamp,
    ) -> Machine {
        match options.kind {
            QueueKind::Stream => {
                Machine::Stream(Box::new(Stream::new(options, store, memory, now)))
            }
            QueueKind::Classic | QueueKind::Quorum => Machine::Queue(Queue::new(
                options,
                durable,
                auto_delete,
                store,
                memory,
                now,
            )),
        }
    }

    /// The stream, if it is one.
    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        match self {
            Machine::Queue(_) => None,
            Machine::Stream(stream) => Some(stream),
        }
    }

    /// What type of queue it is.
    pub fn kind(&self) -> QueueKind {
        self.options().kind
    }

    /// See `Queue::recover_level`.
    pub fn recover_level(&mut self, level: u8, log: LogId) -> Vec<QueueSettlement> {
        match self {
            Machine::Queue(queue) => queue.recover_level(level, log),
            Machine::Stream(stream) => {
                stream.recover(log);
                Vec::new()
            }
        }
    }

    /// Where a durable queue keeps the keys of what was published to it. A stream keeps none.
    /// Answers how many of the keys that the store had kept are damaged.
    pub fn set_key_logs(&mut self, logs: KeyLogs, recovers: bool) -> u64 {
        match self {
            Machine::Queue(queue) => queue.set_key_logs(logs, recovers),
            Machine::Stream(_) => 0,
        }
    }

    /// Duplicates in what was published to it; None: they are not looked for.
    pub fn deduplication_counts(&self) -> Option<DeduplicationCounts> {
        match self {
            Machine::Queue(queue) => queue.deduplication_counts(),
            Machine::Stream(_) => None,
        }
    }

    /// Takes a batch, or some of it; positions refused by a limit are added to `rejected`.
    pub fn publish(
        &mut self,
        batch: &mut Batch<impl Iterator<Item = Message>>,
        now: Timestamp,
        rejected: &mut Vec<usize>,
        effects: &mut Effects,
    ) {
        match self {
            Machine::Queue(queue) => {
                queue.publish(batch, now, rejected, effects);
            }
            Machine::Stream(stream) => stream.publish(batch.messages(), now, effects),
        }
    }

    /// Takes messages without showing them.
    pub fn enter(
        &mut self,
        ticket: HiddenTicket,
        messages: impl Iterator<Item = Message>,
        look: Look,
        now: Timestamp,
        changes: &mut Vec<Change<Message>>,
        effects: &mut Effects,
    ) -> Entered {
        match self {
            Machine::Queue(queue) => queue.enter(ticket, messages, look, now, changes, effects),
            Machine::Stream(stream) => stream.enter(ticket, messages, now, changes),
        }
    }

    /// What entered under `ticket` is staged at `point`.
    pub fn staged(&mut self, ticket: HiddenTicket, point: CommitPoint) {
        either!(self, it => it.staged(ticket, point));
    }

    /// In a stream nothing has a time to live of its own.
    pub fn begin_times(&mut self, ticket: HiddenTicket, most: usize, now: Timestamp) -> usize {
        match self {
            Machine::Queue(queue) => queue.begin_times(ticket, most, now),
            Machine::Stream(_) => 0,
        }
    }

    /// A stream shows what it delivers.
    pub fn show(&mut self, ticket: HiddenTicket) {
        if let Machine::Queue(queue) = self {
            queue.show(ticket);
        }
    }

    /// Delivers what was shown.
    pub fn deliver_shown(&mut self, now: Timestamp, effects: &mut Effects) {
        match self {
            Machine::Queue(queue) => queue.deliver_shown(now, effects),
            // It shows what is durable, and asks when the rest will be.
            Machine::Stream(stream) => stream.reveal(now, effects),
        }
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        either!(self, it => it.is_deleted())
    }

    /// Settles deliveries.
    pub fn settle(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        match self {
            Machine::Queue(queue) => queue.settle(settlements, now, effects),
            Machine::Stream(stream) => stream.settle(settlements, now, effects),
        }
    }

    /// As [`Machine::settle`], without delivering what came back. To a stream nothing comes back.
    pub fn settle_quietly(
        &mut self,
        settlements: &[QueueSettlement],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        match self {
            Machine::Queue(queue) => {
                queue.settle_quietly(settlements, now, effects);
            }
            Machine::Stream(stream) => stream.settle(settlements, now, effects),
        }
    }

    /// To a stream nothing comes back.
    pub fn begin_giving_back(&mut self, now: Timestamp) -> bool {
        match self {
            Machine::Queue(queue) => queue.begin_giving_back(now),
            Machine::Stream(_) => false,
        }
    }

    /// The one who gave back is done.
    pub fn end_giving_back(&mut self, now: Timestamp) {
        if let Machine::Queue(queue) = self {
            queue.end_giving_back(now);
        }
    }

    /// A stream stages nothing when its deliveries are settled.
    pub fn settle_apart(
        &mut self,
        settlements: &mut [QueueSettlement],
        changes: &mut Vec<Change<Message>>,
    ) {
        if let Machine::Queue(queue) = self {
            queue.settle_apart(settlements, changes);
        }
    }

    /// See `Queue::keep_in_store`. Nobody asks for what a stream's readers hold.
    pub fn keep_in_store(&mut self, deliveries: &mut [&mut InFlight]) -> Option<CommitPoint> {
        match self {
            Machine::Queue(queue) => queue.keep_in_store(deliveries),
            Machine::Stream(_) => None,
        }
    }

    /// See `Queue::to_read`.
    pub fn to_read(&self, settlements: &[QueueSettlement], must_read: MustRead) -> ToRead {
        match self {
            Machine::Queue(queue) => queue.to_read(settlements, must_read),
            Machine::Stream(_) => ToRead::default(),
        }
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// When exclusive use forbids it, or it is gone.
    pub fn add_consumer(&mut self, spec: ConsumerSpec) -> Result<ConsumerRef, ConsumeError> {
        match self {
            Machine::Queue(queue) => queue.add_consumer(spec),
            Machine::Stream(stream) => {
                stream.add_reader(spec, StreamRead::default(), &mut Effects::default())
            }
        }
    }

    /// Adds a consumer, of a stream one that reads from where `read` says.
    ///
    /// # Errors
    /// When exclusive use forbids it, or it is gone.
    pub fn add_reader(
        &mut self,
        spec: ConsumerSpec,
        read: StreamRead,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<ConsumerRef, ConsumeError> {
        match self {
            Machine::Queue(queue) => {
                let who = queue.add_consumer(spec)?;
                queue.touch(now, effects);
                Ok(who)
            }
            Machine::Stream(stream) => stream.add_reader(spec, read, effects),
        }
    }

    /// Delivers what can be delivered.
    pub fn dispatch(&mut self, now: Timestamp, effects: &mut Effects) {
        match self {
            Machine::Queue(queue) => queue.dispatch(now, effects),
            Machine::Stream(stream) => stream.dispatch(effects),
        }
    }

    /// Delivers what waits, to consumers that have been told of.
    pub fn start(&mut self, now: Timestamp, effects: &mut Effects) {
        match self {
            Machine::Queue(queue) => queue.start(now, effects),
            Machine::Stream(stream) => stream.dispatch(effects),
        }
    }

    /// Removes consumers. What they have not settled stays in flight.
    pub fn withdraw_consumers(
        &mut self,
        who: &[ConsumerRef],
        now: Timestamp,
        effects: &mut Effects,
    ) {
        match self {
            Machine::Queue(queue) => queue.withdraw_consumers(who, now, effects),
            Machine::Stream(stream) => {
                for &who in who {
                    stream.remove_reader(who, effects);
                }
            }
        }
    }

    /// The consumer's mailbox has room again.
    pub fn resume_consumer(&mut self, who: ConsumerRef) {
        match self {
            Machine::Queue(queue) => queue.resume_consumer(who),
            Machine::Stream(stream) => stream.resume_reader(who),
        }
    }

    /// Gives consumers a share of their channel's credit; answers what is left of it.
    pub fn grant(
        &mut self,
        grant: Grant,
        consumers: &[ConsumerRef],
        now: Timestamp,
        effects: &mut Effects,
    ) -> u32 {
        match self {
            Machine::Queue(queue) => queue.grant(grant, consumers, now, effects),
            Machine::Stream(stream) => stream.grant(grant, consumers, effects),
        }
    }

    /// Whether this consumer gets deliveries, of those among which one does.
    pub fn is_active(&self, who: ConsumerRef) -> bool {
        either!(self, it => it.is_active(who))
    }

    /// Takes one message for `basic.get`.
    pub fn get(&mut self, no_ack: bool, now: Timestamp, effects: &mut Effects) -> GetResult {
        match self {
            Machine::Queue(queue) => queue.get(no_ack, now, effects),
            Machine::Stream(_) => GetResult::Empty,
        }
    }

    /// How many messages are ready and not expired; None: more of them must be read.
    pub fn count_living(&mut self, now: Timestamp, effects: &mut Effects) -> Option<u64> {
        match self {
            Machine::Queue(queue) => queue.count_living(now, effects),
            Machine::Stream(_) => Some(0),
        }
    }

    /// Removes all ready messages; answers how many.
    pub fn purge(&mut self, effects: &mut Effects) -> u64 {
        match self {
            Machine::Queue(queue) => queue.purge(effects),
            Machine::Stream(_) => 0,
        }
    }

    /// Empties it for good; answers how many messages it had, and its consumers.
    pub fn delete(&mut self, effects: &mut Effects) -> (u64, Leaving) {
        match self {
            Machine::Queue(queue) => queue.delete(effects),
            // rabbitmq: deleting a stream answers 0, however much was in it
            Machine::Stream(stream) => (0, Box::new(stream.delete(effects).into_iter())),
        }
    }

    /// What is to be staged.
    pub fn take_changes(&mut self) -> Vec<Change<Message>> {
        either!(self, it => it.take_changes())
    }

    /// The deadline that it asked for has come.
    pub fn handle_timeout(&mut self, now: Timestamp, effects: &mut Effects) {
        match self {
            Machine::Queue(queue) => queue.handle_timeout(now, effects),
            Machine::Stream(stream) => stream.handle_timeout(now, effects),
        }
    }

    /// Takes on other options.
    pub fn set_options(&mut self, options: QueueOptions, now: Timestamp, effects: &mut Effects) {
        either!(self, it => it.set_options(options, now, effects));
    }

    /// Somebody uses it.
    pub fn touch(&mut self, now: Timestamp, effects: &mut Effects) {
        if let Machine::Queue(queue) = self {
            queue.touch(now, effects);
        }
    }

    /// What the pager is to read for it.
    pub fn page_in_request(&mut self) -> Option<PageIn> {
        match self {
            Machine::Queue(queue) => queue.page_in_request(),
            Machine::Stream(_) => None,
        }
    }

    /// What must be read before the next message can be taken.
    pub fn urgent_page_in(&mut self) -> Option<PageIn> {
        match self {
            Machine::Queue(queue) => queue.urgent_page_in(),
            Machine::Stream(_) => None,
        }
    }

    /// As [`Machine::urgent_page_in`], and where it is to be read.
    pub fn read_first(&mut self) -> Option<(Store, PageIn)> {
        match self {
            Machine::Queue(queue) => {
                let request = queue.urgent_page_in()?;
                Some((Arc::clone(queue.store()), request))
            }
            Machine::Stream(_) => None,
        }
    }

    /// What was asked for could not be read.
    pub fn read_failed(&mut self, request: &PageIn) {
        if let Machine::Queue(queue) = self {
            queue.read_failed(request);
        }
    }

    /// What was asked for is read.
    pub fn loaded(
        &mut self,
        request: &PageIn,
        messages: &mut Vec<StoredMessage<Message>>,
        damaged: Vec<DamagedMessage<Message>>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        if let Machine::Queue(queue) = self {
            queue.loaded(request, messages, damaged, now, effects);
        }
    }

    /// None for a stream always: its readers read from the disk when they fall behind.
    pub fn hold_back(&mut self, mailbox: &Arc<Mailbox>) -> Option<TakenSoFar> {
        match self {
            Machine::Queue(queue) => queue.hold_back(mailbox),
            Machine::Stream(_) => None,
        }
    }

    /// Whether a publisher that is held back stays so.
    pub fn stays_held_back(
        &mut self,
        mark: TakenSoFar,
        effects: &mut Effects,
    ) -> Option<TakenSoFar> {
        match self {
            Machine::Queue(queue) => queue.stays_held_back(mark, effects),
            Machine::Stream(_) => None,
        }
    }

    /// The publisher is no longer held back.
    pub fn let_go_on(&mut self, mailbox: &Arc<Mailbox>) {
        if let Machine::Queue(queue) = self {
            queue.let_go_on(mailbox);
        }
    }

    /// How many messages and consumers there are.
    pub fn counts(&self) -> QueueCounts {
        either!(self, it => it.counts())
    }

    /// What is told of it.
    pub fn statistics(&self, now: Timestamp) -> QueueStatistics {
        either!(self, it => it.statistics(now))
    }

    /// Adds what it has and has done; of one that is deleted, what it has done alone.
    pub fn add_to_sum(&self, sum: &mut QueueSum) {
        either!(self, it => it.add_to_sum(sum));
    }

    /// The options in force.
    pub fn options(&self) -> &QueueOptions {
        either!(self, it => it.options())
    }

    /// Its logs, by level.
    pub fn logs(&self) -> Vec<(u8, LogId)> {
        either!(self, it => it.logs())
    }
}
