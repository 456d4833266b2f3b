//! A timer that is set lazily: it touches the runtime's timer only when a deadline moves nearer or has passed.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use leveret_message::Timestamp;
use tokio::time::{Instant, Sleep};

/// Wakes one task at or before the deadline it was last given. A deadline that moves away (as a heartbeat's does with
/// every byte) costs nothing: the task is woken too early once and sets the alarm anew.
///
/// The task must poll it with the same waker each time, which a spawned task does.
#[derive(Default)]
pub(crate) struct Alarm {
    /// Made at the first deadline.
    sleep: Option<Pin<Box<Sleep>>>,
    /// When `sleep` fires; what has passed has fired.
    armed: Option<Timestamp>,
}

impl Alarm {
    /// Sees to it that the task is woken at `deadline`, at least a millisecond from `now` so that a deadline left in
    /// the past cannot make the task spin.
    pub(crate) fn arm(
        &mut self,
        deadline: Option<Timestamp>,
        now: Timestamp,
        task: &mut Context<'_>,
    ) {
        let Some(deadline) = deadline else { return };
        let deadline = deadline.max(Timestamp(now.0.saturating_add(1)));
        if self
            .armed
            .is_some_and(|armed| now < armed && armed <= deadline)
        {
            return;
        }
        self.armed = Some(deadline);
        let distance = Duration::from_millis(deadline.0.saturating_sub(now.0));
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                // A distance beyond what the runtime can count is as good as never.
                let fires = Instant::now()
                    .checked_add(distance)
                    .unwrap_or_else(far_future);
                sleep.as_mut().reset(fires);
                sleep
            }
            empty => empty.insert(Box::pin(tokio::time::sleep(distance))),
        };
        if sleep.as_mut().poll(task).is_ready() {
            task.waker().wake_by_ref();
        }
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(60 * 60 * 24 * 365)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One step: at `now` the deadline is `deadline`; expects the sleep to stand at `armed`.
    fn step(alarm: &mut Alarm, waker: &Waker, now: u64, deadline: Option<u64>, armed: Option<u64>) {
        alarm.arm(
            deadline.map(Timestamp),
            Timestamp(now),
            &mut Context::from_waker(waker),
        );
        assert_eq!(alarm.armed, armed.map(Timestamp));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_nearer_or_passed_deadline_sets_it() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut alarm = Alarm::default();
        step(&mut alarm, &waker, 0, None, None);
        step(&mut alarm, &waker, 0, Some(100), Some(100));
        step(&mut alarm, &waker, 10, Some(200), Some(100));
        step(&mut alarm, &waker, 20, Some(50), Some(50));
        step(&mut alarm, &waker, 30, None, Some(50));
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        step(&mut alarm, &waker, 60, Some(40), Some(61));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }
}
