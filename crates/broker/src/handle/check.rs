//! See [`crate::check`].

use leveret_message::Store;
use leveret_queue::check::{Faults, OfQueue};
use leveret_queue::queue::machine::Machine;

use super::QueueHandle;

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
