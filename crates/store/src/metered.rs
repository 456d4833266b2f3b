//! Files that are counted: what is read, written and brought to stable storage, and how long that takes.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::files::{Files, OpenMode, StoreFile};

/// Times of a sync that are told apart: those below 16 µs times 2^n, for each n up to 19 (8 s), and longer ones.
const TIMES: usize = 21;
const SHORTEST_US: u64 = 16;

/// What a store has had done since it was opened.
#[derive(Debug, Default)]
pub struct IoCounts {
    reads: Operations,
    writes: Operations,
    /// Those with a write that is durable by itself included; that write is counted as such too, without its time.
    syncs: Operations,
    sync_times: [AtomicU64; TIMES],
}

#[derive(Debug, Default)]
struct Operations {
    count: AtomicU64,
    bytes: AtomicU64,
    microseconds: AtomicU64,
}

/// How often something was done, with how much, and how long that took.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IoOperations {
    /// How often.
    pub count: u64,
    /// With how many bytes.
    pub bytes: u64,
    /// For how long in all, microseconds.
    pub microseconds: u64,
}

/// What was done until now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IoFigures {
    /// Reads.
    pub reads: IoOperations,
    /// Writes.
    pub writes: IoOperations,
    /// Waits for stable storage.
    pub syncs: IoOperations,
    /// For bounds in seconds, how many of those took less. What took longer is in the count alone.
    pub syncs_below: Vec<(f64, u64)>,
}

impl Operations {
    fn add(&self, bytes: u64, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.microseconds
            .fetch_add(microseconds(took), Ordering::Relaxed);
    }

    fn figures(&self) -> IoOperations {
        IoOperations {
            count: self.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            microseconds: self.microseconds.load(Ordering::Relaxed),
        }
    }
}

impl IoCounts {
    /// What was done until now.
    #[must_use]
    pub fn figures(&self) -> IoFigures {
        let mut below = 0;
        let bounded = self.sync_times.iter().take(TIMES - 1).zip(0u32..);
        let syncs_below = bounded.map(|(count, power)| {
            below += count.load(Ordering::Relaxed);
            let bound_us = SHORTEST_US << power;
            (bound_us as f64 / 1e6, below)
        });
        IoFigures {
            syncs_below: syncs_below.collect(),
            reads: self.reads.figures(),
            writes: self.writes.figures(),
            syncs: self.syncs.figures(),
        }
    }

    fn note_sync(&self, took: Duration) {
        self.syncs.add(0, took);
        let times = microseconds(took) / SHORTEST_US;
        let place = (u64::BITS - times.leading_zeros()) as usize;
        if let Some(count) = self.sync_times.get(place.min(TIMES - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Files of which is counted what is done with them.
pub(crate) struct MeteredFiles {
    files: Arc<dyn Files>,
    counts: Arc<IoCounts>,
}

struct MeteredFile {
    file: Arc<dyn StoreFile>,
    counts: Arc<IoCounts>,
}

impl MeteredFiles {
    pub(crate) fn new(files: Arc<dyn Files>, counts: &Arc<IoCounts>) -> Self {
        Self {
            files,
            counts: Arc::clone(counts),
        }
    }
}

impl Files for MeteredFiles {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.files.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.files.list(directory)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StoreFile>> {
        Ok(Arc::new(MeteredFile {
            file: self.files.open(path, mode)?,
            counts: Arc::clone(&self.counts),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let begun = clock::now();
        self.files.sync_directory(path)?;
        self.counts.note_sync(begun.elapsed());
        Ok(())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.files.free_bytes(path)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        self.files.boot_id()
    }
}

impl StoreFile for MeteredFile {
    fn is_named(&self, path: &Path) -> io::Result<bool> {
        self.file.is_named(path)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let begun = clock::now();
        let read = self.file.read_at(buffer, offset)?;
        self.counts.reads.add(read as u64, begun.elapsed());
        Ok(read)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64, durable: bool) -> io::Result<()> {
        let bytes = slices.iter().map(|slice| slice.len() as u64).sum();
        let begun = clock::now();
        self.file.write_at(slices, offset, durable)?;
        let took = begun.elapsed();
        if durable {
            self.counts.writes.add(bytes, Duration::ZERO);
            self.counts.note_sync(took);
        } else {
            self.counts.writes.add(bytes, took);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let begun = clock::now();
        self.file.sync()?;
        self.counts.note_sync(begun.elapsed());
        Ok(())
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.allocate(offset, length)
    }

    fn shorten(&self, length: u64) -> io::Result<()> {
        self.file.shorten(length)
    }

    fn lock(&self) -> io::Result<bool> {
        self.file.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::SimulatedDisk;

    #[test]
    fn what_is_done_is_counted() {
        let counts = Arc::<IoCounts>::default();
        let files = MeteredFiles::new(Arc::new(SimulatedDisk::new()), &counts);
        files.create_directory(Path::new("/d")).unwrap();
        let file = files.open(Path::new("/d/f"), OpenMode::Create).unwrap();
        let write = |text: &'static [u8], at, durable| {
            file.write_at(&mut [IoSlice::new(text)], at, durable)
                .unwrap();
        };
        write(b"abc", 0, false);
        write(b"de", 3, true);
        file.sync().unwrap();
        assert_eq!(file.read_at(&mut [0; 9], 1).unwrap(), 4);
        let figures = counts.figures();
        let of = |operations: IoOperations| (operations.count, operations.bytes);
        assert_eq!((of(figures.reads), of(figures.writes)), ((1, 4), (2, 5)));
        assert_eq!(figures.syncs.count, 2);
    }

    #[test]
    fn syncs_are_counted_below_bounds() {
        let counts = IoCounts::default();
        for microseconds in [0, 15, 16, 31, 32, 10_000_000] {
            counts.note_sync(Duration::from_micros(microseconds));
        }
        let figures = counts.figures();
        assert_eq!(
            figures.syncs_below[..3],
            [(16e-6, 2), (32e-6, 4), (64e-6, 5)]
        );
        assert_eq!(figures.syncs_below.last().unwrap().1, 5);
        assert_eq!(figures.syncs.count, 6);
    }
}
