//! Messages that are in their queue and must not be seen yet: they are on their way to the store with
//! something larger, a transaction mostly.
//!
//! What is hidden is in memory always and keeps its place. Until it shows, nothing takes it out: no
//! delivery, no limit, no expiry, no purge. So nothing about it can be staged before it is staged itself.

use leveret_store_api::broken::without;
use std::collections::VecDeque;
use std::ops::RangeInclusive;

use leveret_store_api::Sequence;

/// Names what one caller has hidden in however many queues, until it is staged and shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HiddenTicket(pub u64);

/// How much is hidden.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct HiddenCounts {
    pub(crate) messages: u64,
    pub(crate) body_bytes: u64,
}

impl HiddenCounts {
    pub(crate) fn add(&mut self, other: HiddenCounts) {
        self.messages += other.messages;
        self.body_bytes += other.body_bytes;
    }

    /// Takes off a part of it.
    pub(crate) fn subtract(&mut self, part: HiddenCounts) {
        self.messages = without(self.messages, part.messages, "hidden");
        self.body_bytes = without(self.body_bytes, part.body_bytes, "hidden bytes");
    }

    /// Takes off what may be more.
    pub(crate) fn subtract_up_to(&mut self, other: HiddenCounts) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.body_bytes = self.body_bytes.saturating_sub(other.body_bytes);
    }
}

#[derive(Clone, Copy, Debug)]
struct Run {
    ticket: HiddenTicket,
    first: u64,
    last: u64,
    body_bytes: u64,
    staged: bool,
    /// The times to live of what is before this sequence have begun.
    begun: u64,
}

impl Run {
    fn counts(&self) -> HiddenCounts {
        HiddenCounts {
            messages: self.last - self.first + 1,
            body_bytes: self.body_bytes,
        }
    }
}

/// The hidden messages of one priority level, in runs of sequences.
#[derive(Debug, Default)]
pub(crate) struct Hidden(VecDeque<Run>);

impl Hidden {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hides a message, the latest of its level.
    pub(crate) fn hide(&mut self, ticket: HiddenTicket, sequence: u64, body_bytes: u64) {
        match self.0.back_mut() {
            Some(run) if run.ticket == ticket && run.last + 1 == sequence => {
                run.last = sequence;
                run.body_bytes += body_bytes;
            }
            _ => self.0.push_back(Run {
                ticket,
                first: sequence,
                last: sequence,
                body_bytes,
                staged: false,
                begun: sequence,
            }),
        }
    }

    /// Tells which of what was hidden under `ticket` is next to have its time to live begin, at most `most` messages;
    /// answers how many.
    pub(crate) fn begin(
        &mut self,
        ticket: HiddenTicket,
        most: u64,
        mut begins: impl FnMut(RangeInclusive<u64>),
    ) -> u64 {
        let mut left = most;
        for run in self.0.iter_mut().filter(|run| run.ticket == ticket) {
            let count = left.min(run.last + 1 - run.begun);
            if count > 0 {
                begins(run.begun..=run.begun + count - 1);
                run.begun += count;
                left -= count;
            }
        }
        most - left
    }

    /// What was hidden under `ticket` is staged.
    pub(crate) fn staged(&mut self, ticket: HiddenTicket) {
        for run in self.0.iter_mut().filter(|run| run.ticket == ticket) {
            run.staged = true;
        }
    }

    /// The first sequence that is not staged yet.
    pub(crate) fn first_unstaged(&self) -> Option<u64> {
        let unstaged = self.0.iter().filter(|run| !run.staged);
        unstaged.map(|run| run.first).min()
    }

    /// Shows what was hidden under `ticket`; answers how much it was.
    pub(crate) fn show(&mut self, ticket: HiddenTicket) -> HiddenCounts {
        let mut shown = HiddenCounts::default();
        self.0.retain(|run| {
            if run.ticket != ticket {
                return true;
            }
            debug_assert!(run.staged, "nothing shows that is not staged");
            shown.add(run.counts());
            false
        });
        shown
    }

    /// How much is hidden.
    #[cfg(debug_assertions)]
    pub(crate) fn counted(&self) -> HiddenCounts {
        let mut counted = HiddenCounts::default();
        for run in &self.0 {
            counted.add(run.counts());
        }
        counted
    }

    /// Whether a message must not be seen yet.
    pub(crate) fn contains(&self, sequence: Sequence) -> bool {
        self.0
            .iter()
            .any(|run| (run.first..=run.last).contains(&sequence.0))
    }
}
