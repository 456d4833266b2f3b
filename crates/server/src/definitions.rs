//! The definitions file: read before the first client comes, and again on every SIGHUP. What it may hold and what it
//! does is `leveret_broker::definitions_import`'s business.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use leveret_broker::Broker;
use leveret_broker::definitions_import::Plan;
use leveret_message::{Store, Timestamp};
use leveret_store_api::{CommitPoint, StoreStatus};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::DefinitionsError;
use crate::shared::Shared;

/// How often a store that is waited for is looked at, in case it has no room any more.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Reads the file and carries it out, whole or not at all; returns when that is durable.
pub(crate) fn import(
    path: &Path,
    broker: &Broker,
    store: &Store,
    now: Timestamp,
) -> Result<(), DefinitionsError> {
    let json = std::fs::read(path).map_err(|reason| DefinitionsError::Unreadable {
        path: path.to_owned(),
        reason,
    })?;
    let wrong = |error| DefinitionsError::Wrong {
        path: path.to_owned(),
        error,
    };
    let plan = Plan::parse(&json).map_err(wrong)?;
    let point = broker.import(&plan, now).map_err(wrong)?;
    wait_until_durable(store, point);
    tracing::info!(path = %path.display(), %plan, "definitions imported");
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until `point` is durable. A store without room is not waited for: it will say so itself.
pub(crate) fn wait_until_durable(store: &Store, point: CommitPoint) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    if !store.wake_at(point, &waker) {
        return;
    }
    while store.durable_point() < point && matches!(store.status(), StoreStatus::Running) {
        thread::park_timeout(STATUS_INTERVAL);
    }
}

/// Imports the file again on every SIGHUP; a bad one is logged and changes nothing. Must be called within the runtime.
pub(crate) fn on_hangup(
    path: Option<PathBuf>,
    shared: Arc<Shared>,
    store: Store,
) -> io::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            let Some(path) = path.clone() else {
                tracing::info!("SIGHUP: there is no definitions file to read");
                continue;
            };
            let (shared, store) = (Arc::clone(&shared), Arc::clone(&store));
            let imported = tokio::task::spawn_blocking(move || {
                import(&path, &shared.broker, &store, shared.clock.now())
            });
            match imported.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "definitions not imported; nothing was changed");
                }
                Err(panic) => tracing::error!(%panic, "definitions not imported"),
            }
        }
    })
}
