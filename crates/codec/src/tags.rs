//! The tags of deliveries and of consumers.

use std::fmt;

/// The number of a delivery within its channel, or, in what a broker acknowledges, of a confirmed publish.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeliveryTag(pub u64);

impl DeliveryTag {
    /// No delivery has it; who acknowledges it with `multiple` means all so far.
    pub const NONE: DeliveryTag = DeliveryTag(0);
    /// No tag is behind it.
    pub const LAST: DeliveryTag = DeliveryTag(u64::MAX);

    /// The tag that is `count` further.
    #[inline]
    #[must_use]
    pub fn plus(self, count: usize) -> DeliveryTag {
        DeliveryTag(self.0 + count as u64)
    }

    /// The tag behind this one.
    #[inline]
    #[must_use]
    pub fn next(self) -> DeliveryTag {
        self.plus(1)
    }

    /// How far this is behind `first`; None if it is before it.
    #[inline]
    #[must_use]
    pub fn since(self, first: DeliveryTag) -> Option<usize> {
        usize::try_from(self.0.checked_sub(first.0)?).ok()
    }
}

impl fmt::Display for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a consumer within its channel. It may be any bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConsumerTag<'a>(pub &'a [u8]);
