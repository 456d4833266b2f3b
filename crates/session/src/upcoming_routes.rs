//! Where the routes of the next publishes are believed to lie. Whoever takes one has to look whether it is
//! the one: this only orders the look-ups, so that the processor waits for the memory of many at once.

use leveret_codec::upcoming_names;
use leveret_queue::shortcuts::Shortcut;
use smallvec::SmallVec;

/// No place in a text: the names are not known.
pub(super) const NOWHERE: u32 = u32::MAX;
/// Publishes looked at together.
pub(super) const PUBLISHES_MAX: usize = 16;
/// Frames among which they are looked for; a small publish has three.
const FRAMES_MAX: usize = 4 * PUBLISHES_MAX;

/// Places in a text, the next one last.
#[derive(Default)]
pub(super) struct UpcomingRoutes {
    places: SmallVec<[u32; PUBLISHES_MAX]>,
    /// Look-ups until the next attempt: what comes is not what was expected.
    pause: usize,
}

/// The names of the next publishes in `input`.
pub(super) fn next_names(input: &[u8]) -> SmallVec<[&[u8]; PUBLISHES_MAX]> {
    let frames = upcoming_names(input).take(FRAMES_MAX);
    frames.flatten().take(PUBLISHES_MAX).collect()
}

impl UpcomingRoutes {
    /// These are the places of the next ones, in their order.
    pub(super) fn set(&mut self, places: impl DoubleEndedIterator<Item = u32>) {
        self.places.clear();
        self.places.extend(places.rev());
    }

    /// Takes the first place that `is_it`, and those before it: they were of publishes that needed no
    /// look-up. None where the next one was not found ahead either.
    #[inline]
    pub(super) fn take(&mut self, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let expected = !self.places.is_empty();
        while let Some(place) = self.places.pop() {
            if place == NOWHERE {
                return None;
            }
            if is_it(place) {
                return Some(place);
            }
        }
        if expected {
            self.pause = PUBLISHES_MAX;
        }
        None
    }

    /// Whether it is time to look ahead.
    pub(super) fn is_due(&mut self) -> bool {
        self.pause = self.pause.saturating_sub(1);
        Shortcut::UpcomingRoutes.is_open() && self.pause == 0 && self.places.is_empty()
    }

    /// Nothing is expected.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.pause = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expecting(places: &[u32]) -> UpcomingRoutes {
        let mut upcoming = UpcomingRoutes::default();
        upcoming.set(places.iter().copied());
        upcoming
    }

    #[test]
    fn publishes_that_need_no_look_up_are_passed_over() {
        let mut upcoming = expecting(&[1, 1, 2, 3]);
        let taken = [1, 2, 3].map(|place| upcoming.take(|at| at == place));
        assert_eq!(taken, [Some(1), Some(2), Some(3)]);
        assert!(upcoming.is_due());
    }

    #[test]
    fn names_that_are_not_known_do_not_disturb_those_behind_them() {
        let mut upcoming = expecting(&[NOWHERE, 2]);
        assert_eq!(upcoming.take(|_| false), None);
        assert!(!upcoming.is_due());
        assert_eq!(upcoming.take(|at| at == 2), Some(2));
    }

    #[test]
    fn who_does_not_do_what_was_expected_is_left_alone_for_a_while() {
        let mut upcoming = expecting(&[1, 2]);
        assert_eq!(upcoming.take(|at| at == 3), None);
        let due = (0..PUBLISHES_MAX).filter(|_| upcoming.is_due()).count();
        assert_eq!(due, 1);
        assert!(upcoming.is_due());
    }
}
