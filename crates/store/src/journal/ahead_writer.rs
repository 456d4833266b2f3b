//! The thread that writes large messages ahead, a slice at a time, so that the groups of others come in
//! between.

use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use leveret_store_api::failpoint::{self, Failpoint};
use leveret_store_api::{Payload, StoreStatus};

use super::ahead::{Job, JobId};
use super::directory::raise_format;
use super::format::FORMAT_VERSION_CHECKS;
use super::shared::Shared;
use super::written::{Discards, WrittenBody};
use crate::files::shortage;
use crate::segments::body::{self, Layout};
use crate::segments::segment::Segment;

/// Starts it.
pub(super) fn start<P: Payload>(shared: &Arc<Shared<P>>) -> io::Result<JoinHandle<()>> {
    let weak = Arc::downgrade(shared);
    let named = thread::Builder::new().name("leveret-ahead".to_owned());
    named.spawn(move || run(&weak))
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
    let step = shared.options.write_ahead_step_bytes.max(1);
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
