//! The one thread on which the broker reads messages back from files, so that no connection waits for a disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use leveret_broker::Broker;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::memory;

/// The running thread.
pub(crate) struct Pager {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

/// What the thread and its wakers share.
#[derive(Default)]
struct Work {
    pending: AtomicBool,
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
        if !self.work.pending.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Pager {
    /// Starts the thread. The receiver fires if it panics.
    pub(crate) fn start(
        broker: &Arc<Broker>,
        clock: Clock,
    ) -> io::Result<(Pager, oneshot::Receiver<()>)> {
        let work = Arc::new(Work::default());
        let (panicked, panic) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("leveret-pager".to_owned())
            .spawn({
                let (work, broker) = (Arc::clone(&work), Arc::clone(broker));
                move || match catch_unwind(AssertUnwindSafe(|| page(&work, &broker, clock))) {
                    Ok(()) => drop(panicked),
                    Err(_) => drop(panicked.send(())),
                }
            })?;
        let bell = Arc::new(Bell {
            work,
            thread: thread.thread().clone(),
        });
        broker.set_pager_waker(Waker::from(Arc::clone(&bell)));
        Ok((Pager { bell, thread }, panic))
    }

    /// Ends the thread after what it is reading now.
    pub(crate) fn stop(self) {
        self.bell.work.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A panic was reported through the receiver already.
        drop(self.thread.join());
    }
}

fn page(work: &Work, broker: &Broker, clock: Clock) {
    while !work.stop.load(Ordering::Acquire) {
        if work.pending.swap(false, Ordering::AcqRel) {
            broker.run_pager(clock.now());
            // What was read has gone to other threads; what is left is not needed until the next time.
            memory::collect();
        } else {
            thread::park();
        }
    }
}
