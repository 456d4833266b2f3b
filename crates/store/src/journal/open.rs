//! Opening and leaving a store directory: lock, format, index, replay, threads. Owns the files beside
//! the journal's segments. Changes nothing before everything has been found good.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::ahead::WritingAhead;
use super::aside::SetAside;
use super::committer::{Committer, Resume};
use super::recovery::{self, Heads, Replay, unusable};
use super::segment::{Contents, SegmentFiles, Writable};
use super::{Duties, Journal, JournalOptions, Shared, Staging, StatusCell, checkpoint};
use crate::Payload;
use crate::delivered::{self, DeliveredFile, Opening};
use crate::error::OpenError;
use crate::failpoint::{self, Failpoint};
use crate::files::{Files, OpenMode, StoreFile};
use crate::index::disk::{self, IndexStore};
use crate::index::rows::{BadRow, Checkpoint, Loaded};
use crate::index::{Index, Position};
use crate::waiters::Waiters;

/// From this version on messages bear numbers …
pub(super) const FORMAT_VERSION_COUNTS: u64 = 3;
/// … and from this one on each has checksums of its own. It is that of a new store. An older program must not
/// read what it does not know.
pub(super) const FORMAT_VERSION_CHECKS: u64 = 4;
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
    /// The version of its format.
    version: u64,
    is_new: bool,
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
    Ok(Directory::of(lock, held, format))
}

/// Takes a store's directory and changes nothing in it.
pub(super) fn enter_to_read(files: &dyn Files, directory: &Path) -> Result<Entered, OpenError> {
    let path = directory.join("lock");
    let lock = match files.open(&path, OpenMode::Read) {
        Ok(lock) => {
            hold(&path, &*lock)?;
            Some(lock)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(unusable(&path)(error)),
    };
    let Some((_, store)) = read_format(files, directory)? else {
        return Err(OpenError::FormatDamaged {
            path: directory.join("format"),
            reason: "it is empty or missing".to_owned(),
        });
    };
    Ok(Entered { _lock: lock, store })
}

/// A directory that is held to be read.
pub(super) struct Entered {
    _lock: Option<Arc<dyn StoreFile>>,
    pub(super) store: u32,
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
    Ok(Directory::of(lock, held, Some(format)))
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
    fn of(lock: Arc<dyn StoreFile>, held: (bool, u32), format: Option<(u64, u32)>) -> Self {
        let (was_running, epoch) = held;
        let is_new = format.is_none();
        let (version, store) = format.unwrap_or_else(|| (FORMAT_VERSION, random()));
        Directory {
            lock,
            was_running,
            epoch,
            store,
            version,
            is_new,
        }
    }
}

/// What the lock file says: whether the last one left in order, and the number of that opening.
fn read_lock(lock: &dyn StoreFile) -> std::io::Result<(bool, u32)> {
    let mut bytes = [0; 64];
    let read = lock.read_at(&mut bytes, 0)?;
    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned();
    let mut words = text.split_whitespace();
    let state = words.next();
    let epoch = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok((state.is_some_and(|state| state != LEFT), epoch))
}

/// Marks the directory. The number of the opening has to be on stable storage before the first record
/// bears it: by it what one opening wrote in vain is told from what a later one wrote.
fn write_lock(lock: &dyn StoreFile, state: &str, epoch: u32) -> std::io::Result<()> {
    let text = format!("{state:<8}{epoch:>12}\n");
    lock.write_at(&mut [IoSlice::new(text.as_bytes())], 0, true)
}

/// The version and the store's number from the file `format`; `None` if there is no such file yet.
fn read_format(files: &dyn Files, directory: &Path) -> Result<Option<(u64, u32)>, OpenError> {
    let path = directory.join("format");
    let file = match files.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
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
pub(super) fn raise_format<P: Payload>(shared: &Shared<P>, version: u64) -> std::io::Result<()> {
    let mut format = shared.format.lock();
    if *format < version {
        let files = shared.segments.files();
        write_format(files, &shared.directory, version, shared.store)?;
        *format = version;
    }
    Ok(())
}

fn write_format(
    files: &dyn Files,
    directory: &Path,
    version: u64,
    store: u32,
) -> std::io::Result<()> {
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

/// What the index on disk says.
pub(super) fn load(
    index_store: &mut dyn IndexStore,
    directory: &Path,
) -> Result<Loaded, OpenError> {
    load_by(directory, |each| index_store.load(each))
}

/// The same, without a change to the index.
pub(super) fn load_copy(directory: &Path) -> Result<Loaded, OpenError> {
    load_by(directory, |each| {
        disk::load_copy(&directory.join("index"), each)
    })
}

fn load_by(
    directory: &Path,
    load: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> std::io::Result<()>,
) -> Result<Loaded, OpenError> {
    let path = directory.join("index");
    let mut loaded = Loaded::default();
    let mut bad: Option<BadRow> = None;
    let result = load(&mut |key, value| {
        if let Err(reason) = loaded.row(key, value) {
            bad.get_or_insert(reason);
        }
    });
    match (result, bad) {
        (Err(error), _) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(OpenError::IndexDamaged {
                path,
                reason: error.to_string(),
            })
        }
        (Err(error), _) => Err(unusable(&path)(error)),
        (Ok(()), Some(BadRow(reason))) => Err(OpenError::IndexDamaged {
            path,
            reason: reason.to_owned(),
        }),
        (Ok(()), None) => Ok(loaded),
    }
}

/// The index as it was at the last checkpoint, with the journal's segments.
pub(super) fn fill(
    loaded: &mut Loaded,
    heads: &Heads,
    files: &SegmentFiles,
    recover: bool,
    directory: &Path,
) -> Result<(Index, Vec<String>), OpenError> {
    let mut index = Index {
        keeps_all_counts: true,
        ..Index::default()
    };
    for segment in heads.segments.values() {
        index.segments.insert(Arc::clone(segment));
    }
    let mut missing = Vec::new();
    loaded.chunks.retain(|(log, chunk)| {
        let end = u64::from(chunk.offset) + u64::from(chunk.span);
        let segment = heads.segments.get(&chunk.segment);
        let length = segment.and_then(|segment| segment.file.length().ok());
        // A large message of which the end is missing is one damaged message.
        let is_large = segment.is_some_and(|segment| segment.holds == Contents::Body);
        if is_large || length.is_some_and(|length| end <= length) {
            return true;
        }
        let (count, log, offset) = (chunk.count(), log.0, u64::from(chunk.offset));
        let has = length.map_or("is missing".to_owned(), |length| {
            format!("ends at {length}")
        });
        let reason = format!("{count} messages of log {log} should be here, but the file {has}");
        missing.push((files.path(chunk.segment), offset, reason));
        false
    });
    if !recover && let Some((path, offset, reason)) = missing.pop() {
        return Err(OpenError::Damaged {
            path,
            offset,
            reason,
        });
    }
    let problems = missing
        .into_iter()
        .map(|(path, offset, reason)| format!("{}, offset {offset}: {reason}", path.display()))
        .collect();
    let checkpoint = loaded.checkpoint;
    loaded
        .fill(&mut index)
        .map_err(|BadRow(reason)| OpenError::IndexDamaged {
            path: directory.join("index"),
            reason: reason.to_owned(),
        })?;
    if checkpoint.is_none() && heads.first_from(0).is_some_and(|(lsn, ..)| lsn > 1) {
        let reason = "it is missing, or it was never finished".to_owned();
        return Err(OpenError::IndexDamaged {
            path: directory.join("index"),
            reason,
        });
    }
    Ok((index, problems))
}

/// The record at which the replay begins is there, if the journal was ever written.
pub(super) fn check_start(
    heads: &Heads,
    files: &SegmentFiles,
    checkpoint: Option<&Checkpoint>,
    recover: bool,
) -> Result<(), OpenError> {
    let Some(Checkpoint { position, .. }) =
        checkpoint.filter(|checkpoint| checkpoint.position.lsn > 0)
    else {
        return Ok(());
    };
    if recover || heads.segments.contains_key(&position.segment) {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: files.path(position.segment),
        offset: position.offset,
        reason: "the file in which the journal goes on is missing".to_owned(),
    })
}

pub(super) fn open<P: Payload>(
    files: Arc<dyn Files>,
    mut index_store: Box<dyn IndexStore>,
    directory: &Path,
    options: JournalOptions,
) -> Result<Journal<P>, OpenError> {
    let entered = enter(&*files, directory)?;
    let path = directory.join("journal");
    let segments = SegmentFiles::new(
        Arc::clone(&files),
        path.clone(),
        options.segment_bytes,
        options.spare_segments,
    );
    let numbers = segments.scan().map_err(unusable(&path))?;
    if entered.is_new && !numbers.is_empty() {
        return Err(OpenError::FormatDamaged {
            path: directory.join("format"),
            reason: "it is missing beside a journal".to_owned(),
        });
    }
    let heads = Heads::open(&segments, &numbers, entered.store, OpenMode::Write)?;
    recovery::check_store(&heads, &segments, &numbers, &directory.join("format"))?;
    let mut read = Reading {
        index_store: &mut *index_store,
        heads: &heads,
        segments: &segments,
        directory,
        recover: options.recover,
    };
    let mut found = read.index(false)?;
    if !found.problems.is_empty() && heads.has_bodies() {
        // What refers to a large message may be among what is lost: its file tells of it, too.
        found = read.index(true)?;
    }
    for problem in &found.problems {
        tracing::error!("lost: {problem}");
    }
    let Found {
        mut index,
        checkpoint,
        position,
        problems,
        ..
    } = found;
    let recovered = !problems.is_empty();
    if recovered {
        // The index on disk still names what is lost.
        index.mark_all();
    }
    index.keep_live_counts();
    let replayed = position.lsn != index.position.lsn;
    index.position = position;
    index.next_log = index.next_log.max(found.next_log).max(1);
    index.gone_logs = Vec::new();
    let resume = Resume {
        current: resume(&heads, index.position),
        epoch: found.epoch.max(entered.epoch) + 1,
    };

    failpoint::reached(Failpoint::BeforeSettle);
    // From here on the directory is changed.
    let delivered = make_delivered(&files, directory, &entered, &index, resume.epoch);
    let changed = settle(
        &*files,
        directory,
        &entered,
        &heads,
        &segments,
        &mut index,
        resume.epoch,
    );
    changed.map_err(unusable(directory))?;
    failpoint::reached(Failpoint::AfterSettle);
    let clean =
        !entered.was_running && !replayed && checkpoint.is_none_or(|checkpoint| checkpoint.clean);
    let saved = (clean && !recovered && index.dirty_logs.is_empty()).then_some(index.position.lsn);
    let shared = Arc::new(share(
        options,
        directory,
        segments,
        &entered,
        index,
        index_store,
        delivered,
        saved,
        resume.epoch,
        replayed,
        recovered,
    ));
    start(shared, resume, clean, entered.lock).map_err(unusable(directory))
}

/// Reading what a store holds; changes nothing.
struct Reading<'a> {
    index_store: &'a mut dyn IndexStore,
    heads: &'a Heads,
    segments: &'a SegmentFiles,
    directory: &'a Path,
    recover: bool,
}

/// What was read.
struct Found {
    /// At the position of the checkpoint, although it is brought up to the end.
    index: Index,
    checkpoint: Option<Checkpoint>,
    /// The journal's end.
    position: Position,
    epoch: u32,
    next_log: u64,
    /// What could not be read.
    problems: Vec<String>,
}

impl Reading<'_> {
    /// The index of the last checkpoint, brought up to the journal's end. `bodies`: files of large messages tell of
    /// themselves, before records do.
    fn index(&mut self, bodies: bool) -> Result<Found, OpenError> {
        let (heads, segments, recover) = (self.heads, self.segments, self.recover);
        let mut loaded = load(self.index_store, self.directory)?;
        let checkpoint = loaded.checkpoint;
        check_start(heads, segments, checkpoint.as_ref(), recover)?;
        let (mut index, mut problems) =
            fill(&mut loaded, heads, segments, recover, self.directory)?;
        if bodies {
            recovery::insert_bodies(&mut index, heads)?;
        }
        let epoch = checkpoint.map_or(0, |checkpoint| checkpoint.epoch);
        let mut replay = Replay::new(heads, segments, index.position, epoch).recovering(recover);
        replay.run(&mut |record| {
            recovery::apply(&mut index, record, &mut |_| {});
            failpoint::reached(Failpoint::InReplay);
        })?;
        problems.append(&mut replay.problems);
        Ok(Found {
            index,
            checkpoint,
            position: replay.position,
            epoch: replay.epoch.max(epoch),
            next_log: replay.next_log,
            problems,
        })
    }
}

/// What was delivered of the logs that are there, in a file for this opening.
fn make_delivered(
    files: &Arc<dyn Files>,
    directory: &Path,
    entered: &Directory,
    index: &Index,
    epoch: u32,
) -> DeliveredFile {
    let opening = Opening {
        store: entered.store,
        last_epoch: entered.epoch,
        was_running: entered.was_running,
        epoch,
    };
    let found = delivered::find(&**files, directory, &opening);
    let logs = index.logs.iter().map(|(id, log)| (*id, log.next()));
    DeliveredFile::make(Arc::clone(files), directory, &opening, logs, &found)
}

/// Where writing goes on.
fn resume(heads: &Heads, position: Position) -> Option<Writable> {
    let segment = heads.segments.get(&position.segment)?;
    let length = segment.file.length().ok()?;
    let filled = if length >= segment.capacity {
        length
    } else {
        position.offset
    };
    Some(Writable {
        segment: Arc::clone(segment),
        allocated: length,
        filled,
    })
}

/// Makes sure of what was read, marks the directory, clears away what belongs to nothing.
fn settle(
    files: &dyn Files,
    directory: &Path,
    entered: &Directory,
    heads: &Heads,
    segments: &SegmentFiles,
    index: &mut Index,
    epoch: u32,
) -> std::io::Result<()> {
    if entered.is_new {
        write_format(files, directory, FORMAT_VERSION, entered.store)?;
    }
    if entered.was_running {
        // A record may have been read that was written but not yet on stable storage.
        let current = heads.segments.get(&index.position.segment);
        for segment in heads
            .segments
            .range(..index.position.segment)
            .rev()
            .map(|(_, segment)| segment)
            .filter(|segment| segment.holds == Contents::Records)
            .take(1)
            .chain(current)
        {
            segment.file.sync()?;
        }
    }
    let end = index.position;
    // Segments of records are used in the order of their numbers: nothing behind the end belongs to the
    // journal. What is in files of large messages may have been read back: the first checkpoint frees them.
    let stray: Vec<u32> = index
        .segments
        .entries
        .iter()
        .filter(|(number, entry)| {
            let is_behind = **number > end.segment && entry.segment.holds == Contents::Records;
            is_behind && entry.live == 0
        })
        .map(|(number, _)| *number)
        .collect();
    for number in stray {
        index.segments.entries.remove(&number);
        segments.free_number(number)?;
    }
    write_lock(&*entered.lock, RUNNING, epoch)
}

#[allow(
    clippy::too_many_arguments,
    reason = "one place puts together what all threads share"
)]
fn share<P: Payload>(
    options: JournalOptions,
    directory: &Path,
    segments: SegmentFiles,
    entered: &Directory,
    index: Index,
    index_store: Box<dyn IndexStore>,
    delivered: DeliveredFile,
    saved: Option<u64>,
    epoch: u32,
    dirty: bool,
    recovered: bool,
) -> Shared<P> {
    let definitions = index
        .definitions
        .iter()
        .map(|(key, definition)| (Arc::clone(key), Arc::clone(&definition.value)))
        .collect();
    let aside = SetAside::new(segments.shared_files(), directory);
    let has_dead = index.dead_segments().next().is_some();
    Shared {
        options,
        directory: directory.to_path_buf(),
        segments,
        ahead: WritingAhead::new(),
        format: Mutex::new(entered.version),
        store: entered.store,
        epoch,
        saved,
        staging: Mutex::new(Staging::new(definitions)),
        staged: Condvar::new(),
        next_log: AtomicU64::new(index.next_log),
        index: Mutex::new(index),
        index_store: Mutex::new(index_store),
        delivered,
        aside,
        index_unknown: AtomicBool::new(recovered),
        waiters: Waiters::default(),
        staged_bytes: AtomicU64::new(0),
        status: StatusCell::new(),
        duties: Mutex::new(Duties {
            dirty: dirty || recovered || has_dead,
            ..Duties::default()
        }),
        duties_changed: Condvar::new(),
    }
}

fn start<P: Payload>(
    shared: Arc<Shared<P>>,
    resume: Resume,
    opened_clean: bool,
    lock: Arc<dyn StoreFile>,
) -> std::io::Result<Journal<P>> {
    let committer = Committer::new(Arc::clone(&shared), resume);
    let mut journal = Journal {
        shared: Arc::clone(&shared),
        committer: None,
        checkpointer: None,
        opened_clean,
        lock,
    };
    let committing = thread::Builder::new().name("leveret-commit".to_owned());
    journal.committer = Some(committing.spawn(move || committer.run())?);
    let checkpointing = thread::Builder::new().name("leveret-checkpoint".to_owned());
    journal.checkpointer = Some(checkpointing.spawn(move || checkpoint::run(&shared))?);
    Ok(journal)
}

/// Writes the index a last time and marks the directory as left in order. The threads have ended.
pub(super) fn leave<P: Payload>(shared: &Shared<P>, lock: &Arc<dyn StoreFile>) {
    let lsn = shared.index.lock().position.lsn;
    if lsn > 0
        && shared.saved != Some(lsn)
        && let Err(error) = checkpoint::last(shared)
    {
        // The next start replays the journal instead.
        tracing::warn!("the index cannot be written: {error}");
        return;
    }
    shared.delivered.sync();
    let _ = write_lock(&**lock, LEFT, shared.epoch);
}
