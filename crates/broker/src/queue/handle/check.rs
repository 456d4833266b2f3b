//! See [`crate::check`].

use super::QueueHandle;
use crate::check::{Faults, OfQueue};
use crate::queue::machine::Machine;
use crate::store::Store;

impl QueueHandle {
    /// `held`: what sessions have of its messages. With a `store` nobody is at work, and all is durable.
    pub(crate) fn check(&self, held: &OfQueue, store: Option<&Store>, faults: &mut Faults) {
        let store = store.filter(|_| self.0.outbox.is_idle());
        match &*self.0.machine.lock() {
            Machine::Queue(queue) => queue.check(held, store, faults),
            Machine::Stream(stream) => stream.check(held, store.is_some(), faults),
        }
    }
}
