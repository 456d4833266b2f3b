//! An exchange as it is declared: its kind, its flags and its arguments.

use leveret_codec::FieldTable;

use crate::arguments::argument;
use crate::exchange_error::ExchangeError;
use crate::kind::ExchangeKind;
use crate::matcher::Matcher;
use crate::recent_history;

/// An exchange as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Its name; `""` is the default exchange.
    pub name: String,
    /// Its type.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when the last binding with it as source goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// The arguments it was declared with.
    pub arguments: FieldTable,
    /// The exchange that takes what this one routes nowhere, by argument or policy.
    pub alternate: Option<String>,
}

/// The argument by which an exchange of any kind drops duplicates.
const DEDUPLICATING: &str = "x-dedup-window-ms";

impl Exchange {
    /// Whether the broker must see each message that comes by, for the exchange's kind or for its
    /// arguments.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.kind.is_stateful() || argument(&self.arguments, DEDUPLICATING).is_some()
    }

    /// Checks the arguments that decide how it matches. An exchange that fails should not be declared;
    /// one that is declared all the same matches as `direct` where `x-delayed-type` is at fault, and
    /// hashes the routing key where a hash argument is.
    ///
    /// # Errors
    /// The first argument at fault.
    pub fn check(&self) -> Result<(), ExchangeError> {
        (self.kind.row().check)(&self.arguments)
    }

    pub(crate) fn matcher(&self) -> Box<dyn Matcher> {
        (self.kind.row().matcher)(&self.arguments)
    }

    /// How many messages an `x-recent-history` exchange remembers.
    ///
    /// # Errors
    /// `x-recent-history-length` is no number above zero.
    pub fn history_length(&self) -> Result<usize, ExchangeError> {
        recent_history::length(&self.arguments)
    }
}
