//! How far a commit has come.

use leveret_broker::commit::QueueSettlements;
use leveret_broker::dead_letter::Composed;
use leveret_broker::exchange::{Gated, Plan};
use leveret_broker::handle::QueueHandle;
use leveret_message::{Message, Timestamp};
use leveret_routing::QueueId;
use leveret_store_api::CommitPoint;
use rustc_hash::FxHashMap;

use super::transaction::Transaction;
use crate::blocks::Blocks;

/// What it costs to lock a queue, where an acknowledgement costs 1.
pub(super) const QUEUE_COST: usize = 16;

/// A transaction that is being committed.
pub(super) struct Committing {
    pub(super) channel: u16,
    /// When the client asked for it.
    pub(super) began: Timestamp,
    pub(super) stage: Stage,
    /// So many of what the stage goes through have been seen to.
    pub(super) at: usize,
    pub(super) transaction: Transaction,
    /// What is left to be done in each queue when the settlements are durable.
    pub(super) by_queue: Vec<QueueSettlements>,
    /// Where they are there.
    pub(super) rows: FxHashMap<QueueId, usize>,
    pub(super) letters: Blocks<Composed>,
    pub(super) gated: Gated,
    /// A publish of which not all queues have taken it.
    pub(super) partial: Option<(Message, smallvec::IntoIter<[QueueHandle; 1]>)>,
    pub(super) plan: Plan,
    /// What queues refused was published, and did not die.
    pub(super) refused: bool,
    pub(super) point: CommitPoint,
    /// What the settlements give back of the channel's shared credit.
    pub(super) credit: u32,
}

impl Committing {
    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
    }

    /// Tells some of the queues that what they hide is staged; answers what it cost.
    pub(super) fn mark(&mut self, most: usize) -> usize {
        let (ticket, point) = (self.plan.ticket(), self.point);
        let targets = self.plan.targets().get(self.at..).unwrap_or_default();
        for queue in targets.iter().take(most) {
            queue.hidden_staged_at(ticket, point);
        }
        let marked = targets.len().min(most);
        if marked < targets.len() {
            self.at += marked;
        } else {
            self.enter(Stage::Release);
        }
        marked * QUEUE_COST
    }
}

pub(super) enum Stage {
    Settle,
    LookAtLetters,
    LookAtPublishes,
    HidePublishes,
    HideLetters,
    BecomeDurable,
    BeginDelays,
    Mark,
    Release,
}
