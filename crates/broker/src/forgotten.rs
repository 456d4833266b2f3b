//! Routes that nobody needs any more are dropped in steps: with the last handles of deleted queues these are freed.

use std::sync::Arc;

use leveret_message::Timestamp;
use parking_lot::Mutex;

use crate::services::{Party, Services, Task};
use crate::vhost::{Targets, VirtualHost};

/// So many queues may be freed before others have their turn. A route is dropped as a whole.
const FREED_TOGETHER: usize = 256;

#[derive(Debug)]
struct Forgotten(Mutex<Vec<Targets>>);

impl VirtualHost {
    /// Has routes dropped.
    pub fn let_go(&self, routes: Vec<Targets>) {
        let forgotten = Arc::new(Forgotten(Mutex::new(routes)));
        self.services.pager.ask(Party::Task(forgotten));
    }
}

impl Task for Forgotten {
    fn go_on(self: Arc<Self>, services: &Services, _now: Timestamp) {
        let mut dropped = 0;
        while dropped < FREED_TOGETHER {
            let Some(route) = self.0.lock().pop() else {
                return;
            };
            dropped += route.len().max(1);
        }
        services.pager.ask(Party::Task(self));
    }
}
