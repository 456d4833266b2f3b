//! Who is here: open connections, their channels and consumers, as administrators see them.
//!
//! What counts is counted by the session it belongs to, once a batch, in [`Figure`]s that nobody else changes; it is read
//! when somebody asks. The locks here are leaves, taken when something is opened or closed and never for a message.

mod channel;
mod connection;
mod figure;

use std::sync::Arc;

use dashmap::DashMap;
use leveret_queue::queue::identity::SessionId;

pub use channel::{ChannelFacts, ChannelMode};
pub use connection::{ConnectionFacts, ConnectionIdentity, ConnectionState, ConsumerFacts};
pub use figure::Figure;

/// All connections that are open.
#[derive(Debug)]
pub struct Roll {
    connections: DashMap<u64, Arc<ConnectionFacts>>,
}

impl Default for Roll {
    fn default() -> Roll {
        Roll {
            connections: DashMap::with_shard_amount(16),
        }
    }
}

impl Roll {
    /// A connection is open.
    pub fn enter(&self, facts: &Arc<ConnectionFacts>) {
        let session = facts.identity.session;
        self.connections.insert(session.0, Arc::clone(facts));
    }

    /// It is not any more.
    pub fn leave(&self, session: SessionId) {
        self.connections.remove(&session.0);
    }

    /// Those that are open, in no order.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<ConnectionFacts>> {
        let all = self.connections.iter();
        all.map(|facts| Arc::clone(&facts)).collect()
    }

    /// One of them.
    #[must_use]
    pub fn connection(&self, session: SessionId) -> Option<Arc<ConnectionFacts>> {
        let found = self.connections.get(&session.0);
        found.map(|facts| Arc::clone(&facts))
    }
}
