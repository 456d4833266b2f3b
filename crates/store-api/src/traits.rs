//! What a store does, whichever it is.

use std::task::Waker;

use crate::{
    Change, CommitPoint, DamagedMessage, Delivered, LogId, LogState, Numbered, Payload, Sequence,
    StoreError, StoreStatus, StoredMessage, WriteAhead,
};

/// Messages of many logs, kept in sequence order and made durable in groups.
///
/// All methods may be called from any thread. `stage` is short and does no I/O, so that it may be
/// called under a queue's lock; `read` does I/O and must not be.
pub trait MessageLog<P: Payload>: Send + Sync {
    /// Takes all of `changes` (leaves it empty) as one atomic unit: after a crash either all of them
    /// have happened or none. Changes take effect in the order of staging.
    ///
    /// Answers the point at which the unit is durable. Takes one short lock and does no I/O.
    fn stage(&self, changes: &mut Vec<Change<P>>) -> CommitPoint;

    /// As [`stage`](Self::stage), of nothing but acknowledgements by those whom the messages were delivered to:
    /// no copy of the messages was staged that has to outlive them. A message that is acknowledged so before it
    /// was written counts as durable, though units between the two may not be.
    fn stage_settled(&self, changes: &mut Vec<Change<P>>) -> CommitPoint {
        self.stage(changes)
    }

    /// A payload whose second part has at least so many bytes should be written ahead.
    fn write_ahead_bytes_min(&self) -> usize {
        usize::MAX
    }

    /// Begins to write a large payload before it is staged, so that the units of others need not wait
    /// for it; wakes `waker` when that is done. Whoever stages a clone of the payload after that, in up to
    /// `copies` enqueues, and keeps the answer until then, uses what was written. Others write it with
    /// their unit, as does everybody where this answers `None`.
    fn write_ahead(&self, _payload: &P, _copies: usize, _waker: &Waker) -> Option<WriteAhead> {
        None
    }

    /// Everything staged up to this point is on stable storage. One atomic load.
    fn durable_point(&self) -> CommitPoint;

    /// Wakes `waker` once the durable point has reached `point`. Answers `false`, and registers
    /// nothing, if it has already.
    fn wake_at(&self, point: CommitPoint, waker: &Waker) -> bool;

    /// A log id that was never used before, not even before a restart.
    fn allocate_log(&self) -> LogId;

    /// Appends the live messages of `log` from `from` on, in sequence order, to `out`: at most
    /// `count_max` of them and at most `bytes_max` payload bytes, but at least one if there is one. Answers,
    /// in sequence order as well, those among them that cannot be read, which `out` and its bounds leave out; they
    /// stay in the log until they are acknowledged.
    ///
    /// Sees everything that has been written; what is only staged may be left out. May read files:
    /// never call it under a queue's lock.
    ///
    /// # Errors
    /// Nothing can be read.
    fn read(
        &self,
        log: LogId,
        from: Sequence,
        count_max: usize,
        bytes_max: usize,
        out: &mut Vec<StoredMessage<P>>,
    ) -> Result<Vec<DamagedMessage<P>>, StoreError>;

    /// What is written and live in `log`; `None` if nothing was ever written to it.
    fn log_state(&self, log: LogId) -> Option<LogState>;

    /// The live messages of `log` that bear a number of at least `least`, in sequence order.
    fn numbered(&self, log: LogId, least: u32) -> Vec<Numbered>;

    /// All logs that have a state, in ascending order.
    fn logs(&self) -> Vec<LogId>;

    /// Payload bytes staged and not yet written. Callers hold publishers back on it.
    fn staged_bytes(&self) -> u64;

    /// How far the deliveries of `log` have come: as known when the store was opened, with what
    /// [`record_delivered`](Self::record_delivered) has added since.
    fn delivered(&self, log: LogId) -> Delivered;

    /// Every message of `log` below `below` was delivered, or is about to be. Outlives a kill of the process
    /// once this returns. May write to a file: never call it under a queue's lock, and not for each message.
    fn record_delivered(&self, log: LogId, below: Sequence);

    /// Whether the store can take more.
    fn status(&self) -> StoreStatus;

    /// Wakes `waker` at every change of [`status`](Self::status). Replaces an earlier waker.
    fn on_status(&self, waker: Waker);

    /// Has each thread of the store run `errand` once, when it has nothing else to do, after it has let go of
    /// buffers it does not need at rest: an allocator may keep freed memory for each thread.
    fn run_at_rest(&self, _errand: fn()) {}

    /// Nothing is kept: `stage` answers [`CommitPoint::NONE`], `read` finds nothing.
    fn is_volatile(&self) -> bool;
}

/// Definitions in key order: their keys and values.
pub type Definitions = Vec<(Vec<u8>, Vec<u8>)>;

/// The definitions put and removed by [`Change::PutDefinition`] and [`Change::RemoveDefinition`].
pub trait DefinitionStore {
    /// All definitions in key order: as recovered, with what was staged since.
    ///
    /// # Errors
    /// Reading them failed.
    fn definitions(&self) -> Result<Definitions, StoreError>;
}
