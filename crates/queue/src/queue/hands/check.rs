//! See [`crate::check`].

use rustc_hash::FxHashMap;

use super::{HandNumber, Hands, address};
use crate::check::Faults;

impl Hands {
    /// `consumers`: how many have each.
    pub(crate) fn check(&self, consumers: &FxHashMap<HandNumber, u32>, faults: &mut Faults) {
        faults.same("hands", self.hands.len(), consumers.len());
        faults.same("hands by mailbox", self.by_mailbox.len(), self.hands.len());
        faults.holds("hands are empty between verbs", self.open.is_empty());
        for (mailbox, number) in &self.by_mailbox {
            let hand = self.hands.get(number.0 as usize);
            let known = hand.map(|hand| (address(&hand.mailbox), hand.consumers));
            let consumers = consumers.get(number).copied().unwrap_or(0);
            faults.same("whose hand it is", known, Some((*mailbox, consumers)));
        }
    }
}
