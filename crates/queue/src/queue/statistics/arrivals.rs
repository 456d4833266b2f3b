//! When the messages of one priority level came, without a word in any message.
//!
//! ```text
//!   moments    (sequence 1, at 0 ms)  (40, at 7 ms)   (90, at 9 ms .. 12 ms)
//!   messages   1 ............... 39   40 ....... 89   90 ..................
//! ```
//! A moment says from which sequence on messages came at a time. Messages of the same millisecond share
//! one, so that the times are exact as long as there is room for the moments. When there is none,
//! neighbours are joined: the longer ago, the more. A joined moment answers with the middle of its time,
//! and is shorter than 1/16 of its age, so that what is said of a message is off by no more than 1/32 of
//! the time it has waited. Where that does not make room (a backlog of minutes to which something was
//! added each few milliseconds), the share is doubled.
//!
//! Only messages that go out for the first time are looked up, in the order of their sequences: what
//! is behind them is forgotten. Whether a message is in memory or in the store makes no difference.

use std::collections::VecDeque;

use leveret_message::Timestamp;
use leveret_store_api::Sequence;

/// Moments of one level.
const MOMENTS_MAX: usize = 256;
/// So many are left room for when moments are joined.
const MOMENTS_FREED: usize = 64;
/// A joined moment lasts this share of its age; then the next, until there is room.
const SHARES: [u64; 4] = [16, 8, 4, 2];

/// From which sequence on messages came at which time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    sequence: u64,
    first: Timestamp,
    span_ms: u32,
}

impl Moment {
    fn last(self) -> Timestamp {
        self.first + u64::from(self.span_ms)
    }

    fn middle(self) -> Timestamp {
        self.first + u64::from(self.span_ms / 2)
    }
}

/// The moments of a level, and how many messages went out under the one that is read.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// When the last message came; another at the same time needs no moment.
    newest: Timestamp,
    moments: VecDeque<Moment>,
    /// The first sequence that needs another moment than the one that is read.
    until: u64,
    /// What the moment that is read says; [`Timestamp::NEVER`]: nothing is known.
    arrived: Timestamp,
    /// Messages that went out under the moment that is read, and are not recorded.
    taken: u64,
}

impl Default for Arrivals {
    fn default() -> Arrivals {
        Arrivals {
            newest: Timestamp::NEVER,
            moments: VecDeque::new(),
            until: 0,
            arrived: Timestamp::NEVER,
            taken: 0,
        }
    }
}

/// Messages that went out together, having come together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    /// When they came.
    pub(crate) arrived: Timestamp,
    /// How many.
    pub(crate) count: u64,
}

impl Arrivals {
    /// Whether a message that comes now needs a moment.
    #[inline]
    pub(crate) fn needs_mark(&self, now: Timestamp) -> bool {
        self.newest != now
    }

    /// The message `sequence` and those that follow come at `now`.
    pub(crate) fn add(&mut self, sequence: Sequence, now: Timestamp) {
        self.newest = now;
        // The moment that is read may be joined with others.
        self.until = 0;
        if self.moments.len() >= MOMENTS_MAX {
            self.make_room(now);
        }
        self.moments.push_back(Moment {
            sequence: sequence.0,
            first: now,
            span_ms: 0,
        });
    }

    /// No message is there that was not delivered before.
    pub(crate) fn forget(&mut self) {
        self.moments.clear();
        self.newest = Timestamp::NEVER;
        self.until = 0;
    }

    /// Whether the next message to go out, for the first time, came at another time than the last.
    #[inline]
    pub(crate) fn is_behind(&self, sequence: Sequence) -> bool {
        sequence.0 >= self.until
    }

    /// Goes on to the moment of `sequence`; what was taken before must have been recorded.
    pub(crate) fn go_on(&mut self, sequence: Sequence) {
        while self
            .moments
            .get(1)
            .is_some_and(|next| next.sequence <= sequence.0)
        {
            self.moments.pop_front();
        }
        let known = self
            .moments
            .front()
            .filter(|moment| moment.sequence <= sequence.0);
        self.arrived = known.map_or(Timestamp::NEVER, |moment| moment.middle());
        let behind = self.moments.get(usize::from(known.is_some()));
        self.until = behind.map_or(u64::MAX, |moment| moment.sequence);
    }

    /// When the message `sequence` came that has not gone out yet, if that is known.
    pub(crate) fn arrival_of(&self, sequence: Sequence) -> Option<Timestamp> {
        let behind = self
            .moments
            .partition_point(|moment| moment.sequence <= sequence.0);
        let moment = self.moments.get(behind.checked_sub(1)?)?;
        Some(moment.middle())
    }

    /// One message went out under the moment that is read.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    /// What went out since the last call, if it is known when it came.
    pub(crate) fn finish_run(&mut self) -> Option<Run> {
        let run = Run {
            arrived: self.arrived,
            count: std::mem::take(&mut self.taken),
        };
        (run.count > 0 && run.arrived != Timestamp::NEVER).then_some(run)
    }

    /// Gives memory back after a backlog.
    pub(crate) fn shrink(&mut self) {
        const KEPT: usize = 16;
        if self.moments.capacity() > KEPT {
            self.moments.truncate(0);
            self.moments.shrink_to_fit();
            self.newest = Timestamp::NEVER;
            self.until = 0;
        }
    }

    /// Memory it occupies beside itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.moments.capacity() * size_of::<Moment>()
    }

    fn make_room(&mut self, now: Timestamp) {
        for share in SHARES {
            self.join_moments(now, share);
            if self.moments.len() <= MOMENTS_MAX - MOMENTS_FREED {
                return;
            }
        }
        let half = self.moments.len() / 2;
        self.moments.drain(..half);
    }

    /// Joins neighbours as far as the joined moment lasts no longer than this share of its age.
    fn join_moments(&mut self, now: Timestamp, share: u64) {
        let mut kept = 0;
        for index in 1..self.moments.len() {
            let next = self.moments[index];
            let span = next.last() - self.moments[kept].first;
            match u32::try_from(span) {
                Ok(span_ms) if span < (now - next.last()) / share => {
                    self.moments[kept].span_ms = span_ms;
                }
                _ => {
                    kept += 1;
                    self.moments[kept] = next;
                }
            }
        }
        self.moments.truncate(kept + 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_000_000;

    fn arrival(arrivals: &mut Arrivals, sequence: u64) -> Option<u64> {
        let sequence = Sequence(sequence);
        if arrivals.is_behind(sequence) {
            arrivals.go_on(sequence);
        }
        arrivals.take();
        arrivals.finish_run().map(|run| run.arrived.0)
    }

    fn arrive(arrivals: &mut Arrivals, sequence: u64, at: u64) {
        if arrivals.needs_mark(Timestamp(at)) {
            arrivals.add(Sequence(sequence), Timestamp(at));
        }
    }

    #[test]
    fn arrivals_are_exact_while_there_is_room() {
        let mut arrivals = Arrivals::default();
        for sequence in 0..600 {
            arrive(&mut arrivals, sequence, START + sequence / 3 * 7);
        }
        for sequence in 0..600 {
            let said = arrival(&mut arrivals, sequence);
            assert_eq!(said, Some(START + sequence / 3 * 7));
        }
    }

    #[test]
    fn messages_from_before_the_first_mark_are_unknown() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrival(&mut arrivals, 4), None);
        arrive(&mut arrivals, 6, START);
        assert_eq!(arrival(&mut arrivals, 5), None);
        assert_eq!(arrival(&mut arrivals, 6), Some(START));
        arrivals.forget();
        assert_eq!(arrival(&mut arrivals, 7), None);
        arrive(&mut arrivals, 8, START);
        assert_eq!(arrival(&mut arrivals, 8), Some(START));
    }

    #[test]
    fn what_waits_has_an_age() {
        let mut arrivals = Arrivals::default();
        arrive(&mut arrivals, 4, START);
        arrive(&mut arrivals, 6, START + 10);
        let of = |sequence| arrivals.arrival_of(Sequence(sequence));
        assert_eq!(of(3), None);
        assert_eq!((of(4), of(5)), (Some(Timestamp(START)), of(4)));
        assert_eq!((of(6), of(9)), (Some(Timestamp(START + 10)), of(6)));
    }

    #[test]
    fn a_run_is_counted_once() {
        let mut arrivals = Arrivals::default();
        arrive(&mut arrivals, 0, START);
        arrivals.go_on(Sequence(0));
        arrivals.take();
        arrivals.take();
        let run = Run {
            arrived: Timestamp(START),
            count: 2,
        };
        assert_eq!(arrivals.finish_run(), Some(run));
        assert_eq!(arrivals.finish_run(), None);
    }

    #[test]
    fn a_week_of_backlog_has_room() {
        let mut arrivals = Arrivals::default();
        let week = 7 * 24 * 3600 * 1000;
        for (sequence, at) in (0..week).step_by(500).enumerate() {
            arrive(&mut arrivals, sequence as u64, START + at);
        }
        assert!(arrivals.moments.len() <= MOMENTS_MAX);
        assert!(
            arrivals.memory_bytes() <= 256 * 24,
            "{}",
            arrivals.memory_bytes()
        );
        // Taken at once: within 1/16 of the wait.
        for sequence in (0..week / 500).step_by(977) {
            let (exact, said) = (sequence * 500, arrival(&mut arrivals, sequence).unwrap());
            let off = said.abs_diff(START + exact);
            assert!(off * 16 <= week - exact, "{exact} {off}");
        }
        arrivals.shrink();
        assert_eq!(arrivals.memory_bytes(), 0);
    }

    proptest! {
        /// Publishes at any times, then deliveries, some of them in between.
        #[test]
        fn what_is_said_is_off_by_a_thirty_second_of_the_wait(
            steps in prop::collection::vec((0u64..60, 0u64..4), 1..3000),
        ) {
            let mut arrivals = Arrivals::default();
            let (mut now, mut next) = (START, 0);
            let mut came: VecDeque<(u64, u64)> = VecDeque::new();
            for (gap, kind) in steps {
                now += gap;
                if kind > 0 {
                    arrive(&mut arrivals, next, now);
                    came.push_back((next, now));
                    next += 1;
                } else if let Some((sequence, at)) = came.pop_front() {
                    let said = arrival(&mut arrivals, sequence).unwrap();
                    prop_assert!(said.abs_diff(at) * 32 <= now - at, "{} {} {}", said, at, now);
                }
            }
            prop_assert!(arrivals.moments.len() <= MOMENTS_MAX);
            for (sequence, at) in came {
                let said = arrival(&mut arrivals, sequence).unwrap();
                prop_assert!(said.abs_diff(at) * 32 <= now - at, "{} {} {}", said, at, now);
            }
        }
    }
}
