//! How often which time was seen, in buckets as fine as the times are long.
//!
//! Log-linear, as HDR histograms are: times below 32 ms each have a bucket of their own; above, each
//! doubling is cut into 16 buckets of the same width. A bucket answers with its middle, so that no
//! quantile is off by more than 1/32 (3.1 %) of itself; number, mean and maximum are exact. Times of
//! 2^32 ms (49 days) and more share the last bucket.
//!
//! The buckets come in blocks of 16, one for each doubling, which are allocated when they are first
//! needed: a histogram without an entry has no memory, one of times between 1 ms and 1 s has eight
//! blocks (1 KiB), and no more than 29 (4 KiB) are possible. Counts have 64 bits: at five million
//! messages a second, 32 would be full after a quarter of an hour.

use serde::Serialize;

/// Buckets of one doubling.
const SLOTS: usize = 16;
/// As a power of two.
const SLOTS_POWER: u32 = SLOTS.ilog2();
/// The longest time with a bucket of its own width.
const TIME_MAX_MS: u64 = u32::MAX as u64;

type Block = [u64; SLOTS];

/// Counts of times.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    blocks: Vec<Option<Box<Block>>>,
    count: u64,
    sum_ms: u128,
    max_ms: u64,
}

/// What is said of a histogram. Quantiles are off by at most 1/32 of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// How many times were recorded since the queue was opened or declared.
    pub count: u64,
    /// Their mean, milliseconds; exact.
    pub mean_ms: f64,
    /// Half of them were no longer than milliseconds.
    pub p50_ms: u64,
    /// Nine of ten were no longer.
    pub p90_ms: u64,
    /// 99 of 100 were no longer.
    pub p99_ms: u64,
    /// 999 of 1,000 were no longer.
    pub p999_ms: u64,
    /// The longest; exact.
    pub max_ms: u64,
}

impl Histogram {
    /// Counts `count` messages that took `time_ms` each.
    pub(crate) fn record(&mut self, time_ms: u64, count: u64) {
        let (block, slot) = place(time_ms);
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, || None);
        }
        let counts = self.blocks[block].get_or_insert_default();
        counts[slot] += count;
        self.count += count;
        self.sum_ms += u128::from(time_ms) * u128::from(count);
        self.max_ms = self.max_ms.max(time_ms);
    }

    /// The time that so many of 1,000 did not exceed. None if there are none.
    pub(crate) fn quantile(&self, per_mille: u16) -> Option<u64> {
        let rank = rank(self.count, per_mille);
        let mut below = 0;
        for (number, block) in self.blocks.iter().enumerate() {
            for (slot, &count) in block.iter().flat_map(|block| block.iter().enumerate()) {
                below += count;
                if below >= rank {
                    return Some(middle(number, slot).min(self.max_ms));
                }
            }
        }
        None
    }

    /// What there is to say.
    pub(crate) fn distribution(&self) -> Distribution {
        let quantile = |per_mille| self.quantile(per_mille).unwrap_or_default();
        Distribution {
            count: self.count,
            mean_ms: self.sum_ms as f64 / self.count.max(1) as f64,
            p50_ms: quantile(500),
            p90_ms: quantile(900),
            p99_ms: quantile(990),
            p999_ms: quantile(999),
            max_ms: self.max_ms,
        }
    }

    /// All times together.
    pub(crate) fn sum_ms(&self) -> u128 {
        self.sum_ms
    }

    /// Calls `seen` with n and how many times were below 2^n ms and no shorter than half of that, for each n there is.
    pub(crate) fn by_powers(&self, mut seen: impl FnMut(usize, u64)) {
        for (number, block) in self.blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            if number > 0 {
                seen(number + SLOTS_POWER as usize, block.iter().sum());
                continue;
            }
            for (time, &count) in block.iter().enumerate() {
                let power = usize::BITS - time.leading_zeros();
                seen(power as usize, count);
            }
        }
    }

    /// Memory it occupies beside itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        let blocks = self.blocks.iter().flatten().count();
        blocks * size_of::<Block>() + self.blocks.capacity() * size_of::<Option<Box<Block>>>()
    }
}

/// Which of the ordered times is the one that so many of 1,000 do not exceed, counted from 1.
fn rank(count: u64, per_mille: u16) -> u64 {
    let rank = (u128::from(count) * u128::from(per_mille)).div_ceil(1000);
    u64::try_from(rank).unwrap_or(count).max(1)
}

/// The bucket of a time: its block and its place there.
fn place(time_ms: u64) -> (usize, usize) {
    let time = time_ms.min(TIME_MAX_MS) as usize;
    if time < SLOTS {
        return (0, time);
    }
    let shift = time.ilog2() - SLOTS_POWER;
    (shift as usize + 1, (time >> shift) % SLOTS)
}

/// The middle of a bucket.
fn middle(block: usize, slot: usize) -> u64 {
    let Some(shift) = block.checked_sub(1) else {
        return slot as u64;
    };
    let width = 1 << shift;
    (SLOTS + slot) as u64 * width + width / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn within_a_thirty_second(answer: u64, exact: u64) -> bool {
        answer.abs_diff(exact) * 32 <= exact
    }

    #[test]
    fn an_empty_histogram_says_nothing_and_has_no_memory() {
        let histogram = Histogram::default();
        assert_eq!(histogram.distribution(), Distribution::default());
        assert_eq!(histogram.quantile(500), None);
        assert_eq!(histogram.memory_bytes(), 0);
    }

    #[test]
    fn short_times_are_exact() {
        for time in 0..32 {
            let mut histogram = Histogram::default();
            histogram.record(time, 1);
            histogram.record(1000, 1);
            assert_eq!(histogram.quantile(500), Some(time));
        }
    }

    #[test]
    fn quantiles_of_known_times() {
        let mut histogram = Histogram::default();
        for time in 1..=1000 {
            histogram.record(time, 10);
        }
        let said = histogram.distribution();
        assert_eq!((said.count, said.max_ms), (10_000, 1000));
        assert!((said.mean_ms - 500.5).abs() < 1e-9);
        for (answer, exact) in [
            (said.p50_ms, 500),
            (said.p90_ms, 900),
            (said.p99_ms, 990),
            (said.p999_ms, 999),
        ] {
            assert!(within_a_thirty_second(answer, exact), "{answer} {exact}");
        }
    }

    #[test]
    fn the_longest_times_share_a_bucket_and_the_maximum_stays_exact() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX, 1);
        histogram.record(TIME_MAX_MS, 1);
        assert_eq!(histogram.distribution().max_ms, u64::MAX);
        assert!(histogram.quantile(1000).unwrap().abs_diff(TIME_MAX_MS) <= TIME_MAX_MS / 32);
    }

    #[test]
    fn memory_is_taken_by_the_doublings_that_are_used() {
        let mut histogram = Histogram::default();
        histogram.record(60_000, 1);
        assert!(
            histogram.memory_bytes() < 512,
            "{}",
            histogram.memory_bytes()
        );
        for power in 0..64 {
            histogram.record(1 << power, 1);
        }
        assert!(
            histogram.memory_bytes() <= 4300,
            "{}",
            histogram.memory_bytes()
        );
    }

    proptest! {
        #[test]
        fn every_quantile_is_near_the_sorted_times(
            mut times in prop::collection::vec((0u32..33, any::<u32>()), 1..300),
            shares in prop::collection::vec(0u16..=1000, 1..20),
        ) {
            let mut histogram = Histogram::default();
            // Of every length, not only of the longest.
            let mut times: Vec<u64> = times
                .drain(..)
                .map(|(bits, time)| u64::from(time) & ((1u64 << bits) - 1))
                .collect();
            for &time in &times {
                histogram.record(time, 1);
            }
            times.sort_unstable();
            for share in shares {
                let rank = (times.len() * usize::from(share)).div_ceil(1000).max(1);
                let (exact, answer) = (times[rank - 1], histogram.quantile(share).unwrap());
                prop_assert!(within_a_thirty_second(answer, exact), "{} for {}", answer, exact);
            }
            let sum: u64 = times.iter().sum();
            let said = histogram.distribution();
            prop_assert_eq!(said.count, times.len() as u64);
            prop_assert_eq!(said.max_ms, times[times.len() - 1]);
            prop_assert!((said.mean_ms - sum as f64 / times.len() as f64).abs() < 1e-3);
        }
    }
}
