//! Opens the store the configuration asks for, watches its status, and closes it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use leveret_management::view::{Disk, Io, IoOperations};
use leveret_message::{Message, Store};
use leveret_store::{IoCounts, Journal, JournalOptions};
use leveret_store_api::{MemoryStore, StoreStatus};

use crate::config::Storage;
use crate::config::values::DiskShare;
use crate::error::StartError;
use crate::shared::Shared;

/// The open store, shared with the broker.
pub(crate) enum OpenStore {
    /// Keeps nothing.
    Memory(Arc<MemoryStore<Message>>),
    /// Keeps everything durable in a directory.
    Journal(Arc<Journal<Message>>),
}

impl OpenStore {
    /// Opens it; may take as long as a recovery takes.
    pub(crate) fn open(storage: &Storage) -> Result<Self, StartError> {
        match storage {
            Storage::InMemory => Ok(Self::Memory(Arc::new(MemoryStore::new()))),
            Storage::Directory {
                path,
                recover,
                reserve,
            } => {
                let options = options(path, *recover, *reserve)?;
                let journal = Journal::open(path, options)
                    .map_err(|error| StartError::Store(error.to_string()))?;
                if !journal.opened_clean() {
                    tracing::info!(directory = %path.display(), "recovered after a stop that was not a clean one");
                }
                Ok(Self::Journal(Arc::new(journal)))
            }
        }
    }

    /// What it has done with its files; None: it has none.
    pub(crate) fn io(&self) -> Option<Arc<IoCounts>> {
        match self {
            Self::Memory(_) => None,
            Self::Journal(journal) => Some(journal.io()),
        }
    }

    /// The handle for the broker.
    pub(crate) fn handle(&self) -> Store {
        match self {
            Self::Memory(store) => Arc::clone(store) as Store,
            Self::Journal(journal) => Arc::clone(journal) as Store,
        }
    }

    /// Commits what is staged and closes the files. To be called when nothing else uses the store any more.
    pub(crate) fn close(self) {
        if let Self::Journal(journal) = self {
            match Arc::into_inner(journal) {
                Some(journal) => journal.close(),
                None => tracing::error!("the store is still in use; it is left as after a crash"),
            }
        }
    }
}

/// The disk that durable things are on, to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct DiskWatch {
    path: PathBuf,
    /// What is to stay free.
    reserve: u64,
    /// What the store does there.
    io: Arc<IoCounts>,
}

impl DiskWatch {
    /// None where no disk is used.
    pub(crate) fn new(storage: &Storage, store: &OpenStore) -> Result<Option<Self>, StartError> {
        let Storage::Directory {
            path,
            recover,
            reserve,
        } = storage
        else {
            return Ok(None);
        };
        let Some(io) = store.io() else {
            return Ok(None);
        };
        let options = options(path, *recover, *reserve)?;
        Ok(Some(Self {
            path: path.clone(),
            reserve: options.disk_free_bytes_min,
            io,
        }))
    }

    /// None if the system does not tell.
    pub(crate) fn look(&self) -> Option<Disk> {
        let found = rustix::fs::statvfs(&self.path).ok()?;
        Some(Disk {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            reserve: self.reserve,
        })
    }

    /// What was done with files there.
    pub(crate) fn io(&self) -> Io {
        let figures = self.io.figures();
        let operations = |it: leveret_store::IoOperations| IoOperations {
            count: it.count,
            bytes: it.bytes,
            seconds: it.microseconds as f64 / 1e6,
        };
        Io {
            reads: operations(figures.reads),
            writes: operations(figures.writes),
            syncs: operations(figures.syncs),
            syncs_below: figures.syncs_below,
        }
    }
}

/// How the journal is kept on the disk that it is on.
fn options(
    path: &Path,
    recover: bool,
    reserve: Option<DiskShare>,
) -> Result<JournalOptions, StartError> {
    let disk_bytes = leveret_store::files::disk_bytes(path).map_err(|error| {
        let path = path.display();
        StartError::Store(format!("cannot look at the disk of {path}: {error}"))
    })?;
    let reserve = reserve.map(|reserve| reserve.of(disk_bytes));
    Ok(JournalOptions {
        recover,
        ..JournalOptions::for_disk(disk_bytes, reserve)
    })
}

/// Hands changes of the store's status to the broker. Ready, with the reason, when the store has failed.
/// To be spawned: it relies on being polled with one waker only.
pub(crate) struct StoreWatch {
    store: Store,
    shared: Arc<Shared>,
    last: Option<StoreStatus>,
}

impl StoreWatch {
    pub(crate) fn new(store: Store, shared: Arc<Shared>) -> Self {
        Self {
            store,
            shared,
            last: None,
        }
    }
}

impl Future for StoreWatch {
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<String> {
        if self.last.is_none() {
            self.store.on_status(task.waker().clone());
        }
        let status = self.store.status();
        if self.last.as_ref() == Some(&status) {
            return Poll::Pending;
        }
        match &status {
            StoreStatus::Failed(reason) => return Poll::Ready(reason.clone()),
            StoreStatus::Full {
                path,
                free_bytes,
                lacks,
            } => {
                tracing::error!(path = %path.display(), free_bytes, "{lacks}; publishers wait until then");
            }
            StoreStatus::Running if self.last.is_some() => {
                tracing::info!("publishers may go on");
            }
            StoreStatus::Running => {}
        }
        self.shared.broker.handle_store_status();
        self.last = Some(status);
        Poll::Pending
    }
}
