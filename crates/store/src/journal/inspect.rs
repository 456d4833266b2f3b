//! Looking after a store that is not running: `verify` reads and checks everything, `rebuild` makes the
//! index anew from the journal alone. Owns nothing; both take the store's lock.

use std::path::Path;
use std::sync::Arc;

use super::JournalOptions;
use super::aside;
use super::body::{self, Found};
use super::encoder::chunk_of;
use super::open::{self, enter};
use super::read::{Content, load, messages};
use super::recovery::{self, Heads, Record, Replay, unusable};
use super::segment::{Segment, SegmentFiles};
use super::snapshot::{self, Fact, PartHeader};
use crate::error::OpenError;
use crate::files::{DiskFiles, Files, OpenMode};
use crate::index::disk::{IndexStore, SledIndex};
use crate::index::rows::{self, Checkpoint, Row};
use crate::index::{Index, Position};
use crate::{Definitions, LogId};

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

/// Reads everything in a store and checks it. Changes nothing.
///
/// # Errors
/// The store is in use, of a newer format, or so damaged that it could not be opened.
pub fn verify(directory: &Path) -> Result<Verified, OpenError> {
    let files: Arc<dyn Files> = Arc::new(DiskFiles);
    if !directory.join("format").exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no store here");
        return Err(OpenError::Unusable {
            path: directory.to_path_buf(),
            source,
        });
    }
    let entered = enter(&*files, directory)?;
    let (segments, numbers) = scan(&files, directory)?;
    let mut loaded = open::load(&mut SledIndex::new(&directory.join("index")), directory)?;
    let checkpoint = loaded.checkpoint;
    let heads = Heads::open(&segments, &numbers, entered.store, OpenMode::Read)?;
    open::check_start(&heads, &segments, checkpoint.as_ref(), true)?;
    let (mut index, mut problems) = open::fill(&mut loaded, &heads, &segments, true, directory)?;
    let epoch = checkpoint.map_or(0, |checkpoint| checkpoint.epoch);
    let mut replay = Replay::new(&heads, &segments, index.position, epoch).recovering(true);
    replay.run(&mut |record| recovery::apply(&mut index, record, &mut |_| {}))?;
    problems.append(&mut replay.problems);
    let mut found = Verified {
        segments: numbers.len() as u64,
        logs: index.logs.len() as u64,
        definitions: definitions_of(&index),
        problems,
        set_aside: aside::noted(&*files, directory).map_err(unusable(directory))?,
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
    if !directory.join("format").exists() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no store here");
        return Err(OpenError::Unusable {
            path: directory.to_path_buf(),
            source,
        });
    }
    let entered = enter(&*files, directory)?;
    let (segments, numbers) = scan(&files, directory)?;
    let heads = Heads::open(&segments, &numbers, entered.store, OpenMode::Read)?;
    let (mut index, found, epoch) = reread(&heads, &segments)?;

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
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(unusable(&old))?;
    }
    Ok(found)
}

fn scan(files: &Arc<dyn Files>, directory: &Path) -> Result<(SegmentFiles, Vec<u32>), OpenError> {
    let path = directory.join("journal");
    let options = JournalOptions::default();
    let segments = SegmentFiles::new(Arc::clone(files), path.clone(), options.segment_bytes, 0);
    let numbers = segments.scan().map_err(unusable(&path))?;
    Ok((segments, numbers))
}

/// The index as the journal alone tells it.
fn reread(heads: &Heads, segments: &SegmentFiles) -> Result<(Index, Rebuilt, u32), OpenError> {
    let snapshot = last_snapshot(heads, segments)?;
    let mut index = Index {
        keeps_all_counts: true,
        ..Index::default()
    };
    for segment in heads.segments.values() {
        index.segments.insert(Arc::clone(segment));
    }
    // The records of large messages may be gone before them.
    let mut problems = Vec::new();
    for segment in heads.segments.values() {
        insert_body(&mut index, segment).map_err(unusable(segment.path()))?;
    }
    let mut records = 0;
    let mut pending = snapshot;
    let mut replay = replay_all(heads, segments);
    replay.run(&mut |record: &Record<'_>| {
        records += 1;
        if pending
            .as_ref()
            .is_some_and(|snapshot| record.header.lsn > snapshot.header.lsn)
            && let Some(snapshot) = pending.take()
        {
            snapshot.settle(&mut index);
        }
        recovery::apply(&mut index, record, &mut |_| {});
    })?;
    if let Some(snapshot) = pending {
        snapshot.settle(&mut index);
    }
    index.keep_live_counts();
    index.position = replay.position;
    index.next_log = index.next_log.max(replay.next_log).max(1);
    problems.append(&mut replay.problems);
    let found = Rebuilt {
        records,
        logs: index.logs.len() as u64,
        messages: index.logs.values().map(crate::index::Log::live).sum(),
        definitions: definitions_of(&index),
        problems,
    };
    Ok((index, found, replay.epoch))
}

/// Takes what a file of a large message says of itself.
fn insert_body(index: &mut Index, segment: &Segment) -> std::io::Result<()> {
    let Some((offset, header)) = body::run_of(segment)? else {
        return Ok(());
    };
    match body::find_run(segment, u64::from(offset), &header)? {
        Found::Right | Found::Wrong => {
            index.insert_chunk(header.log, chunk_of(&header, segment.number(), offset));
        }
        Found::Nothing => {}
    }
    Ok(())
}

fn replay_all<'a>(heads: &'a Heads, segments: &'a SegmentFiles) -> Replay<'a> {
    let start = heads
        .first_from(0)
        .map_or(Position::default(), |(lsn, segment, _)| Position {
            lsn: lsn.saturating_sub(1),
            segment,
            offset: 0,
        });
    Replay::new(heads, segments, start, 0)
        .recovering(true)
        .over_gaps()
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
    replay_all(heads, segments).run(&mut |record| {
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
