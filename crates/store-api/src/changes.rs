//! The words of the store: ids, changes, messages read back, states. Owns no behaviour.

use std::fmt;
use std::path::PathBuf;

/// Names one log (one queue's messages). Never reused, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

/// The place of a message in its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// A moment in the life of a store: what was staged up to it is durable once
/// [`durable_point`](crate::MessageLog::durable_point) has reached it. Means nothing after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitPoint(pub u64);

impl CommitPoint {
    /// The point that is always durable.
    pub const NONE: CommitPoint = CommitPoint(0);
}

/// A message as the store sees it: bytes that it can give out and take back.
///
/// A clone must be cheap; the store holds the payload until it is written.
pub trait Payload: Clone + Send + Sync + 'static {
    /// The stored bytes in two parts, concatenated in this order. A large second part is written
    /// from where it lies, without a copy.
    fn parts(&self) -> [&[u8]; 2];

    /// The payload whose parts, concatenated, were `bytes`; `None` if they cannot be decoded.
    fn from_stored(bytes: &[u8]) -> Option<Self>;

    /// So many bytes at the front of the first part tell of the message without the others, its body. They are
    /// checked apart, so that they can be relied on where the body cannot be read.
    fn head_bytes(&self) -> usize {
        0
    }

    /// The payload without its body, of which these were the first bytes; `None` if that tells nothing.
    fn from_head(_head: &[u8]) -> Option<Self> {
        None
    }
}

/// One message to append to a log.
#[derive(Clone, Debug)]
pub struct Enqueue<P> {
    /// The log it goes to.
    pub log: LogId,
    /// Its place there. A message already there under the same sequence is replaced; one that must
    /// survive a restart may only be replaced by another such.
    pub sequence: Sequence,
    /// Opaque to the store, returned by reads.
    pub flags: u8,
    /// Opaque to the store, returned by reads.
    pub time_ms: u64,
    /// Needs no sync and is dropped by a restart: a message that only left memory for want of room.
    pub transient: bool,
    /// The message.
    pub payload: P,
}

/// One durable fact.
#[derive(Clone, Debug)]
pub enum Change<P> {
    /// Appends a message.
    Enqueue(Enqueue<P>),
    /// Every live message of `log` with `first <= sequence < first + count` is gone. Idempotent.
    Acknowledge {
        /// The log.
        log: LogId,
        /// The first sequence that is gone.
        first: Sequence,
        /// How many sequences from there on, live or not.
        count: u64,
    },
    /// The messages of `log` with `first <= sequence < first + length` bear this number from now on: all of them
    /// are there, and outlive a restart. It goes with its message, and stays when that is replaced.
    SetCount {
        /// The log.
        log: LogId,
        /// The first sequence that bears it.
        first: Sequence,
        /// How many sequences from there on.
        length: u64,
        /// Opaque to the store, returned by reads; 0 is what a message bears that was given none.
        count: u32,
        /// It is as durable as a message. Otherwise it needs no sync: a kill leaves it, a crash of the system may
        /// take it.
        synced: bool,
    },
    /// All of the log is gone, and its id is not used again: what is staged for it from here on comes to nothing. An
    /// opened store knows that of the logs that were deleted since.
    DeleteLog {
        /// The log.
        log: LogId,
    },
    /// Sets the definition `key` to `value`.
    PutDefinition {
        /// Its name: opaque.
        key: Vec<u8>,
        /// Its value: opaque.
        value: Vec<u8>,
    },
    /// Removes the definition `key`; nothing happens if there is none.
    RemoveDefinition {
        /// Its name.
        key: Vec<u8>,
    },
}

/// A message read back.
#[derive(Clone, Debug)]
pub struct StoredMessage<P> {
    /// Its place in the log.
    pub sequence: Sequence,
    /// As enqueued.
    pub flags: u8,
    /// As enqueued.
    pub time_ms: u64,
    /// As enqueued.
    pub transient: bool,
    /// As set last by [`Change::SetCount`].
    pub count: u32,
    /// The message.
    pub payload: P,
    /// The length of its parts together.
    pub stored_bytes: u32,
}

/// A message that is in its log and is not what was written any more.
#[derive(Clone, Debug)]
pub struct DamagedMessage<P> {
    /// Its place in the log.
    pub sequence: Sequence,
    /// What else is known of it; `None`: nothing.
    pub head: Option<DamagedHead<P>>,
    /// It will never be read again. Otherwise the system refused to read it this time, and its log should keep it.
    pub is_lasting: bool,
}

/// What is known of a message whose body cannot be read.
#[derive(Clone, Debug)]
pub struct DamagedHead<P> {
    /// As enqueued.
    pub flags: u8,
    /// As enqueued.
    pub time_ms: u64,
    /// As set last by [`Change::SetCount`].
    pub count: u32,
    /// The message without its body.
    pub payload: P,
}

/// Messages of a log that follow each other and bear the same number, see [`Change::SetCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The first of them.
    pub first: Sequence,
    /// How many sequences from there on.
    pub length: u64,
    /// What they bear.
    pub count: u32,
}

/// What is written and live in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Live messages.
    pub live: u64,
    /// Their payload bytes: exact while messages go in sequence order and whole chunks at a time, an
    /// estimate where some of a chunk's messages have gone.
    pub bytes: u64,
    /// The lowest live sequence; `next` if none is live.
    pub first: Sequence,
    /// One more than the highest sequence ever written and known.
    pub next: Sequence,
}

/// How far the deliveries of a log have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Every message below was delivered.
    pub below: Sequence,
    /// Of every message below, nobody knows any more whether it was delivered.
    pub uncertain_below: Sequence,
}

/// Whether a store can take more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreStatus {
    /// All is well.
    Running,
    /// Something has run out, or nearly so. What is staged waits (or is still being written) and resumes by
    /// itself when there is more of it; do not stage more messages.
    Full {
        /// The store's directory.
        path: PathBuf,
        /// What is free on its disk.
        free_bytes: u64,
        /// What has run out.
        lacks: Shortage,
    },
    /// A write or a sync failed: nothing will become durable any more. The text says what and where.
    Failed(String),
}

/// What a store may have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Room on the disk.
    Disk,
    /// Room in the user's or the project's quota.
    Quota,
    /// Files that the process may have open.
    Descriptors,
    /// Files that the system may have open.
    SystemDescriptors,
    /// Memory of the system.
    Memory,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shortage::Disk => "the disk is full; make room there",
            Shortage::Quota => "the quota of the disk is used up; raise it, or make room there",
            Shortage::Descriptors => {
                "the process has too many files open; raise its limit (ulimit -n)"
            }
            Shortage::SystemDescriptors => "the system has too many files open; raise fs.file-max",
            Shortage::Memory => "the system is out of memory",
        })
    }
}

impl fmt::Display for StoreStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreStatus::Running => write!(f, "running"),
            StoreStatus::Full {
                path,
                free_bytes,
                lacks,
            } => write!(f, "{}: {lacks} ({free_bytes} bytes free)", path.display()),
            StoreStatus::Failed(reason) => write!(f, "{reason}"),
        }
    }
}
