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
mod list;
mod overview;
mod patience;
mod query;
mod queues;
mod route;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::listener::{self, Listener};
use crate::serve::Shared;
use desk::Desk;

/// Connections served at a time; more wait in the kernel.
const CONNECTIONS_MAX: usize = 256;

/// What all requests share.
pub(crate) struct Management {
    shared: Arc<Shared>,
    listeners: Vec<ListenerInfo>,
    desk: Desk,
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
        })
    }

    /// Accepts and serves for good. Dropping it ends what it serves.
    pub(crate) async fn accept(self: Arc<Self>, listener: Listener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let socket = listener.into_socket();
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match socket.accept().await {
                Ok((socket, remote)) => {
                    let management = Arc::clone(&self);
                    connections.spawn(async move {
                        connection::serve(management, socket, remote).await;
                        drop(place);
                    });
                }
                Err(error) if listener::is_of_one_peer(&error) => {
                    tracing::debug!(%error, "a connection was gone before it came");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept management connections; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

/// Pause after an error of accept that a retry at once would only repeat.
const PAUSE: Duration = Duration::from_millis(200);
