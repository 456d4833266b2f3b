//! A history by what was sent: publishes, settlements, transactions and the runs of the broker.

use std::collections::{BTreeMap, HashMap};

use super::{
    ConsumerId, DeliveryId, Event, History, MessageId, Outcome, PublisherId, QueueId, TransactionId,
};

/// A publish.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) at: usize,
    pub(super) publisher: PublisherId,
    pub(super) queues: Vec<QueueId>,
    pub(super) transaction: Option<TransactionId>,
    pub(super) key: Option<u64>,
    pub(super) confirmed_at: Option<usize>,
    pub(super) refused: bool,
}

/// What was said of a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settlement {
    pub(super) at: usize,
    pub(super) outcome: Outcome,
    transaction: Option<TransactionId>,
    /// From this event on it is known to be on stable storage.
    pub(super) for_good_at: Option<usize>,
}

/// What is known of a transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) commit_sent_at: Option<usize>,
    pub(super) committed_at: Option<usize>,
    pub(super) rolled_back: bool,
    pub(super) publishes: Vec<MessageId>,
    pub(super) settles: Vec<DeliveryId>,
}

impl Transaction {
    /// Its commit was asked for.
    pub(super) fn may_be_committed(&self) -> bool {
        self.commit_sent_at.is_some() && !self.rolled_back
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) publications: BTreeMap<MessageId, Publication>,
    pub(super) settlements: HashMap<DeliveryId, Settlement>,
    pub(super) transactions: BTreeMap<TransactionId, Transaction>,
    /// When the broker started again, and when it died.
    runs: Vec<usize>,
    kills: Vec<usize>,
    /// When consumers ended, and which.
    closes: Vec<(usize, ConsumerId)>,
}

impl Sources {
    pub(super) fn of(history: &History) -> Self {
        let mut sources = Self::default();
        for (at, event) in history.events.iter().enumerate() {
            sources.take(at, event);
        }
        sources.settle_with_transactions();
        sources
    }

    fn take(&mut self, at: usize, event: &Event) {
        match event {
            Event::Published {
                message,
                publisher,
                queues,
                transaction,
                key,
            } => {
                if let Some(id) = transaction {
                    let transaction = self.transactions.entry(*id).or_default();
                    transaction.publishes.push(*message);
                }
                let publication = Publication {
                    at,
                    publisher: *publisher,
                    queues: queues.clone(),
                    transaction: *transaction,
                    key: *key,
                    confirmed_at: None,
                    refused: false,
                };
                self.publications.insert(*message, publication);
            }
            Event::Confirmed { message } => {
                if let Some(publication) = self.publications.get_mut(message) {
                    publication.confirmed_at.get_or_insert(at);
                }
            }
            Event::Refused { message } => {
                if let Some(publication) = self.publications.get_mut(message) {
                    publication.refused = true;
                }
            }
            Event::Settled {
                delivery,
                outcome,
                transaction,
            } => {
                if let Some(id) = transaction {
                    let transaction = self.transactions.entry(*id).or_default();
                    transaction.settles.push(*delivery);
                }
                let settlement = Settlement {
                    at,
                    outcome: *outcome,
                    transaction: *transaction,
                    for_good_at: None,
                };
                self.settlements.insert(*delivery, settlement);
            }
            Event::SettledForGood { delivery } => {
                if let Some(settlement) = self.settlements.get_mut(delivery) {
                    settlement.for_good_at.get_or_insert(at);
                }
            }
            Event::CommitSent(id) => {
                self.transactions.entry(*id).or_default().commit_sent_at = Some(at);
            }
            Event::Committed(id) => {
                self.transactions.entry(*id).or_default().committed_at = Some(at);
            }
            Event::RolledBack(id) => self.transactions.entry(*id).or_default().rolled_back = true,
            Event::Closed { consumer } => self.closes.push((at, *consumer)),
            Event::Killed => self.kills.push(at),
            Event::Restarted => self.runs.push(at),
            Event::Delivered { .. } | Event::Read { .. } => {}
        }
    }

    /// What a transaction settled is said with its commit, is for good when that is answered, and is void without it.
    fn settle_with_transactions(&mut self) {
        let transactions = &self.transactions;
        self.settlements.retain(|_, settlement| {
            let transaction = settlement.transaction.and_then(|id| transactions.get(&id));
            if let Some(transaction) = transaction {
                settlement.at = transaction.commit_sent_at.unwrap_or(settlement.at);
                settlement.for_good_at = transaction.committed_at;
            }
            transaction.is_none_or(Transaction::may_be_committed)
        });
    }

    /// How often the broker had been started again by then.
    pub(super) fn run(&self, at: usize) -> usize {
        self.runs.partition_point(|start| *start < at)
    }

    /// When the run began in which `at` lies.
    pub(super) fn run_began(&self, at: usize) -> Option<usize> {
        self.runs.get(self.run(at).checked_sub(1)?).copied()
    }

    /// The broker died between the two.
    pub(super) fn killed_between(&self, from: usize, to: usize) -> bool {
        self.next_kill(from).is_some_and(|kill| kill < to)
    }

    /// A consumer, or any, ended between the two.
    pub(super) fn closed_between(
        &self,
        from: usize,
        to: usize,
        consumer: Option<ConsumerId>,
    ) -> bool {
        let mut closed = self.closed_within(from, to);
        closed.any(|closed| consumer.is_none_or(|consumer| consumer == closed))
    }

    /// The consumers that ended between the two.
    pub(super) fn closed_within(
        &self,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = ConsumerId> + '_ {
        let first = self.closes.partition_point(|(at, _)| *at < from);
        let later = self.closes.iter().skip(first);
        later
            .take_while(move |(at, _)| *at < to)
            .map(|(_, consumer)| *consumer)
    }

    /// The settlement of a delivery, unless it is void.
    pub(super) fn settlement(&self, delivery: DeliveryId) -> Option<&Settlement> {
        self.settlements.get(&delivery)
    }

    /// The broker owes this message to its queues, whatever happens.
    pub(super) fn is_owed(&self, message: MessageId) -> bool {
        self.owed_since(message).is_some()
    }

    /// Since when that is known.
    pub(super) fn owed_since(&self, message: MessageId) -> Option<usize> {
        let publication = self.publications.get(&message)?;
        let transaction = publication
            .transaction
            .and_then(|id| self.transactions.get(&id));
        let committed_at = transaction.and_then(|transaction| transaction.committed_at);
        publication.confirmed_at.or(committed_at)
    }

    /// When the broker next died.
    pub(super) fn next_kill(&self, at: usize) -> Option<usize> {
        let next = self.kills.partition_point(|kill| *kill < at);
        self.kills.get(next).copied()
    }
}
