//! Counts of durations, in classes that are never wider than a hundredth of their value.

use hdrhistogram::Histogram as Classes;
use serde_json::{Value, json};

/// Decimal digits that are kept of a duration.
const DIGITS: u8 = 2;
/// The longest duration that is told from longer ones, in microseconds: more than a day.
const LONGEST: u64 = 1 << 37;

/// Durations in microseconds, by how many there were.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    classes: Classes<u64>,
    /// As it was, not as its class.
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let classes = Classes::new_with_bounds(1, LONGEST, DIGITS);
        Self {
            classes: classes.unwrap_or_else(|error| unreachable!("these bounds are good: {error}")),
            longest: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration, given in nanoseconds.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        let value = nanoseconds / 1000;
        self.classes.saturating_record(value);
        self.longest = self.longest.max(value);
    }

    /// Takes in another's counts.
    pub(crate) fn add(&mut self, other: &Histogram) {
        self.classes += &other.classes;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.classes.len()
    }

    /// The figures to show; null where nothing was counted.
    pub(crate) fn report(&self) -> Value {
        if self.count() == 0 {
            return Value::Null;
        }
        let quantile = |quantile: f64| {
            // The least value of its class, as all figures before.
            let classes = &self.classes;
            classes.lowest_equivalent(classes.value_at_quantile(quantile))
        };
        json!({
            "count": self.count(),
            "p50": quantile(0.5),
            "p95": quantile(0.95),
            "p99": quantile(0.99),
            "p999": quantile(0.999),
            "max": self.longest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values() {
        let (mut histogram, mut half) = (Histogram::default(), Histogram::default());
        assert_eq!(histogram.report(), Value::Null);
        (1..=500).for_each(|value| histogram.record(value * 1_000_000));
        (501..=1000).for_each(|value| half.record(value * 1_000_000));
        histogram.add(&half);
        let report = histogram.report();
        assert_eq!(report["count"], 1000);
        for (name, exact) in [
            ("p50", 500_000),
            ("p95", 950_000),
            ("p99", 990_000),
            ("max", 1_000_000),
        ] {
            let figure = report[name].as_u64().unwrap();
            assert!(figure.abs_diff(exact) <= exact / 100, "{name}: {figure}");
        }
    }
}
