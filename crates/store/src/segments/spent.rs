//! Files of segments in which nothing lives any more. A few are kept to be written again; the others
//! are given back to the disk a piece at a time, because a file system that frees much at once lets
//! everybody wait for it. Owns the files from the moment they have lost their numbers; does not know
//! when a piece is due.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use leveret_store_api::failpoint::{self, Failpoint};
use parking_lot::Mutex;

use super::segment::Segment;
use crate::files::{Files, OpenMode};

pub(super) const SPENT_SUFFIX: &str = ".spare";

/// One file that holds nothing.
struct SpentFile {
    path: PathBuf,
    length: u64,
    /// Somebody may still be reading what was in it.
    segment: Option<Arc<Segment>>,
}

impl SpentFile {
    /// Nobody reads it. Nobody can begin to: the index does not know it any more.
    fn is_unread(&mut self) -> bool {
        match self.segment.take().map(Arc::try_unwrap) {
            None | Some(Ok(_)) => true,
            Some(Err(segment)) => {
                self.segment = Some(segment);
                false
            }
        }
    }
}

#[derive(Default)]
struct Lists {
    /// To be written again.
    kept: Vec<SpentFile>,
    /// To be given back; the first one may have been cut already.
    leaving: VecDeque<SpentFile>,
    /// A name has changed and may change back in a power cut.
    unsynced: bool,
}

/// What there is to give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaving {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// All of them.
pub(crate) struct SpentFiles {
    files: Arc<dyn Files>,
    directory: PathBuf,
    segment_bytes: u64,
    kept_max: usize,
    lists: Mutex<Lists>,
}

impl SpentFiles {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        directory: PathBuf,
        segment_bytes: u64,
        kept_max: usize,
    ) -> Self {
        SpentFiles {
            files,
            directory,
            segment_bytes,
            kept_max,
            lists: Mutex::new(Lists::default()),
        }
    }

    /// Takes the file of a segment in which nothing lives; it loses its number.
    pub(crate) fn add(&self, segment: Arc<Segment>) -> io::Result<()> {
        let path = segment.path().with_extension("spare");
        let length = segment.file.length()?;
        self.files.rename(segment.path(), &path)?;
        self.put(SpentFile {
            path,
            length,
            segment: Some(segment),
        });
        Ok(())
    }

    /// Nothing is kept to be written again: the room is needed for something else.
    pub(crate) fn leave_all(&self) {
        let mut lists = self.lists.lock();
        let kept = std::mem::take(&mut lists.kept);
        lists.leaving.extend(kept);
    }

    /// Takes a file that has no number and that nobody reads.
    pub(crate) fn found(&self, path: PathBuf) -> io::Result<()> {
        let length = self.files.open(&path, OpenMode::Read)?.length()?;
        self.put(SpentFile {
            path,
            length,
            segment: None,
        });
        Ok(())
    }

    fn put(&self, file: SpentFile) {
        let mut lists = self.lists.lock();
        lists.unsynced = true;
        if file.length <= self.segment_bytes && lists.kept.len() < self.kept_max {
            lists.kept.push(file);
        } else {
            lists.leaving.push_back(file);
        }
    }

    /// A file to be written again, with about so many bytes in it already.
    pub(crate) fn take_like(&self, bytes: u64) -> Option<PathBuf> {
        let mut lists = self.lists.lock();
        let fits = |file: &SpentFile| (bytes..=bytes.saturating_mul(2)).contains(&file.length);
        let mut leaving = lists.leaving.iter_mut();
        let place = leaving.position(|file| fits(file) && file.is_unread())?;
        lists.leaving.remove(place).map(|file| file.path)
    }

    /// A file to be written again, for an ordinary segment: one that is kept or was to leave.
    pub(crate) fn take(&self) -> Option<PathBuf> {
        let mut lists = self.lists.lock();
        if let Some(place) = lists.kept.iter_mut().rposition(SpentFile::is_unread) {
            return Some(lists.kept.remove(place).path);
        }
        let fits = |file: &SpentFile| file.length <= self.segment_bytes;
        let place = (lists.leaving.iter_mut()).rposition(|file| fits(file) && file.is_unread())?;
        lists.leaving.remove(place).map(|file| file.path)
    }

    /// None is written again for a while: all are given back.
    pub(crate) fn keep_none(&self) {
        let mut lists = self.lists.lock();
        let kept = std::mem::take(&mut lists.kept);
        lists.leaving.extend(kept);
    }

    /// What there is to give back.
    pub(crate) fn leaving(&self) -> Leaving {
        let lists = self.lists.lock();
        Leaving {
            files: lists.leaving.len(),
            bytes: lists.leaving.iter().map(|file| file.length).sum(),
        }
    }

    /// Gives up to `bytes` back to the disk.
    pub(crate) fn give_back(&self, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let Some(mut file) = self.first_unread()? else {
                return Ok(());
            };
            if file.length <= left {
                left -= file.length.max(1);
                self.files.remove(&file.path)?;
                continue;
            }
            file.length -= left;
            left = 0;
            let opened = self.files.open(&file.path, OpenMode::Write)?;
            opened.shorten(file.length)?;
            self.lists.lock().leaving.push_front(file);
            failpoint::reached(Failpoint::InGiveBack);
        }
        Ok(())
    }

    /// Takes the first file that nobody reads out of those to be given back. A file under a number
    /// must be whole: that it has lost it is made to last first.
    fn first_unread(&self) -> io::Result<Option<SpentFile>> {
        let mut lists = self.lists.lock();
        let Some(place) = lists.leaving.iter_mut().position(SpentFile::is_unread) else {
            return Ok(None);
        };
        let file = lists.leaving.remove(place);
        let unsynced = std::mem::take(&mut lists.unsynced);
        drop(lists);
        if unsynced && let Err(error) = self.files.sync_directory(&self.directory) {
            let mut lists = self.lists.lock();
            lists.unsynced = true;
            lists.leaving.extend(file);
            return Err(error);
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segments::files::SegmentFiles;
    use crate::simulation::SimulatedDisk;

    #[test]
    fn a_file_that_somebody_reads_is_neither_written_again_nor_given_back() {
        for kept_max in [0, 1] {
            let disk = SimulatedDisk::new();
            let files: Arc<dyn Files> = Arc::new(disk.clone());
            let segments = SegmentFiles::new(files, "/journal".into(), 4096, kept_max);
            let segment = segments.next(4096).expect("a segment").segment;
            let reader = Arc::clone(&segment);
            segments.free(segment).expect("freed");
            let spent = &segments.spent;
            assert!(spent.take().is_none(), "{kept_max}");
            assert!(spent.take_like(4096).is_none(), "{kept_max}");
            spent.keep_none();
            spent.give_back(u64::MAX).expect("given back");
            assert_eq!((spent.leaving().files, disk.used_bytes()), (1, 4096));
            drop(reader);
            spent.give_back(u64::MAX).expect("given back");
            assert_eq!(
                (spent.leaving(), disk.used_bytes()),
                (Leaving::default(), 0)
            );
        }
    }
}
