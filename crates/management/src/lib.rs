//! The management HTTP API: what there is, as RabbitMQ's management plugin shows it, what may be done to it, and what
//! only Leveret has; and the page that shows it.
//!
//! Answers are built on tokio's threads for blocking work, one piece at a time, so that no connection of the data path
//! waits for one. The broker is seen through [`view`] alone; sockets are the server's, which hands in streams.
//!
//! ```text
//!   stream ──> http/connection ──> door (who is it) ──> routes ──> resources/… ──> desk (one at a time) ──> answer
//! ```

#![forbid(unsafe_code)]

mod api;
mod door;
mod http;
mod metrics;
mod page;
mod resources;
mod routes;
pub mod view;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};

use api::Api;
pub use api::Listening;
pub use http::guests::Guest;
use http::guests::Guests;
use routes::Routes;
use view::View;

/// The API, for all of its connections.
pub struct Management {
    api: Arc<Api>,
    guests: Arc<Guests>,
    /// Made for the first connection: while nobody asks they cost no memory.
    routes: OnceLock<Routes>,
    /// Who asks for metrics where nobody logs in.
    scrapers: Arc<Guests>,
    metrics: OnceLock<Routes>,
}

impl Management {
    /// `listeners` are all listeners of the process.
    #[must_use]
    pub fn new(view: View, listeners: Vec<Listening>) -> Self {
        Self {
            api: Api::new(view, listeners),
            routes: OnceLock::new(),
            guests: Arc::default(),
            scrapers: Arc::default(),
            metrics: OnceLock::new(),
        }
    }

    /// Lets a connection in, for which a silent one may have to go; None if all are being answered.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Guest> {
        self.guests.enter(address)
    }

    /// Serves one connection until it is closed, or until the guest has to go.
    pub async fn serve<S>(&self, stream: S, remote: SocketAddr, guest: Guest)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let routes = self.routes.get_or_init(|| Routes::new(&self.api));
        http::connection::serve(&self.api, routes, stream, remote, guest).await;
    }

    /// As [`Management::enter`], where there are metrics for anybody.
    #[must_use]
    pub fn enter_for_metrics(&self, address: IpAddr) -> Option<Guest> {
        self.scrapers.enter(address)
    }

    /// As [`Management::serve`], where there are metrics for anybody, and nothing else.
    pub async fn serve_metrics<S>(&self, stream: S, remote: SocketAddr, guest: Guest)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let routes = self.metrics.get_or_init(|| Routes::of_metrics(&self.api));
        http::connection::serve(&self.api, routes, stream, remote, guest).await;
    }
}
