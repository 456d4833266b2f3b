//! Reading the journal from a position to its end. Owns the rules of what is the torn end of a crash,
//! which is cut off, and what is damage, which is not passed over in silence. Writes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::encoder::chunk_of;
use super::format::{ALIGNMENT, HEADER_BYTES, Operation, Operations, RecordHeader, Step};
use crate::error::OpenError;
use crate::files::OpenMode;
use crate::index::{Index, Position};
use crate::segments::body::{self, Found, find_run};
use crate::segments::files::SegmentFiles;
use crate::segments::run::Sound;
use crate::segments::segment::{Contents, Segment};

/// How far behind an unreadable record a readable one is looked for: several times the size of a
/// record.
const LOOK_AHEAD_BYTES: u64 = 16 << 20;
const LOOK_BYTES: usize = 1 << 20;

/// The segments of a journal and what they begin with.
pub(super) struct Heads {
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    /// The first record's number → segment and epoch, of those that begin with a record of their own.
    by_lsn: BTreeMap<u64, (u32, u32)>,
    store: u32,
    /// The records up to this one were on stable storage: none of them is a torn end.
    newest_lsn: u64,
}

impl Heads {
    /// Opens all segments and looks at their first records.
    pub(super) fn open(
        files: &SegmentFiles,
        numbers: &[u32],
        (store, newest_lsn): (u32, u64),
        mode: OpenMode,
    ) -> Result<Self, OpenError> {
        let mut heads = Heads {
            segments: BTreeMap::new(),
            by_lsn: BTreeMap::new(),
            store,
            newest_lsn,
        };
        for number in numbers {
            let unusable = |source| OpenError::Unusable {
                path: files.path(*number),
                source,
            };
            let segment = files.open(*number, mode).map_err(unusable)?;
            let mut bytes = [0; HEADER_BYTES];
            segment.file.read_at(&mut bytes, 0).map_err(unusable)?;
            if let Some(header) =
                RecordHeader::decode(&bytes).filter(|header| heads.is_own(header, *number))
            {
                // What a crash left over may begin with the number of a newer one.
                let known = heads.by_lsn.get(&header.lsn).map_or(0, |(_, epoch)| *epoch);
                if header.epoch >= known {
                    heads.by_lsn.insert(header.lsn, (*number, header.epoch));
                }
            }
            heads.segments.insert(*number, segment);
        }
        Ok(heads)
    }

    /// The header was written to this segment under its present name.
    fn is_own(&self, header: &RecordHeader, number: u32) -> bool {
        header.segment == number && header.store == self.store
    }

    /// Whether all runs of a record that lie in files of their own are as they were written.
    fn bodies_of(&self, body: &[u8]) -> std::io::Result<Whole> {
        let mut walk = Operations::new(body, 0);
        let mut whole = Whole::Yes;
        while let Step::Operation(_, operation) = walk.step() {
            if let Operation::Elsewhere {
                header,
                segment,
                offset,
            } = operation
            {
                let Some(file) = self.segments.get(&segment) else {
                    return Ok(Whole::No);
                };
                if find_run(file, u64::from(offset), &header)? != Found::Right {
                    whole = Whole::ButMessages;
                }
            }
        }
        Ok(whole)
    }

    /// Some files hold large messages.
    pub(super) fn has_bodies(&self) -> bool {
        let mut segments = self.segments.values();
        segments.any(|segment| segment.holds == Contents::Body)
    }

    /// Where the journal begins, as far as it is there: before its first record.
    pub(super) fn start(&self) -> Result<Option<Position>, OpenError> {
        let first = self.first_from(0);
        // One that has lost its first record may be before the first that has not.
        let before = self.segments.iter().filter(|(number, segment)| {
            segment.holds == Contents::Records && first.is_none_or(|(_, first, _)| **number < first)
        });
        for (number, segment) in before {
            if let Some((offset, header)) = self.first_in(*number, segment)? {
                return Ok(Some(Position {
                    lsn: header.lsn.saturating_sub(1),
                    segment: *number,
                    offset,
                }));
            }
        }
        Ok(first.map(|(lsn, segment, _)| Position {
            lsn: lsn.saturating_sub(1),
            segment,
            offset: 0,
        }))
    }

    /// Segments that begin with nothing of their own and have records behind that.
    pub(super) fn headless(&self) -> Result<Vec<u32>, OpenError> {
        let mut found = Vec::new();
        for (number, segment) in &self.segments {
            if segment.holds == Contents::Records
                && !self.begins_with_record(*number)
                && self.first_in(*number, segment)?.is_some()
            {
                found.push(*number);
            }
        }
        Ok(found)
    }

    /// The first record of its own near the start of a segment.
    fn first_in(
        &self,
        number: u32,
        segment: &Segment,
    ) -> Result<Option<(u64, RecordHeader)>, OpenError> {
        let mut bytes = vec![0; LOOK_BYTES];
        let read = segment.file.read_at(&mut bytes, 0);
        let read = read.map_err(unusable(segment.path()))?;
        let candidates = bytes.get(..read).unwrap_or_default().chunks(HEADER_BYTES);
        let mut places = candidates.zip((0u64..).step_by(HEADER_BYTES));
        Ok(places.find_map(|(candidate, offset)| {
            let header = RecordHeader::decode(candidate)?;
            self.is_own(&header, number).then_some((offset, header))
        }))
    }

    pub(super) fn begins_with_record(&self, number: u32) -> bool {
        self.by_lsn.values().any(|(own, _)| *own == number)
    }

    /// The lowest first record of a segment from `lsn` on.
    pub(super) fn first_from(&self, lsn: u64) -> Option<(u64, u32, u32)> {
        self.by_lsn
            .range(lsn..)
            .next()
            .map(|(lsn, (number, epoch))| (*lsn, *number, *epoch))
    }
}

/// A record that was read.
pub(super) struct Record<'a> {
    pub(super) header: RecordHeader,
    pub(super) segment: u32,
    /// Where it begins.
    pub(super) offset: u64,
    /// Its operations.
    pub(super) body: &'a [u8],
    /// All of it is as it was written. Otherwise take what can be had.
    pub(super) intact: bool,
    /// So are its runs in files of their own. Otherwise that is to be seen.
    pub(super) has_bodies: bool,
}

/// Reads record after record.
pub(super) struct Replay<'a> {
    heads: &'a Heads,
    files: &'a SegmentFiles,
    /// Go on past damage.
    recover: bool,
    /// Records may be missing between one segment and the next.
    gaps: bool,
    body: Vec<u8>,
    pub(super) position: Position,
    pub(super) epoch: u32,
    pub(super) next_log: u64,
    /// What was found unreadable and passed over.
    pub(super) problems: Vec<String>,
    /// The record at the end of which only a part is there: where it is, and its size.
    pub(super) torn: Option<String>,
}

/// What is at a place where a record should be.
enum At {
    Record(RecordHeader),
    /// The header is one, the operations are not what was written.
    Broken(RecordHeader),
    /// All is what was written but for some messages.
    Damaged(RecordHeader),
    Nothing,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        heads: &'a Heads,
        files: &'a SegmentFiles,
        from: Position,
        epoch: u32,
    ) -> Self {
        Replay {
            heads,
            files,
            recover: false,
            gaps: false,
            body: Vec::new(),
            position: from,
            epoch,
            next_log: 0,
            problems: Vec::new(),
            torn: None,
        }
    }

    pub(super) fn recovering(mut self, recover: bool) -> Self {
        self.recover = recover;
        self
    }

    pub(super) fn over_gaps(mut self) -> Self {
        self.gaps = true;
        self
    }

    /// Calls `each` with every record from the position to the end.
    pub(super) fn run(&mut self, each: &mut dyn FnMut(&Record<'_>)) -> Result<(), OpenError> {
        while self.step(each)? {}
        Ok(())
    }

    fn step(&mut self, each: &mut dyn FnMut(&Record<'_>)) -> Result<bool, OpenError> {
        let expected = self.position.lsn + 1;
        let at = self.look(self.position.segment, self.position.offset)?;
        match at {
            At::Record(header) if header.lsn == expected && header.epoch >= self.epoch => {
                self.take(&header, true, each);
                return Ok(true);
            }
            At::Broken(header) | At::Damaged(header)
                if header.lsn == expected && header.epoch >= self.epoch =>
            {
                let is_broken = matches!(at, At::Broken(_));
                // A later opening cut it off and had no room here for what it wrote instead.
                let is_replaced = |(lsn, _, epoch)| lsn == expected && epoch > header.epoch;
                if self.heads.first_from(expected).is_some_and(is_replaced) {
                    return self.turn_page(expected);
                }
                let next = self.proof(expected)?;
                if next.is_none() && expected > self.heads.newest_lsn {
                    self.torn = Some(self.torn_end(&header));
                    return Ok(false);
                }
                if is_broken {
                    self.damage("a record has a wrong checksum")?;
                    self.take(&header, false, each);
                    if let Some(next) = next {
                        self.jump(next);
                    }
                } else {
                    // Whoever reads the messages will find out which.
                    self.take(&header, true, each);
                }
                return Ok(true);
            }
            _ => {}
        }
        if self.turn_page(expected)? {
            return Ok(true);
        }
        match self.proof(expected)? {
            None if expected > self.heads.newest_lsn => Ok(false),
            None => {
                self.damage("a record is missing or unreadable")?;
                Ok(false)
            }
            Some(next) => {
                self.damage("a record is missing or unreadable")?;
                self.jump(next);
                Ok(true)
            }
        }
    }

    /// Goes on in the segment that begins with the next record: the one before it was full. Over gaps,
    /// in the segment that begins with the lowest later one.
    fn turn_page(&mut self, expected: u64) -> Result<bool, OpenError> {
        let Some((lsn, segment, epoch)) = self.heads.first_from(expected) else {
            return Ok(false);
        };
        let Position {
            segment: here,
            offset,
            ..
        } = self.position;
        let is_next = lsn == expected && epoch >= self.epoch;
        let is_later = self.gaps && self.proof_in(here, offset, expected)?.is_none();
        if (segment, 0) == (here, offset) || !(is_next || is_later) {
            return Ok(false);
        }
        self.position = Position {
            lsn: lsn.saturating_sub(1),
            segment,
            offset: 0,
        };
        Ok(true)
    }

    fn take(&mut self, header: &RecordHeader, intact: bool, each: &mut dyn FnMut(&Record<'_>)) {
        let Position {
            segment, offset, ..
        } = self.position;
        self.epoch = header.epoch;
        self.next_log = self.next_log.max(header.next_log);
        self.position = Position {
            lsn: header.lsn,
            segment,
            offset: offset + header.total_bytes(),
        };
        each(&Record {
            header: *header,
            segment,
            offset,
            body: &self.body,
            intact,
            has_bodies: intact && !self.gaps,
        });
    }

    fn jump(&mut self, to: (u32, u64, RecordHeader)) {
        let (segment, offset, header) = to;
        self.epoch = self.epoch.min(header.epoch);
        self.position = Position {
            lsn: header.lsn - 1,
            segment,
            offset,
        };
    }

    fn torn_end(&self, header: &RecordHeader) -> String {
        let Position {
            segment, offset, ..
        } = self.position;
        format!(
            "{}, offset {offset}: record {}, of {} bytes,",
            self.files.path(segment).display(),
            header.lsn,
            header.total_bytes()
        )
    }

    /// Refuses because of damage at the position, or notes it when told to go on.
    fn damage(&mut self, reason: &str) -> Result<(), OpenError> {
        let Position {
            lsn,
            segment,
            offset,
        } = self.position;
        let path = self.files.path(segment);
        let reason = format!("{reason} (record {})", lsn + 1);
        if !self.recover {
            return Err(OpenError::Damaged {
                path,
                offset,
                reason,
            });
        }
        let problem = format!("{}, offset {offset}: {reason}", path.display());
        tracing::error!("passed over: {problem}");
        self.problems.push(problem);
        Ok(())
    }

    /// What is at a place.
    fn look(&mut self, number: u32, offset: u64) -> Result<At, OpenError> {
        let Some(segment) = self.heads.segments.get(&number) else {
            return Ok(At::Nothing);
        };
        let unusable = |source| OpenError::Unusable {
            path: segment.path().to_path_buf(),
            source,
        };
        let mut bytes = [0; HEADER_BYTES];
        segment.file.read_at(&mut bytes, offset).map_err(unusable)?;
        let Some(header) =
            RecordHeader::decode(&bytes).filter(|header| self.heads.is_own(header, number))
        else {
            return Ok(At::Nothing);
        };
        let length = segment.file.length().map_err(unusable)?;
        let start = offset + HEADER_BYTES as u64;
        let Ok(body_bytes) = usize::try_from(header.body_bytes.min(length.saturating_sub(start)))
        else {
            return Ok(At::Nothing);
        };
        self.body.resize(body_bytes, 0);
        let read = segment
            .file
            .read_at(&mut self.body, start)
            .map_err(unusable)?;
        self.body.truncate(read);
        if read as u64 != header.body_bytes {
            return Ok(At::Broken(header));
        }
        let (own, has_bodies) = look_over(&self.body, header.body_crc);
        // Over gaps, files that were freed long ago are missing.
        let bodies = if has_bodies && !self.gaps {
            self.heads.bodies_of(&self.body).map_err(unusable)?
        } else {
            Whole::Yes
        };
        Ok(match own.min(bodies) {
            Whole::No => At::Broken(header),
            Whole::ButMessages => At::Damaged(header),
            Whole::Yes => At::Record(header),
        })
    }

    /// A later record that shows that record `lsn` had been on stable storage: what is unreadable now
    /// is no torn end then, but damage.
    fn proof(&self, lsn: u64) -> Result<Option<(u32, u64, RecordHeader)>, OpenError> {
        let Position {
            segment, offset, ..
        } = self.position;
        if let Some(found) = self.proof_in(segment, offset, lsn)? {
            return Ok(Some(found));
        }
        for (number, _) in self
            .heads
            .segments
            .iter()
            .filter(|(number, other)| **number != segment && other.holds == Contents::Records)
        {
            let begins_later = self
                .heads
                .by_lsn
                .range(lsn..)
                .any(|(_, (later, _))| later == number);
            // One that begins with nothing of its own was made for what comes next, or has lost its
            // first record.
            let is_blank = !self.heads.begins_with_record(*number);
            if (begins_later || is_blank)
                && let Some(found) = self.proof_in(*number, 0, lsn)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn proof_in(
        &self,
        number: u32,
        from: u64,
        lsn: u64,
    ) -> Result<Option<(u32, u64, RecordHeader)>, OpenError> {
        let Some(segment) = self.heads.segments.get(&number) else {
            return Ok(None);
        };
        let mut bytes = vec![0; LOOK_BYTES];
        let mut at = from / ALIGNMENT * ALIGNMENT;
        let end = at + LOOK_AHEAD_BYTES;
        while at < end {
            let read =
                segment
                    .file
                    .read_at(&mut bytes, at)
                    .map_err(|source| OpenError::Unusable {
                        path: segment.path().to_path_buf(),
                        source,
                    })?;
            let found = bytes
                .get(..read)
                .unwrap_or_default()
                .chunks(HEADER_BYTES)
                .zip(0u64..)
                .find_map(|(candidate, number_in)| {
                    let header = RecordHeader::decode(candidate)?;
                    let later = self.heads.is_own(&header, number)
                        && header.lsn > lsn
                        && header.durable_lsn >= lsn;
                    later.then_some((number, at + number_in * ALIGNMENT, header))
                });
            if found.is_some() {
                return Ok(found);
            }
            if read < LOOK_BYTES {
                break;
            }
            at += LOOK_BYTES as u64;
        }
        Ok(None)
    }
}

/// Whether all operations are there and all checksums right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whole {
    No,
    /// The operations are, and where the messages are; not all of these are what was written.
    ButMessages,
    Yes,
}

/// Looks at what lies in the record itself; says as well whether some of its runs lie elsewhere.
fn look_over(body: &[u8], body_crc: u32) -> (Whole, bool) {
    let mut walk = Operations::new(body, 0);
    let (mut whole, mut has_bodies) = (Whole::Yes, false);
    loop {
        match walk.step() {
            // The record's own checksum is over the runs' headers, too.
            Step::Operation(_, Operation::Run { header, entries }) => {
                if header.look_at(entries) != Sound::Whole {
                    whole = Whole::ButMessages;
                }
            }
            Step::Operation(_, Operation::Elsewhere { .. }) => has_bodies = true,
            Step::Operation(..) => {}
            Step::End if walk.position() == body.len() && walk.crc() == body_crc => {
                return (whole, has_bodies);
            }
            Step::Bad | Step::End => return (Whole::No, has_bodies),
        }
    }
}

/// All operations of a damaged record but its runs are as they were written.
fn others_are_intact(record: &Record<'_>) -> bool {
    let mut walk = Operations::new(record.body, 0);
    loop {
        match walk.step() {
            Step::Operation(..) => {}
            Step::Bad => return false,
            Step::End => return walk.crc() == record.header.body_crc,
        }
    }
}

/// Takes what files of large messages say of themselves.
pub(super) fn insert_bodies(index: &mut Index, heads: &Heads) -> Result<(), OpenError> {
    for segment in heads.segments.values() {
        insert_body(index, segment).map_err(unusable(segment.path()))?;
    }
    Ok(())
}

fn insert_body(index: &mut Index, segment: &Segment) -> std::io::Result<()> {
    if let Some((offset, header)) = body::run_of(segment)?
        && find_run(segment, u64::from(offset), &header)? != Found::Nothing
    {
        index.insert_chunk(header.log, chunk_of(&header, segment.number(), offset));
    }
    Ok(())
}

/// The store's number by most of what can be read of the segments.
pub(super) fn store_of(files: &SegmentFiles, numbers: &[u32]) -> Result<Option<u32>, OpenError> {
    let mut votes: BTreeMap<u32, usize> = BTreeMap::new();
    let mut bytes = vec![0; LOOK_BYTES];
    for number in numbers {
        let path = files.path(*number);
        let segment = files
            .open(*number, OpenMode::Read)
            .map_err(unusable(&path))?;
        let read = segment
            .file
            .read_at(&mut bytes, 0)
            .map_err(unusable(&path))?;
        let headers = bytes.get(..read).unwrap_or_default().chunks(HEADER_BYTES);
        for header in headers.filter_map(RecordHeader::decode) {
            if header.segment == *number {
                *votes.entry(header.store).or_default() += 1;
            }
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
    Ok(most.map(|(store, _)| store))
}

/// The format names the store whose journal this is.
pub(super) fn check_store(
    heads: &Heads,
    files: &SegmentFiles,
    numbers: &[u32],
    format: &Path,
) -> Result<(), OpenError> {
    if !heads.by_lsn.is_empty() {
        return Ok(());
    }
    match store_of(files, numbers)? {
        Some(store) if store != heads.store => Err(OpenError::FormatDamaged {
            path: format.to_path_buf(),
            reason: format!("it says {:08x}, the journal {store:08x}", heads.store),
        }),
        _ => Ok(()),
    }
}

/// What to do with the parts of snapshots in a replay.
pub(super) type OnSnapshot<'a> = dyn FnMut(&[u8]) + 'a;

/// Brings the index up to a record. Transient messages end here.
pub(super) fn apply(index: &mut Index, record: &Record<'_>, on_snapshot: &mut OnSnapshot<'_>) {
    let others_intact = record.intact || others_are_intact(record);
    let mut walk = Operations::new(record.body, 0);
    while let Step::Operation(at, operation) = walk.step() {
        match operation {
            Operation::Run { header, entries } => {
                if !record.intact && header.look_at(entries) == Sound::Nothing {
                    continue;
                }
                let offset = record.offset + (HEADER_BYTES + at) as u64;
                if let Ok(offset) = u32::try_from(offset)
                    && !header.transient
                {
                    index.insert_chunk(header.log, chunk_of(&header, record.segment, offset));
                }
                index.raise_next(header.log, header.end());
            }
            // Without their checksum, these might say anything.
            _ if !others_intact => {}
            Operation::Elsewhere {
                header,
                segment,
                offset,
            } => {
                if record.has_bodies || index.holds_run(segment, offset, &header) {
                    index.insert_chunk(header.log, chunk_of(&header, segment, offset));
                }
                index.raise_next(header.log, header.end());
            }
            Operation::Acknowledge { log, first, count } => index.acknowledge(log, first.0, count),
            Operation::SetCount {
                log,
                first,
                length,
                count,
            } => index.set_counts(log, first.0, first.0.saturating_add(length), count),
            Operation::DeleteLog { log } => index.delete_log(log),
            Operation::Put { key, value } => index.put_definition(key.into(), value.into()),
            Operation::Remove { key } => index.remove_definition(key),
            Operation::Snapshot { part } => on_snapshot(part),
        }
    }
    index.next_log = index.next_log.max(record.header.next_log);
    if let Some(entry) = index.segments.entries.get_mut(&record.segment) {
        entry.used = record.offset + record.header.total_bytes();
    }
}

/// A path and what the system said about it.
pub(super) fn unusable(path: &Path) -> impl Fn(std::io::Error) -> OpenError + '_ {
    move |source| {
        let path = path.to_path_buf();
        match crate::files::shortage(&source) {
            Some(lacks) => OpenError::Full { path, lacks },
            None => OpenError::Unusable { path, source },
        }
    }
}
