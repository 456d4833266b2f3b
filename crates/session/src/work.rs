//! How much a session does before others have their turn.
//!
//! A read holds so many bytes, but what they ask for may cost little or much. So what a session does is counted while it
//! takes frames, in units of about what one message costs on its way to one queue, and when it has done enough it
//! leaves the rest of its input for its next turn. How long a turn lasts then depends neither on what clients send nor
//! on how much of it.

/// Units of a turn. A read of the smallest publishes, to one queue each, is not cut short.
const TURN_MAX: u32 = 4096;
/// Another method than publishing and settling, `basic.get` apart.
pub(super) const METHOD: u32 = 64;
/// `basic.get`: one lock of a queue, one message or none.
pub(super) const GET: u32 = 8;
/// A message goes past an exchange that keeps something, or back to its publisher.
pub(super) const DETOUR: u32 = 4;
/// The first message of a turn for a queue, which is locked for it.
pub(super) const QUEUE: u32 = 2;
/// A message whose way is not known yet.
pub(super) const LOOK_UP: u32 = 2;
/// A channel is closed for an error.
pub(super) const FAILURE: u32 = 128;

/// What has been done in this turn.
#[derive(Debug, Default)]
pub(super) struct Work {
    units: u32,
}

impl Work {
    /// A turn begins.
    pub(super) fn begin(&mut self) {
        *self = Work::default();
    }

    /// Something was done.
    #[inline]
    pub(super) fn add(&mut self, units: u32) {
        self.units = self.units.saturating_add(units);
    }

    /// Enough was done.
    #[inline]
    pub(super) fn is_enough(&self) -> bool {
        self.units >= TURN_MAX
    }

    /// How many messages for `targets` queues each the turn still has room for; one at least.
    #[inline]
    pub(super) fn room_for_messages(&self, targets: u32) -> u32 {
        (TURN_MAX.saturating_sub(self.units) / targets.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_room_for_one_message_whatever_it_costs() {
        let mut work = Work::default();
        assert_eq!(work.room_for_messages(1), TURN_MAX);
        assert_eq!(work.room_for_messages(TURN_MAX * 2), 1);
        work.add(TURN_MAX - 1);
        assert!(!work.is_enough());
        work.add(u32::MAX);
        assert!(work.is_enough());
        assert_eq!(work.room_for_messages(1), 1);
        work.begin();
        assert!(!work.is_enough());
    }
}
