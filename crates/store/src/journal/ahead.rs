//! Large messages that are to be written ahead. Owns what waits for that and what is written and not yet staged.
//!
//! It is there for speed, that of others: beside one message of 100 MB a second their confirms come within 9 ms by the 99th
//! percentile, in place of 115 to 168 (docs/decisions/0004). In the ordinary way the body is part of its record, as it is
//! where the disk is full; readers find the same (tests/store/ways.rs).

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ptr;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread::JoinHandle;

use leveret_store_api::{Done, Payload, WriteAhead};
use parking_lot::{Condvar, Mutex};

use super::written::WrittenBody;

/// Names one payload among those that are written ahead.
pub(super) type JobId = u64;

/// A payload to be written ahead, so many times.
pub(super) struct Job<P> {
    pub(super) id: JobId,
    pub(super) payload: P,
    pub(super) copies: usize,
    done: Arc<Done>,
    waker: Waker,
}

/// A payload that is written and waits to be staged.
struct Ready<P> {
    id: JobId,
    payload: P,
    bodies: Vec<WrittenBody>,
}

struct State<P> {
    jobs: VecDeque<Job<P>>,
    ready: Vec<Ready<P>>,
    /// Those that somebody still wants, in any state.
    wanted: Vec<JobId>,
    next_id: JobId,
    closing: bool,
    thread: Option<JoinHandle<()>>,
}

/// All of them.
pub(super) struct WritingAhead<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
}

/// Held by who asked; without it, nobody wants the payload written ahead.
struct Claim<P: Payload> {
    id: JobId,
    ahead: Weak<WritingAhead<P>>,
}

impl<P: Payload> Drop for Claim<P> {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.upgrade() {
            ahead.forget(self.id);
        }
    }
}

impl<P: Payload> WritingAhead<P> {
    pub(super) fn new() -> Self {
        WritingAhead {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                ready: Vec::new(),
                wanted: Vec::new(),
                next_id: 0,
                closing: false,
                thread: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// See [`MessageLog::write_ahead`](leveret_store_api::MessageLog::write_ahead). The thread starts with the
    /// first, by `start`.
    pub(super) fn begin(
        self: &Arc<Self>,
        payload: &P,
        copies: usize,
        waker: &Waker,
        start: impl FnOnce() -> io::Result<JoinHandle<()>>,
    ) -> Option<WriteAhead> {
        let done = Arc::new(Done::default());
        let mut state = self.state.lock();
        if state.closing || !state.has_thread(start) {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.wanted.push(id);
        state.jobs.push_back(Job {
            id,
            payload: payload.clone(),
            copies,
            done: Arc::clone(&done),
            waker: waker.clone(),
        });
        self.changed.notify_one();
        let claim = Claim {
            id,
            ahead: Arc::downgrade(self),
        };
        Some(WriteAhead::new(
            done,
            Box::new(claim) as Box<dyn Any + Send + Sync>,
        ))
    }

    /// What was written ahead of this payload, if there is any left.
    pub(super) fn claim(&self, payload: &P) -> Option<WrittenBody> {
        let mut state = self.state.lock();
        let is_same = |ready: &&mut Ready<P>| ptr::eq(ready.payload.parts()[1], payload.parts()[1]);
        state.ready.iter_mut().find(is_same)?.bodies.pop()
    }

    fn forget(&self, id: JobId) {
        let mut state = self.state.lock();
        state.wanted.retain(|wanted| *wanted != id);
        state.jobs.retain(|job| job.id != id);
        let place = state.ready.iter().position(|ready| ready.id == id);
        let unused = place.map(|place| state.ready.swap_remove(place));
        drop(state);
        // Giving files back takes other locks.
        drop(unused);
    }

    pub(super) fn is_wanted(&self, id: JobId) -> bool {
        let state = self.state.lock();
        !state.closing && state.wanted.contains(&id)
    }

    pub(super) fn next(&self) -> Option<Job<P>> {
        let mut state = self.state.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            self.changed.wait(&mut state);
        }
    }

    pub(super) fn finish(&self, job: Job<P>, bodies: Vec<WrittenBody>) {
        let mut state = self.state.lock();
        let mut unused = Vec::new();
        if state.wanted.contains(&job.id) {
            state.ready.push(Ready {
                id: job.id,
                payload: job.payload,
                bodies,
            });
        } else {
            unused = bodies;
        }
        drop(state);
        drop(unused);
        job.done.set();
        job.waker.wake();
    }

    /// Ends the thread. Who still waits is told to go on without.
    pub(super) fn close(&self) {
        let (thread, jobs) = {
            let mut state = self.state.lock();
            state.closing = true;
            self.changed.notify_all();
            (state.thread.take(), mem::take(&mut state.jobs))
        };
        for job in jobs {
            job.done.set();
            job.waker.wake();
        }
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl<P: Payload> State<P> {
    /// The thread runs, by now at the latest.
    fn has_thread(&mut self, start: impl FnOnce() -> io::Result<JoinHandle<()>>) -> bool {
        if self.thread.is_none() {
            self.thread = start().ok();
        }
        self.thread.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::journal::written::Discards;
    use crate::segments::body::Layout;
    use crate::segments::files::SegmentFiles;
    use crate::segments::segment::Segment;
    use crate::simulation::SimulatedDisk;

    #[derive(Clone)]
    struct Bytes(Arc<[u8]>);

    impl Payload for Bytes {
        fn parts(&self) -> [&[u8]; 2] {
            [&[], &self.0]
        }

        fn from_stored(bytes: &[u8]) -> Option<Self> {
            Some(Bytes(bytes.into()))
        }
    }

    #[derive(Default)]
    struct Discarded(AtomicUsize);

    impl Discards for Discarded {
        fn discard(&self, _segment: Arc<Segment>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_nobody_wants_when_it_is_written_is_given_back() {
        let disk = Arc::new(SimulatedDisk::new());
        let files = SegmentFiles::new(disk, PathBuf::from("/journal"), 1 << 20, 0);
        let owner = Arc::new(Discarded::default());
        let payload = Bytes([7; 10].into());
        for (is_wanted, discarded) in [(false, 1), (true, 0)] {
            let writing: WritingAhead<Bytes> = WritingAhead::new();
            if is_wanted {
                writing.state.lock().wanted.push(1);
            }
            let layout = Layout::of(0, 10).expect("a small one");
            let segment = files.make_body(layout.end).expect("a file");
            let owned: Arc<dyn Discards> = Arc::<Discarded>::clone(&owner);
            let written = WrittenBody::new(segment, layout, 10, 0, Arc::downgrade(&owned));
            let done = Arc::new(Done::default());
            let job = Job {
                id: 1,
                payload: payload.clone(),
                copies: 1,
                done: Arc::clone(&done),
                waker: Waker::noop().clone(),
            };
            writing.finish(job, vec![written]);
            assert!(WriteAhead::new(done, Box::new(())).is_done());
            let claimed = writing.claim(&payload);
            assert_eq!(claimed.is_some(), is_wanted);
            assert_eq!(owner.0.swap(0, Ordering::Relaxed), discarded);
            drop(claimed);
            owner.0.store(0, Ordering::Relaxed);
            assert!(writing.claim(&payload).is_none(), "each is used once");
        }
    }
}
