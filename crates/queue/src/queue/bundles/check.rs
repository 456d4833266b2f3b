//! See [`crate::check`].

use rustc_hash::FxHashMap;

use super::{BundleNumber, Bundles, address};
use crate::check::Faults;

impl Bundles {
    /// `consumers`: how many have each.
    pub(crate) fn check(&self, consumers: &FxHashMap<BundleNumber, u32>, faults: &mut Faults) {
        faults.same("bundles", self.bundles.len(), consumers.len());
        faults.same(
            "bundles by mailbox",
            self.by_mailbox.len(),
            self.bundles.len(),
        );
        faults.holds("bundles are empty between verbs", self.open.is_empty());
        for (mailbox, number) in &self.by_mailbox {
            let bundle = self.bundles.get(number.0 as usize);
            let known = bundle.map(|bundle| (address(&bundle.mailbox), bundle.consumers));
            let consumers = consumers.get(number).copied().unwrap_or(0);
            faults.same("whose bundle it is", known, Some((*mailbox, consumers)));
        }
    }
}
