//! How often a message was delivered and came back, and how sure that is.

/// The mark that one of the deliveries may not have been one.
const UNCERTAIN: u16 = 1 << 15;

/// How often a message was delivered and came back. After a crash of the system nobody knows whether it was
/// delivered before: it counts as once, which does not count towards a limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeliveryCount(u16);

impl DeliveryCount {
    /// It was never delivered.
    pub const NONE: DeliveryCount = DeliveryCount(0);

    /// It may have been delivered, once at least.
    pub const PERHAPS: DeliveryCount = DeliveryCount(UNCERTAIN);

    /// It came back so often.
    #[must_use]
    pub fn of(times: u16) -> DeliveryCount {
        DeliveryCount(times.min(UNCERTAIN - 1))
    }

    /// Whether it was never delivered.
    #[inline]
    #[must_use]
    pub fn is_none(self) -> bool {
        self == DeliveryCount::NONE
    }

    /// It came back once more.
    #[must_use]
    pub fn again(self) -> DeliveryCount {
        let certain = DeliveryCount::of((self.0 & !UNCERTAIN) + 1);
        DeliveryCount(certain.0 | (self.0 & UNCERTAIN))
    }

    /// As the client is told: `x-delivery-count`.
    #[must_use]
    pub fn told(self) -> u16 {
        self.certain() + u16::from(self.0 & UNCERTAIN != 0)
    }

    /// As `x-delivery-limit` counts.
    #[must_use]
    pub fn certain(self) -> u16 {
        self.0 & !UNCERTAIN
    }

    /// As the store keeps it.
    #[must_use]
    pub fn to_stored(self) -> u32 {
        u32::from(self.0)
    }

    /// As the store kept it.
    #[must_use]
    pub fn from_stored(stored: u32) -> DeliveryCount {
        DeliveryCount(u16::try_from(stored).unwrap_or(u16::MAX))
    }

    /// The higher of two that are known.
    #[must_use]
    pub fn max(self, other: DeliveryCount) -> DeliveryCount {
        if other.told() > self.told() {
            other
        } else {
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_uncertain_is_told_and_does_not_count() {
        let seen = |count: DeliveryCount| (count.is_none(), count.told(), count.certain());
        assert_eq!(seen(DeliveryCount::NONE), (true, 0, 0));
        assert_eq!(seen(DeliveryCount::NONE.again()), (false, 1, 1));
        assert_eq!(seen(DeliveryCount::PERHAPS), (false, 1, 0));
        assert_eq!(seen(DeliveryCount::PERHAPS.again().again()), (false, 3, 2));
        assert_eq!(
            seen(DeliveryCount::of(u16::MAX).again()),
            (false, 32767, 32767)
        );
        let most = (0..40_000).fold(DeliveryCount::PERHAPS, |count, _| count.again());
        assert_eq!(seen(most), (false, 32768, 32767));
    }

    #[test]
    fn the_higher_one_counts() {
        let two = DeliveryCount::of(2);
        assert_eq!(two.max(DeliveryCount::PERHAPS), two);
        assert_eq!(DeliveryCount::PERHAPS.max(two), two);
        assert_eq!(
            DeliveryCount::of(1).max(DeliveryCount::PERHAPS),
            DeliveryCount::of(1)
        );
    }
}
