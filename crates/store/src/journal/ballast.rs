//! A file that holds nothing. On a disk that others have filled to the last byte, what readers have taken out is given
//! back only by a checkpoint, which needs a little room itself: then this file goes. It is made again when there is
//! room.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::files::{Files, OpenMode};

const NAME: &str = "ballast";

pub(super) struct Ballast {
    files: Arc<dyn Files>,
    path: PathBuf,
    /// 0: there is none.
    bytes: u64,
    is_there: Mutex<bool>,
}

impl Ballast {
    /// The one that an earlier opening left, if it did.
    pub(super) fn find(files: Arc<dyn Files>, directory: &Path, bytes: u64) -> Self {
        let path = directory.join(NAME);
        let found = files.open(&path, OpenMode::Read);
        let is_there = found.is_ok_and(|file| file.length().is_ok_and(|length| length > 0));
        Ballast {
            files,
            path,
            bytes,
            is_there: Mutex::new(is_there),
        }
    }

    /// Gives it up; false if it was not there.
    pub(super) fn give_up(&self) -> bool {
        let mut is_there = self.is_there.lock();
        if !*is_there {
            return false;
        }
        match self.files.remove(&self.path) {
            Ok(()) => {
                *is_there = false;
                tracing::warn!("the disk is full; the room kept for that is used");
                true
            }
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "the room kept for a full disk cannot be used");
                false
            }
        }
    }

    /// Makes it where it is not there. Who calls this has seen that there is room for it.
    pub(super) fn make(&self) {
        let mut is_there = self.is_there.lock();
        if *is_there || self.bytes == 0 {
            return;
        }
        let made = (self.files.open(&self.path, OpenMode::Create))
            .and_then(|file| file.allocate(0, self.bytes));
        match made {
            Ok(()) => *is_there = true,
            Err(error) => {
                // Half of it would be taken for all of it.
                let _ = self.files.remove(&self.path);
                tracing::debug!(%error, "no room is kept for a full disk");
            }
        }
    }
}
