//! A transaction between being staged and being durable.
//!
//! Its messages are in their queues, hidden; its settlements have not happened yet as far as anybody can
//! see. [`PendingCommit::finish`] makes all of it visible. The session does so when it answers the
//! commit; if its connection ends before, the store's waker and the pager see to it.

use std::sync::Arc;
use std::task::{Wake, Waker};

use leveret_store::CommitPoint;
use leveret_store::failpoint::{self, Failpoint};
use parking_lot::Mutex;

use crate::exchange::RefusedLetters;
use crate::queue::handle::{Outcome, QueueHandle, QueueSettlement};
use crate::services::Services;
use crate::time::Timestamp;
use crate::vhost::VirtualHost;

/// So many deliveries are settled under one lock of their queue.
const SETTLED_TOGETHER_MAX: usize = 1024;

/// Settlements by queue.
pub(crate) type QueueSettlements = Vec<(QueueHandle, Vec<QueueSettlement>)>;

/// What shows once the transaction is durable.
pub(crate) struct PendingCommit {
    vhost: Arc<VirtualHost>,
    point: CommitPoint,
    staged_at: Timestamp,
    rest: Mutex<Rest>,
}

/// What is left to be done then.
#[derive(Default)]
pub(crate) struct Rest {
    /// Queues with messages that show.
    pub(crate) hidden_in: Vec<QueueHandle>,
    /// They stage nothing more.
    pub(crate) settlements: QueueSettlements,
    pub(crate) letters: RefusedLetters,
}

impl std::fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PendingCommit({:?})", self.point)
    }
}

impl PendingCommit {
    /// A transaction staged at `point`.
    pub(crate) fn new(
        vhost: &Arc<VirtualHost>,
        point: CommitPoint,
        staged_at: Timestamp,
        rest: Rest,
    ) -> Arc<PendingCommit> {
        Arc::new(PendingCommit {
            vhost: Arc::clone(vhost),
            point,
            staged_at,
            rest: Mutex::new(rest),
        })
    }

    /// Shows everything; called when it is durable. A second call does nothing.
    pub(crate) fn finish(&self, now: Timestamp) {
        let rest = std::mem::take(&mut *self.rest.lock());
        failpoint::reached(Failpoint::BeforeReveal);
        for (queue, mut settlements) in rest.settlements {
            // Delays begin now, as times to live do.
            for settlement in &mut settlements {
                if let Outcome::Waits(due) = &mut settlement.outcome {
                    *due = now + (*due - self.staged_at);
                }
            }
            let mut parts = settlements.chunks(SETTLED_TOGETHER_MAX).peekable();
            while let Some(part) = parts.next() {
                // What comes back goes out when all of it is back.
                let effects = match parts.peek() {
                    Some(_) => queue.settle_quietly(part, now),
                    None => queue.settle(part, now),
                };
                self.vhost.care(&queue, effects, now);
            }
        }
        for queue in rest.hidden_in {
            let effects = queue.reveal(self.point, now);
            self.vhost.care(&queue, effects, now);
            failpoint::reached(Failpoint::InReveal);
        }
        for (queue, letters) in rest.letters {
            let effects = queue.send(letters, now);
            self.vhost.care(&queue, effects, now);
        }
    }

    /// Has it finished when it is durable: the connection that would have is gone.
    pub(crate) fn finish_alone(self: &Arc<Self>, services: &Arc<Services>, now: Timestamp) {
        let waker = Waker::from(Arc::new(CommitWaker {
            services: Arc::clone(services),
            commit: Arc::clone(self),
        }));
        if !services.store.wake_at(self.point, &waker) {
            self.finish(now);
        }
    }
}

struct CommitWaker {
    services: Arc<Services>,
    commit: Arc<PendingCommit>,
}

impl Wake for CommitWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.services.pager.ask(Arc::clone(&self.commit));
    }
}
