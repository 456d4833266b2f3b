//! Looking after a store that is not running: `verify` reads and checks everything, `rebuild` makes the
//! index anew from the journal alone. Owns nothing; both take the store's lock.

use std::path::Path;
use std::sync::Arc;

use leveret_store_api::{Definitions, LogId};

use super::aside;
use super::directory::{enter_anew, enter_to_read};
use super::found::Content;
use super::newest::NewestDurable;
use super::open;
use super::read::{load, messages};
use super::recovery::{self, Heads, Record, Replay, unusable};
use super::snapshot::{self, Fact, PartHeader};
use crate::error::OpenError;
use crate::files::{DiskFiles, Files, OpenMode};
use crate::index::Index;
use crate::index::disk::{IndexStore, SledIndex};
use crate::index::rows::{self, Checkpoint, Row};
use crate::options::JournalOptions;
use crate::segments::files::SegmentFiles;

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segment files of the journal.
    pub segments: u64,
    /// Logs that are known.
    pub logs: u64,
    /// Live messages.
    pub messages: u64,
    /// Bytes of live messages that were read and are what was written.
    pub bytes: u64,
    /// The definitions themselves: what they say is for somebody else to judge.
    pub definitions: Definitions,
    /// Everything that is wrong, one line each: file, offset, what.
    pub problems: Vec<String>,
    /// A start refuses the store for some of that, unless it is told to recover.
    pub is_refused: bool,
    /// Messages that cannot be read: a start sets them aside and goes on. They are among the problems.
    pub damaged: u64,
    /// Messages that were set aside while the store ran, one line each.
    pub set_aside: Vec<String>,
}

/// What `rebuild` made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records read.
    pub records: u64,
    /// Logs found.
    pub logs: u64,
    /// Messages found live. Some may have been acknowledged before: they will be delivered again.
    pub messages: u64,
    /// The definitions found: what they say is for somebody else to judge.
    pub definitions: Definitions,
    /// What could not be read, one line each: file, offset, what.
    pub problems: Vec<String>,
}

/// Reads everything in a store and checks it. Changes nothing, not even where it could.
///
/// # Errors
/// The store is in use, of a newer format, or so damaged that it could not be opened.
pub fn verify(directory: &Path) -> Result<Verified, OpenError> {
    let files: Arc<dyn Files> = Arc::new(DiskFiles);
    is_store(directory)?;
    let entered = enter_to_read(&*files, directory)?;
    let (segments, numbers) = scan(&files, directory)?;
    let mut loaded = open::load_copy(directory)?;
    let checkpoint = loaded.checkpoint;
    let known = (entered.store, entered.newest_lsn);
    let heads = Heads::open(&segments, &numbers, known, OpenMode::Read)?;
    recovery::check_store(&heads, &segments, &numbers, &directory.join("format"))?;
    open::check_start(&heads, &segments, checkpoint.as_ref(), false)?;
    let (mut index, mut problems) = open::fill(&mut loaded, &heads, &segments, true, directory)?;
    let epoch = checkpoint.map_or(0, |checkpoint| checkpoint.epoch);
    let mut replay = Replay::new(&heads, &segments, index.position, epoch).recovering(true);
    replay.run(&mut |record| recovery::apply(&mut index, record, &mut |_| {}))?;
    problems.append(&mut replay.problems);
    let is_refused = !problems.is_empty();
    // What is before the checkpoint no start reads, but `rebuild` does.
    for problem in unread(&heads, &segments)? {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    let mut found = Verified {
        segments: numbers.len() as u64,
        logs: index.logs.len() as u64,
        definitions: definitions_of(&index),
        problems,
        is_refused,
        set_aside: aside::noted(&*files, directory)
            .map_err(unusable(&aside::path_in(directory)))?,
        ..Verified::default()
    };
    check_chunks(&index, &mut found);
    Ok(found)
}

fn definitions_of(index: &Index) -> Definitions {
    let all = index.definitions.iter();
    all.map(|(key, definition)| (key.to_vec(), definition.value.to_vec()))
        .collect()
}

/// What cannot be read of the journal as far as it is there.
fn unread(heads: &Heads, segments: &SegmentFiles) -> Result<Vec<String>, OpenError> {
    let mut replay = replay_all(heads, segments)?;
    replay.run(&mut |_| {})?;
    let mut problems = replay.problems;
    problems.extend(headless(heads, segments)?);
    Ok(problems)
}

/// Segments that have lost their first record are passed over where the journal has gaps.
fn headless(heads: &Heads, segments: &SegmentFiles) -> Result<Vec<String>, OpenError> {
    let numbers = heads.headless()?.into_iter();
    let told = numbers.map(|number| {
        let path = segments.path(number);
        format!(
            "{}, offset 0: the first record is missing or unreadable",
            path.display()
        )
    });
    Ok(told.collect())
}

fn is_store(directory: &Path) -> Result<(), OpenError> {
    let parts = ["format", "journal", "index"];
    if parts.iter().any(|part| directory.join(part).exists()) {
        return Ok(());
    }
    let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no store here");
    Err(OpenError::Unusable {
        path: directory.to_path_buf(),
        source,
    })
}

fn check_chunks(index: &Index, found: &mut Verified) {
    let mut buffer = Vec::new();
    for (id, log) in &index.logs {
        for chunk in log.chunks() {
            found.messages += u64::from(chunk.count());
            let Some(entry) = index.segments.entries.get(&chunk.segment) else {
                continue;
            };
            let refused = load(chunk, &entry.segment, &mut buffer).err();
            for message in messages(*id, chunk, chunk.first(), &buffer) {
                let reason = match message.content {
                    Content::Whole(payload) => {
                        found.bytes += payload.len() as u64;
                        continue;
                    }
                    Content::Head(_) => "its body is not what was written",
                    Content::Nothing => "nothing of it is what was written",
                };
                let reason = match &refused {
                    None => reason.to_owned(),
                    Some(error) => format!("it cannot be read: {error}"),
                };
                found.damaged += 1;
                found.problems.push(format!(
                    "{}, offset {}: log {}, message {}: {reason}",
                    entry.segment.path().display(),
                    chunk.offset,
                    id.0,
                    message.sequence.0
                ));
            }
        }
    }
}

/// Makes the index of a store anew from its journal alone. No message that was confirmed and not
/// acknowledged is lost; some that were acknowledged may come back. The old index is replaced when the
/// new one is complete.
///
/// # Errors
/// The store is in use, of a newer format, or the new index cannot be written.
pub fn rebuild(directory: &Path) -> Result<Rebuilt, OpenError> {
    let files: Arc<dyn Files> = Arc::new(DiskFiles);
    is_store(directory)?;
    let (segments, numbers) = scan(&files, directory)?;
    let store = || recovery::store_of(&segments, &numbers);
    let entered = enter_anew(&*files, directory, store)?;
    let known = (entered.store, entered.newest_lsn);
    let heads = Heads::open(&segments, &numbers, known, OpenMode::Read)?;
    if heads.start()?.is_none() {
        let path = directory.join("journal");
        return Err(OpenError::NoJournal { path });
    }
    let (mut index, found, epoch) = reread(&heads, &segments, directory)?;

    let (fresh, old, target) = (
        directory.join("index.new"),
        directory.join("index.old"),
        directory.join("index"),
    );
    for leftover in [&fresh, &old] {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover).map_err(unusable(leftover))?;
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    index.mark_all();
    for (id, log) in &mut index.logs {
        rows::log_rows(*id, log, &mut rows);
    }
    for (key, definition) in &mut index.definitions {
        rows::definition_rows(key, definition, &mut rows);
    }
    rows.push(rows::checkpoint_row(&Checkpoint {
        position: index.position,
        next_log: index.next_log,
        epoch,
        clean: false,
    }));
    let mut store = SledIndex::new(&fresh);
    store.apply(rows, false).map_err(unusable(&fresh))?;
    drop(store);
    if target.exists() {
        std::fs::rename(&target, &old).map_err(unusable(&target))?;
    }
    std::fs::rename(&fresh, &target).map_err(unusable(&fresh))?;
    files
        .sync_directory(directory)
        .map_err(unusable(directory))?;
    // What is behind that is given up, and told.
    NewestDurable::new(entered.lock, entered.store, entered.epoch).write(index.position.lsn);
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(unusable(&old))?;
    }
    Ok(found)
}

fn scan(files: &Arc<dyn Files>, directory: &Path) -> Result<(SegmentFiles, Vec<u32>), OpenError> {
    let path = directory.join("journal");
    let options = JournalOptions::default();
    let segments = SegmentFiles::new(Arc::clone(files), path.clone(), options.segment_bytes, 0);
    let numbers = if path.is_dir() {
        segments.scan().map_err(unusable(&path))?
    } else {
        Vec::new()
    };
    Ok((segments, numbers))
}

/// The index as the journal alone tells it.
fn reread(
    heads: &Heads,
    segments: &SegmentFiles,
    directory: &Path,
) -> Result<(Index, Rebuilt, u32), OpenError> {
    let snapshot = last_snapshot(heads, segments)?;
    let mut index = Index {
        keeps_all_counts: true,
        ..Index::default()
    };
    for segment in heads.segments.values() {
        index.segments.insert(Arc::clone(segment));
    }
    // The records of large messages may be gone before them.
    recovery::insert_bodies(&mut index, heads)?;
    let mut problems = Vec::new();
    let begins_late = heads.start()?.is_some_and(|start| start.lsn > 0);
    let mut pending = match snapshot {
        Some(snapshot) => Some(Settled::Snapshot(snapshot)),
        // What was defined before the journal's first record only the old index may say.
        None if begins_late => match old_definitions(directory) {
            Some(definitions) => Some(definitions),
            None => {
                problems.push(format!(
                    "{}: it begins late, without a snapshot, and the index cannot be read: definitions may be missing",
                    segments.directory().display()
                ));
                None
            }
        },
        None => None,
    };
    let mut records = 0;
    let mut replay = replay_all(heads, segments)?;
    replay.run(&mut |record: &Record<'_>| {
        records += 1;
        if pending
            .as_ref()
            .is_some_and(|settled| record.header.lsn > settled.lsn())
            && let Some(settled) = pending.take()
        {
            settled.settle(&mut index);
        }
        recovery::apply(&mut index, record, &mut |_| {});
    })?;
    if let Some(settled) = pending {
        settled.settle(&mut index);
    }
    index.keep_live_counts();
    index.position = replay.position;
    index.next_log = index.next_log.max(replay.next_log).max(1);
    problems.append(&mut replay.problems);
    for problem in headless(heads, segments)? {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    let found = Rebuilt {
        records,
        logs: index.logs.len() as u64,
        messages: index.logs.values().map(crate::index::Log::live).sum(),
        definitions: definitions_of(&index),
        problems,
    };
    Ok((index, found, replay.epoch))
}

/// What is known to have been so at some record.
enum Settled {
    Snapshot(Collected),
    /// Up to a record: the definitions, of an old index.
    Definitions(u64, Definitions),
}

impl Settled {
    fn lsn(&self) -> u64 {
        match self {
            Settled::Snapshot(snapshot) => snapshot.header.lsn,
            Settled::Definitions(lsn, _) => *lsn,
        }
    }

    fn settle(self, index: &mut Index) {
        match self {
            Settled::Snapshot(snapshot) => snapshot.settle(index),
            Settled::Definitions(_, definitions) => {
                index.definitions.clear();
                for (key, value) in definitions {
                    index.put_definition(key.into(), value.into());
                }
            }
        }
    }
}

/// The definitions of the index that is about to be replaced, if it can be read.
fn old_definitions(directory: &Path) -> Option<Settled> {
    let mut loaded = open::load_copy(directory).ok()?;
    let lsn = loaded.checkpoint?.position.lsn;
    loaded.chunks.clear();
    let mut index = Index::default();
    loaded.fill(&mut index).ok()?;
    Some(Settled::Definitions(lsn, definitions_of(&index)))
}

fn replay_all<'a>(heads: &'a Heads, segments: &'a SegmentFiles) -> Result<Replay<'a>, OpenError> {
    let start = heads.start()?.unwrap_or_default();
    let mut replay = Replay::new(heads, segments, start, 0)
        .recovering(true)
        .over_gaps();
    if start.offset > 0 {
        let path = segments.path(start.segment);
        replay.problems.push(format!(
            "{}, offset 0: the first record is missing or unreadable",
            path.display()
        ));
    }
    Ok(replay)
}

/// The parts of one snapshot.
struct Collected {
    header: PartHeader,
    parts: Vec<Vec<u8>>,
}

/// The newest snapshot of which all parts are there.
fn last_snapshot(heads: &Heads, segments: &SegmentFiles) -> Result<Option<Collected>, OpenError> {
    let mut index = Index::default();
    let mut open: Option<Collected> = None;
    let mut last = None;
    replay_all(heads, segments)?.run(&mut |record| {
        recovery::apply(&mut index, record, &mut |part| {
            let Some((header, _)) = snapshot::decode(part) else {
                return;
            };
            let collected = match open.take().filter(|open| open.header.lsn == header.lsn) {
                Some(collected) => collected,
                None => Collected {
                    header,
                    parts: Vec::new(),
                },
            };
            let collected = open.insert(collected);
            collected.parts.push(part.to_vec());
            if collected.parts.len() == header.parts as usize {
                last = open.take();
            }
        });
    })?;
    Ok(last)
}

impl Collected {
    /// Makes the index agree with the snapshot: what it does not name is gone.
    fn settle(&self, index: &mut Index) {
        let mut known = std::collections::BTreeMap::new();
        let mut counts = Vec::new();
        index.definitions.clear();
        for part in &self.parts {
            for fact in snapshot::decode(part)
                .map(|(_, facts)| facts)
                .unwrap_or_default()
            {
                match fact {
                    Fact::Log { log, first, next } => {
                        known.insert(log, (first, next));
                    }
                    Fact::Count {
                        log,
                        first,
                        end,
                        count,
                    } => counts.push((log, first, end, count)),
                    Fact::Definition { key, value } => {
                        index.put_definition(key.into(), value.into());
                    }
                }
            }
        }
        let strange: Vec<LogId> = index
            .logs
            .keys()
            .filter(|id| !known.contains_key(id))
            .copied()
            .collect();
        for log in strange {
            index.delete_log(log);
        }
        for (log, (first, next)) in known {
            index.acknowledge(log, 0, first);
            index.raise_next(log, next);
        }
        for (log, first, end, count) in counts {
            index.set_counts(log, first, end, count);
        }
        index.next_log = index.next_log.max(self.header.next_log);
    }
}
