//! A queue's counting: where it happens, and what comes of it.

use leveret_message::Timestamp;

use super::{Flow, Limits, QueueStatistics, QueueSum, forecast};
use crate::queue::Queue;
use crate::queue::effects::DeadLetterReason;
use crate::queue::ready::Level;

impl Queue {
    /// To be called with the time before a batch is counted: what came before belongs to the time before.
    #[inline]
    pub(crate) fn keep_time(&mut self, now: Timestamp) {
        if self.statistics.is_due(now) {
            self.tally(now);
        }
    }

    #[cold]
    fn tally(&mut self, now: Timestamp) {
        self.statistics.tally(self.flow(), now);
    }

    /// The level at the top is empty; the next one is the one below.
    #[cold]
    pub(crate) fn leave_level(&mut self, now: Timestamp) {
        self.record_taken(now);
        self.top -= 1;
    }

    /// Records what went out of the level that is at the top now.
    pub(crate) fn record_taken(&mut self, now: Timestamp) {
        let level = self.levels.get_mut(self.top);
        if let Some(run) = level.and_then(|level| level.arrivals.finish_run()) {
            self.statistics.record_run(run, now);
        }
    }

    /// `basic.get` was answered.
    pub(crate) fn count_got(&mut self, found: bool, no_ack: bool, now: Timestamp) {
        self.record_taken(now);
        let totals = &mut self.statistics.record().totals;
        match (found, no_ack) {
            (false, _) => totals.got_empty += 1,
            (true, false) => totals.got += 1,
            (true, true) => totals.got_no_ack += 1,
        }
    }

    /// A message ended, with or without a dead-letter exchange.
    pub(crate) fn count_ended(&mut self, reason: DeadLetterReason, dead_lettered: bool) {
        let totals = &mut self.statistics.record().totals;
        if dead_lettered {
            totals.dead_lettered.add(reason);
        } else {
            totals.discarded.add(reason);
        }
    }

    fn published(&self) -> u64 {
        let numbered: u64 = self.levels.iter().map(Level::peek_next).sum();
        numbered - self.numbered_otherwise
    }

    fn flow(&self) -> Flow {
        let totals = self.statistics.totals();
        let published = self.published();
        Flow {
            published,
            arrived: published + self.put_back,
            taken: self.taken,
            delivered: totals.all_delivered(),
            redelivered: totals.redelivered,
            acknowledged: totals.acknowledged,
        }
    }

    /// Everything that is known.
    pub(crate) fn statistics(&self, now: Timestamp) -> QueueStatistics {
        let flow = self.flow();
        let rates = self.statistics.rates(flow, now);
        let ready_bytes = self.visible_body_bytes();
        let limits = Limits {
            ready: self.visible(),
            ready_bytes,
            max_length: self.options.max_length,
            max_length_bytes: self.options.max_length_bytes,
        };
        let (time_in_queue, time_to_ack) = self.statistics.distributions();
        QueueStatistics {
            counts: self.counts(),
            ready_bytes,
            unacknowledged_bytes: self.unacknowledged_bytes(),
            memory_bytes: self.memory_bytes() as u64,
            totals: super::MessageTotals {
                published: flow.published,
                ..self.statistics.totals()
            },
            rates,
            forecast: forecast(limits, rates),
            time_in_queue,
            time_to_ack,
        }
    }

    /// Adds what the queue has and has done.
    pub(crate) fn add_to_sum(&self, sum: &mut QueueSum) {
        sum.totals.published += self.published();
        self.statistics.add_to(sum);
        if let Some(counts) = self.deduplication_counts() {
            sum.add_duplicates(counts);
        }
        if self.is_deleted() {
            return;
        }
        sum.add_counts(self.counts());
        sum.ready_bytes += self.visible_body_bytes();
        sum.unacknowledged_bytes += self.unacknowledged_bytes();
        sum.memory_bytes += self.memory_bytes() as u64;
        for level in &self.levels {
            sum.note_arrival(level.oldest_arrival());
            if let Some(paged) = level.paged() {
                sum.paged += paged.count;
                sum.paged_bytes += paged.body_bytes;
            }
        }
    }

    /// As if those that are in flight were as long as all that were taken, in the mean.
    fn unacknowledged_bytes(&self) -> u64 {
        let taken = u128::from(self.taken.max(1));
        let bytes = u128::from(self.in_flight) * u128::from(self.taken_body_bytes) / taken;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn memory_bytes(&self) -> usize {
        let levels: usize = self.levels.iter().map(Level::memory_bytes).sum();
        let retries = self.retries.memory_bytes();
        size_of::<Queue>() + levels + retries + self.statistics.memory_bytes()
    }
}
