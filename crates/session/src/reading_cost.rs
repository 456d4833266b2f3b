//! What it costs that a message must be read for its settlement.

use leveret_queue::queue::reference::Held;

/// Reading so many bytes of a message costs 1.
pub(super) const READ_FOR_ONE: usize = 4096;

/// What it costs to settle a delivery, in addition, if its message must be read for that.
#[inline]
pub(super) fn cost_of_reading(held: &Held) -> usize {
    held.unread() / READ_FOR_ONE
}
