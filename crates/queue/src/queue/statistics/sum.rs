//! What queues have and have done, in a form that can be added up over many of them.

use leveret_deduplication::DeduplicationCounts;
use leveret_message::Timestamp;

use super::{Histogram, MessageTotals, Reasons};
use crate::queue::counts::QueueCounts;

/// Times that are told apart when they are added up: those below 2^n ms, for each n up to 22, and longer ones.
const TIMES: usize = 24;

/// What a queue has and has done, or what many have together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueSum {
    /// Queues that are there; those that are gone are in what happened alone.
    pub queues: u64,
    /// Messages ready for delivery.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unacknowledged: u64,
    /// Messages that wait for their next delivery.
    pub waiting: u64,
    /// Consumers.
    pub consumers: u64,
    /// Bytes of the bodies of the ready messages.
    pub ready_bytes: u64,
    /// Bytes of the bodies of the unacknowledged ones.
    pub unacknowledged_bytes: u64,
    /// Of the ready messages: those that only the store has.
    pub paged: u64,
    /// Bytes of their bodies.
    pub paged_bytes: u64,
    /// Memory they occupy.
    pub memory_bytes: u64,
    /// When the oldest of the messages came that were never delivered, as far as that is known.
    pub oldest: Option<Timestamp>,
    /// What happened.
    pub totals: MessageTotals,
    /// Messages that had been published before, and were not taken again.
    pub duplicates: u64,
    /// Messages that their producer's numbers left out.
    pub gaps: u64,
    /// From arrival to first delivery.
    pub time_in_queue: Times,
    /// From delivery to acknowledgement.
    pub time_to_ack: Times,
}

/// How often which time was seen, by powers of two.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Times {
    counts: [u64; TIMES],
    sum_ms: u64,
}

impl Times {
    /// For each bound, in seconds, how many times were below it. What is longer is in [`Times::count`] alone.
    pub fn below(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        let bounded = self.counts.iter().take(TIMES - 1).zip(0u32..);
        bounded.map(move |(count, power)| {
            below += count;
            (f64::from(1u32 << power) / 1000.0, below)
        })
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ms as f64 / 1000.0
    }

    /// Adds what a histogram has.
    pub(crate) fn add_histogram(&mut self, histogram: &Histogram) {
        histogram.by_powers(|power, count| {
            self.counts[power.min(TIMES - 1)] += count;
        });
        self.sum_ms += u64::try_from(histogram.sum_ms()).unwrap_or(u64::MAX);
    }

    fn add(&mut self, other: &Times) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_ms += other.sum_ms;
    }
}

impl QueueSum {
    /// Adds another.
    pub fn add(&mut self, other: &QueueSum) {
        self.queues += other.queues;
        self.ready += other.ready;
        self.unacknowledged += other.unacknowledged;
        self.waiting += other.waiting;
        self.consumers += other.consumers;
        self.ready_bytes += other.ready_bytes;
        self.unacknowledged_bytes += other.unacknowledged_bytes;
        self.paged += other.paged;
        self.paged_bytes += other.paged_bytes;
        self.memory_bytes += other.memory_bytes;
        self.note_arrival(other.oldest);
        self.totals.add(&other.totals);
        self.duplicates += other.duplicates;
        self.gaps += other.gaps;
        self.time_in_queue.add(&other.time_in_queue);
        self.time_to_ack.add(&other.time_to_ack);
    }

    /// A queue is there that has so much.
    pub(crate) fn add_counts(&mut self, counts: QueueCounts) {
        self.queues += 1;
        self.ready += counts.ready;
        self.unacknowledged += counts.unacknowledged;
        self.waiting += counts.waiting;
        self.consumers += u64::from(counts.consumers);
    }

    /// Duplicates were found.
    pub fn add_duplicates(&mut self, counts: DeduplicationCounts) {
        self.duplicates += counts.duplicates;
        self.gaps += counts.gaps;
    }

    /// The oldest message of some has come then.
    pub(crate) fn note_arrival(&mut self, arrived: Option<Timestamp>) {
        self.oldest = [self.oldest, arrived].into_iter().flatten().min();
    }

    /// What stays of it when its queues are gone: what happened.
    #[must_use]
    pub fn of_the_past(self) -> QueueSum {
        QueueSum {
            totals: self.totals,
            duplicates: self.duplicates,
            gaps: self.gaps,
            time_in_queue: self.time_in_queue,
            time_to_ack: self.time_to_ack,
            ..QueueSum::default()
        }
    }
}

impl MessageTotals {
    pub(super) fn add(&mut self, other: &MessageTotals) {
        self.published += other.published;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.got_empty += other.got_empty;
        self.redelivered += other.redelivered;
        self.acknowledged += other.acknowledged;
        self.requeued += other.requeued;
        self.purged += other.purged;
        self.dead_lettered.sum(&other.dead_lettered);
        self.discarded.sum(&other.discarded);
    }
}

impl Reasons {
    fn sum(&mut self, other: &Reasons) {
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.maxlen += other.maxlen;
        self.delivery_limit += other.delivery_limit;
        self.damaged += other.damaged;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(recorded: &[(u64, u64)]) -> Times {
        let mut histogram = Histogram::default();
        for &(time, count) in recorded {
            histogram.record(time, count);
        }
        let mut times = Times::default();
        times.add_histogram(&histogram);
        times
    }

    #[test]
    fn times_are_counted_below_powers_of_two_exactly() {
        for power in 0..40u32 {
            let bound = 1u64 << power;
            let times = times(&[(bound - 1, 2), (bound, 3)]);
            let below = times.below().find(|(le, _)| *le == bound as f64 / 1000.0);
            if power < 23 {
                assert_eq!(below.map(|(_, count)| count), Some(2), "{bound} ms");
            } else {
                assert_eq!(below, None);
            }
            assert_eq!(times.count(), 5);
            assert!((times.sum_seconds() - (5 * bound - 2) as f64 / 1000.0).abs() < 1e-3);
        }
    }

    #[test]
    fn a_sum_has_what_its_parts_have() {
        let one = QueueSum {
            queues: 1,
            ready: 2,
            oldest: Some(Timestamp(7)),
            totals: MessageTotals {
                published: 5,
                discarded: Reasons {
                    maxlen: 3,
                    ..Reasons::default()
                },
                ..MessageTotals::default()
            },
            time_to_ack: times(&[(3, 4)]),
            ..QueueSum::default()
        };
        let mut sum = one.clone();
        sum.add(&QueueSum {
            oldest: Some(Timestamp(9)),
            ..one.clone()
        });
        sum.add(&QueueSum::default());
        assert_eq!((sum.queues, sum.ready, sum.oldest), (2, 4, one.oldest));
        assert_eq!((sum.totals.published, sum.totals.discarded.maxlen), (10, 6));
        assert_eq!(sum.time_to_ack.count(), 8);
        let past = sum.of_the_past();
        assert_eq!((past.queues, past.ready, past.oldest), (0, 0, None));
        assert_eq!(past.totals.published, 10);
    }
}
