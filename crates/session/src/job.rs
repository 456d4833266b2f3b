//! What a connection does in steps.

use std::collections::VecDeque;

use leveret_broker::handle::QueueHandle;
use leveret_broker::handle::giving_back::GivingBack;
use leveret_codec::{ChannelNumber, DeliveryTag};
use leveret_queue::mailbox::ConsumerSlot;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use rustc_hash::FxHashMap;

use super::bring::BringingHistory;
use super::commit_job::Committing;
use super::deletion::Clearing;
use super::parked::Showing;
use super::queue_table::QueueNumber;
use super::rolling_back::RollingBack;
use super::spread::Spreading;
use super::stateful_publish::PassingOn;

/// What it costs to lock a queue that has little to do then, where an acknowledgement costs 1.
pub(super) const QUEUE_COST: usize = 64;
/// What it costs to withdraw or to forget a consumer.
pub(super) const CONSUMER_COST: usize = 8;

/// Something that is done in steps.
pub(super) enum Job {
    Settling(Settling),
    RollingBack(RollingBack),
    Clearing(Clearing),
    /// What is left of a batch that found gates shut.
    Flushing,
    Spreading(Box<Spreading>),
    Passing(Box<PassingOn>),
    Bringing(Box<BringingHistory>),
    Committing(Box<Committing>),
    Showing(Box<Showing>),
    TakingBack(TakingBack),
    /// Delivering what came back.
    Starting(Starting),
    /// Very many notices, as of a queue with very many consumers that is deleted.
    Telling,
    Closing(Box<Closing>),
}

/// `basic.ack`, `basic.nack` or `basic.recover` of many deliveries.
pub(super) struct Settling {
    pub(super) channel: ChannelNumber,
    /// The latest one that is meant.
    pub(super) up_to: DeliveryTag,
    pub(super) outcome: Outcome,
    /// What the client is told in the end.
    pub(super) reply: Vec<u8>,
}

/// Queues to which something came back, and what the client is told once they deliver again.
pub(super) struct Starting {
    pub(super) queues: Vec<GivingBack>,
    pub(super) reply: Vec<u8>,
}

/// All deliveries to a consumer that did not acknowledge one in time.
pub(super) struct TakingBack {
    pub(super) channel: ChannelNumber,
    pub(super) number: QueueNumber,
    pub(super) queue: QueueHandle,
    pub(super) consumer: ConsumerRef,
    /// Those before it have been looked at.
    pub(super) from: DeliveryTag,
    /// The consumer, if it was not cancelled before.
    pub(super) slot: Option<ConsumerSlot>,
    pub(super) undelivered: VecDeque<Undelivered>,
}

/// What was on its way to a consumer that goes.
pub(super) type Undelivered = (QueueNumber, QueueSettlement);

/// What closes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Whose {
    Channel(ChannelNumber),
    Connection,
}

/// What becomes of a channel once all it held is back.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Afterwards {
    /// It is gone.
    Gone,
    /// The client must answer `channel.close`.
    AwaitsCloseOk,
}

pub(super) enum Stage {
    Withdraw,
    /// Auto-delete queues that have lost their last consumers go.
    Doom,
    Empty,
    GiveBack,
    Undelivered,
    Start,
    Forget,
    DeleteQueues,
}

/// A channel or a connection that closes.
pub(super) struct Closing {
    pub(super) whose: Whose,
    pub(super) stage: Stage,
    pub(super) slots: Vec<ConsumerSlot>,
    /// So many of them are withdrawn.
    pub(super) withdrawn: usize,
    /// How many these are, by channel.
    pub(super) consumers: FxHashMap<ChannelNumber, usize>,
    /// Queues that go with their consumers.
    pub(super) doomed: Vec<QueueHandle>,
    /// Queues that had consumers here.
    pub(super) left: Vec<QueueHandle>,
    /// Queues that are to deliver.
    pub(super) starting: Vec<GivingBack>,
    /// Channels that may have something to give back.
    pub(super) channels: Vec<ChannelNumber>,
    pub(super) undelivered: VecDeque<Undelivered>,
    pub(super) afterwards: Afterwards,
    pub(super) reply: Vec<u8>,
}
