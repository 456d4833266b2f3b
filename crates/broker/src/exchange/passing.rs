//! A message on its way from an exchange.

use leveret_routing::Exchange;

use crate::deduplication::Look;
use crate::message::Message;

/// A message on its way from an exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing<'a> {
    /// Where it starts.
    pub(crate) exchange: &'a str,
    /// That exchange has had its say already: the message was held back there.
    pub(crate) attended_to: bool,
    /// It goes back to its publisher, for want of a queue: exchanges remember it, and that is all.
    pub(crate) returned: bool,
    /// Whether it is new, and what its producer says.
    pub(crate) look: Look,
    /// The message, with its BCC header.
    pub(crate) message: &'a Message,
    /// See [`RouteInput::random`].
    pub(crate) random: u64,
}

impl Passing<'_> {
    /// Whether `exchange` has had its say already.
    pub(crate) fn is_past(&self, exchange: &Exchange) -> bool {
        self.attended_to && exchange.name == self.exchange
    }
}
