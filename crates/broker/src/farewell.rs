//! Consumers whose queue was deleted are told so once the deletion is durable: after a crash it might not have been.

use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;
use std::task::{Wake, Waker};

use leveret_message::Timestamp;
use leveret_queue::mailbox::Notice;
use leveret_queue::queue::answers::{Orphan, Orphans};
use leveret_store_api::CommitPoint;
use parking_lot::Mutex;

use crate::services::{Party, Services, Task};

/// How many consumers are told before others have their turn.
const TOLD_TOGETHER_MAX: usize = 1024;

/// Consumers that have not been told yet.
pub(crate) struct Farewell(Mutex<Peekable<Orphans>>);

impl fmt::Debug for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Farewell")
    }
}

impl Farewell {
    /// Tells those at the front; the rest has the pager go on.
    fn tell_some(self: &Arc<Self>, services: &Services) {
        let (told, more): (Vec<Orphan>, bool) = {
            let mut left = self.0.lock();
            let told = left.by_ref().take(TOLD_TOGETHER_MAX).collect();
            (told, left.peek().is_some())
        };
        for orphan in told {
            orphan
                .mailbox
                .notify(Notice::ConsumerCancelled(orphan.slot));
        }
        if more {
            services
                .pager
                .ask(Party::Task(Arc::<Farewell>::clone(self)));
        }
    }
}

impl Task for Farewell {
    fn go_on(self: Arc<Self>, services: &Services, _now: Timestamp) {
        self.tell_some(services);
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
        self.farewell.tell_some(&self.services);
    }
}

/// Tells consumers that their queue is gone, when `point` is durable.
pub(crate) fn tell_at(services: &Arc<Services>, orphans: Orphans, point: CommitPoint) {
    let mut orphans = orphans.peekable();
    if orphans.peek().is_none() {
        return;
    }
    let farewell = Arc::new(Farewell(Mutex::new(orphans)));
    let waker = Waker::from(Arc::new(FarewellWaker {
        services: Arc::clone(services),
        farewell: Arc::clone(&farewell),
    }));
    if !services.store.wake_at(point, &waker) {
        farewell.tell_some(services);
    }
}
