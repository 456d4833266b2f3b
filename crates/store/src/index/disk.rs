//! The index on disk: rows in sled. Owns sled and the rules under which it keeps its word: small
//! batches, small values, a sync of our own after each, and no trust in it not to panic.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::rows::Row;
use crate::clock;
use crate::files::shortage;

/// Where the rows of the index are kept.
pub trait IndexStore: Send + 'static {
    /// Calls `each` with every row in key order; does nothing if there never was an index.
    ///
    /// # Errors
    /// The index cannot be read.
    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()>;

    /// Writes and removes rows in this order. They are on stable storage when this returns; if it
    /// fails or the process dies, any number of them from the front may have been written. With
    /// `only`, every row that is not among these is removed before the last of them is written, and behind
    /// the others: until then, what it says may be said by no other.
    ///
    /// # Errors
    /// They could not be written. The store may be asked again.
    fn apply(&mut self, rows: Vec<Row>, only: bool) -> io::Result<()>;

    /// Nothing is to be written for a while: what only writing needs is given back.
    fn rest(&mut self) {}
}

/// sled's segment size. It is part of the store's format: sled refuses to open with another one.
const SLED_SEGMENT_BYTES: usize = 1 << 20;
const SLED_CACHE_BYTES: u64 = 8 << 20;
/// What is written between two syncs stays well below a segment, because sled uses a freed segment
/// again before the sync that makes the freeing safe.
const BATCH_BYTES: usize = 96 * 1024;
/// How long a handle that was dropped may take to let go of the file, and how often that is looked at.
const RELEASE_PATIENCE: Duration = Duration::from_secs(30);
const RELEASE_PAUSE: Duration = Duration::from_millis(2);

/// Rows in sled 0.34, in a directory of its own.
pub struct SledIndex {
    directory: PathBuf,
    open: Option<(sled::Db, File)>,
}

impl SledIndex {
    /// The index in `directory`, opened whenever it is needed.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        make_histograms();
        SledIndex {
            directory: directory.to_path_buf(),
            open: None,
        }
    }

    /// Closes sled: open, it holds some megabytes.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            // An error in closing was one in writing before, or is found when it is opened again.
            let _ = guarded(|| {
                drop(open);
                Ok(())
            });
        }
    }

    fn database(&mut self) -> io::Result<&(sled::Db, File)> {
        let opened = match self.open.take() {
            Some(open) => open,
            None => open(&self.directory, || clock::pause(RELEASE_PAUSE))?,
        };
        Ok(self.open.insert(opened))
    }

    fn write(&mut self, rows: Vec<Row>) -> io::Result<()> {
        let (database, file) = self.database()?;
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        for (key, value) in rows {
            bytes += key.len() + value.as_ref().map_or(0, Vec::len) + 32;
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            if bytes >= BATCH_BYTES {
                commit(database, file, std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        commit(database, file, batch)
    }

    fn strange_rows(&mut self, rows: &[Row]) -> io::Result<Vec<Row>> {
        let kept: std::collections::BTreeSet<&[u8]> = rows
            .iter()
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| key.as_slice())
            .collect();
        let (database, _) = self.database()?;
        let mut strange = Vec::new();
        for key in database.iter().keys() {
            let key = key.map_err(io_error)?;
            if !kept.contains(key.as_ref()) {
                strange.push((key.to_vec(), None));
            }
        }
        Ok(strange)
    }
}

/// Reads all rows of an index that nobody writes, without a change to its directory: sled writes when it opens one.
/// A copy, in the system's directory for such, is read and removed.
///
/// # Errors
/// The index cannot be read, or there is no room for the copy.
pub(crate) fn load_copy(directory: &Path, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    let copy = Copy::of(directory)?;
    SledIndex::new(&copy.0).load_in_place(each)
}

/// A copy of a directory, for as long as it is needed.
struct Copy(PathBuf);

impl Copy {
    fn of(directory: &Path) -> io::Result<Copy> {
        let name = format!(
            "leveret-index-{}-{:016x}",
            std::process::id(),
            RandomState::new().build_hasher().finish()
        );
        let copy = Copy(std::env::temp_dir().join(name));
        copy_all(directory, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "a copy of the index stays");
        }
    }
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            let mut source = File::open(entry.path())?;
            io::copy(&mut source, &mut File::create(target)?)?;
        }
    }
    Ok(())
}

impl SledIndex {
    fn load_in_place(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (database, _) = self.database()?;
        let result = guarded(|| {
            for row in database.iter() {
                let (key, value) = row.map_err(io_error)?;
                each(&key, &value);
            }
            Ok(())
        });
        self.close();
        result
    }
}

impl IndexStore for SledIndex {
    fn load(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        if !self.directory.is_dir() {
            return Ok(());
        }
        match self.load_in_place(each) {
            // Opening it takes room. Without any, what it says can be had nevertheless.
            Err(error) if shortage(&error).is_some() => {
                load_copy(&self.directory, each).map_err(|_| error)
            }
            result => result,
        }
    }

    fn apply(&mut self, mut rows: Vec<Row>, only: bool) -> io::Result<()> {
        let result = guarded(|| {
            if only {
                let strange = self.strange_rows(&rows)?;
                let last = rows.len().saturating_sub(1);
                rows.splice(last..last, strange);
            }
            self.write(std::mem::take(&mut rows))
        });
        // One error and a handle of sled is dead for good. Without one it stays: opening it costs more than a
        // checkpoint of a busy journal does otherwise.
        if result.is_err() {
            self.close();
        }
        result
    }

    fn rest(&mut self) {
        self.close();
    }
}

/// Has sled make the 43 histograms of 512 KiB that it keeps for the whole process and never fills. While memory is
/// fresh, nothing of them is touched; made by the first checkpoint, in memory that was used before and has to be zeroed,
/// they would hold 22 MB for good.
fn make_histograms() {
    drop(sled::Config::new().print_profile_on_drop(true));
}

fn commit(database: &sled::Db, file: &File, batch: sled::Batch) -> io::Result<()> {
    database.apply_batch(batch).map_err(io_error)?;
    database.flush().map_err(io_error)?;
    // sled's flush ends in sync_file_range, which promises nothing.
    file.sync_data()
}

fn open(directory: &Path, pause: impl FnMut()) -> io::Result<(sled::Db, File)> {
    let is_new = !directory.is_dir();
    if !is_new {
        await_release(directory, pause)?;
        remove_unfinished(directory)?;
    }
    let database = guarded(|| {
        sled::Config::new()
            .path(directory)
            .segment_size(SLED_SEGMENT_BYTES)
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace)
            .open()
            .map_err(io_error)
    })?;
    let file = File::open(directory.join("db"))?;
    if is_new {
        file.sync_all()?;
        for name in ["conf", "blobs"] {
            if let Ok(file) = File::open(directory.join(name)) {
                file.sync_all()?;
            }
        }
        File::open(directory)?.sync_all()?;
        if let Some(parent) = directory.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok((database, file))
}

/// Waits until sled has let go of its file. A handle that was dropped may still have work with its threads, which
/// keep the file and its lock, and sled refuses to open then; the store's own lock keeps everybody else out.
fn await_release(directory: &Path, mut pause: impl FnMut()) -> io::Result<()> {
    let file = match File::open(directory.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let begun = clock::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Let go of with the file.
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() > RELEASE_PATIENCE {
            // sled says who is to blame.
            return Ok(());
        }
        pause();
    }
}

/// Removes a snapshot that a crash left unfinished: sled takes it for the newest one and calls the index damaged.
/// The one before it, or the log where there is none, says the same.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled panics on damage that it does not expect; that must not take the broker along.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("sled gave up: {text}"),
        ))
    })
}

fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        // It takes settings that it cannot read for those of an older version, for one.
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_sled_has_not_let_go_of_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        let row = |key: &[u8]| vec![(key.to_vec(), Some(Vec::new()))];
        let mut index = SledIndex::new(&path);
        index.apply(row(b"one"), false).expect("apply");
        index.close();
        let free = await_release(&path, || clock::pause(RELEASE_PAUSE));
        free.expect("sled has let go of it");
        let file = File::open(path.join("db")).expect("sled's file");
        flock(&file, FlockOperation::LockExclusive).expect("the lock");
        let (mut held, mut looks) = (Some(file), 0);
        let opened = open(&path, || {
            looks += 1;
            if looks == 3 {
                held = None;
            }
        });
        index.open = Some(opened.expect("nobody holds it any more"));
        assert_eq!(looks, 3);
        index.apply(row(b"two"), false).expect("apply");
        let mut rows = Vec::new();
        index.close();
        index
            .load(&mut |key, _| rows.push(key.to_vec()))
            .expect("the index can be read");
        assert_eq!(rows, [b"one".to_vec(), b"two".to_vec()]);
    }
}
