//! Whether the journal can take more, as its threads found it. Owns the status and who is woken when it changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use leveret_store_api::StoreStatus;
use parking_lot::Mutex;

/// The status and who wants to know it.
pub(crate) struct StatusCell {
    inner: Mutex<(StoreStatus, Option<Waker>)>,
    failed: AtomicBool,
}

impl StatusCell {
    pub(crate) fn new() -> Self {
        StatusCell {
            inner: Mutex::new((StoreStatus::Running, None)),
            failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self) -> StoreStatus {
        self.inner.lock().0.clone()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Changes the status, unless it is `Failed`: there is no way back from there.
    pub(crate) fn set(&self, status: StoreStatus) {
        let waker = {
            let mut inner = self.inner.lock();
            let both_full = matches!(
                (&inner.0, &status),
                (StoreStatus::Full { .. }, StoreStatus::Full { .. })
            );
            if self.has_failed() || inner.0 == status {
                return;
            }
            match &status {
                StoreStatus::Failed(reason) => {
                    self.failed.store(true, Ordering::Release);
                    tracing::error!("the store has failed: {reason}");
                }
                StoreStatus::Full { .. } if !both_full => tracing::warn!("{status}"),
                StoreStatus::Running => tracing::info!("the store goes on"),
                StoreStatus::Full { .. } => {}
            }
            inner.0 = status;
            if both_full { None } else { inner.1.clone() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes `waker` whenever the status changes.
    pub(crate) fn tell(&self, waker: Waker) {
        self.inner.lock().1 = Some(waker);
    }
}
