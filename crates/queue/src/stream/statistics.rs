//! What a stream knows of its past. Nothing leaves it but by retention, so that it has no service rate,
//! no time in queue and no forecast.

use leveret_message::Timestamp;

use crate::queue::settle::{Outcome, QueueSettlement};

use super::Stream;
use crate::queue::statistics::{
    AcknowledgedRun, Flow, Forecast, MessageTotals, QueueStatistics, QueueSum,
};
use leveret_store_api::broken::without;

impl Stream {
    /// To be called with the time before a batch is counted: what came before belongs to the time before.
    pub(super) fn keep_time(&mut self, now: Timestamp) {
        if self.statistics.is_due(now) {
            self.statistics.tally(self.flow(), now);
        }
    }

    pub(super) fn count_acknowledged(&mut self, settlements: &[QueueSettlement], now: Timestamp) {
        let mut acknowledged = AcknowledgedRun::default();
        for settlement in settlements {
            if settlement.outcome == Outcome::Acknowledged {
                acknowledged.add(settlement.delivered_at, now, &mut self.statistics);
            }
        }
        acknowledged.finish(now, &mut self.statistics);
    }

    fn flow(&self) -> Flow {
        let totals = self.statistics.totals();
        let published = without(self.tail.next(), self.numbered_before, "offsets");
        Flow {
            published,
            arrived: published,
            taken: 0,
            delivered: totals.all_delivered(),
            redelivered: 0,
            acknowledged: totals.acknowledged,
        }
    }

    /// Everything that is known.
    pub(crate) fn statistics(&self, now: Timestamp) -> QueueStatistics {
        let flow = self.flow();
        let (time_in_queue, time_to_ack) = self.statistics.distributions();
        QueueStatistics {
            counts: self.counts(),
            ready_bytes: self.segments.bytes(),
            unacknowledged_bytes: 0,
            memory_bytes: self.memory_bytes() as u64,
            totals: MessageTotals {
                published: flow.published,
                ..self.statistics.totals()
            },
            rates: self.statistics.rates(flow, now),
            forecast: Forecast::default(),
            time_in_queue,
            time_to_ack,
        }
    }

    /// Adds what the stream has and has done.
    pub(crate) fn add_to_sum(&self, sum: &mut QueueSum) {
        sum.totals.published += self.flow().published;
        self.statistics.add_to(sum);
        if self.is_deleted() {
            return;
        }
        sum.add_counts(self.counts());
        sum.ready_bytes += self.segments.bytes();
        sum.memory_bytes += self.memory_bytes() as u64;
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Stream>() + self.tail.memory_bytes() + self.statistics.memory_bytes()
    }
}
