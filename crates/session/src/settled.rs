//! Settlements that a transaction keeps back. It may have many, so that their messages leave memory as those of
//! deliveries do that are not settled, where all connections together hold too many, see [`crate::delivering`].

use std::sync::Arc;

use leveret_broker::unacked_memory::{Told, UnackedMemory};
use leveret_queue::queue::settle::Outcome;
use leveret_store_api::CommitPoint;

use super::unacked::{KeepInStore, Relief, Unacked, keep_all, let_go_stored};
use crate::blocks::Blocks;

/// So many leave memory together.
const TOGETHER: usize = 1024;

/// In the order in which the client settled.
#[derive(Default)]
pub(super) struct Settled {
    settlements: Blocks<(Unacked, Outcome)>,
    count: usize,
    /// Memory of their messages.
    memory: usize,
    told: Told,
    /// So many, the first, have no message that could leave memory.
    left: usize,
    /// So many that follow leave once this is durable.
    leaving: Option<(CommitPoint, usize)>,
}

impl Settled {
    pub(super) fn push(&mut self, unacked: Unacked, outcome: Outcome) {
        self.count += 1;
        self.memory += unacked.delivery.memory();
        self.settlements.push((unacked, outcome));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes out the first one.
    pub(super) fn pop(&mut self) -> Option<(Unacked, Outcome)> {
        let first = self.settlements.pop()?;
        self.count -= 1;
        self.memory -= first.0.delivery.memory();
        // The first may be one that has not left.
        self.left = self.left.saturating_sub(1);
        // The store is told again of what is left, which costs nothing.
        self.leaving = None;
        self.told.less(self.memory);
        Some(first)
    }

    /// Those from number `from` on, counted from the first.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = &(Unacked, Outcome)> {
        self.settlements.iter_from(from)
    }

    /// Whether messages are to leave memory.
    pub(super) fn is_to_be_relieved(&mut self, memory: &Arc<UnackedMemory>) -> bool {
        self.memory > memory.kept() && self.told.more(self.memory, memory)
    }

    /// Has the first messages leave memory, as many as go together.
    pub(super) fn relieve(
        &mut self,
        memory: &UnackedMemory,
        durable: CommitPoint,
        keep: &mut KeepInStore<'_>,
    ) -> Relief {
        if let Some((point, count)) = self.leaving {
            if point > durable {
                return Relief::At(point);
            }
            let going = self.settlements.iter_mut_from(self.left).take(count);
            let freed: usize = going.map(|(unacked, _)| let_go_stored(unacked)).sum();
            self.memory -= freed;
            self.left += count;
            self.leaving = None;
        }
        self.told.tell(self.memory);
        if self.memory <= memory.kept() || memory.is_relieved(0) {
            return Relief::Done;
        }
        let count = TOGETHER.min(self.count - self.left);
        if count == 0 {
            return Relief::Done;
        }
        let next = self.settlements.iter_mut_from(self.left).take(count);
        let (point, freed) = keep_all(next.map(|(unacked, _)| unacked).collect(), keep);
        self.memory -= freed;
        self.leaving = Some((point, count));
        match point > durable {
            true => Relief::At(point),
            false => Relief::Again,
        }
    }
}
