//! How often queues were declared, made and deleted, and how often somebody logged in.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Churn {
    queues_declared: AtomicU64,
    queues_created: AtomicU64,
    queues_deleted: AtomicU64,
    amqp: Logins,
    http: Logins,
}

/// Of one protocol.
#[derive(Debug, Default)]
pub struct Logins {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ChurnFigures {
    /// Declarations of queues, those included that were there already.
    pub queues_declared: u64,
    /// Queues made.
    pub queues_created: u64,
    /// Queues deleted.
    pub queues_deleted: u64,
    /// Logins over AMQP that succeeded, and failed.
    pub amqp: (u64, u64),
    /// Those over HTTP.
    pub http: (u64, u64),
}

impl Logins {
    /// Somebody has logged in, or has tried.
    pub fn note(&self, succeeded: bool) {
        let count = match succeeded {
            true => &self.succeeded,
            false => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn figures(&self) -> (u64, u64) {
        (
            self.succeeded.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }
}

impl Churn {
    /// A queue was declared, and made by that if it is `new`.
    pub(crate) fn note_declared(&self, new: bool) {
        self.queues_declared.fetch_add(1, Ordering::Relaxed);
        self.queues_created
            .fetch_add(u64::from(new), Ordering::Relaxed);
    }

    /// A queue was deleted, whatever for.
    pub(crate) fn note_deleted(&self) {
        self.queues_deleted.fetch_add(1, Ordering::Relaxed);
    }

    /// Logins over AMQP.
    pub fn amqp(&self) -> &Logins {
        &self.amqp
    }

    /// Logins over HTTP.
    pub(crate) fn http(&self) -> &Logins {
        &self.http
    }

    /// What has happened so far.
    #[must_use]
    pub fn figures(&self) -> ChurnFigures {
        ChurnFigures {
            queues_declared: self.queues_declared.load(Ordering::Relaxed),
            queues_created: self.queues_created.load(Ordering::Relaxed),
            queues_deleted: self.queues_deleted.load(Ordering::Relaxed),
            amqp: self.amqp.figures(),
            http: self.http.figures(),
        }
    }
}
