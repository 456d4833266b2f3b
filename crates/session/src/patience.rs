//! How long to wait before something is tried again that was of no use.

/// Occasions that pass after one that was used in vain, at first and at most: where it is never of use, looking
/// for it costs next to nothing.
const STEPS: std::ops::RangeInclusive<u32> = 4..=1024;
/// Failures in a row after which what was tried is given up.
const FAILURES_MAX: u32 = 32;

/// Grows with every try in vain.
#[derive(Default)]
pub(super) struct Patience {
    /// Occasions to let pass.
    wait: u32,
    step: u32,
    failures: u32,
}

impl Patience {
    /// Here is an occasion: whether to try.
    #[inline]
    pub(super) fn tries(&mut self) -> bool {
        if let Some(wait) = self.wait.checked_sub(1) {
            self.wait = wait;
            return false;
        }
        self.step = (self.step * 2).clamp(*STEPS.start(), *STEPS.end());
        self.wait = self.step;
        self.failures = 0;
        true
    }

    /// The last try was of use.
    #[inline]
    pub(super) fn reward(&mut self) {
        *self = Patience::default();
    }

    /// What was tried last was of no use this time; whether it is to be given up.
    #[inline]
    pub(super) fn fails(&mut self) -> bool {
        self.failures += 1;
        self.failures > FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(patience: &mut Patience, occasions: u32) -> usize {
        (0..occasions).filter(|_| patience.tries()).count()
    }

    #[test]
    fn tries_become_rare_until_one_is_of_use() {
        let mut patience = Patience::default();
        assert!(patience.tries());
        assert_eq!(tries(&mut patience, 4), 0);
        assert!(patience.tries());
        assert!(tries(&mut patience, 100_000) < 110);
        patience.reward();
        assert!(patience.tries());
        assert_eq!((0..FAILURES_MAX).filter(|_| patience.fails()).count(), 0);
        assert!(patience.fails());
    }
}
