//! A thread that works whenever it is called, and at the times it asks for: what must not wait for the
//! connections' threads, nor they for it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::oneshot;

/// When a thread works again if nobody calls it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rest {
    /// Not before.
    UntilCalled,
    /// After this time.
    For(Duration),
}

/// The running thread.
pub(crate) struct Background {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

/// What the thread and its wakers share.
#[derive(Default)]
struct Work {
    called: AtomicBool,
    stop: AtomicBool,
}

struct Bell {
    work: Arc<Work>,
    thread: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.work.called.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Background {
    /// Starts a thread that takes a turn at once. The receiver fires if it panics.
    pub(crate) fn start(
        name: &str,
        turn: impl FnMut() -> Rest + Send + 'static,
    ) -> io::Result<(Background, oneshot::Receiver<()>)> {
        let work = Arc::new(Work::default());
        let (panicked, panic) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let work = Arc::clone(&work);
            move || match catch_unwind(AssertUnwindSafe(|| take_turns(&work, turn))) {
                Ok(()) => drop(panicked),
                Err(_) => drop(panicked.send(())),
            }
        })?;
        let bell = Arc::new(Bell {
            work,
            thread: thread.thread().clone(),
        });
        Ok((Background { bell, thread }, panic))
    }

    /// Calls the thread.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.bell))
    }

    /// Ends the thread after the turn it is at.
    pub(crate) fn stop(self) {
        self.bell.work.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A panic was reported through the receiver already.
        drop(self.thread.join());
    }
}

fn take_turns(work: &Work, mut turn: impl FnMut() -> Rest) {
    while !work.stop.load(Ordering::Acquire) {
        work.called.store(false, Ordering::Release);
        let rest = turn();
        // Called from here on, the thread is unparked before it parks, and goes on.
        if work.called.load(Ordering::Acquire) {
            continue;
        }
        match rest {
            Rest::UntilCalled => thread::park(),
            Rest::For(time) => thread::park_timeout(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn works_at_once_when_called_and_when_it_is_time() {
        let (turns, turned) = mpsc::channel();
        let mut rests = [
            Rest::UntilCalled,
            Rest::For(Duration::from_millis(1)),
            Rest::UntilCalled,
        ]
        .into_iter();
        let (background, _panic) = Background::start("test", move || {
            turns.send(()).unwrap();
            rests.next().unwrap_or(Rest::UntilCalled)
        })
        .unwrap();
        turned.recv_timeout(LONG).unwrap();
        background.waker().wake();
        turned.recv_timeout(LONG).unwrap();
        turned.recv_timeout(LONG).unwrap();
        background.stop();
    }

    #[test]
    fn a_panic_is_told() {
        let (background, panic) =
            Background::start("test", || std::panic::resume_unwind(Box::new("on purpose")))
                .unwrap();
        assert_eq!(panic.blocking_recv(), Ok(()));
        background.stop();
    }
}
