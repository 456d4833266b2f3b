//! Deliveries of one verb on their way to the mailboxes of many consumers: each mailbox is locked once for all it gets,
//! not for each message.
//!
//! A bundle belongs to a mailbox, not to a consumer: what a connection gets from the queue stays in the queue's order
//! however many consumers it has. Bundles are empty whenever the queue is not locked.

#[cfg(debug_assertions)]
mod check;

use std::sync::Arc;

use leveret_store_api::broken::broken;
use rustc_hash::FxHashMap;
use slab::Slab;

use super::effects::Effects;
use crate::mailbox::{ConsumerSlot, Delivery, Mailbox};

/// So many deliveries have their place ready before the first.
const EXPECTED_MAX: usize = 256;

/// Which bundle a consumer's deliveries go through.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct BundleNumber(u32);

/// What is about to go to one mailbox.
#[derive(Debug)]
struct Bundle {
    mailbox: Arc<Mailbox>,
    /// Consumers that have this mailbox.
    consumers: u32,
    deliveries: Vec<Delivery>,
    /// Memory of these.
    bytes: usize,
    /// How much of it the mailbox has room for; 0 until it was looked at.
    room: usize,
}

/// One bundle for each mailbox that consumers of the queue have.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    bundles: Slab<Bundle>,
    /// By the addresses of their mailboxes.
    by_mailbox: FxHashMap<usize, BundleNumber>,
    /// Those whose mailboxes were looked at.
    open: Vec<BundleNumber>,
    /// How many deliveries each is about to get.
    expected: usize,
}

impl Bundles {
    /// The bundle of a new consumer.
    pub(crate) fn acquire(&mut self, mailbox: &Arc<Mailbox>) -> BundleNumber {
        let known = self.by_mailbox.entry(address(mailbox));
        let number = *known.or_insert_with(|| {
            let place = self.bundles.insert(Bundle::of(mailbox));
            BundleNumber(u32::try_from(place).unwrap_or(u32::MAX))
        });
        if let Some(bundle) = self.bundles.get_mut(number.0 as usize) {
            bundle.consumers += 1;
        }
        number
    }

    /// A consumer goes.
    pub(crate) fn release(&mut self, number: BundleNumber) {
        let Some(bundle) = self.bundles.get_mut(number.0 as usize) else {
            return;
        };
        bundle.consumers -= 1;
        if bundle.consumers == 0 {
            let bundle = self.bundles.remove(number.0 as usize);
            self.by_mailbox.remove(&address(&bundle.mailbox));
        }
    }

    /// About so many deliveries are to come for each.
    pub(crate) fn reserve(&mut self, each: usize) {
        self.expected = each.min(EXPECTED_MAX);
    }

    /// Whether the mailbox has room for another delivery; if not, it remembers who is to be resumed.
    #[inline]
    pub(crate) fn has_room(
        &mut self,
        number: BundleNumber,
        who: ConsumerSlot,
        effects: &mut Effects,
    ) -> bool {
        let Some(bundle) = self.bundles.get_mut(number.0 as usize) else {
            broken(&"a consumer has no bundle");
            return false;
        };
        if bundle.bytes < bundle.room {
            return true;
        }
        if bundle.room == 0 {
            self.open.push(number);
            bundle.deliveries.reserve(self.expected);
        }
        bundle.look(who, effects)
    }

    /// Adds a delivery to what its mailbox gets.
    #[inline]
    pub(crate) fn push(&mut self, number: BundleNumber, delivery: Delivery) {
        if let Some(bundle) = self.bundles.get_mut(number.0 as usize) {
            bundle.bytes += delivery.in_flight.message.memory_bytes();
            bundle.deliveries.push(delivery);
        } else {
            broken(&"a delivery is lost, for there is no bundle");
        }
    }

    /// Puts everything into the mailboxes.
    pub(crate) fn pass_on(&mut self, effects: &mut Effects) {
        for number in self.open.drain(..) {
            if let Some(bundle) = self.bundles.get_mut(number.0 as usize) {
                bundle.pass_on(effects);
            }
        }
    }
}

/// No two mailboxes have the same, as long as both are there.
fn address(mailbox: &Arc<Mailbox>) -> usize {
    Arc::as_ptr(mailbox).addr()
}

impl Bundle {
    fn of(mailbox: &Arc<Mailbox>) -> Bundle {
        Bundle {
            mailbox: Arc::clone(mailbox),
            consumers: 0,
            deliveries: Vec::new(),
            bytes: 0,
            room: 0,
        }
    }

    /// Looks how much room the mailbox has beyond what it is about to get.
    #[cold]
    fn look(&mut self, who: ConsumerSlot, effects: &mut Effects) -> bool {
        let mailbox = &self.mailbox;
        let mut mail = mailbox.lock();
        if mail.add_all(&mut self.deliveries, std::mem::take(&mut self.bytes)) && mail.needs_wake()
        {
            effects.wake(mailbox);
        }
        self.room = mail.room(mailbox.bytes_max());
        if self.room == 0 {
            mail.stalled.push(who);
        }
        self.room > 0
    }

    fn pass_on(&mut self, effects: &mut Effects) {
        let bytes = std::mem::take(&mut self.bytes);
        self.room = 0;
        if !self.deliveries.is_empty() {
            let mailbox = &self.mailbox;
            let mut mail = mailbox.lock();
            mail.add_all(&mut self.deliveries, bytes);
            if mail.needs_wake() {
                effects.wake(mailbox);
            }
        }
        self.deliveries = Vec::new();
    }
}
