//! What all requests share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;

use crate::http::desk::Desk;
use crate::page::logins::Logins;
use crate::page::streams::Streams;
use crate::view::View;
use crate::watch::Watch;

/// A part of the table of resources.
pub(crate) type Table = Router<Arc<Api>>;

/// Logins over AMQP and over HTTP: how many succeeded, and how many failed.
pub(crate) type LoginCounts = [(u64, u64); 2];

/// A listening socket, as the overview shows it.
#[derive(Clone, Debug)]
pub struct Listening {
    /// What is spoken there.
    pub protocol: &'static str,
    /// Where it is.
    pub address: SocketAddr,
}

/// What all requests share.
pub(crate) struct Api {
    pub(crate) view: View,
    pub(crate) listeners: Vec<Listening>,
    pub(crate) desk: Desk,
    /// Who is logged in on the page.
    pub(crate) logins: Logins,
    /// What the open pages are told by.
    pub(crate) streams: Streams,
    pub(crate) watch: Watch,
    /// Logins that are not shown any more.
    forgotten_logins: Mutex<LoginCounts>,
}

impl Api {
    pub(crate) fn new(view: View, listeners: Vec<Listening>) -> Arc<Self> {
        Arc::new(Self {
            view,
            listeners,
            desk: Desk::default(),
            logins: Logins::default(),
            streams: Streams::default(),
            watch: Watch::default(),
            forgotten_logins: Mutex::default(),
        })
    }

    /// Logins that are not shown any more.
    pub(crate) fn forgotten_logins(&self) -> MutexGuard<'_, LoginCounts> {
        let forgotten = self.forgotten_logins.lock();
        forgotten.unwrap_or_else(PoisonError::into_inner)
    }
}
