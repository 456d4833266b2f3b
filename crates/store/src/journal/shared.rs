//! What the threads of a journal and its callers share: what is staged, the index, what is to be done.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use leveret_store_api::{Change, Payload, Waiters};
use parking_lot::{Condvar, Mutex};

use super::ahead::WritingAhead;
use super::aside::SetAside;
use super::ballast::Ballast;
use super::encoder::Copied;
use super::status::StatusCell;
use super::written::{Claimed, Discards, WrittenBody};
use crate::delivered::DeliveredFile;
use crate::index::Index;
use crate::index::disk::IndexStore;
use crate::options::JournalOptions;
use crate::segments::files::SegmentFiles;
use crate::segments::segment::Segment;

/// What the threads of a journal and its callers share.
pub(super) struct Shared<P> {
    pub(super) options: JournalOptions,
    pub(super) directory: PathBuf,
    pub(super) segments: SegmentFiles,
    pub(super) ahead: Arc<WritingAhead<P>>,
    /// The version that the file `format` has by now.
    pub(super) format: Mutex<u64>,
    pub(super) store: u32,
    pub(super) epoch: u32,
    /// The index on disk was up to this record when the journal was opened.
    pub(super) saved: Option<u64>,
    pub(super) staging: Mutex<Staging<P>>,
    pub(super) staged: Condvar,
    pub(super) index: Mutex<Index>,
    pub(super) index_store: Mutex<Box<dyn IndexStore>>,
    pub(super) delivered: DeliveredFile,
    pub(super) aside: SetAside,
    pub(super) ballast: Ballast,
    /// Rows in the index may be there that should not: the next checkpoint removes them.
    pub(super) index_unknown: AtomicBool,
    pub(super) waiters: Waiters,
    pub(super) staged_bytes: AtomicU64,
    pub(super) next_log: AtomicU64,
    pub(super) status: StatusCell,
    pub(super) duties: Mutex<Duties>,
    pub(super) duties_changed: Condvar,
}

/// What was staged and not yet taken by the commit thread.
pub(super) struct Staging<P> {
    pub(super) changes: Vec<Change<P>>,
    pub(super) units: Vec<Unit>,
    pub(super) internal: VecDeque<Internal>,
    /// What was written ahead for `changes`.
    pub(super) claimed: Claimed,
    pub(super) point: u64,
    /// Definitions with all that is staged.
    pub(super) definitions: DefinitionMap,
    pub(super) closing: bool,
    /// The commit thread sleeps until it is told.
    pub(super) idle: bool,
    /// It will look by itself for what readers acknowledge.
    pub(super) gathering: bool,
    /// What the commit thread is to run before it sleeps again.
    pub(super) errand: Option<fn()>,
}

pub(super) type DefinitionMap = BTreeMap<Arc<[u8]>, Arc<[u8]>>;

/// What one call of `stage` brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// The end of its changes.
    pub(super) end: usize,
    pub(super) bytes: u64,
    /// See [`MessageLog::stage_settled`].
    pub(super) settled: bool,
}

/// What the store itself has to write.
pub(super) enum Internal {
    Snapshot(Vec<u8>, WriteTo),
    Copied(Vec<Copied>),
}

/// Where internal work is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteTo {
    AnySegment,
    /// At the start of another segment, whatever room this one has.
    NewSegment,
}

/// What is to be done beside committing.
#[derive(Default)]
pub(super) struct Duties {
    /// There is something to write to the index.
    pub(super) dirty: bool,
    pub(super) checkpoint: bool,
    pub(super) prepare: bool,
    pub(super) closing: bool,
    /// A file is free that no checkpoint has freed.
    pub(super) discarded: bool,
    /// How many pieces of internal work have been written.
    pub(super) internal_done: u64,
    /// The commit thread does nothing more.
    pub(super) stopped: bool,
    /// Checkpoints that have ended, and whether one is under way.
    pub(super) completed: u64,
    pub(super) running: bool,
    /// What the checkpoint thread is to run.
    pub(super) errand: Option<fn()>,
}

impl<P: Payload> Shared<P> {
    /// What was written ahead for a change.
    pub(super) fn claim(&self, change: &Change<P>) -> Option<WrittenBody> {
        match change {
            Change::Enqueue(enqueue) if !enqueue.transient => self.ahead.claim(&enqueue.payload),
            _ => None,
        }
    }

    /// Hands internal work to the commit thread and waits until it is written; `false` if it will not
    /// be any more.
    pub(super) fn write_internal(&self, work: Internal) -> bool {
        let target = self.duties.lock().internal_done + 1;
        {
            let mut staging = self.staging.lock();
            if staging.closing {
                return false;
            }
            staging.internal.push_back(work);
            self.staged.notify_one();
        }
        let mut duties = self.duties.lock();
        while duties.internal_done < target && !duties.stopped {
            self.duties_changed.wait(&mut duties);
        }
        duties.internal_done >= target
    }
}

impl<P: Payload> Discards for Shared<P> {
    fn discard(&self, segment: Arc<Segment>) {
        if let Err(error) = self.segments.free(segment) {
            // Nothing refers to it: the next start clears it away.
            tracing::warn!("a file that is not needed stays: {error}");
            return;
        }
        self.duties.lock().discarded = true;
        self.duties_changed.notify_all();
    }
}

impl<P> Staging<P> {
    pub(super) fn new(definitions: DefinitionMap) -> Self {
        Staging {
            changes: Vec::new(),
            units: Vec::new(),
            internal: VecDeque::new(),
            claimed: Claimed::default(),
            point: 0,
            definitions,
            closing: false,
            idle: false,
            gathering: false,
            errand: None,
        }
    }

    pub(super) fn add_definition(&mut self, change: &Change<P>) {
        match change {
            Change::PutDefinition { key, value } => {
                self.definitions
                    .insert(key.as_slice().into(), value.as_slice().into());
            }
            Change::RemoveDefinition { key } => {
                self.definitions.remove(key.as_slice());
            }
            Change::Enqueue(_)
            | Change::Acknowledge { .. }
            | Change::SetCount { .. }
            | Change::DeleteLog { .. } => {}
        }
    }
}

/// What a change will take in a record, about.
pub(super) fn change_bytes<P: Payload>(change: &Change<P>) -> u64 {
    let bytes = match change {
        Change::Enqueue(enqueue) => enqueue.payload.parts().iter().map(|part| part.len()).sum(),
        Change::PutDefinition { key, value } => key.len() + value.len(),
        Change::RemoveDefinition { key } => key.len(),
        Change::Acknowledge { .. } | Change::SetCount { .. } | Change::DeleteLog { .. } => 0,
    };
    bytes as u64
}
