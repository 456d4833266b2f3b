//! What the types of exchanges that keep something of their messages have in common. Each has a file; `keepers` lists them.

use leveret_codec::RawTable;
use leveret_deduplication::CacheRules;
use leveret_message::{Message, Store, Timestamp};
use leveret_routing::{Exchange, ExchangeKind};
use leveret_store_api::Change;

use super::delayed::Delayed;
use super::delayed_messages::DelayedId;
use super::logs::ExchangeLogs;

/// A type of exchange that keeps something.
pub(super) struct KeeperType {
    pub(super) kind: ExchangeKind,
    /// Checks the arguments that decide what is kept; the error is in the words of the plugin. What routing looks at is
    /// checked there.
    pub(super) check: fn(&Exchange) -> Result<(), &'static str>,
    /// The logs that a new exchange needs for it.
    pub(super) logs: fn(&Exchange, &Store) -> ExchangeLogs,
    /// What an exchange keeps; nothing yet. None: its arguments ask for nothing that can be kept. `logs` are those that
    /// outlive the process.
    pub(super) keeper: fn(&Exchange, ExchangeLogs, &Store) -> Option<Box<dyn Keeper>>,
}

/// What is to become of a message as far as an exchange is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Opinion {
    /// It goes on.
    GoesOn,
    /// It goes on, and the exchange keeps it, too.
    IsKept,
    /// It goes on at this time, and the exchange keeps it until then.
    Waits(Timestamp),
}

/// What one exchange keeps. Its locks are leaves.
pub(super) trait Keeper: Send + Sync {
    /// Reads back what the store has kept; answers how many messages are damaged.
    fn recover(&self, _store: &Store, _exchange: &str) -> u64 {
        0
    }

    /// What is to become of a message with these headers.
    fn look(&self, _headers: Option<RawTable<'_>>, _now: Timestamp) -> Opinion {
        Opinion::GoesOn
    }

    /// Keeps a message that is taken, and adds to `changes` what is to be staged with it. The place is that of one that
    /// waits, which does so from when it is staged.
    fn keep(
        &self,
        _message: &Message,
        _opinion: Opinion,
        _changes: &mut Vec<Change<Message>>,
    ) -> Option<DelayedId> {
        None
    }

    /// Whether the exchange's gate is held from the look until the message is staged: whoever binds has it from the
    /// exchange, or is there when it comes by, never both.
    fn remembers(&self) -> bool {
        false
    }

    /// A part of what goes to whoever binds, oldest first: at most `most` messages behind the first `from`.
    fn remembered(&self, _from: usize, _most: usize) -> Vec<Message> {
        Vec::new()
    }

    /// The cache of keys that the exchange's gate is to have.
    fn cache(&self) -> Option<CacheRules> {
        None
    }

    /// Messages that wait, and can be listed and cancelled.
    fn delayed(&self) -> Option<&Delayed> {
        None
    }

    /// The exchange is gone. Its logs are removed.
    fn delete(&self) {}
}
