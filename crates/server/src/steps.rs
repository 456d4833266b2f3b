//! Counts and names what keeps a thread for too long.
//!
//! A step is what a thread does without letting others have it: a turn of a connection, of the pager, of the
//! deadlines. What one client asks for must not cost another its time, so none may take more than 5 ms. Debug builds
//! measure each one, in CPU time of its thread, so that a busy machine does not count; in others there is nothing of it.

/// A step that runs. It ends when it is dropped.
pub(crate) struct Step {
    #[cfg(debug_assertions)]
    measured: measured::Step,
}

impl Step {
    /// A step begins, with the part `doing`.
    #[inline]
    pub(crate) fn begin(doing: &'static str) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = doing;
        Self {
            #[cfg(debug_assertions)]
            measured: measured::Step::begin(doing),
        }
    }

    /// From here on it is at another part.
    #[inline]
    pub(crate) fn goes_on(&mut self, doing: &'static str) {
        #[cfg(debug_assertions)]
        self.measured.goes_on(doing);
        #[cfg(not(debug_assertions))]
        let _ = doing;
    }
}

/// Tells how many steps there were, and which were too long. Says nothing where they are not measured.
pub(crate) fn report() {
    #[cfg(debug_assertions)]
    measured::report();
}

#[cfg(debug_assertions)]
mod measured {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    /// What a step may take.
    const LONGEST: Duration = Duration::from_millis(5);

    static STEPS: AtomicU64 = AtomicU64::new(0);
    static LONG: Mutex<BTreeMap<&str, Long>> = Mutex::new(BTreeMap::new());

    /// The long steps of one name.
    #[derive(Default)]
    pub(super) struct Long {
        count: u64,
        longest: Duration,
    }

    pub(super) struct Step {
        began: Duration,
        doing: &'static str,
        since: Duration,
        /// The part that took longest so far.
        chief: (Duration, &'static str),
    }

    impl Step {
        pub(super) fn begin(doing: &'static str) -> Self {
            let now = cpu_time();
            Self {
                began: now,
                doing,
                since: now,
                chief: (Duration::ZERO, doing),
            }
        }

        pub(super) fn goes_on(&mut self, doing: &'static str) {
            let now = cpu_time();
            self.chief = self.chief.max((now.saturating_sub(self.since), self.doing));
            (self.doing, self.since) = (doing, now);
        }
    }

    impl Drop for Step {
        fn drop(&mut self) {
            self.goes_on(self.doing);
            STEPS.fetch_add(1, Ordering::Relaxed);
            let took = self.since.saturating_sub(self.began);
            if took > LONGEST {
                note(self.chief.1, took);
            }
        }
    }

    fn note(step: &'static str, took: Duration) {
        let mut long = lock();
        let known = long.entry(step).or_default();
        known.count += 1;
        known.longest = known.longest.max(took);
        drop(long);
        tracing::warn!(step, took_us = microseconds(took), "long step");
    }

    pub(super) fn report() {
        let long = lock();
        let steps = STEPS.load(Ordering::Relaxed);
        let count: u64 = long.values().map(|each| each.count).sum();
        tracing::info!(steps, long = count, "steps measured");
        for (step, each) in long.iter() {
            let longest_us = microseconds(each.longest);
            tracing::warn!(step, count = each.count, longest_us, "long steps");
        }
    }

    fn lock() -> MutexGuard<'static, BTreeMap<&'static str, Long>> {
        LONG.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn microseconds(time: Duration) -> u64 {
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    }

    /// CPU time that the calling thread has used.
    fn cpu_time() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap_or_default()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_long_step_is_counted_under_the_part_that_took_longest() {
            let mut step = Step::begin("short part");
            step.goes_on("long part");
            let began = cpu_time();
            while cpu_time() - began <= LONGEST {}
            step.goes_on("last part");
            drop(step);
            drop(Step::begin("short step"));
            let long = lock();
            assert_eq!(long.get("long part").map(|each| each.count), Some(1));
            for other in ["short part", "last part", "short step"] {
                assert!(!long.contains_key(other), "{other}");
            }
        }
    }
}
