//! `tx`: publishes and settlements kept back until they are committed, see [`crate::committing`], or rolled back.

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_broker::memory_pool::{Pool, Portion};
use leveret_broker::roll::ChannelFacts;
use leveret_broker::vhost::Targets;
use leveret_codec::DeliveryTag;
use leveret_message::error::{ChannelError, Failure};
use leveret_message::{Message, Timestamp};
use leveret_queue::mailbox::Mailbox;
use leveret_queue::queue::settle::Outcome;
use leveret_routing::QueueId;

use super::settled::Settled;
use super::stateful_publish::StatefulPublish;
use super::unacked::{Ledger, Unacked};
use crate::blocks::Blocks;

/// A publish that is kept back.
pub(super) enum Kept {
    Plain {
        message: Message,
        targets: Targets,
        mandatory: bool,
    },
    /// To very many queues, which are found when it is committed.
    Wide {
        message: Message,
        queues: Vec<QueueId>,
    },
    /// Past exchanges that keep something, or with its producer's number: decided at the commit.
    Stateful {
        publish: StatefulPublish,
        random: u64,
    },
}

impl Kept {
    fn memory(&self) -> usize {
        match self {
            Kept::Plain {
                message, targets, ..
            } if targets.spilled() => message.memory_bytes() + size_of_val(targets.as_slice()),
            Kept::Plain { message, .. } => message.memory_bytes(),
            Kept::Wide { message, queues } => {
                message.memory_bytes() + size_of_val(queues.as_slice())
            }
            Kept::Stateful { publish, .. } => publish.message.memory_bytes(),
        }
    }
}

/// What a channel has done since `tx.select` or the last commit.
#[derive(Default)]
pub(super) struct Transaction {
    pub(super) publishes: Blocks<Kept>,
    pub(super) settlements: Settled,
    /// Deliveries that come back as it is rolled back, by tag.
    pub(super) returning: BTreeMap<DeliveryTag, Unacked>,
    pub(super) bytes: usize,
    pub(super) memory: Option<Portion>,
}

impl Transaction {
    /// Keeps a publish back.
    pub(super) fn publish(&mut self, kept: Kept, bytes_max: usize) -> Result<(), Failure> {
        self.bytes += kept.memory();
        if self.bytes > bytes_max {
            return Err(ChannelError::precondition(format_args!(
                "transaction is larger than the {bytes_max} bytes allowed"
            ))
            .into());
        }
        self.publishes.push(kept);
        Ok(())
    }

    /// What it has of the memory of all.
    pub(super) fn portion(&self) -> Option<&Portion> {
        self.memory.as_ref()
    }

    pub(super) fn memory(
        &mut self,
        pool: &Arc<Pool>,
        mailbox: &Arc<Mailbox>,
        now: Timestamp,
    ) -> &mut Portion {
        self.memory
            .get_or_insert_with(|| Portion::new(pool, mailbox, now))
    }

    /// How much it wants for itself and `more` that it does not have.
    pub(super) fn memory_wanted(&self, more: usize) -> usize {
        let taken = self.memory.as_ref().map_or(0, Portion::taken);
        self.bytes.saturating_add(more).saturating_sub(taken)
    }

    /// Whether a body of `more` bytes is refused for its size.
    pub(super) fn would_be_too_large(&self, more: usize, bytes_max: usize) -> bool {
        self.bytes.saturating_add(more) > bytes_max
    }

    /// Keeps a settlement back.
    pub(super) fn settle(&mut self, unacked: Unacked, outcome: Outcome) {
        self.settlements.push(unacked, outcome);
    }

    /// Forgets a part of it, of at most `most` publishes and settlements; the deliveries that were to be settled come
    /// back into the ledger, oldest first. Answers whether there is more.
    pub(super) fn roll_back_some(
        &mut self,
        ledger: &mut Ledger,
        facts: &ChannelFacts,
        most: usize,
    ) -> bool {
        for _ in 0..most {
            if self.publishes.pop().is_some() {
                continue;
            }
            if let Some((unacked, _)) = self.settlements.pop() {
                self.returning.insert(unacked.tag, unacked);
            } else if let Some((_, unacked)) = self.returning.pop_first() {
                ledger.put_back(unacked);
                facts.unacknowledged.add(1);
            } else {
                *self = Transaction::default();
                return false;
            }
        }
        true
    }
}
