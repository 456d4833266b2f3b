//! The thread that writes large messages ahead, a slice at a time, so that the groups of others come in
//! between. Owns what waits for it and what is written and not yet staged.

use std::any::Any;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::body::{self, Discards, Layout, WrittenBody};
use super::open::{FORMAT_VERSION_CHECKS, raise_format};
use super::segment::Segment;
use super::{Ahead, Shared};
use crate::ahead::Done;
use crate::failpoint::{self, Failpoint};
use crate::files::shortage;
use crate::{Payload, StoreStatus};

/// Names one payload among those that are written ahead.
type JobId = u64;

/// A payload to be written ahead, so many times.
struct Job<P> {
    id: JobId,
    payload: P,
    copies: usize,
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
pub(crate) struct WritingAhead<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
}

/// Held by who asked; without it, nobody wants the payload written ahead.
struct Claim<P: Payload> {
    id: JobId,
    shared: Weak<Shared<P>>,
}

impl<P: Payload> Drop for Claim<P> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.ahead.forget(self.id);
        }
    }
}

impl<P: Payload> WritingAhead<P> {
    pub(crate) fn new() -> Self {
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

    /// See [`MessageLog::write_ahead`](crate::MessageLog::write_ahead). The thread starts with the first.
    pub(crate) fn begin(
        &self,
        shared: &Arc<Shared<P>>,
        payload: &P,
        copies: usize,
        waker: &Waker,
    ) -> Option<Ahead> {
        let done = Arc::new(Done::default());
        let mut state = self.state.lock();
        if state.closing || !state.has_thread(shared) {
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
            shared: Arc::downgrade(shared),
        };
        Some(Ahead::new(
            done,
            Box::new(claim) as Box<dyn Any + Send + Sync>,
        ))
    }

    /// What was written ahead of this payload, if there is any left.
    pub(crate) fn claim(&self, payload: &P) -> Option<WrittenBody> {
        let mut state = self.state.lock();
        let is_same =
            |ready: &&mut Ready<P>| std::ptr::eq(ready.payload.parts()[1], payload.parts()[1]);
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

    fn is_wanted(&self, id: JobId) -> bool {
        let state = self.state.lock();
        !state.closing && state.wanted.contains(&id)
    }

    fn next(&self) -> Option<Job<P>> {
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

    fn finish(&self, job: Job<P>, bodies: Vec<WrittenBody>) {
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
    pub(crate) fn close(&self) {
        let (thread, jobs) = {
            let mut state = self.state.lock();
            state.closing = true;
            self.changed.notify_all();
            (state.thread.take(), std::mem::take(&mut state.jobs))
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
    fn has_thread(&mut self, shared: &Arc<Shared<P>>) -> bool {
        if self.thread.is_none() {
            let weak = Arc::downgrade(shared);
            let named = thread::Builder::new().name("leveret-ahead".to_owned());
            self.thread = named.spawn(move || run(&weak)).ok();
        }
        self.thread.is_some()
    }
}

/// The thread's body.
fn run<P: Payload>(shared: &Weak<Shared<P>>) {
    let Some(shared) = shared.upgrade() else {
        return;
    };
    while let Some(job) = shared.ahead.next() {
        let bodies = match write_copies(&shared, &job) {
            Ok(bodies) => bodies,
            // The ordinary way waits for room.
            Err(error) if shortage(&error).is_some() => Vec::new(),
            Err(error) => {
                let reason = format!("writing a large message: {error}");
                shared.status.set(StoreStatus::Failed(reason));
                Vec::new()
            }
        };
        failpoint::reached(Failpoint::AfterBody);
        shared.ahead.finish(job, bodies);
    }
}

fn write_copies<P: Payload>(shared: &Arc<Shared<P>>, job: &Job<P>) -> io::Result<Vec<WrittenBody>> {
    let [head, body] = job.payload.parts();
    let Some(layout) = Layout::of(head.len(), body.len()) else {
        return Ok(Vec::new());
    };
    raise_format(shared, FORMAT_VERSION_CHECKS)?;
    let mut bodies = Vec::new();
    for _ in 0..job.copies {
        let segment = shared.segments.make_body(layout.end)?;
        let owner: Arc<dyn Discards> = Arc::<Shared<P>>::clone(shared);
        let owner = Arc::downgrade(&owner);
        let crc = write(shared, &segment, layout, body, job.id);
        // Its file is given back where this fails.
        let written = WrittenBody::new(
            segment,
            layout,
            body.len(),
            *crc.as_ref().unwrap_or(&0),
            owner,
        );
        if crc.is_err() || shared.ahead.is_wanted(job.id) {
            crc?;
            bodies.push(written);
        }
    }
    Ok(bodies)
}

/// Writes a second part in slices, each of them synced; answers its checksum. Stops early where nobody
/// wants it any more.
fn write<P: Payload>(
    shared: &Shared<P>,
    segment: &Segment,
    layout: Layout,
    body: &[u8],
    id: JobId,
) -> io::Result<u32> {
    let run = u32::try_from(layout.run).unwrap_or(u32::MAX);
    // What the file held before is written over where the run will begin.
    let mut front = body::mark(segment.number(), shared.store, run).to_vec();
    front.resize(usize::try_from(layout.body).unwrap_or(0), 0);
    let step = shared.options.ahead_step_bytes.max(1);
    let (mut crc, mut at) = (0, 0);
    for slice in body.chunks(step) {
        let mut slices = [IoSlice::new(&front), IoSlice::new(slice)];
        segment.file.write_at(&mut slices, at, true)?;
        at += (front.len() + slice.len()) as u64;
        front = Vec::new();
        crc = crc32c::crc32c_append(crc, slice);
        if !shared.ahead.is_wanted(id) {
            break;
        }
        failpoint::reached(Failpoint::InBody);
    }
    Ok(crc)
}
