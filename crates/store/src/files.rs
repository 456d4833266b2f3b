//! The narrow way to the disk: everything the journal does with files goes through these two traits,
//! so that tests can put a disk underneath that forgets, tears, fills up and fails.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_store_api::Shortage;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::{Errno, ReadWriteFlags};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading an existing file.
    Read,
    /// Reading and writing an existing file.
    Write,
    /// Reading and writing, made if it is missing.
    Create,
}

/// Directories and the files in them.
pub trait Files: Send + Sync + 'static {
    /// Makes the directory and its parents; fine if it exists.
    ///
    /// # Errors
    /// The system refused.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory, in no order.
    ///
    /// # Errors
    /// The system refused.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// The system refused.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StoreFile>>;

    /// Renames a file, replacing what was there.
    ///
    /// # Errors
    /// The system refused.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; those who have it open go on reading it.
    ///
    /// # Errors
    /// The system refused.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The system refused.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Bytes that can still be written below `path`.
    ///
    /// # Errors
    /// The system refused.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Names this run of the system: what was written without a sync is there as long as it lasts. None:
    /// nobody knows.
    fn boot_id(&self) -> Option<[u8; 16]>;
}

/// One open file. All reads and writes name their place.
pub trait StoreFile: Send + Sync {
    /// A look at `path` still finds this file: neither it nor a directory above it was removed, renamed or replaced.
    ///
    /// # Errors
    /// The system refused to look.
    fn is_named(&self, path: &Path) -> io::Result<bool>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// The system refused.
    fn length(&self) -> io::Result<u64>;

    /// Reads from `offset` until `buffer` is full or the file ends; answers how many bytes.
    ///
    /// # Errors
    /// The system refused.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `slices` one after the other from `offset` on. With `durable`, they are on
    /// stable storage when it returns; earlier writes need not be.
    ///
    /// # Errors
    /// The system refused; part of it may have been written.
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64, durable: bool) -> io::Result<()>;

    /// Brings everything written so far to stable storage.
    ///
    /// # Errors
    /// The system refused; what was written may be lost, and asking again does not help.
    fn sync(&self) -> io::Result<()>;

    /// Reserves room for the bytes from `offset` on and makes the file at least that long.
    ///
    /// # Errors
    /// There is no room, or the system refused.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Cuts the file off behind `length` bytes.
    ///
    /// # Errors
    /// The system refused.
    fn shorten(&self, length: u64) -> io::Result<()>;

    /// Takes the file's exclusive lock for as long as it is open; `false` if someone else has it.
    ///
    /// # Errors
    /// The system refused.
    fn lock(&self) -> io::Result<bool>;
}

/// The real disk.
#[derive(Debug, Default)]
pub struct DiskFiles;

struct DiskFile {
    file: File,
    /// Names it for as long as it is open: the device and the number there.
    identity: (u64, u64),
    /// This file system refused synchronous writes once: write and sync apart.
    plain_writes: AtomicBool,
}

impl Files for DiskFiles {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(path)?;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            self.sync_directory(parent)?;
        }
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StoreFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create(mode == OpenMode::Create)
            .truncate(false)
            .open(path)?;
        let found = file.metadata()?;
        Ok(Arc::new(DiskFile {
            file,
            identity: (found.dev(), found.ino()),
            plain_writes: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let digits: String = text.trim().split('-').collect();
        u128::from_str_radix(&digits, 16)
            .ok()
            .map(u128::to_be_bytes)
    }
}

impl DiskFile {
    /// Writes until nothing is left: the system may take less than it is offered.
    fn write_all(
        &self,
        mut slices: &mut [IoSlice<'_>],
        mut offset: u64,
        flags: ReadWriteFlags,
    ) -> Result<(), Errno> {
        // An empty slice would look like a write that makes no progress.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let some = slices.get(..slices.len().min(1024)).unwrap_or_default();
            match rustix::io::pwritev2(&self.file, some, offset, flags) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => {
                    IoSlice::advance_slices(&mut slices, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl StoreFile for DiskFile {
    fn is_named(&self, path: &Path) -> io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(found) => Ok((found.dev(), found.ino()) == self.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64, durable: bool) -> io::Result<()> {
        if durable && !self.plain_writes.load(Ordering::Relaxed) {
            // A copy of the list, so that a refusal at any point can be answered by starting again.
            let mut attempt: Vec<IoSlice<'_>> =
                slices.iter().map(|slice| IoSlice::new(slice)).collect();
            match self.write_all(&mut attempt, offset, ReadWriteFlags::DSYNC) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.plain_writes.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        match self.write_all(slices, offset, ReadWriteFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                for slice in slices.iter().scan(offset, |at, slice| {
                    let start = *at;
                    *at += slice.len() as u64;
                    Some((start, slice))
                }) {
                    self.file.write_all_at(slice.1, slice.0)?;
                }
            }
            other => other?,
        }
        if durable {
            self.file.sync_data()
        } else {
            Ok(())
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, length) {
            // Not every file system can reserve; then the write itself finds out.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let end = offset + length;
                if self.length()? < end {
                    self.file.set_len(end)
                } else {
                    Ok(())
                }
            }
            other => Ok(other?),
        }
    }

    fn shorten(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The size of the disk on which a directory is or, if it is not there yet, will be made.
///
/// # Errors
/// The system refused to look.
pub fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let directory = std::path::absolute(directory)?;
    let mut above = directory.ancestors();
    let existing = above.find(|path| path.exists()).unwrap_or(&directory);
    let found = rustix::fs::statvfs(existing)?;
    Ok(found.f_blocks.saturating_mul(found.f_frsize))
}

/// What has run out, where that is why the system refused: such a failure of a write passes.
pub(crate) fn shortage(error: &io::Error) -> Option<Shortage> {
    match error.kind() {
        io::ErrorKind::StorageFull => return Some(Shortage::Disk),
        io::ErrorKind::QuotaExceeded => return Some(Shortage::Quota),
        io::ErrorKind::OutOfMemory => return Some(Shortage::Memory),
        _ => {}
    }
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some(Shortage::Descriptors),
        Errno::NFILE => Some(Shortage::SystemDescriptors),
        Errno::NOMEM | Errno::NOBUFS => Some(Shortage::Memory),
        _ => None,
    }
}
