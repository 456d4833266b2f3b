//! Consumers whose queue was deleted are told so once the deletion is durable: after a crash it might not have been.

use std::sync::Arc;
use std::task::{Wake, Waker};

use leveret_store::CommitPoint;
use parking_lot::Mutex;

use crate::mailbox::Notice;
use crate::queue::handle::Orphan;
use crate::services::Services;

/// How many consumers are told before others have their turn.
const TOLD_TOGETHER_MAX: usize = 1024;

/// Consumers that have not been told yet.
#[derive(Debug)]
pub(crate) struct Farewell(Mutex<Vec<Orphan>>);

impl Farewell {
    /// Tells those at the front; the rest has the pager go on.
    pub(crate) fn go_on(self: &Arc<Self>, services: &Services) {
        let told: Vec<Orphan> = {
            let mut left = self.0.lock();
            let count = left.len().min(TOLD_TOGETHER_MAX);
            left.drain(..count).collect()
        };
        for orphan in told {
            orphan
                .mailbox
                .notify(Notice::ConsumerCancelled(orphan.slot));
        }
        if !self.0.lock().is_empty() {
            services.pager.ask(Arc::clone(self));
        }
    }
}

struct FarewellWaker {
    services: Arc<Services>,
    farewell: Arc<Farewell>,
}

impl Wake for FarewellWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.farewell.go_on(&self.services);
    }
}

/// Tells consumers that their queue is gone, when `point` is durable.
pub(crate) fn tell_at(services: &Arc<Services>, orphans: Vec<Orphan>, point: CommitPoint) {
    if orphans.is_empty() {
        return;
    }
    let farewell = Arc::new(Farewell(Mutex::new(orphans)));
    let waker = Waker::from(Arc::new(FarewellWaker {
        services: Arc::clone(services),
        farewell: Arc::clone(&farewell),
    }));
    if !services.store.wake_at(point, &waker) {
        farewell.go_on(services);
    }
}
