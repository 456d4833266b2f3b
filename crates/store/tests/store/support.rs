//! A payload, short ways to say changes, and waiting for a commit point.

use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions, OpenError};
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, Enqueue, LogId, MessageLog, Payload, Sequence,
    StoredMessage, WriteAhead,
};

/// A message for tests: its first four bytes are the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Arc<[u8]>);

impl Payload for Blob {
    fn parts(&self) -> [&[u8]; 2] {
        let (head, body) = self.0.split_at(self.0.len().min(4));
        [head, body]
    }

    fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Blob(bytes.into()))
    }

    fn head_bytes(&self) -> usize {
        self.parts()[0].len()
    }

    fn from_head(head: &[u8]) -> Option<Self> {
        Some(Blob(head.into()))
    }
}

/// Bytes that depend on where they belong, so that a message in the wrong place is seen.
pub(crate) fn blob(log: u64, sequence: u64, bytes: usize) -> Blob {
    let mut state =
        log.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sequence.wrapping_mul(0xD1B5_4A32_D192_ED03) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    Blob(out.into())
}

pub(crate) fn enqueue_of(log: u64, sequence: u64, bytes: usize, transient: bool) -> Change<Blob> {
    Change::Enqueue(Enqueue {
        log: LogId(log),
        sequence: Sequence(sequence),
        flags: (sequence % 251) as u8,
        time_ms: sequence * 3,
        transient,
        payload: blob(log, sequence, bytes),
    })
}

pub(crate) fn enqueue(log: u64, sequence: u64, bytes: usize) -> Change<Blob> {
    enqueue_of(log, sequence, bytes, false)
}

pub(crate) fn acknowledge(log: u64, first: u64, count: u64) -> Change<Blob> {
    Change::Acknowledge {
        log: LogId(log),
        first: Sequence(first),
        count,
    }
}

pub(crate) fn put(key: &str, value: &str) -> Change<Blob> {
    Change::PutDefinition {
        key: key.into(),
        value: value.into(),
    }
}

/// Stages one unit and waits until it is durable.
pub(crate) fn commit(store: &Journal<Blob>, changes: Vec<Change<Blob>>) -> CommitPoint {
    let mut changes = changes;
    let point = store.stage(&mut changes);
    assert!(changes.is_empty(), "stage takes everything");
    wait(store, point);
    #[cfg(debug_assertions)]
    store.check();
    point
}

/// Has a payload written ahead, so many times, and waits until that is over.
pub(crate) fn write_ahead(
    store: &impl MessageLog<Blob>,
    payload: &Blob,
    copies: usize,
) -> Option<WriteAhead> {
    let ahead = store.write_ahead(payload, copies, &waker())?;
    while !ahead.is_done() {
        thread::park();
    }
    Some(ahead)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

pub(crate) fn wait<P: Payload>(store: &impl MessageLog<P>, point: CommitPoint) {
    while store.durable_point() < point {
        if store.wake_at(point, &waker()) {
            while store.durable_point() < point {
                thread::park();
            }
        }
    }
}

/// All live messages of a log.
pub(crate) fn all(store: &impl MessageLog<Blob>, log: u64) -> Vec<StoredMessage<Blob>> {
    let mut out = Vec::new();
    store
        .read(LogId(log), Sequence(0), usize::MAX, usize::MAX, &mut out)
        .expect("reading");
    out
}

/// What a read of a whole log says of those that are damaged.
pub(crate) fn damaged(store: &impl MessageLog<Blob>, log: u64) -> Vec<DamagedMessage<Blob>> {
    let mut out = Vec::new();
    store
        .read(LogId(log), Sequence(0), usize::MAX, usize::MAX, &mut out)
        .expect("reading")
}

pub(crate) fn sequences(store: &impl MessageLog<Blob>, log: u64) -> Vec<u64> {
    all(store, log)
        .iter()
        .map(|message| message.sequence.0)
        .collect()
}

/// Looks again and again, with a deadline.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut patience = 20_000;
    while !is_so() {
        patience -= 1;
        assert!(patience > 0, "{what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Whether an index was ever written whole.
pub(crate) fn has_index(disk: &SimulatedDisk) -> bool {
    let mut has_position = false;
    let rows = disk.index().load(&mut |key, _| has_position |= key == b"z");
    rows.expect("the index can be read");
    has_position
}

/// Small numbers, so that a short test meets every event.
pub(crate) fn small() -> JournalOptions {
    JournalOptions {
        segment_bytes: 32 * 1024,
        record_bytes_max: 16 * 1024,
        checkpoint_bytes: u64::MAX,
        checkpoint_interval_ms: 3_600_000,
        disk_free_bytes_min: 0,
        gap_us: 0,
        copy_pause_ms: 0,
        ..JournalOptions::default()
    }
}

pub(crate) fn open_as<P: Payload>(
    disk: &SimulatedDisk,
    options: JournalOptions,
) -> Result<Journal<P>, OpenError> {
    Journal::open_on(
        Arc::new(disk.clone()),
        disk.index(),
        Path::new("/store"),
        options,
    )
}

pub(crate) fn open(
    disk: &SimulatedDisk,
    options: JournalOptions,
) -> Result<Journal<Blob>, OpenError> {
    open_as(disk, options)
}
