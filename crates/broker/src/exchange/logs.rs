//! The logs in which exchanges keep what they keep.

use leveret_deduplication::KeyLogs;
use leveret_message::Store;
use leveret_store_api::LogId;
use serde::{Deserialize, Serialize};

/// The logs in which a durable exchange keeps what it keeps, as its definition has them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ExchangeLogs {
    /// Messages that wait for their time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delayed: Option<u64>,
    /// The keys of what was published before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<KeyLogs>,
    /// The last messages that passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<u64>,
}

impl ExchangeLogs {
    /// With logs for keys, where it had none.
    #[must_use]
    pub(crate) fn with_keys(self, store: &Store) -> ExchangeLogs {
        let keys = self.keys.unwrap_or_else(|| KeyLogs::allocate(store));
        ExchangeLogs {
            keys: Some(keys),
            ..self
        }
    }

    /// Where the keys are.
    pub(crate) fn keys(&self) -> Option<KeyLogs> {
        self.keys
    }

    /// All of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = LogId> {
        let ExchangeLogs {
            delayed,
            keys,
            history,
        } = self;
        let keys = keys.into_iter().flat_map(KeyLogs::iter);
        let single = delayed.into_iter().chain(history);
        single.map(LogId).chain(keys)
    }
}
