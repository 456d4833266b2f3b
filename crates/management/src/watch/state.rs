//! How a queue is: one word, decided here for the page, the API and whoever else asks.
//!
//! A state that asks for attention begins when what it says has held for its time, and ends when that has not held for
//! as long, so that none comes and goes with each look.

use std::collections::VecDeque;

use crate::view::Timestamp;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Nobody takes what comes in, for so long.
const NO_CONSUMERS_AFTER: u64 = MINUTE;
/// More comes in than goes out, for so long.
const GROWING_AFTER: u64 = 2 * MINUTE;
/// Growth is over this time.
const GROWTH_OVER: u64 = 5 * MINUTE;
/// Two marks of growth are as far apart.
const MARK_EVERY: u64 = 30 * SECOND;
/// A growing queue holds more than goes out in this time …
const BACKLOG_SECONDS: f64 = 60.0;
/// … and ends to be one below this.
const BACKLOG_SECONDS_END: f64 = 30.0;
/// Nothing is acknowledged, for at least so long …
const STUCK_AFTER: u64 = MINUTE;
/// … and for so many times what 99 of 100 messages take.
const STUCK_TIMES: u64 = 10;
/// Rates are averages whose weight falls to 1/e in 5 s, so that a rate says how long ago the last message was: after
/// 10 minutes of nothing a rate of 1/s has become 1/s × e^-120.
const NOTHING_FOR_10_MIN: f64 = 1e-52;
/// The same of a minute, and more of what was fast.
const NOTHING_FOR_1_MIN: f64 = 1e-6;

/// The states, worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum State {
    NoConsumers,
    Growing,
    Stuck,
    DeadLetters,
    Draining,
    Steady,
    Idle,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::NoConsumers,
        Self::Growing,
        Self::Stuck,
        Self::DeadLetters,
        Self::Draining,
        Self::Steady,
        Self::Idle,
    ];

    /// As the API says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoConsumers => "no_consumers",
            Self::Growing => "growing",
            Self::Stuck => "stuck",
            Self::DeadLetters => "dead_letters",
            Self::Draining => "draining",
            Self::Steady => "steady",
            Self::Idle => "idle",
        }
    }

    /// Whether somebody should look.
    pub(crate) fn needs_attention(self) -> bool {
        self <= Self::DeadLetters
    }
}

/// What is looked at in a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    pub(crate) ready: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) consumers: u32,
    /// Each second.
    pub(crate) published: f64,
    pub(crate) arrival: f64,
    pub(crate) service: f64,
    pub(crate) delivered: f64,
    /// So far.
    pub(crate) acknowledged_total: u64,
    pub(crate) delivered_total: u64,
    /// Of the time from delivery to acknowledgement.
    pub(crate) ack_p99_ms: u64,
    /// Dead letters are kept in it, for somebody to look at.
    pub(crate) is_grave: bool,
    /// One came within the hour.
    pub(crate) has_dead_letters: bool,
    /// A stream keeps what was read.
    pub(crate) is_stream: bool,
}

/// Since when something holds.
#[derive(Clone, Copy, Debug, Default)]
struct Timer {
    held_since: Option<Timestamp>,
    over_since: Option<Timestamp>,
    is_on: bool,
}

impl Timer {
    /// `ends`: not only does it not hold, it is well below.
    fn step(&mut self, now: Timestamp, after: u64, holds: bool, ends: bool) -> Option<Timestamp> {
        if holds {
            let since = *self.held_since.get_or_insert(now);
            self.over_since = None;
            self.is_on |= now - since >= after;
        } else if !self.is_on {
            self.held_since = None;
        } else if ends {
            let over = *self.over_since.get_or_insert(now);
            if now - over >= after {
                *self = Self::default();
            }
        } else {
            self.over_since = None;
        }
        self.held_since.filter(|_| self.is_on)
    }

    fn is_at_rest(&self) -> bool {
        self.held_since.is_none()
    }
}

/// What has to be known of a queue from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Record {
    no_consumers: Timer,
    growing: Timer,
    stuck: Timer,
    /// Messages that were ready, the oldest mark first.
    marks: VecDeque<(Timestamp, u64)>,
    acknowledged: u64,
}

impl Record {
    /// Whether nothing has to be known any more.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.no_consumers.is_at_rest() && self.growing.is_at_rest() && self.stuck.is_at_rest()
    }

    /// Its state and since when, where that is known.
    pub(crate) fn state(&mut self, look: &Look, now: Timestamp) -> (State, Option<Timestamp>) {
        if look.is_stream {
            return (plain(look), None);
        }
        let no_consumers = self.look_for_consumers(look, now);
        let growing = self.look_for_growth(look, now);
        let stuck = self.look_for_acknowledgements(look, now);
        if no_consumers.is_some() {
            return (State::NoConsumers, no_consumers);
        }
        if growing.is_some() {
            return (State::Growing, growing);
        }
        if stuck.is_some() {
            return (State::Stuck, stuck);
        }
        if look.has_dead_letters && look.ready > 0 {
            return (State::DeadLetters, None);
        }
        (plain(look), None)
    }

    fn look_for_consumers(&mut self, look: &Look, now: Timestamp) -> Option<Timestamp> {
        let holds = look.consumers == 0
            && !look.is_grave
            && look.ready > 0
            && look.published > NOTHING_FOR_10_MIN;
        // Where nobody looked for a while the rates tell that nothing has gone out for a minute.
        let was_served = look.delivered_total > 0 && look.delivered < NOTHING_FOR_1_MIN;
        if holds && was_served && self.no_consumers.is_at_rest() {
            self.no_consumers.held_since =
                Some(Timestamp(now.0.saturating_sub(NO_CONSUMERS_AFTER)));
        }
        let ends = look.consumers > 0 || look.ready == 0;
        self.no_consumers.step(now, NO_CONSUMERS_AFTER, holds, ends)
    }

    fn look_for_growth(&mut self, look: &Look, now: Timestamp) -> Option<Timestamp> {
        let ready = look.ready as f64;
        let is_backlog = look.consumers > 0 && ready > look.service * BACKLOG_SECONDS;
        let stays = is_backlog || !self.growing.is_at_rest();
        if !stays || look.ready == 0 {
            self.marks.clear();
        } else if self
            .marks
            .back()
            .is_none_or(|(at, _)| now - *at >= MARK_EVERY)
        {
            self.marks.push_back((now, look.ready));
        }
        // One mark that is older stays: what is compared with is as old as the time, or older.
        while self
            .marks
            .get(1)
            .is_some_and(|(at, _)| now - *at >= GROWTH_OVER)
        {
            self.marks.pop_front();
        }
        let before = self.marks.front().map_or(look.ready, |(_, ready)| *ready);
        let is_first = self.marks.len() == 1;
        let grew = look.ready > before || (is_first && look.arrival > look.service);
        let ends = !grew || ready < look.service * BACKLOG_SECONDS_END;
        self.growing
            .step(now, GROWING_AFTER, is_backlog && grew, ends)
    }

    fn look_for_acknowledgements(&mut self, look: &Look, now: Timestamp) -> Option<Timestamp> {
        let moved = look.acknowledged_total != self.acknowledged;
        self.acknowledged = look.acknowledged_total;
        let holds = look.unacknowledged > 0 && look.consumers > 0 && !moved;
        let after = STUCK_AFTER.max(look.ack_p99_ms.saturating_mul(STUCK_TIMES));
        self.stuck.step(now, after, holds, true)
    }
}

/// Of a queue that needs nobody.
fn plain(look: &Look) -> State {
    let is_silent = look.published <= NOTHING_FOR_10_MIN && look.delivered <= NOTHING_FOR_10_MIN;
    let falls = look.service - look.arrival;
    if is_silent && (look.ready == 0 || look.is_stream) {
        State::Idle
    } else if !look.is_stream && falls > 0.0 && look.ready as f64 > look.service.max(1.0) {
        State::Draining
    } else {
        State::Steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000_000;

    /// Looks each second from one second to another, and answers the last state.
    fn watch(record: &mut Record, from: u64, to: u64, look: impl Fn(u64) -> Look) -> State {
        let mut state = State::Steady;
        for second in from..=to {
            state = record
                .state(&look(second), Timestamp(START + second * SECOND))
                .0;
        }
        state
    }

    fn left(_: u64) -> Look {
        Look {
            ready: 10,
            published: 5.0,
            arrival: 5.0,
            ..Look::default()
        }
    }

    fn served(ready: u64, arrival: f64, service: f64) -> Look {
        Look {
            ready,
            consumers: 2,
            published: arrival,
            arrival,
            service,
            delivered: service,
            delivered_total: 1,
            ..Look::default()
        }
    }

    #[test]
    fn a_queue_without_consumers_is_told_after_a_minute() {
        let mut record = Record::default();
        assert_eq!(watch(&mut record, 0, 59, left), State::Steady);
        assert_eq!(watch(&mut record, 60, 60, left), State::NoConsumers);
        let (_, since) = record.state(&left(0), Timestamp(START + 61 * SECOND));
        assert_eq!(since, Some(Timestamp(START)));
        // A consumer ends it when it stays as long.
        let back = |_| served(10, 5.0, 5.0);
        assert_eq!(watch(&mut record, 62, 121, back), State::NoConsumers);
        assert_eq!(watch(&mut record, 122, 122, back), State::Steady);
        assert!(record.no_consumers.is_at_rest());
    }

    #[test]
    fn what_nobody_watched_is_told_at_once_where_it_is_certain() {
        let look = |delivered, delivered_total| Look {
            delivered,
            delivered_total,
            ..left(0)
        };
        let state = |look| Record::default().state(&look, Timestamp(START)).0;
        assert_eq!(state(look(1e-9, 100)), State::NoConsumers);
        assert_eq!(state(look(0.1, 100)), State::Steady);
        assert_eq!(state(look(0.0, 0)), State::Steady);
    }

    #[test]
    fn a_queue_grows_when_more_comes_than_goes_for_two_minutes() {
        let mut record = Record::default();
        let grows = |second| served(1000 + second * 50, 60.0, 10.0);
        assert_eq!(watch(&mut record, 0, 119, grows), State::Steady);
        assert_eq!(watch(&mut record, 120, 200, grows), State::Growing);
        let shrinks = |second| served(11_000 - (second - 200) * 20, 60.0, 80.0);
        // For five minutes there is still more than there was.
        assert_eq!(watch(&mut record, 201, 230, shrinks), State::Growing);
        let done = |_| served(0, 60.0, 60.0);
        assert_eq!(watch(&mut record, 231, 350, done), State::Growing);
        assert_eq!(watch(&mut record, 351, 351, done), State::Steady);
    }

    #[test]
    fn a_queue_that_is_busy_or_drains_does_not_grow() {
        let busy = |second| served(40 + second % 3, 1000.0, 1000.0);
        assert_eq!(watch(&mut Record::default(), 0, 400, busy), State::Steady);
        let drains = |second| served(90_000 - second * 20, 10.0, 30.0);
        assert_eq!(
            watch(&mut Record::default(), 0, 400, drains),
            State::Draining
        );
    }

    #[test]
    fn a_consumer_that_acknowledges_nothing_is_stuck() {
        let holds = |_| Look {
            unacknowledged: 50,
            ack_p99_ms: 9 * SECOND,
            ..served(0, 0.0, 0.0)
        };
        let mut record = Record::default();
        assert_eq!(watch(&mut record, 0, 89, holds), State::Idle);
        assert_eq!(watch(&mut record, 90, 90, holds), State::Stuck);
        let acks = |second| Look {
            acknowledged_total: second,
            ..holds(0)
        };
        assert_eq!(watch(&mut record, 91, 181, acks), State::Idle);
        assert!(record.is_at_rest() || record.stuck.over_since.is_none());
    }

    #[test]
    fn nothing_for_ten_minutes_is_idle() {
        let decayed = |seconds: f64| Look {
            published: (-seconds / 5.0).exp(),
            consumers: 1,
            ..Look::default()
        };
        assert_eq!(plain(&decayed(500.0)), State::Steady);
        assert_eq!(plain(&decayed(610.0)), State::Idle);
        let ready = Look {
            ready: 1,
            ..decayed(610.0)
        };
        assert_eq!(plain(&ready), State::Steady);
    }

    #[test]
    fn dead_letters_are_told_of_while_some_are_there() {
        let look = |ready| Look {
            is_grave: true,
            has_dead_letters: true,
            ready,
            ..Look::default()
        };
        let state = |ready| Record::default().state(&look(ready), Timestamp(START)).0;
        assert_eq!((state(1), state(0)), (State::DeadLetters, State::Idle));
    }
}
