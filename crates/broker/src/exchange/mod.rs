//! Exchanges that keep something of the messages that come by: delayed messages, a recent history,
//! the keys of what was published before.
//!
//! Routing asks at each of them ([`leveret_routing::Exchange::is_attended`]); all others are routed
//! by their names alone and never come here. What an exchange keeps lies in logs of the store that
//! its definition names, and becomes durable in the same commit as the message: [`pass`] puts such
//! a commit together. Lock order: gates of deduplication, in the order of their ids, then topology,
//! then a queue; the other locks here are leaves.

mod delay;
mod delayed;
mod fire;
mod held;
mod pass;
mod rewrite;

use std::sync::Arc;

use leveret_routing::{Exchange, ExchangeKind};
use leveret_store::{Change, LogId};
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::services::Services;
pub(crate) use delayed::Delayed;
pub use fire::{DelayedMessage, DelayedPlace};
pub(crate) use pass::{Passing, Plan};
pub(crate) use rewrite::without_blind_copies;

/// The logs in which a durable exchange keeps what it keeps, as its definition has them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ExchangeLogs {
    /// Messages that wait for their time.
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed: Option<u64>,
}

impl ExchangeLogs {
    /// The logs that `exchange` needs.
    pub(crate) fn allocate(exchange: &Exchange, services: &Services) -> ExchangeLogs {
        let allocate = |needed: bool| needed.then(|| services.store.allocate_log().0);
        ExchangeLogs {
            delayed: allocate(exchange.kind == ExchangeKind::DelayedMessage),
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = LogId> {
        [self.delayed].into_iter().flatten().map(LogId)
    }
}

/// An exchange that keeps something.
pub(crate) struct Attended {
    vhost: Arc<str>,
    name: String,
    logs: ExchangeLogs,
    delayed: Option<Delayed>,
}

impl std::fmt::Debug for Attended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attended({})", self.name)
    }
}

impl Attended {
    /// What `exchange`, which is new, has to keep; None for ordinary exchanges.
    pub(crate) fn new(
        vhost: &Arc<str>,
        exchange: &Exchange,
        logs: ExchangeLogs,
        services: &Services,
    ) -> Option<Arc<Attended>> {
        if !exchange.is_attended() {
            return None;
        }
        let volatile = services.store.is_volatile();
        Some(Arc::new(Attended {
            vhost: Arc::clone(vhost),
            name: exchange.name.clone(),
            logs,
            delayed: logs
                .delayed
                .map(|log| Delayed::new(LogId(log), exchange.durable, volatile)),
        }))
    }

    /// The virtual host it is in.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// The exchange's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn delayed(&self) -> Option<&Delayed> {
        self.delayed.as_ref()
    }

    /// Reads back what the store has kept of it.
    pub(crate) fn recover(&self, services: &Services) {
        if let Some(delayed) = &self.delayed {
            delayed.recover(&services.store, &self.name);
        }
    }

    /// The exchange is gone, and all it kept with it; adds the removal of its logs to `changes`.
    pub(crate) fn delete(&self, changes: &mut Vec<Change<Message>>) {
        if let Some(delayed) = &self.delayed {
            delayed.delete();
        }
        changes.extend(self.logs.iter().map(|log| Change::DeleteLog { log }));
    }
}
