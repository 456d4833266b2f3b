//! A store's directory: its lock, and the file that says which format it has. Owns those two files.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use leveret_store_api::Payload;

use super::format::FORMAT_VERSION_CHECKS;
use super::newest;
use super::recovery::unusable;
use super::shared::Shared;
use crate::error::OpenError;
use crate::files::{Files, OpenMode, StoreFile};

/// The newest that this code reads.
const FORMAT_VERSION: u64 = FORMAT_VERSION_CHECKS;
const RUNNING: &str = "running";
const LEFT: &str = "left";

/// A directory that is locked and has a format this code reads.
pub(super) struct Directory {
    pub(super) lock: Arc<dyn StoreFile>,
    /// The last one who had it did not leave in order.
    pub(super) was_running: bool,
    /// How often it was opened before.
    pub(super) epoch: u32,
    /// The store's random number.
    pub(super) store: u32,
    /// The newest record of which the last one who had it noted that it was on stable storage.
    pub(super) newest_lsn: u64,
    /// The version of its format.
    pub(super) version: u64,
    pub(super) is_new: bool,
}

/// Takes a directory. A new one is made, but not yet marked as a store.
pub(super) fn enter(files: &dyn Files, directory: &Path) -> Result<Directory, OpenError> {
    files
        .create_directory(directory)
        .map_err(unusable(directory))?;
    let path = directory.join("lock");
    let lock = files
        .open(&path, OpenMode::Create)
        .map_err(unusable(&path))?;
    let held = hold(&path, &*lock)?;
    let format = read_format(files, directory)?;
    Directory::of(lock, held, format).map_err(unusable(&path))
}

/// Takes a store's directory and changes nothing in it.
pub(super) fn enter_to_read(files: &dyn Files, directory: &Path) -> Result<Entered, OpenError> {
    let path = directory.join("lock");
    let held = match files.open(&path, OpenMode::Read) {
        Ok(lock) => {
            let (_, epoch) = hold(&path, &*lock)?;
            Some((lock, epoch))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(&path)(error)),
    };
    let Some((_, store)) = read_format(files, directory)? else {
        return Err(OpenError::FormatDamaged {
            path: directory.join("format"),
            reason: "it is empty or missing".to_owned(),
        });
    };
    let noted = held
        .as_ref()
        .map(|(lock, epoch)| newest::read(&**lock, store, *epoch));
    Ok(Entered {
        store,
        newest_lsn: noted.transpose().map_err(unusable(&path))?.unwrap_or(0),
        _lock: held.map(|(lock, _)| lock),
    })
}

/// A directory that is held to be read.
pub(super) struct Entered {
    _lock: Option<Arc<dyn StoreFile>>,
    pub(super) store: u32,
    pub(super) newest_lsn: u64,
}

/// As [`enter`], of a store the format of which `found` tells where the file that says it is lost; that is written again.
pub(super) fn enter_anew(
    files: &dyn Files,
    directory: &Path,
    found: impl FnOnce() -> Result<Option<u32>, OpenError>,
) -> Result<Directory, OpenError> {
    let path = directory.join("lock");
    let lock = files
        .open(&path, OpenMode::Create)
        .map_err(unusable(&path))?;
    let held = hold(&path, &*lock)?;
    let said = match read_format(files, directory) {
        Ok(said) => said,
        Err(OpenError::FormatDamaged { .. }) => None,
        Err(error) => return Err(error),
    };
    let format = match (said, found()?) {
        (Some((version, store)), found) if found.is_none_or(|found| found == store) => {
            (version, store)
        }
        (_, Some(store)) => {
            write_format(files, directory, FORMAT_VERSION, store).map_err(unusable(directory))?;
            (FORMAT_VERSION, store)
        }
        (_, None) => {
            let path = directory.join("journal");
            return Err(OpenError::NoJournal { path });
        }
    };
    Directory::of(lock, held, Some(format)).map_err(unusable(&path))
}

/// Takes the lock; what it says.
fn hold(path: &Path, lock: &dyn StoreFile) -> Result<(bool, u32), OpenError> {
    if !lock.lock().map_err(unusable(path))? {
        let path = path.to_path_buf();
        return Err(OpenError::InUse { path });
    }
    read_lock(lock).map_err(unusable(path))
}

impl Directory {
    fn of(
        lock: Arc<dyn StoreFile>,
        held: (bool, u32),
        format: Option<(u64, u32)>,
    ) -> io::Result<Self> {
        let (was_running, epoch) = held;
        let is_new = format.is_none();
        let (version, store) = format.unwrap_or_else(|| (FORMAT_VERSION, random()));
        Ok(Directory {
            newest_lsn: newest::read(&*lock, store, epoch)?,
            lock,
            was_running,
            epoch,
            store,
            version,
            is_new,
        })
    }
}

/// What the lock file says: whether the last one left in order, and the number of that opening.
fn read_lock(lock: &dyn StoreFile) -> io::Result<(bool, u32)> {
    let mut bytes = [0; 64];
    let read = lock.read_at(&mut bytes, 0)?;
    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned();
    let mut words = text.split_whitespace();
    let state = words.next();
    let epoch = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok((state.is_some_and(|state| state != LEFT), epoch))
}

/// Marks the directory as in use. The number of the opening has to be on stable storage before the first record
/// bears it: by it what one opening wrote in vain is told from what a later one wrote.
pub(super) fn mark_running(lock: &dyn StoreFile, epoch: u32) -> io::Result<()> {
    write_lock(lock, RUNNING, epoch)
}

/// Marks it as left in order.
pub(super) fn mark_left(lock: &dyn StoreFile, epoch: u32) -> io::Result<()> {
    write_lock(lock, LEFT, epoch)
}

fn write_lock(lock: &dyn StoreFile, state: &str, epoch: u32) -> io::Result<()> {
    let text = format!("{state:<8}{epoch:>12}\n");
    lock.write_at(&mut [IoSlice::new(text.as_bytes())], 0, true)
}

/// The version and the store's number from the file `format`; `None` if there is no such file yet.
fn read_format(files: &dyn Files, directory: &Path) -> Result<Option<(u64, u32)>, OpenError> {
    let path = directory.join("format");
    let file = match files.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path)(error)),
    };
    let mut bytes = [0; 256];
    let read = file.read_at(&mut bytes, 0).map_err(unusable(&path))?;
    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned();
    let mut words = text.split_whitespace();
    let damaged = || OpenError::FormatDamaged {
        path: path.clone(),
        reason: format!("this is not the format of a store: {text:?}"),
    };
    if read == 0 {
        return Ok(None);
    }
    let (Some("leveret-store"), Some(version)) = (words.next(), words.next()) else {
        return Err(damaged());
    };
    let found: u64 = version.parse().map_err(|_| damaged())?;
    if found > FORMAT_VERSION {
        return Err(OpenError::NewerFormat {
            path,
            found,
            supported: FORMAT_VERSION,
        });
    }
    let store = words
        .next()
        .and_then(|word| u32::from_str_radix(word, 16).ok())
        .ok_or_else(damaged)?;
    Ok(Some((found, store)))
}

/// Before the first message bears a number or has checksums of its own: programs that do not know of such things are
/// to refuse the store from now on.
pub(super) fn raise_format<P: Payload>(shared: &Shared<P>, version: u64) -> io::Result<()> {
    let mut format = shared.format.lock();
    if *format < version {
        let files = shared.segments.files();
        write_format(files, &shared.directory, version, shared.store)?;
        *format = version;
    }
    Ok(())
}

/// Makes the file that says what this directory is.
pub(super) fn make_format(files: &dyn Files, directory: &Path, store: u32) -> io::Result<()> {
    write_format(files, directory, FORMAT_VERSION, store)
}

fn write_format(files: &dyn Files, directory: &Path, version: u64, store: u32) -> io::Result<()> {
    let text = format!("leveret-store {version} {store:08x}\n");
    let file = files.open(&directory.join("format"), OpenMode::Create)?;
    file.write_at(&mut [IoSlice::new(text.as_bytes())], 0, true)?;
    files.sync_directory(directory)
}

/// A number that nobody can guess: every hasher of the standard library is seeded with one.
#[allow(clippy::cast_possible_truncation, reason = "any 32 bits of it will do")]
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
