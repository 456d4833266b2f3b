//! How far a commit has come.

use std::collections::VecDeque;

use leveret_broker::commit::QueueSettlements;
use leveret_broker::exchange::{Gated, Gatekeeper, Numbers, ShutGates, Taking, Unit};
use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::VirtualHost;
use leveret_codec::ChannelNumber;
use leveret_message::Message;
use leveret_queue::queue::settle::QueueSettlement;
use leveret_routing::QueueId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::queue_table::QueueNumber;
use super::stateful_publish::StatefulPublish;
use super::transaction::Transaction;

/// What it costs to lock a queue, where an acknowledgement costs 1.
pub(super) const QUEUE_COST: usize = 16;

/// Settlements of a step, by queue.
#[derive(Default)]
pub(super) struct ByNumber {
    parts: Vec<(QueueNumber, Vec<QueueSettlement>)>,
    places: FxHashMap<QueueNumber, usize>,
}

impl ByNumber {
    /// Answers what it costs that another queue is to be locked.
    pub(super) fn push(&mut self, queue: QueueNumber, settlement: QueueSettlement) -> usize {
        let place = *self.places.entry(queue).or_insert(self.parts.len());
        if let Some((_, part)) = self.parts.get_mut(place) {
            part.push(settlement);
            return 0;
        }
        self.parts.push((queue, vec![settlement]));
        QUEUE_COST
    }

    pub(super) fn into_parts(self) -> impl Iterator<Item = (QueueNumber, Vec<QueueSettlement>)> {
        self.parts.into_iter()
    }
}

/// Settlements of a transaction, by queue: those of each step are a part.
#[derive(Default)]
pub(super) struct SettledByQueue {
    queues: Vec<QueueSettlements>,
    rows: FxHashMap<QueueId, usize>,
}

impl SettledByQueue {
    pub(super) fn push(&mut self, queue: &QueueHandle, part: Vec<QueueSettlement>) {
        let row = *self.rows.entry(queue.id()).or_insert(self.queues.len());
        match self.queues.get_mut(row) {
            Some((_, parts)) => parts.push_back(part),
            None => self.queues.push((queue.clone(), VecDeque::from([part]))),
        }
    }

    pub(super) fn take(&mut self) -> Vec<QueueSettlements> {
        self.rows.clear();
        std::mem::take(&mut self.queues)
    }
}

/// The queues that are still to take a publish.
pub(super) enum QueuesLeft {
    Found(smallvec::IntoIter<[QueueHandle; 1]>),
    Named(std::vec::IntoIter<QueueId>),
}

impl QueuesLeft {
    pub(super) fn len(&self) -> usize {
        match self {
            QueuesLeft::Found(queues) => queues.len(),
            QueuesLeft::Named(queues) => queues.len(),
        }
    }

    /// The next one; None if it has gone, or if there are no more.
    pub(super) fn next(&mut self, vhost: &VirtualHost) -> Option<QueueHandle> {
        match self {
            QueuesLeft::Found(queues) => queues.next(),
            QueuesLeft::Named(queues) => vhost.queue_by_id(queues.next()?),
        }
    }
}

/// A publish of which not all queues have taken it.
pub(super) enum Partial {
    Plain(Message, QueuesLeft),
    Stateful(StatefulPublish, u64, Box<Taking>),
}

/// Those with a gate on the ways of publishes, each once.
#[derive(Default)]
pub(super) struct GatedOnce {
    list: Gated,
    known: FxHashSet<(u8, u64)>,
}

impl GatedOnce {
    pub(super) fn extend(&mut self, keepers: impl IntoIterator<Item = Gatekeeper>) {
        for keeper in keepers {
            if self.known.insert(keeper.order()) {
                self.list.push(keeper);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn take(&mut self) -> Gated {
        self.known = FxHashSet::default();
        std::mem::take(&mut self.list)
    }
}

/// A transaction that is being committed.
pub(super) struct Committing {
    pub(super) channel: ChannelNumber,
    pub(super) stage: Stage,
    /// So many of what the stage goes through have been seen to.
    pub(super) at: usize,
    /// And so many of the queues of the next one.
    pub(super) at_queue: usize,
    pub(super) transaction: Transaction,
    /// What is left to be done in each queue when the settlements are durable.
    pub(super) settled: SettledByQueue,
    /// What is rejected, apart from the others.
    pub(super) rejected: SettledByQueue,
    pub(super) gated: GatedOnce,
    /// The gates, while they are shut.
    pub(super) gates: Option<ShutGates>,
    /// Producers' numbers looked at so far.
    pub(super) numbers: Numbers,
    /// About what it costs to have everything enter its queues.
    pub(super) cost: usize,
    /// A publish of which not all queues have taken it.
    pub(super) partial: Option<Partial>,
    pub(super) unit: Unit,
    /// What the settlements give back of the channel's shared credit.
    pub(super) credit: u32,
}

impl Committing {
    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
        self.at_queue = 0;
    }

    /// Tells some of the queues that what they hide is staged; answers what it cost.
    pub(super) fn tell(&mut self, most: usize) -> usize {
        let told = self.unit.tell_some(most);
        if told == 0 {
            self.enter(Stage::Release);
        }
        told * QUEUE_COST
    }
}

pub(super) enum Stage {
    Settle,
    LookAtPublishes,
    /// There is little: behind gates that are locked.
    HideAtOnce,
    ShutGates,
    CheckNumbers,
    HidePublishes,
    BecomeDurable,
    OpenGates,
    BeginDelays,
    Tell,
    Release,
}
