//! Opening a store: its directory, index, replay, threads. Changes nothing before everything has been found good.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use leveret_store_api::failpoint::{self, Failpoint};
use leveret_store_api::{Payload, Waiters};
use parking_lot::{Condvar, Mutex};

use super::ahead::WritingAhead;
use super::aside::SetAside;
use super::ballast::Ballast;
use super::committer::{Committer, Resume};
use super::directory::{Directory, enter, make_format, mark_running};
use super::newest::NewestDurable;
use super::recovery::{self, Heads, Replay, unusable};
use super::shared::{Duties, Shared, Staging};
use super::status::StatusCell;
use super::{Journal, checkpoint};
use crate::delivered::{self, DeliveredFile, Opening};
use crate::error::OpenError;
use crate::files::{DiskFiles, Files, OpenMode, StoreFile};
use crate::index::disk::{self, IndexStore, SledIndex};
use crate::index::rows::{BadRow, Checkpoint, Loaded};
use crate::index::{Index, Position};
use crate::metered::MeteredFiles;
use crate::options::JournalOptions;
use crate::segments::files::SegmentFiles;
use crate::segments::segment::{Contents, Writable};

impl<P: Payload> Journal<P> {
    /// Opens the store in `directory`, makes it if there is none, and starts its threads.
    ///
    /// # Errors
    /// The directory is in use, unusable, of a newer format or damaged. Nothing was changed then.
    pub fn open(directory: &Path, options: JournalOptions) -> Result<Self, OpenError> {
        let index = SledIndex::new(&directory.join("index"));
        let options = options.small_if_asked();
        Journal::open_on(Arc::new(DiskFiles), Box::new(index), directory, options)
    }

    /// Opens a store on other files than the real disk's: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        files: Arc<dyn Files>,
        index: Box<dyn IndexStore>,
        directory: &Path,
        options: JournalOptions,
    ) -> Result<Self, OpenError> {
        let io = Arc::default();
        let files = Arc::new(MeteredFiles::new(files, &io));
        let mut journal = open(files, index, directory, options)?;
        journal.io = io;
        Ok(journal)
    }
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

fn open<P: Payload>(
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
    let known = (entered.store, entered.newest_lsn);
    let heads = Heads::open(&segments, &numbers, known, OpenMode::Write)?;
    recovery::check_store(&heads, &segments, &numbers, &directory.join("format"))?;
    let mut read = Reading {
        index_store: &mut *index_store,
        heads: &heads,
        segments: &segments,
        directory,
        recover: options.recover,
    };
    let ballast = Ballast::find(Arc::clone(&files), directory, options.ballast_bytes);
    let mut found = match read.index(false) {
        Err(OpenError::Full { .. }) if ballast.give_up() => read.index(false)?,
        found => found?,
    };
    if !found.problems.is_empty() && heads.has_bodies() {
        // What refers to a large message may be among what is lost: its file tells of it, too.
        found = read.index(true)?;
    }
    for problem in &found.problems {
        tracing::error!("lost: {problem}");
    }
    if let Some(torn) = &found.torn {
        tracing::warn!(
            "dropped: {torn} is not whole, and nothing says that it was ever on stable storage"
        );
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
        ballast,
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
    /// The record at the end of which only a part is there.
    torn: Option<String>,
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
            torn: replay.torn,
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
        make_format(files, directory, entered.store)?;
    }
    // Without a word of the last opening, nobody knows how that ended.
    if entered.was_running || entered.epoch == 0 {
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
    mark_running(&*entered.lock, epoch)?;
    let newest = NewestDurable::new(Arc::clone(&entered.lock), entered.store, epoch);
    newest.write(end.lsn);
    Ok(())
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
    ballast: Ballast,
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
        ahead: Arc::new(WritingAhead::new()),
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
        ballast,
        index_unknown: AtomicBool::new(recovered),
        waiters: Waiters::default(),
        staged_bytes: AtomicU64::new(0),
        status: StatusCell::new(),
        duties: Mutex::new(Duties {
            dirty: dirty || recovered || has_dead,
            // Until the index is written anew, the next start would have to recover again.
            checkpoint: recovered,
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
    let newest = NewestDurable::new(Arc::clone(&lock), shared.store, shared.epoch);
    let committer = Committer::new(Arc::clone(&shared), resume, newest);
    let mut journal = Journal {
        shared: Arc::clone(&shared),
        committer: None,
        checkpointer: None,
        opened_clean,
        io: Arc::default(),
        lock,
    };
    let committing = thread::Builder::new().name("leveret-commit".to_owned());
    journal.committer = Some(committing.spawn(move || committer.run())?);
    let checkpointing = thread::Builder::new().name("leveret-checkpoint".to_owned());
    journal.checkpointer = Some(checkpointing.spawn(move || checkpoint::run(&shared))?);
    Ok(journal)
}
