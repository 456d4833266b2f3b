//! A message on its way from an exchange.

use leveret_deduplication::Look;
use leveret_message::Message;
use leveret_routing::Exchange;

use crate::handle::QueueHandle;

/// A message on its way from an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Where it starts.
    pub exchange: &'a str,
    /// That exchange has had its say already: the message was held back there.
    pub resumes: bool,
    /// It goes back to its publisher, for want of a queue: exchanges remember it, and that is all.
    pub returned: bool,
    /// Whether it is new, and what its producer says.
    pub look: Look,
    /// The message, with its BCC header.
    pub message: &'a Message,
    /// See `RouteInput::random`.
    pub random: u64,
    /// The names of queues that do not get it.
    pub barred: &'a [String],
}

impl Incoming<'_> {
    /// Whether a queue may have it.
    pub(crate) fn admits(&self, queue: &QueueHandle) -> bool {
        !self.barred.iter().any(|name| name == queue.name())
    }

    /// Whether `exchange` has had its say already.
    pub(crate) fn is_past(&self, exchange: &Exchange) -> bool {
        self.resumes && exchange.name == self.exchange
    }
}
