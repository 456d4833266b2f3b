//! Counts of durations, in classes that are never wider than a hundredth of their value.

use serde_json::{Value, json};

/// Classes for each doubling.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const DOUBLINGS: u32 = u64::BITS - STEP_BITS;

/// Durations in microseconds, by how many there were.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    classes: Vec<u64>,
    count: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let classes = usize::try_from(STEPS * u64::from(DOUBLINGS + 1)).unwrap_or(usize::MAX);
        Self {
            classes: vec![0; classes],
            count: 0,
            longest: 0,
        }
    }
}

/// Below `STEPS` each value has its own class; above, the leading bits choose it.
fn class_of(value: u64) -> usize {
    let doublings = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let class = (value >> doublings) + STEPS * u64::from(doublings);
    usize::try_from(class).unwrap_or(usize::MAX)
}

/// The least value of a class.
fn value_of(class: usize) -> u64 {
    let class = class as u64;
    let doublings = (class / STEPS).saturating_sub(1);
    (class - STEPS * doublings) << doublings
}

impl Histogram {
    /// Counts one duration, given in nanoseconds.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        let value = nanoseconds / 1000;
        if let Some(class) = self.classes.get_mut(class_of(value)) {
            *class += 1;
        }
        self.count += 1;
        self.longest = self.longest.max(value);
    }

    /// Takes in another's counts.
    pub(crate) fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            *mine += theirs;
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The duration that `per_mille` of a thousand do not exceed, in microseconds.
    fn quantile(&self, per_mille: u64) -> u64 {
        let wanted = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.classes.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(self.longest, value_of)
    }

    /// The figures to show; null where nothing was counted.
    pub(crate) fn report(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        json!({
            "count": self.count,
            "p50": self.quantile(500),
            "p95": self.quantile(950),
            "p99": self.quantile(990),
            "p999": self.quantile(999),
            "max": self.longest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_a_hundredth_wide_at_most() {
        for value in (0..5000).chain([1 << 20, 123_456_789, u64::MAX / 1000]) {
            let least = value_of(class_of(value));
            assert!(least <= value && value - least <= value / 100, "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        assert_eq!(histogram.quantile(500), 500);
        assert!((980..=990).contains(&histogram.quantile(990)));
        assert_eq!(histogram.longest, 1000);
    }
}
