//! What is told about a queue: plain values, ready to be written as JSON.

use serde::Serialize;

use super::{Distribution, MessageRates};
use crate::queue::counts::QueueCounts;
use crate::queue::effects::DeadLetterReason;

/// Everything a queue or stream tells about itself. Totals, rates and times begin when the broker was
/// started or the queue declared. Bytes are of bodies unless it is said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QueueStatistics {
    /// Messages and consumers that are there now.
    #[serde(flatten)]
    pub counts: QueueCounts,
    /// Bytes of the ready messages. Of messages that were in the store when the broker was started this
    /// includes their headers, unless the queue has `x-max-length-bytes`; of a stream always.
    pub ready_bytes: u64,
    /// Bytes of the unacknowledged messages: their number by the mean of all that were taken so far.
    pub unacknowledged_bytes: u64,
    /// Memory of the queue and of its ready messages, as far as they are not in the store alone.
    pub memory_bytes: u64,
    /// What happened so far.
    pub totals: MessageTotals,
    /// What happens now.
    pub rates: MessageRates,
    /// Where that leads.
    pub forecast: Forecast,
    /// How long messages waited, from their arrival in this queue to their first delivery. Messages that
    /// expired or were dropped do not count, nor does another wait after coming back, nor a wait that
    /// began before the broker was started. Streams have none.
    pub time_in_queue: Distribution,
    /// From the delivery being written to the client's `basic.ack` (or its transaction's commit).
    /// Rejected and requeued deliveries do not count.
    pub time_to_ack: Distribution,
}

/// Messages counted since the queue was opened or declared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct MessageTotals {
    /// Taken from publishers, from exchanges that delay, and from other queues by dead-lettering.
    pub published: u64,
    /// Refused because the queue was full (`x-overflow` reject-publish and reject-publish-dlx).
    pub refused: u64,
    /// Handed to consumers that acknowledge, each time.
    pub delivered: u64,
    /// Handed to consumers that do not.
    pub delivered_no_ack: u64,
    /// Got by `basic.get`, to be acknowledged.
    pub got: u64,
    /// Got by `basic.get` without acknowledgement.
    pub got_no_ack: u64,
    /// `basic.get` found nothing.
    pub got_empty: u64,
    /// Of those delivered or got: how many bore the redelivered flag.
    pub redelivered: u64,
    /// Acknowledged by clients.
    pub acknowledged: u64,
    /// Came back by the client's nack, reject or recover, or because its channel or connection ended.
    pub requeued: u64,
    /// Removed by `queue.purge`.
    pub purged: u64,
    /// Went to the dead-letter exchange.
    pub dead_lettered: Reasons,
    /// Went nowhere: as `dead_lettered`, where the queue has no dead-letter exchange.
    pub discarded: Reasons,
}

impl MessageTotals {
    /// Deliveries of every kind.
    #[must_use]
    pub fn all_delivered(&self) -> u64 {
        self.delivered + self.delivered_no_ack + self.got + self.got_no_ack
    }
}

/// Messages by what ended them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Reasons {
    /// Rejected, or nacked without requeue.
    pub rejected: u64,
    /// Their time to live was over.
    pub expired: u64,
    /// The queue was over its length limit, or full.
    pub maxlen: u64,
    /// They came back too often.
    pub delivery_limit: u64,
    /// The store could not read their bodies any more.
    pub damaged: u64,
}

impl Reasons {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rejected + self.expired + self.maxlen + self.delivery_limit + self.damaged
    }

    pub(crate) fn add(&mut self, reason: DeadLetterReason) {
        let count = match reason {
            DeadLetterReason::Rejected => &mut self.rejected,
            DeadLetterReason::Expired => &mut self.expired,
            DeadLetterReason::MaxLength => &mut self.maxlen,
            DeadLetterReason::DeliveryLimit => &mut self.delivery_limit,
            DeadLetterReason::Damaged => &mut self.damaged,
        };
        *count += 1;
    }
}

/// Where the ready messages are going if the rates stay as they are: M(t) = M(0) + (r - s)t.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// Seconds until none is ready; 0 if none is. None: they do not become fewer.
    pub empty_in_seconds: Option<f64>,
    /// Seconds until the queue reaches `x-max-length` or `x-max-length-bytes`, whichever is first; 0 if
    /// it has. None: there is no limit, or they do not become more.
    pub full_in_seconds: Option<f64>,
}

/// What a queue has and may have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) ready: u64,
    pub(crate) ready_bytes: u64,
    pub(crate) max_length: Option<u64>,
    pub(crate) max_length_bytes: Option<u64>,
}

/// What follows from the rates. Each message is taken to be as long as the mean of the ready ones.
pub(crate) fn forecast(limits: Limits, rates: MessageRates) -> Forecast {
    let growth = rates.arrival - rates.service;
    let ready = limits.ready as f64;
    let mean_bytes = limits.ready_bytes as f64 / ready.max(1.0);
    let empty = match limits.ready {
        0 => Some(0.0),
        _ => (growth < 0.0).then(|| ready / -growth),
    };
    let full = limits
        .max_length
        .and_then(|max| reached_in(max, limits.ready, growth));
    let full_bytes = limits
        .max_length_bytes
        .and_then(|max| reached_in(max, limits.ready_bytes, growth * mean_bytes));
    Forecast {
        empty_in_seconds: empty,
        full_in_seconds: match (full, full_bytes) {
            (Some(messages), Some(bytes)) => Some(messages.min(bytes)),
            (messages, bytes) => messages.or(bytes),
        },
    }
}

fn reached_in(max: u64, now: u64, growth: f64) -> Option<f64> {
    match max.checked_sub(now) {
        None | Some(0) => Some(0.0),
        Some(left) => (growth > 0.0).then(|| left as f64 / growth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arrival: f64, service: f64, limits: Limits) -> (Option<f64>, Option<f64>) {
        let rates = MessageRates {
            arrival,
            service,
            ..MessageRates::default()
        };
        let forecast = forecast(limits, rates);
        (forecast.empty_in_seconds, forecast.full_in_seconds)
    }

    const LIMITS: Limits = Limits {
        ready: 100,
        ready_bytes: 1000,
        max_length: Some(400),
        max_length_bytes: None,
    };

    #[test]
    fn a_queue_empties_or_fills_by_the_difference_of_its_rates() {
        assert_eq!(said(10.0, 30.0, LIMITS), (Some(5.0), None));
        assert_eq!(said(30.0, 10.0, LIMITS), (None, Some(15.0)));
        assert_eq!(said(10.0, 10.0, LIMITS), (None, None));
    }

    #[test]
    fn an_empty_queue_is_empty_and_a_full_one_full() {
        let empty = Limits { ready: 0, ..LIMITS };
        assert_eq!(said(10.0, 0.0, empty), (Some(0.0), Some(40.0)));
        let full = Limits {
            ready: 401,
            ..LIMITS
        };
        assert_eq!(said(10.0, 10.0, full), (None, Some(0.0)));
    }

    #[test]
    fn bytes_are_reached_at_the_mean_length_and_the_nearer_limit_counts() {
        let bytes = Limits {
            max_length_bytes: Some(2000),
            ..LIMITS
        };
        assert_eq!(said(30.0, 10.0, bytes), (None, Some(5.0)));
        let unlimited = Limits {
            max_length: None,
            ..LIMITS
        };
        assert_eq!(said(30.0, 10.0, unlimited), (None, None));
    }
}
