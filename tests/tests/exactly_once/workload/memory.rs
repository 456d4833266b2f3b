//! What clients know beyond the death of the broker, and beyond their own connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::resender::FORMS;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    read_to: AtomicU64,
    resenders: [Mutex<Keys>; FORMS.len()],
}

impl Memory {
    /// The furthest place that was read in the stream.
    pub(super) fn read_to(&self) -> u64 {
        self.read_to.load(Ordering::Relaxed)
    }

    pub(super) fn set_read(&self, offset: u64) {
        self.read_to.fetch_max(offset, Ordering::Relaxed);
    }

    /// What the client of this form has sent.
    pub(super) fn keys(&self, form: usize) -> MutexGuard<'_, Keys> {
        let keys = &self.resenders[form];
        keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys, from 1 on.
#[derive(Debug, Default)]
pub(super) struct Keys {
    latest: u64,
    unanswered: VecDeque<u64>,
}

impl Keys {
    /// A new one, of which nobody has said anything yet.
    pub(super) fn next(&mut self) -> u64 {
        self.latest += 1;
        self.unanswered.push_back(self.latest);
        self.latest
    }

    /// The one after the next, which is not used up by it.
    pub(super) fn after_next(&self) -> u64 {
        self.latest + 2
    }

    /// Confirmed or committed.
    pub(super) fn answered(&mut self, key: u64) {
        self.unanswered.retain(|one| *one != key);
    }

    /// The last so many of those that were answered before any that were not, then all that were not.
    pub(super) fn to_be_sent_again(&self, answered: u64) -> Vec<u64> {
        let first = self.unanswered.front().copied().unwrap_or(self.latest + 1);
        let before = first.saturating_sub(answered).max(1)..first;
        before.chain(self.unanswered.iter().copied()).collect()
    }

    /// One of the latest, to be sent once more.
    pub(super) fn recent(&self, back: u64) -> Option<u64> {
        self.latest.checked_sub(back).filter(|key| *key > 0)
    }
}
