//! What a queue answers.

use std::sync::Arc;

use leveret_message::Message;
use leveret_store_api::Change;

use super::consumers::ConsumerSpec;
use crate::mailbox::{ConsumerSlot, InFlight, Mailbox};

/// The answer to `basic.get`.
#[derive(Debug)]
pub enum GetResult {
    /// A message, and how many are ready behind it.
    Message(InFlight, u64),
    /// A message, and what is ready behind it must be read before it is known how much of it has expired: call
    /// `QueueHandle::page_in_now` and then `count_living`.
    BeforeUnread(InFlight),
    /// Nothing is ready.
    Empty,
    /// The next message must be read first: call `QueueHandle::page_in`, then try again.
    NotLoaded,
}

/// Why a consumer cannot be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsumeError {
    /// There is an exclusive consumer, or this one wants to be and is not alone.
    ExclusiveUse,
    /// The queue was deleted meanwhile.
    Deleted,
}

/// A consumer that lost its queue.
#[derive(Debug)]
pub struct Orphan {
    /// Whom to tell.
    pub mailbox: Arc<Mailbox>,
    /// Which of its consumers.
    pub slot: ConsumerSlot,
}

impl From<ConsumerSpec> for Orphan {
    fn from(spec: ConsumerSpec) -> Orphan {
        Orphan {
            mailbox: spec.mailbox,
            slot: spec.slot,
        }
    }
}

/// What deleting a queue left behind.
pub struct Deleted {
    /// How many messages were ready.
    pub messages: u64,
    /// Its consumers, to be told by `basic.cancel`.
    pub orphans: Orphans,
    /// The removal of its logs, to be staged with the removal of its definition.
    pub changes: Vec<Change<Message>>,
}

/// The consumers of a queue that was deleted, of which there may be very many.
pub type Orphans = Box<dyn Iterator<Item = Orphan> + Send>;

impl std::fmt::Debug for Deleted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deleted({} messages)", self.messages)
    }
}
