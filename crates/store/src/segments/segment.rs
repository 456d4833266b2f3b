//! One segment file: what it is for, and writing to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{StoreFile, shortage};

/// Room is reserved in steps, so that a small store stays small.
pub(crate) const ALLOCATE_BYTES: u64 = 8 << 20;

/// One segment file that is open. Held by readers as long as they read, which keeps it from being
/// written over.
pub(crate) struct Segment {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(crate) file: Arc<dyn StoreFile>,
    /// Its size when full.
    pub(crate) capacity: u64,
    pub(crate) holds: Contents,
}

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Records,
    /// One large message; see [`super::body`].
    Body,
}

impl Segment {
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A segment to write to, and how much of it is ready for that.
pub(crate) struct Writable {
    pub(crate) segment: Arc<Segment>,
    /// Room is reserved up to here.
    pub(crate) allocated: u64,
    /// Written before up to here: writing there again moves no metadata and is cheaper to sync.
    pub(crate) filled: u64,
}

impl Writable {
    /// Reserves room up to `end`.
    pub(crate) fn allocate(&mut self, end: u64) -> io::Result<()> {
        if end > self.allocated {
            let step = ALLOCATE_BYTES.min(self.segment.capacity.max(1));
            let target = end
                .div_ceil(step)
                .saturating_mul(step)
                .min(self.segment.capacity)
                .max(end);
            let file = &self.segment.file;
            let reserved = file.allocate(self.allocated, target - self.allocated);
            self.allocated = match reserved {
                // There may be room for less.
                Err(error) if target > end && shortage(&error).is_some() => {
                    file.allocate(self.allocated, end - self.allocated)?;
                    end
                }
                reserved => {
                    reserved?;
                    target
                }
            };
        }
        Ok(())
    }
}
