//! Segment files: their names and making. Owns the directory `journal`; does not know what is in the
//! files. Those that are free again are in [`super::spent`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use leveret_store_api::failpoint::{self, Failpoint};
use parking_lot::Mutex;

use super::body::{MARK_BYTES, marked_run};
use super::segment::{Contents, Segment, Writable};
use super::spent::{SPENT_SUFFIX, SpentFiles};
use crate::files::{Files, OpenMode};

const SEGMENT_SUFFIX: &str = ".seg";
/// The directory of segments.
pub(crate) struct SegmentFiles {
    files: Arc<dyn Files>,
    directory: PathBuf,
    segment_bytes: u64,
    next_number: AtomicU32,
    pub(crate) spent: SpentFiles,
    /// Made ahead of its use.
    prepared: Mutex<Option<Writable>>,
}

impl SegmentFiles {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        directory: PathBuf,
        segment_bytes: u64,
        spares_max: usize,
    ) -> Self {
        SegmentFiles {
            spent: SpentFiles::new(
                Arc::clone(&files),
                directory.clone(),
                segment_bytes,
                spares_max,
            ),
            files,
            directory,
            segment_bytes,
            next_number: AtomicU32::new(1),
            prepared: Mutex::new(None),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        self.files.free_bytes(&self.directory)
    }

    /// Makes the directory and answers the numbers of the segments in it, ascending. Notes files that
    /// were free already.
    pub(crate) fn scan(&self) -> io::Result<Vec<u32>> {
        self.files.create_directory(&self.directory)?;
        let (mut numbers, mut highest) = (Vec::new(), 0);
        for name in self.files.list(&self.directory)? {
            let number = |suffix| {
                name.strip_suffix(suffix)
                    .and_then(|number| number.parse().ok())
            };
            if let Some(number) = number(SEGMENT_SUFFIX) {
                numbers.push(number);
                highest = highest.max(number);
            } else if let Some(number) = number(SPENT_SUFFIX) {
                self.spent.found(self.directory.join(&name))?;
                highest = highest.max(number);
            }
        }
        numbers.sort_unstable();
        self.next_number.store(highest + 1, Ordering::Relaxed);
        Ok(numbers)
    }

    pub(crate) fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:010}{SEGMENT_SUFFIX}"))
    }

    /// The way to the files.
    pub(crate) fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// The same, to keep.
    pub(crate) fn shared_files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.files)
    }

    /// An existing segment.
    pub(crate) fn open(&self, number: u32, mode: OpenMode) -> io::Result<Arc<Segment>> {
        let path = self.path(number);
        let file = self.files.open(&path, mode)?;
        let mut start = [0; MARK_BYTES];
        file.read_at(&mut start, 0)?;
        let length = file.length()?;
        let (holds, capacity) = if marked_run(&start, number).is_some() {
            (Contents::Body, length)
        } else {
            (Contents::Records, length.max(self.segment_bytes))
        };
        Ok(Arc::new(Segment {
            number,
            path,
            file,
            capacity,
            holds,
        }))
    }

    /// A segment with room for `bytes`: the one made ahead, a recycled or a new one. Its name is
    /// durable when this returns. Segments of records are used in the order of their numbers: whoever makes one
    /// holds the lock, and one made ahead is used or given back before the next is made.
    pub(crate) fn next(&self, bytes: u64) -> io::Result<Writable> {
        let mut prepared = self.prepared.lock();
        match prepared.take() {
            Some(made) if bytes <= self.segment_bytes => Ok(made),
            Some(made) => {
                self.free(made.segment)?;
                self.make(bytes, Contents::Records)
            }
            None => self.make(bytes, Contents::Records),
        }
    }

    /// A file of its own for one large message, with room for `bytes`; its name is durable.
    pub(crate) fn make_body(&self, bytes: u64) -> io::Result<Arc<Segment>> {
        Ok(self.make(bytes, Contents::Body)?.segment)
    }

    /// Makes a segment ahead of its use, if there is none.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let mut prepared = self.prepared.lock();
        if prepared.is_none() {
            *prepared = Some(self.make(0, Contents::Records)?);
        }
        Ok(())
    }

    /// Takes back the segment that was made ahead.
    pub(crate) fn leave_prepared(&self) -> io::Result<()> {
        let prepared = self.prepared.lock().take();
        prepared.map_or(Ok(()), |made| self.free(made.segment))
    }

    fn make(&self, bytes: u64, holds: Contents) -> io::Result<Writable> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let path = self.path(number);
        let recycled = match holds {
            Contents::Records if bytes <= self.segment_bytes => self.spent.take(),
            Contents::Records | Contents::Body => self.spent.take_like(bytes),
        };
        let file = match &recycled {
            Some(spare) => {
                self.files.rename(spare, &path)?;
                self.files.open(&path, OpenMode::Write)?
            }
            None => self.files.open(&path, OpenMode::Create)?,
        };
        let capacity = match holds {
            Contents::Records => self.segment_bytes.max(bytes),
            Contents::Body => bytes,
        };
        // A file that did not fill up before its segment was freed is ready up to its length only.
        let ready = file.length()?.min(capacity);
        let segment = Arc::new(Segment {
            number,
            path,
            file,
            capacity,
            holds,
        });
        let mut writable = Writable {
            segment,
            allocated: ready,
            filled: ready,
        };
        let reserved = writable.allocate(bytes.max(1));
        if let Err(error) = reserved.and_then(|()| self.files.sync_directory(&self.directory)) {
            // Leave nothing behind: a full disk would be asked again and again.
            let _ = self.files.remove(writable.segment.path());
            return Err(error);
        }
        failpoint::reached(Failpoint::NewSegment);
        Ok(writable)
    }

    /// Takes back a segment in which nothing lives. Its file is written again or given back to the
    /// disk once nobody reads it.
    pub(crate) fn free(&self, segment: Arc<Segment>) -> io::Result<()> {
        self.spent.add(segment)
    }

    /// Takes back a file that holds nothing and that nobody reads, by its number.
    pub(crate) fn free_number(&self, number: u32) -> io::Result<()> {
        let path = self.path(number);
        let spent = path.with_extension("spare");
        self.files.rename(&path, &spent)?;
        self.spent.found(spent)
    }
}
