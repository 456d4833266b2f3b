//! How fast messages come and go: averages in which what happened `WINDOW_MS` ago weighs 1/e.
//!
//! There is no timer. Whoever changes a count calls [`Rates::advance`] before, at most every
//! `INTERVAL_MS`; the time since then is made up for when somebody reads. A queue younger than the
//! window is averaged over its age, but over no less than a second.

use leveret_message::Timestamp;
use serde::Serialize;

/// The weight of what happened falls to 1/e in this time.
const WINDOW_MS: f64 = 5000.0;
/// Counts are looked at this often at most.
pub(crate) const INTERVAL_MS: u64 = 100;
/// A rate is said of at least this time.
const AGE_MIN_MS: u64 = 1000;

/// What is counted, since the queue was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) published: u64,
    /// Became ready: published, or came back.
    pub(crate) arrived: u64,
    /// Were ready and are not any more, but for a purge.
    pub(crate) taken: u64,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) acknowledged: u64,
}

/// Messages per second, averaged over the last seconds (exponentially, by 5 s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MessageRates {
    /// Published to the queue.
    pub published: f64,
    /// The arrival rate r: messages that became ready, published or put back.
    pub arrival: f64,
    /// The service rate s: ready messages that left, to consumers, by `basic.get`, expired or dropped.
    /// The number of ready messages grows by r - s each second.
    pub service: f64,
    /// Delivered to consumers or got.
    pub delivered: f64,
    /// Delivered or got for another time; counted in `delivered` too.
    pub redelivered: f64,
    /// Acknowledged by clients.
    pub acknowledged: f64,
}

const KINDS: usize = 6;

impl Flow {
    fn counts(&self) -> [u64; KINDS] {
        [
            self.published,
            self.arrived,
            self.taken,
            self.delivered,
            self.redelivered,
            self.acknowledged,
        ]
    }
}

/// Moving averages of a [`Flow`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    last: Timestamp,
    seen: Flow,
    per_ms: [f64; KINDS],
}

/// What is left of an average after this time.
fn decay(elapsed_ms: u64) -> f64 {
    (-(elapsed_ms as f64) / WINDOW_MS).exp()
}

impl Rates {
    pub(crate) fn new(flow: Flow, now: Timestamp) -> Rates {
        Rates {
            last: now,
            seen: flow,
            per_ms: [0.0; KINDS],
        }
    }

    /// Takes in what was counted since the last call. That happened within an interval after it: had
    /// there been more later, this would have been called.
    pub(crate) fn advance(&mut self, flow: Flow, now: Timestamp) {
        let elapsed = now - self.last;
        if elapsed == 0 {
            return;
        }
        let busy = elapsed.min(INTERVAL_MS);
        let (kept, idle) = (decay(busy), decay(elapsed - busy));
        let counts = flow.counts().into_iter().zip(self.seen.counts());
        for (average, (count, before)) in self.per_ms.iter_mut().zip(counts) {
            let rate = count.saturating_sub(before) as f64 / busy as f64;
            *average = (*average * kept + rate * (1.0 - kept)) * idle;
        }
        self.seen = flow;
        self.last = now;
    }

    /// The rates at `now` of a queue that is there since `since`.
    pub(crate) fn per_second(
        mut self,
        flow: Flow,
        since: Timestamp,
        now: Timestamp,
    ) -> MessageRates {
        self.advance(flow, now);
        let seen = 1.0 - decay((now - since).max(AGE_MIN_MS));
        let [
            published,
            arrival,
            service,
            delivered,
            redelivered,
            acknowledged,
        ] = self.per_ms.map(|average| average * 1000.0 / seen);
        MessageRates {
            published,
            arrival,
            service,
            delivered,
            redelivered,
            acknowledged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn published(published: u64) -> Flow {
        Flow {
            published,
            ..Flow::default()
        }
    }

    /// `per_step` messages every `step_ms` until `end_ms`; answers the rates, their flow and the time.
    fn run(per_step: u64, step_ms: u64, end_ms: u64) -> (Rates, Flow, Timestamp) {
        let (mut rates, mut flow) = (Rates::new(Flow::default(), START), Flow::default());
        let mut now = START;
        while now - START < end_ms {
            if now - rates.last >= INTERVAL_MS {
                rates.advance(flow, now);
            }
            flow.published += per_step;
            now = now + step_ms;
        }
        (rates, flow, now)
    }

    #[test]
    fn a_steady_rate_is_told_from_the_first_second_on() {
        for end_ms in [1000, 2000, 5000, 60_000] {
            let (rates, flow, now) = run(3, 10, end_ms);
            let rate = rates.per_second(flow, START, now).published;
            assert!((rate - 300.0).abs() < 6.0, "{rate} after {end_ms} ms");
        }
    }

    #[test]
    fn a_rate_fades_without_anybody_counting() {
        let (rates, flow, now) = run(3, 10, 60_000);
        let rate = rates.per_second(flow, START, now + 5000).published;
        assert!((rate - 300.0 / std::f64::consts::E).abs() < 3.0, "{rate}");
        let rate = rates.per_second(flow, START, now + 3_600_000).published;
        assert!(rate < 1e-6, "{rate}");
    }

    #[test]
    fn a_burst_weighs_by_its_own_time_however_late_it_is_looked_at() {
        let mut rates = Rates::new(Flow::default(), START);
        let old = START + 3_600_000;
        rates.advance(Flow::default(), old);
        let rate = rates
            .per_second(published(1000), START, old + 5000)
            .published;
        let exact = 1000.0 / 5.0 * (-1.0f64).exp();
        assert!((rate - exact).abs() < exact / 20.0, "{rate} {exact}");
    }

    #[test]
    fn reading_changes_nothing() {
        let (mut rates, flow, now) = run(3, 10, 1050);
        let read = rates.per_second(flow, START, now);
        assert_eq!(read, rates.per_second(flow, START, now));
        rates.advance(flow, now);
        assert_eq!(read, rates.per_second(flow, START, now));
    }

    #[test]
    fn nothing_is_said_of_no_time() {
        let rates = Rates::new(Flow::default(), START);
        let said = rates.per_second(published(5), START, START);
        assert_eq!(said, MessageRates::default());
    }
}
