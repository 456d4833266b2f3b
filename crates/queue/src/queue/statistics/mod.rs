//! What a queue knows of its past: counts, how long messages took, how fast they come and go.
//!
//! Counting is done per batch wherever a batch knows its length; of a single message only its sequence
//! and the time of its delivery are compared with those of the message before. A queue that never had
//! a message has no `Record`. No clock is read and no timer runs: all times are arguments.

mod arrivals;
mod histogram;
mod queue;
mod rates;
mod report;
mod sum;

use leveret_message::Timestamp;

pub(crate) use arrivals::{Arrivals, Run};
pub use histogram::Distribution;
pub(crate) use histogram::Histogram;
pub use rates::MessageRates;
pub(crate) use rates::{Flow, INTERVAL_MS, Rates};
pub use report::{Forecast, MessageTotals, QueueStatistics, Reasons};
pub(crate) use report::{Limits, forecast};
pub use sum::{QueueSum, Times};

use crate::queue::ready::{Entry, Level};

/// Counts, histograms and rates; most of it only once there is something to count.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// When the queue was declared or opened.
    since: Timestamp,
    /// When the rates are to be brought up to date next.
    due: Timestamp,
    /// Deliveries that are to be acknowledged.
    delivered: u64,
    /// Deliveries that are not.
    delivered_no_ack: u64,
    record: Option<Box<Record>>,
}

/// What a queue has that is or was in use.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// But for what is counted elsewhere.
    pub(crate) totals: MessageTotals,
    pub(crate) time_in_queue: Histogram,
    pub(crate) time_to_ack: Histogram,
    /// Duplicates that were found by what is not looked at any more.
    pub(crate) past_duplicates: u64,
    rates: Option<Rates>,
}

impl Statistics {
    pub(crate) fn new(now: Timestamp) -> Statistics {
        Statistics {
            since: now,
            due: Timestamp::default(),
            delivered: 0,
            delivered_no_ack: 0,
            record: None,
        }
    }

    /// For changing; made when it is first needed.
    pub(crate) fn record(&mut self) -> &mut Record {
        self.record.get_or_insert_default()
    }

    /// Whether [`Statistics::tally`] is to be called before anything is counted.
    #[inline]
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due
    }

    /// Brings the rates up to date. `flow`: what was counted so far.
    pub(crate) fn tally(&mut self, flow: Flow, now: Timestamp) {
        self.due = now + INTERVAL_MS;
        let rates = &mut self.record().rates;
        rates
            .get_or_insert_with(|| Rates::new(flow, now))
            .advance(flow, now);
    }

    /// Messages were given to a consumer.
    #[inline]
    pub(crate) fn count_delivered(&mut self, count: u64, no_ack: bool) {
        if no_ack {
            self.delivered_no_ack += count;
        } else {
            self.delivered += count;
        }
    }

    /// A message goes out of its level.
    #[inline]
    pub(crate) fn count_taken(&mut self, level: &mut Level, entry: &Entry, now: Timestamp) {
        let again = entry.redelivered || level.was_delivered(entry.sequence);
        if again || level.arrivals.is_behind(entry.sequence) {
            self.count_other(level, entry, again, now);
        } else {
            level.arrivals.take();
        }
    }

    /// A message goes out that went out before, or came at another time than the last.
    #[cold]
    fn count_other(&mut self, level: &mut Level, entry: &Entry, again: bool, now: Timestamp) {
        if again {
            self.record().totals.redelivered += u64::from(entry.redelivered);
            return;
        }
        if let Some(run) = level.arrivals.finish_run() {
            self.record_run(run, now);
        }
        level.arrivals.go_on(entry.sequence);
        level.arrivals.take();
    }

    /// Messages went out at `now` for the first time.
    #[cold]
    pub(crate) fn record_run(&mut self, run: Run, now: Timestamp) {
        let record = self.record();
        record.time_in_queue.record(now - run.arrived, run.count);
    }

    /// Clients acknowledged what was delivered to them at `delivered_at`.
    pub(crate) fn record_acknowledged(
        &mut self,
        delivered_at: Timestamp,
        count: u64,
        now: Timestamp,
    ) {
        let record = self.record();
        record.totals.acknowledged += count;
        record.time_to_ack.record(now - delivered_at, count);
    }

    /// Everything that was counted here.
    pub(crate) fn totals(&self) -> MessageTotals {
        let counted = self.record.as_ref().map(|record| record.totals);
        MessageTotals {
            delivered: self.delivered,
            delivered_no_ack: self.delivered_no_ack,
            ..counted.unwrap_or_default()
        }
    }

    /// The rates at `now`, `flow` having been counted so far.
    pub(crate) fn rates(&self, flow: Flow, now: Timestamp) -> MessageRates {
        let rates = self.record.as_ref().and_then(|record| record.rates);
        rates.map_or_else(MessageRates::default, |rates| {
            rates.per_second(flow, self.since, now)
        })
    }

    /// Time in the queue, and from delivery to acknowledgement.
    pub(crate) fn distributions(&self) -> (Distribution, Distribution) {
        match &self.record {
            None => Default::default(),
            Some(record) => (
                record.time_in_queue.distribution(),
                record.time_to_ack.distribution(),
            ),
        }
    }

    /// Adds what was counted here.
    pub(crate) fn add_to(&self, sum: &mut QueueSum) {
        sum.totals.delivered += self.delivered;
        sum.totals.delivered_no_ack += self.delivered_no_ack;
        if let Some(record) = &self.record {
            sum.totals.add(&record.totals);
            sum.duplicates += record.past_duplicates;
            sum.time_in_queue.add_histogram(&record.time_in_queue);
            sum.time_to_ack.add_histogram(&record.time_to_ack);
        }
    }

    /// Memory it occupies beside itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.record.as_ref().map_or(0, |record| {
            let histograms = [&record.time_in_queue, &record.time_to_ack];
            let blocks: usize = histograms.iter().map(|it| it.memory_bytes()).sum();
            size_of::<Record>() + blocks
        })
    }
}

/// Deliveries that were made together and acknowledged together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcknowledgedRun {
    pub(crate) delivered_at: Timestamp,
    pub(crate) count: u64,
}

impl Default for AcknowledgedRun {
    fn default() -> AcknowledgedRun {
        AcknowledgedRun {
            delivered_at: Timestamp::NEVER,
            count: 0,
        }
    }
}

impl AcknowledgedRun {
    /// One more. What no client acknowledged itself comes with [`Timestamp::NEVER`].
    #[inline]
    pub(crate) fn add(&mut self, delivered_at: Timestamp, now: Timestamp, into: &mut Statistics) {
        if self.delivered_at == delivered_at {
            self.count += 1;
        } else {
            self.begin(delivered_at, now, into);
        }
    }

    #[cold]
    fn begin(&mut self, delivered_at: Timestamp, now: Timestamp, into: &mut Statistics) {
        self.finish(now, into);
        self.delivered_at = delivered_at;
        self.count = 1;
    }

    /// Records what was added.
    pub(crate) fn finish(&mut self, now: Timestamp, into: &mut Statistics) {
        let count = std::mem::take(&mut self.count);
        if count > 0 && self.delivered_at != Timestamp::NEVER {
            into.record_acknowledged(self.delivered_at, count, now);
        }
    }
}
