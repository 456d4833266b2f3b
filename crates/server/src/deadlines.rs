//! The one task that tells the broker the time when a deadline of a queue, or of anything else that is not a
//! connection's, has come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::alarm::Alarm;
use crate::serve::Shared;

/// Never ready. To be spawned: it relies on being polled with one waker only.
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    alarm: Alarm,
    registered: bool,
}

impl Deadlines {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            alarm: Alarm::default(),
            registered: false,
        }
    }
}

impl Future for Deadlines {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let Deadlines {
            shared,
            alarm,
            registered,
        } = &mut *self;
        if !std::mem::replace(registered, true) {
            shared.broker.set_timer_waker(task.waker().clone());
        }
        let now = shared.clock.now();
        if shared
            .broker
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now)
        {
            shared.broker.handle_timeout(now);
        }
        alarm.arm(shared.broker.poll_timeout(), now, task);
        Poll::Pending
    }
}
