//! What a committed transaction decided of deliveries, until it is carried out.
//!
//! What it acknowledges leaves the store with the transaction. What it rejects or puts back may go elsewhere for that:
//! to the dead letters, into a delay. The message stays where it is then and bears a number that says what was decided,
//! and is read and moved once the transaction shows, as what is rejected without one: in the queue's order, and never
//! many at once. What a broker had not come to when it ended, it goes on with when it starts.

use std::ops::Range;

use leveret_message::{Message, Timestamp};
use leveret_store_api::{Change, LogId, Numbered, Sequence};

use super::Queue;
use super::delivery_count::DeliveryCount;
use super::reference::{Outstanding, Reference};
use super::settle::{Outcome, QueueSettlement, set_count};

/// Numbers from here on say what was decided; their lower half says how often the message had come back.
pub(crate) const DECIDED_MIN: u32 = REJECTED;

const REJECTED: u32 = 1 << 16;
const PUT_BACK: u32 = 1 << 17;

impl Queue {
    /// Adds to `changes` what makes these settlements of a transaction durable; [`Queue::settle`] carries them out when
    /// they are.
    pub(crate) fn settle_apart(
        &mut self,
        settlements: &mut [QueueSettlement],
        changes: &mut Vec<Change<Message>>,
    ) {
        if self.deleted {
            return;
        }
        for settlement in settlements {
            match settlement.outcome {
                Outcome::Acknowledged => self.acknowledge_apart(settlement),
                // What cannot be read is seen to when it is carried out.
                Outcome::Rejected if matches!(settlement.delivery, Outstanding::Damaged(_)) => {}
                Outcome::Rejected if self.options.dead_letter_exchange.is_some() => {
                    self.decide(&settlement.delivery, REJECTED);
                }
                Outcome::Rejected => {
                    self.acknowledge_apart(settlement);
                    settlement.outcome = Outcome::Dropped;
                }
                Outcome::Requeued if self.is_moved_for(&settlement.delivery) => {
                    self.decide(&settlement.delivery, PUT_BACK);
                    settlement.outcome = Outcome::Decided;
                }
                Outcome::Requeued
                | Outcome::Decided
                | Outcome::Dropped
                | Outcome::Returned
                | Outcome::Undelivered
                | Outcome::Uncounted => {}
            }
        }
        changes.append(&mut self.changes);
    }

    /// Whether a reference must be read before its settlement is acknowledged for a transaction.
    pub fn must_read_apart(&self, reference: &Reference, outcome: Outcome) -> bool {
        let leaves = match outcome {
            Outcome::Acknowledged => true,
            Outcome::Rejected => self.options.dead_letter_exchange.is_none(),
            _ => false,
        };
        leaves && reference.stored && self.has_keys_of_messages()
    }

    fn acknowledge_apart(&mut self, settlement: &mut QueueSettlement) {
        let (level, sequence, stored) = settlement.delivery.place();
        if stored {
            self.acknowledge_stored(level, sequence);
            settlement.delivery.set_unstored();
        }
    }

    /// Whether what a client puts back is not simply in its place again.
    fn is_moved_for(&self, delivery: &Outstanding) -> bool {
        let count = delivery.delivery_count().again();
        let limit = self.options.delivery_limit.unwrap_or(u32::MAX);
        u32::from(count.certain()) > limit || !self.options.retry_delays_ms.is_empty()
    }

    fn decide(&mut self, delivery: &Outstanding, decision: u32) {
        if let Some(log) = self.log_of(delivery) {
            let sequence = delivery.place().1;
            let number = decision | delivery.delivery_count().to_stored();
            set_count(&mut self.changes, log, sequence, number, true);
        }
    }

    /// What was decided of a delivery is carried out, and it stays in the queue.
    pub(super) fn forget_decision(&mut self, delivery: &Outstanding) {
        if let Some(log) = self.log_of(delivery) {
            let (_, sequence, _) = delivery.place();
            let count = delivery.delivery_count().again().to_stored();
            set_count(&mut self.changes, log, sequence, count, false);
        }
    }

    /// The log of a delivery that survives a restart.
    fn log_of(&self, delivery: &Outstanding) -> Option<LogId> {
        match delivery {
            Outstanding::Message(in_flight) => self.surviving_log(in_flight),
            Outstanding::Reference(reference) => self.surviving_log_of(reference),
            Outstanding::Damaged(damaged) => self.surviving_log_of(&damaged.1),
        }
    }

    fn surviving_log_of(&self, reference: &Reference) -> Option<LogId> {
        let level = self.levels.get(usize::from(reference.level))?;
        let survives = reference.stored && self.keeps_if(reference.persistent);
        level.log.filter(|_| survives)
    }
}

/// Messages of a level of which something was decided and not carried out when the broker was started. They lie within
/// what was ready then, and are in flight.
#[derive(Debug, Default)]
pub(crate) struct Decided(Vec<Numbered>);

impl From<Vec<Numbered>> for Decided {
    fn from(runs: Vec<Numbered>) -> Decided {
        Decided(runs)
    }
}

impl Decided {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|run| run.length).sum()
    }

    pub(crate) fn contains(&self, sequence: Sequence) -> bool {
        let next = self.0.partition_point(|run| run.first <= sequence);
        let before = next.checked_sub(1).and_then(|at| self.0.get(at));
        before.is_some_and(|run| sequence.0 - run.first.0 < run.length)
    }

    /// The parts of a range that these are not in: where each begins, and how long it is.
    pub(crate) fn others(&self, range: Range<u64>) -> impl Iterator<Item = (Sequence, u64)> {
        let Range { start, end } = range;
        let ends = self.0.iter().map(|run| run.first.0 + run.length);
        let starts = [start].into_iter().chain(ends).map(move |at| at.max(start));
        let firsts = self.0.iter().map(|run| run.first.0).chain([end]);
        let parts = starts.zip(firsts.map(move |at| at.min(end)));
        parts
            .filter(|(from, until)| from < until)
            .map(|(from, until)| (Sequence(from), until - from))
    }
}

/// The settlements that the store says were decided and not carried out, of messages of so many bytes in the mean.
pub(super) fn settlements(level: u8, decided: &[Numbered], bytes: u64) -> Vec<QueueSettlement> {
    let runs = decided.iter();
    let each = runs.flat_map(|run| {
        let sequences = run.first.0..run.first.0 + run.length;
        sequences.map(|sequence| (Sequence(sequence), run.count))
    });
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let settlement = |(sequence, number): (Sequence, u32)| {
        let count = number & (REJECTED - 1);
        let delivery_count = DeliveryCount::from_stored(count);
        QueueSettlement {
            delivery: Outstanding::Reference(Reference {
                sequence,
                memory: bytes,
                body_bytes: bytes,
                delivery_count,
                level,
                retries: 0,
                redelivered: !delivery_count.is_none(),
                stored: true,
                persistent: true,
            }),
            consumer: None,
            outcome: match number & PUT_BACK {
                0 => Outcome::Rejected,
                _ => Outcome::Decided,
            },
            delivered_at: Timestamp::NEVER,
        }
    };
    each.map(settlement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_are_what_lies_between() {
        let run = |first, length| Numbered {
            first: Sequence(first),
            length,
            count: REJECTED,
        };
        let decided = Decided::from(vec![run(2, 3), run(5, 1), run(9, 2)]);
        assert_eq!(decided.count(), 6);
        let contained: Vec<u64> = (0..20)
            .filter(|it| decided.contains(Sequence(*it)))
            .collect();
        assert_eq!(contained, [2, 3, 4, 5, 9, 10]);
        for range in [0..20, 3..10, 2..11, 6..9, 0..2, 3..4, 10..30] {
            let others = decided.others(range.clone());
            let others: Vec<u64> = others
                .flat_map(|(first, count)| first.0..first.0 + count)
                .collect();
            let expected = range.filter(|it| !decided.contains(Sequence(*it)));
            assert_eq!(others, expected.collect::<Vec<u64>>());
        }
        let all: Vec<(Sequence, u64)> = Decided::default().others(3..7).collect();
        assert_eq!(all, [(Sequence(3), 4)]);
    }
}
