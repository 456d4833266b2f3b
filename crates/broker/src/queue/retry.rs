//! `x-retry-delays`: what a client puts back comes back after the next delay of the list.
//!
//! A message that waits stands in a heap by the time it is due, beside the ready ones; of its place in
//! the queue it keeps the sequence. In the store it stays where it is: the same sequence is written
//! again with the number of its retries as flags and the time it is due as time, which one commit
//! makes durable. Its time to live starts anew when it comes back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use leveret_store::{Change, Enqueue, Sequence};

use super::Queue;
use super::effects::{DeadLetterReason, Effects};
use super::ready::Entry;
use crate::mailbox::InFlight;
use crate::time::Timestamp;

/// A message that waits for its next delivery.
#[derive(Debug)]
struct Waiting {
    due: Timestamp,
    in_flight: InFlight,
}

impl Waiting {
    fn order(&self) -> (Timestamp, u8, Sequence) {
        (self.due, self.in_flight.level, self.in_flight.sequence)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// All messages of a queue that wait for their next delivery, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Retries(BinaryHeap<Reverse<Waiting>>);

impl Retries {
    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        self.0.peek().map(|Reverse(first)| first.due)
    }

    fn push(&mut self, due: Timestamp, in_flight: InFlight) {
        self.0.push(Reverse(Waiting { due, in_flight }));
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<Waiting> {
        if self.earliest()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(first)| first)
    }
}

impl Queue {
    /// Lets a message wait for its next delivery; one that has used up all delays goes to the dead
    /// letters.
    pub(crate) fn retry(&mut self, mut in_flight: InFlight, now: Timestamp, effects: &mut Effects) {
        let Some(due) = self.next_retry(&mut in_flight, now) else {
            self.dead_letter(in_flight, DeadLetterReason::DeliveryLimit, effects);
            return;
        };
        self.write_retry(&in_flight, due);
        self.retries.push(due, in_flight);
    }

    /// When the message comes back, with one more delay used up; None: there is none left.
    pub(crate) fn next_retry(&self, in_flight: &mut InFlight, now: Timestamp) -> Option<Timestamp> {
        let delays = &self.options.retry_delays_ms;
        let delay_ms = *delays.get(usize::from(in_flight.retries))?;
        in_flight.retries = in_flight.retries.saturating_add(1);
        Some(now + delay_ms)
    }

    /// Lets a message wait that is written down already.
    pub(crate) fn wait_until(&mut self, due: Timestamp, in_flight: InFlight) {
        self.retries.push(due, in_flight);
    }

    /// Writes down how often the message came back and when it is due, if it survives a restart.
    pub(crate) fn write_retry(&mut self, in_flight: &InFlight, due: Timestamp) {
        let level = self.levels.get(usize::from(in_flight.level));
        let survives = in_flight.stored && self.durable && in_flight.message.is_persistent();
        if let Some(log) = level.and_then(|level| level.log).filter(|_| survives) {
            self.changes.push(Change::Enqueue(Enqueue {
                log,
                sequence: in_flight.sequence,
                flags: in_flight.retries,
                time_ms: due.0,
                transient: false,
                payload: in_flight.message.clone(),
            }));
        }
    }

    /// Puts back what is due.
    pub(crate) fn return_due(&mut self, now: Timestamp) {
        while let Some(Waiting { due, mut in_flight }) = self.retries.pop_due(now) {
            in_flight.expires_at = in_flight
                .message
                .expires_at(due, self.options.message_ttl_ms)
                .unwrap_or(Timestamp::NEVER);
            self.expiring |= in_flight.expires_at != Timestamp::NEVER;
            self.put_back(in_flight);
        }
    }

    /// Messages read back whose time has not come. They counted as ready.
    pub(crate) fn wait_again(&mut self, level: u8, waiting: Vec<(Timestamp, Entry)>) {
        for (due, entry) in waiting {
            self.forget_ready(&entry);
            self.retries.push(due, entry.into_flight(level));
        }
    }

    /// Takes out everything that waits; what the store has of it is acknowledged.
    pub(crate) fn purge_retries(&mut self) -> (u64, VecDeque<InFlight>) {
        let waiting = std::mem::take(&mut self.retries.0);
        let waiting: VecDeque<InFlight> = waiting
            .into_iter()
            .map(|Reverse(it)| it.in_flight)
            .collect();
        for in_flight in waiting.iter().filter(|it| it.stored) {
            self.acknowledge_stored(in_flight.level, in_flight.sequence);
        }
        (waiting.len() as u64, waiting)
    }
}
