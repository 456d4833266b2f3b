//! The management HTTP API: what there is, as RabbitMQ's management plugin shows it, and delayed messages.
//!
//! Off unless an address is given. Answers are built from snapshots on tokio's threads for blocking work, one at a time,
//! so that no connection of the data path waits for one. Knows the broker's public verbs only.
//!
//! ```text
//!   connection ──> request ──> route ──> door (who is it, what may it see) ──> desk (one at a time) ──> answer
//! ```

mod answer;
mod body;
mod connection;
mod delayed;
mod desk;
mod door;
mod exchanges;
mod fields;
mod guests;
mod list;
mod overview;
mod patience;
mod query;
mod queues;
mod route;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::listener::Listener;
use crate::shared::Shared;
use desk::Desk;
use guests::Guests;

/// What all requests share.
pub(crate) struct Management {
    shared: Arc<Shared>,
    listeners: Vec<ListenerInfo>,
    desk: Desk,
    guests: Arc<Guests>,
}

/// A listening socket, as the overview shows it.
#[derive(Clone, Debug)]
struct ListenerInfo {
    protocol: &'static str,
    address: SocketAddr,
}

impl Management {
    /// `listeners` are all listeners of the process.
    pub(crate) fn new<'a>(
        shared: Arc<Shared>,
        listeners: impl Iterator<Item = &'a Listener>,
    ) -> Arc<Self> {
        let listeners = listeners.map(|listener| ListenerInfo {
            protocol: listener.protocol().name(),
            address: listener.address(),
        });
        Arc::new(Self {
            shared,
            listeners: listeners.collect(),
            desk: Desk::default(),
            guests: Arc::default(),
        })
    }

    /// Accepts and serves for good. Dropping it ends what it serves.
    pub(crate) async fn accept(self: Arc<Self>, listener: Listener) {
        let mut connections = JoinSet::new();
        loop {
            let (socket, remote, place) = listener.accepted(&self.shared).await;
            while connections.try_join_next().is_some() {}
            let Some(guest) = self.guests.enter(remote.ip()) else {
                tracing::warn!(peer = %remote, "too many management connections; a new one was closed");
                continue;
            };
            let management = Arc::clone(&self);
            connections.spawn(async move {
                connection::serve(management, socket, remote, guest).await;
                drop(place);
            });
        }
    }
}
