//! Sees to it that somebody waits for the sockets while a worker is busy.
//!
//! The worker that goes to sleep first waits for all sockets. Woken for a single one, it runs that one's task, and until
//! its turn is over nobody waits for the others: the runtime sees nothing to do for the workers that sleep. Turns are
//! short, but a slow disk may be read in one, or a lock waited for. So a thread looks, some milliseconds after a turn that
//! may be long has begun, whether any worker has gone to sleep since; if none has and there is one that sleeps, it is woken,
//! and then it is the one who waits for the sockets.
//!
//! An idle broker has no need of it, and it does not run: a timer is set with the first turn, and again as long as workers
//! are awake.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::runtime::Handle;

/// For how long nobody may wait for the sockets.
const INTERVAL: Duration = Duration::from_millis(4);

/// What workers and the thread know of each other.
pub(crate) struct Lookout {
    workers: u64,
    /// How often workers have gone to sleep, and been woken.
    slept: AtomicU64,
    woken: AtomicU64,
    /// The timer is set, or the thread at work.
    on: AtomicBool,
    timer: OwnedFd,
}

/// How often workers had gone to sleep and been woken at some moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Look {
    slept: u64,
    woken: u64,
}

impl Look {
    /// How many workers slept.
    fn asleep(self) -> u64 {
        self.slept.saturating_sub(self.woken)
    }
}

impl Lookout {
    /// For a runtime of so many workers.
    pub(crate) fn new(workers: usize) -> io::Result<Arc<Self>> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self {
            workers: workers as u64,
            slept: AtomicU64::new(0),
            woken: AtomicU64::new(0),
            on: AtomicBool::new(false),
            timer,
        }))
    }

    /// Starts the thread. With one worker there is nobody to be woken.
    pub(crate) fn start(self: &Arc<Self>, runtime: Handle) -> io::Result<()> {
        if self.workers < 2 {
            self.on.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let lookout = Arc::clone(self);
        let thread = thread::Builder::new().name("leveret-lookout".to_owned());
        thread.spawn(move || {
            while let Ok(()) = lookout.wait() {
                lookout.look(&runtime);
            }
        })?;
        Ok(())
    }

    /// A worker goes to sleep.
    pub(crate) fn begin_sleep(&self) {
        self.slept.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker was woken.
    pub(crate) fn end_sleep(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }

    /// A turn begins that may be long. Costs one load while others are at work.
    #[inline]
    pub(crate) fn count_turn(&self) {
        if !self.on.load(Ordering::Relaxed) && !self.on.swap(true, Ordering::AcqRel) {
            self.set_timer();
        }
    }

    fn set_timer(&self) {
        let time = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: 0,
                tv_nsec: INTERVAL.subsec_nanos().into(),
            },
        };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time) {
            tracing::debug!(%error, "no timer for the lookout");
        }
    }

    /// Waits for the timer.
    fn wait(&self) -> Result<(), Errno> {
        let mut expirations = [0; 8];
        loop {
            match read(&self.timer, &mut expirations) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn now(&self) -> Look {
        Look {
            woken: self.woken.load(Ordering::Relaxed),
            slept: self.slept.load(Ordering::Relaxed),
        }
    }

    /// Looks until all workers sleep.
    fn look(&self, runtime: &Handle) {
        let mut before = self.now();
        // What it was when a worker was last woken, as far as that has changed nothing but this.
        let mut woken_at = None;
        while before.asleep() < self.workers {
            self.set_timer();
            if self.wait().is_err() {
                return;
            }
            let now = self.now();
            let is_quiet = now.slept == before.slept;
            if is_quiet && now.asleep() > 0 && woken_at != Some(now) {
                // It finds nothing to do, and waits for the sockets.
                runtime.spawn(async {});
                woken_at = Some(Look {
                    slept: now.slept + 1,
                    woken: now.woken + 1,
                });
            }
            before = now;
        }
        self.on.store(false, Ordering::Release);
        if self.now().asleep() < self.workers {
            self.count_turn();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// One task keeps the worker that waited for the sockets until another task has been woken by its own socket.
    #[test]
    fn sockets_are_waited_for_while_a_worker_is_busy() {
        let lookout = Lookout::new(2).unwrap();
        let (sleeps, wakes) = (Arc::clone(&lookout), Arc::clone(&lookout));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_park(move || sleeps.begin_sleep())
            .on_thread_unpark(move || wakes.end_sleep())
            .enable_all()
            .build()
            .unwrap();
        lookout.start(runtime.handle().clone()).unwrap();
        for _ in 0..20 {
            let (first, second) = runtime.block_on(async { (pair(), pair()) });
            let (busy, is_busy) = mpsc::channel();
            let (done, is_done) = mpsc::channel();
            let (told, tell) = mpsc::channel();
            let turns = Arc::clone(&lookout);
            let mut socket = first.0;
            runtime.spawn(async move {
                let _ = socket.read_u8().await;
                turns.count_turn();
                busy.send(()).unwrap();
                told.send(is_done.recv_timeout(PATIENCE).is_ok()).unwrap();
            });
            let mut socket = second.0;
            runtime.spawn(async move {
                let _ = socket.read_u8().await;
                // The other has waited long enough if it is not there any more.
                let _ = done.send(());
            });
            first.1.try_write(b"x").unwrap();
            is_busy.recv_timeout(PATIENCE).unwrap();
            second.1.try_write(b"x").unwrap();
            assert!(tell.recv().unwrap());
        }
    }

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }
}
