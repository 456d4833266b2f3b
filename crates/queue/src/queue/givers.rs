//! Who gives back to a queue a part at a time, and for whom of them it waits.
//!
//! A queue that waits delivers nothing. If it waited for everybody, clients that give back again and again would keep
//! it from all others for as long as they go on. So it waits for those who begin at about the same time, as the channels
//! and connections do that a client closes together; when they are done it stays open for as long as it was closed.

use leveret_message::Timestamp;
use leveret_store_api::broken::without;

/// Who begins so long after the first, or later, is not waited for.
const GATHERING_MS: u64 = 50;

#[derive(Debug, Default)]
pub(super) struct Givers {
    /// So many are waited for.
    waited_for: u32,
    /// When the first of them began.
    since: Timestamp,
    /// Some came too late to be waited for.
    pressed: bool,
    /// Nobody is waited for who begins before this moment.
    open_until: Timestamp,
}

impl Givers {
    /// Somebody begins; answers whether the queue waits until he is done.
    pub(super) fn begin(&mut self, now: Timestamp) -> bool {
        if self.waited_for == 0 {
            if now < self.open_until {
                return false;
            }
            self.since = now;
            self.pressed = false;
        } else if now - self.since >= GATHERING_MS {
            self.pressed = true;
            return false;
        }
        self.waited_for += 1;
        true
    }

    /// Somebody that is waited for is done.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.waited_for = without(self.waited_for, 1, "who gives back");
        if self.waited_for == 0 && self.pressed {
            self.open_until = now + (now - self.since);
        }
    }

    /// Whether the queue waits for somebody.
    #[inline]
    pub(super) fn are_waited_for(&self) -> bool {
        self.waited_for > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_begin_together_are_waited_for() {
        let mut givers = Givers::default();
        assert!(givers.begin(Timestamp(1_000)));
        assert!(givers.begin(Timestamp(1_000 + GATHERING_MS - 1)));
        givers.end(Timestamp(2_000));
        assert!(givers.are_waited_for());
        givers.end(Timestamp(2_001));
        assert!(!givers.are_waited_for());
        assert!(givers.begin(Timestamp(2_001)));
    }

    #[test]
    fn a_queue_is_open_for_as_long_as_it_was_closed_if_others_came_meanwhile() {
        let mut givers = Givers::default();
        assert!(givers.begin(Timestamp(1_000)));
        assert!(!givers.begin(Timestamp(1_000 + GATHERING_MS)));
        givers.end(Timestamp(1_300));
        assert!(!givers.begin(Timestamp(1_599)));
        assert!(!givers.are_waited_for());
        assert!(givers.begin(Timestamp(1_600)));
        givers.end(Timestamp(1_700));
        assert!(givers.begin(Timestamp(1_701)));
    }
}
