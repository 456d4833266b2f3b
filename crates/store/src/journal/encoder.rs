//! From staged changes to the bytes of one record. Owns cutting into runs, checksums,
//! and what the record does to the index. Does no I/O.

use std::io::IoSlice;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use leveret_store_api::{Change, Enqueue, LogId, Payload, Sequence};

use super::deleted::DeletedLogs;
use super::format::{self, FORMAT_VERSION_CHECKS, FORMAT_VERSION_COUNTS, HEADER_BYTES};
use super::groups::{Group, Groups, LogOperation};
use super::written::{Claimed, Front, WrittenBody};
use crate::index::{Chunk, Extent, Holds, Index};
use crate::segments::run::{EntryHeader, RUN_BYTES, RunHeader};
use crate::segments::segment::Segment;

/// A run is closed when it has grown to this.
const RUN_BYTES_MAX: usize = 64 * 1024;
/// A second part of at least this size is written from where it lies.
const CHAINED_BYTES_MIN: usize = 16 * 1024;

/// Messages of one log copied forward out of a segment that is to be freed.
pub(crate) struct Copied {
    pub(crate) log: LogId,
    /// Where they lie now; one that has moved or gone meanwhile is not copied.
    pub(crate) segment: u32,
    pub(crate) transient: bool,
    /// With the checksums they are to have; those of what is damaged stay wrong.
    pub(crate) messages: Vec<(Sequence, EntryHeader, Vec<u8>)>,
}

/// What a record does to the index once it is written.
pub(crate) enum Effect {
    /// With the offset in the body.
    Run(RunHeader, u64),
    /// A run in a file of its own.
    Elsewhere(RunHeader, Arc<Segment>, u64),
    Acknowledge(LogId, u64, u64),
    DeleteLog(LogId),
    Put(Arc<[u8]>, Arc<[u8]>),
    Remove(Vec<u8>),
    RaiseNext(LogId, u64),
    /// From a sequence up to but not including another.
    SetCount(LogId, u64, u64, u32),
}

/// A record in the making; its memory is used again and again.
pub(crate) struct Encoder {
    buffer: Vec<u8>,
    /// Where in `buffer` a message's second part, by number of its change, is to be put in.
    chained: Vec<(usize, usize)>,
    chained_bytes: u64,
    /// What has to be written elsewhere before the record.
    fronts: Vec<Front>,
    crc: u32,
    effects: Vec<Effect>,
    /// Something in it has to be on stable storage before it counts.
    durable: bool,
    /// What a program has to know to read it.
    version: u64,
    groups: Groups,
}

/// A run that is being filled.
struct OpenRun {
    start: usize,
    first: u64,
    count: u32,
    transient: bool,
    payload_bytes: u64,
    /// Checksum of the heads of its entries.
    crc: u32,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Encoder {
            buffer: Vec::new(),
            chained: Vec::new(),
            chained_bytes: 0,
            fronts: Vec::new(),
            crc: 0,
            effects: Vec::new(),
            durable: false,
            version: 0,
            groups: Groups::default(),
        }
    }

    /// Lets go of its memory between records.
    pub(crate) fn shrink(&mut self) {
        *self = Encoder::new();
    }

    /// Begins a record: room for its header is left at the front.
    pub(crate) fn begin(&mut self) {
        if self.buffer.capacity() > 8 << 20 {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.chained.clear();
        self.chained_bytes = 0;
        self.fronts.clear();
        self.crc = 0;
        self.effects.clear();
        self.durable = false;
        self.version = 0;
    }

    /// Messages copied forward. They come before everything else, so that an acknowledgement in the
    /// same record finds them.
    pub(crate) fn copy_forward(&mut self, copied: &Copied, index: &Index) {
        let Some(log) = index.logs.get(&copied.log) else {
            return;
        };
        let (Some(first), Some(last)) = (copied.messages.first(), copied.messages.last()) else {
            return;
        };
        let ranges = log.ranges_in(copied.segment, first.0.0, last.0.0.saturating_add(1));
        let mut run: Option<OpenRun> = None;
        for (sequence, entry, payload) in &copied.messages {
            if !ranges
                .iter()
                .any(|(from, to)| (*from..*to).contains(&sequence.0))
            {
                continue;
            }
            run = self.continue_run(run, copied.log, sequence.0, copied.transient);
            let entry = entry.encode();
            self.buffer.extend_from_slice(&entry);
            self.buffer.extend_from_slice(payload);
            run = run.map(|run| run.grown(&entry, payload.len()));
        }
        self.close_run(run, copied.log, None);
        self.durable = true;
    }

    /// A part of a snapshot.
    pub(crate) fn snapshot(&mut self, part: &[u8]) {
        let start = self.buffer.len();
        format::push_snapshot(&mut self.buffer, part);
        self.check_from(start);
        self.durable = true;
    }

    /// All changes of the units in `range`, in the order in which they have to take effect. What is about logs that
    /// were `deleted` is left out; those that these changes delete are added to them.
    pub(crate) fn changes<P: Payload>(
        &mut self,
        changes: &[Change<P>],
        range: Range<usize>,
        claimed: &mut Claimed,
        deleted: &mut DeletedLogs,
        index: &parking_lot::Mutex<Index>,
    ) {
        let mut groups = mem::take(&mut self.groups);
        groups.sort(changes, range, deleted);
        for change in groups
            .definitions
            .iter()
            .filter_map(|number| changes.get(*number))
        {
            self.definition(change);
        }
        for group in groups.iter() {
            self.group(group, changes, claimed, deleted, index);
        }
        self.groups = groups;
    }

    fn definition<P>(&mut self, change: &Change<P>) {
        let start = self.buffer.len();
        match change {
            Change::PutDefinition { key, value } => {
                format::push_put(&mut self.buffer, key, value);
                self.effects
                    .push(Effect::Put(key.as_slice().into(), value.as_slice().into()));
            }
            Change::RemoveDefinition { key } => {
                format::push_remove(&mut self.buffer, key);
                self.effects.push(Effect::Remove(key.clone()));
            }
            Change::Enqueue(_)
            | Change::Acknowledge { .. }
            | Change::SetCount { .. }
            | Change::DeleteLog { .. } => {}
        }
        self.check_from(start);
        self.durable = true;
    }

    fn group<P: Payload>(
        &mut self,
        group: &Group,
        changes: &[Change<P>],
        claimed: &mut Claimed,
        deleted: &mut DeletedLogs,
        index: &parking_lot::Mutex<Index>,
    ) {
        let log = group.log;
        let mut run = None;
        for operation in &group.operations {
            match *operation {
                LogOperation::Enqueue(number) => {
                    if let Some(Change::Enqueue(enqueue)) = changes.get(number) {
                        if let Some(written) = claimed.take(number) {
                            self.close_run(run.take(), log, None);
                            if self.elsewhere(written, enqueue) {
                                continue;
                            }
                        }
                        run = self.enqueue(run, enqueue, number);
                    }
                }
                LogOperation::Acknowledge(first, count) => {
                    self.close_run(run.take(), log, None);
                    let holds = index.lock().holds(log, first, count);
                    self.acknowledge(log, first, count, holds, group.has_counts);
                }
                LogOperation::SetCount(number) => {
                    self.close_run(run.take(), log, None);
                    self.set_count(changes.get(number));
                }
                LogOperation::Delete => {
                    if index.lock().logs.contains_key(&log) {
                        let start = self.buffer.len();
                        format::push_delete_log(&mut self.buffer, log);
                        self.check_from(start);
                        self.durable = true;
                    }
                    self.effects.push(Effect::DeleteLog(log));
                    deleted.insert(log);
                }
                LogOperation::Cancelled => {}
            }
        }
        self.close_run(run, log, None);
        if group.next > 0 {
            self.effects.push(Effect::RaiseNext(log, group.next));
        }
    }

    /// What is not there need not be acknowledged; what need not be kept is acknowledged in memory alone. In a
    /// record that gives numbers they end with what is acknowledged, there or not: what it says is read again
    /// when the index may be newer.
    fn acknowledge(
        &mut self,
        log: LogId,
        first: u64,
        count: u64,
        holds: Option<Holds>,
        has_counts: bool,
    ) {
        if holds.is_none() && !has_counts {
            return;
        }
        let is_kept = holds == Some(Holds::Persistent);
        if is_kept || has_counts {
            let start = self.buffer.len();
            format::push_acknowledge(&mut self.buffer, log, Sequence(first), count);
            self.check_from(start);
            self.durable |= is_kept;
        }
        self.effects.push(Effect::Acknowledge(log, first, count));
    }

    /// A record with nothing else needs no sync, unless it is asked for.
    fn set_count<P>(&mut self, change: Option<&Change<P>>) {
        let Some(&Change::SetCount {
            log,
            first,
            length,
            count,
            synced,
        }) = change
        else {
            return;
        };
        self.durable |= synced;
        let start = self.buffer.len();
        format::push_set_count(&mut self.buffer, log, first, length, count);
        self.version = self.version.max(FORMAT_VERSION_COUNTS);
        self.check_from(start);
        let end = first.0.saturating_add(length);
        self.effects
            .push(Effect::SetCount(log, first.0, end, count));
    }

    fn enqueue<P: Payload>(
        &mut self,
        run: Option<OpenRun>,
        enqueue: &Enqueue<P>,
        number: usize,
    ) -> Option<OpenRun> {
        let [head, body] = enqueue.payload.parts();
        let bytes = head.len() + body.len();
        // What is too large for an entry is too large for a record, which is refused.
        let entry = EntryHeader::of(enqueue, None).unwrap_or_default().encode();
        self.durable |= !enqueue.transient;
        let chained = body.len() >= CHAINED_BYTES_MIN;
        let run = if chained {
            self.close_run(run, enqueue.log, None)
        } else {
            run
        };
        let run = self.continue_run(run, enqueue.log, enqueue.sequence.0, enqueue.transient);
        self.buffer.extend_from_slice(&entry);
        self.buffer.extend_from_slice(head);
        if !chained {
            self.buffer.extend_from_slice(body);
            return run.map(|run| run.grown(&entry, bytes));
        }
        // A run of its own, the last bytes of which stay where they are.
        self.close_run(
            run.map(|run| run.grown(&entry, bytes)),
            enqueue.log,
            Some((number, body)),
        )
    }

    /// A message whose second part is written already, in a file of its own; `false` if that is of no use.
    fn elsewhere<P: Payload>(&mut self, written: WrittenBody, enqueue: &Enqueue<P>) -> bool {
        let Some(front) = written.front(enqueue) else {
            return false;
        };
        self.version = self.version.max(FORMAT_VERSION_CHECKS);
        let start = self.buffer.len();
        let offset = u32::try_from(front.offset).unwrap_or(u32::MAX);
        let number = front.segment.number();
        format::push_elsewhere(&mut self.buffer, &front.header, number, offset);
        self.check_from(start);
        self.durable = true;
        let segment = Arc::clone(&front.segment);
        self.effects
            .push(Effect::Elsewhere(front.header, segment, front.offset));
        self.fronts.push(front);
        true
    }

    /// What has to be on stable storage before the record, which refers to it.
    pub(crate) fn fronts(&self) -> &[Front] {
        &self.fronts
    }

    /// The run to which the message belongs: the open one or, where that cannot go on, a new one.
    fn continue_run(
        &mut self,
        run: Option<OpenRun>,
        log: LogId,
        sequence: u64,
        transient: bool,
    ) -> Option<OpenRun> {
        let run = match run {
            Some(run)
                if run.first + u64::from(run.count) == sequence
                    && run.transient == transient
                    && self.buffer.len() - run.start < RUN_BYTES_MAX =>
            {
                Some(run)
            }
            other => self.close_run(other, log, None),
        };
        run.or_else(|| {
            let start = self.buffer.len();
            self.buffer.resize(start + RUN_BYTES, 0);
            Some(OpenRun {
                start,
                first: sequence,
                count: 0,
                transient,
                payload_bytes: 0,
                crc: 0,
            })
        })
    }

    /// Fills in the run's header. `chained` is the change whose body follows and that body.
    fn close_run(
        &mut self,
        run: Option<OpenRun>,
        log: LogId,
        chained: Option<(usize, &[u8])>,
    ) -> Option<OpenRun> {
        let run = run.filter(|run| run.count > 0)?;
        let copied = self.buffer.get(run.start + RUN_BYTES..).unwrap_or_default();
        let chained_body = chained.map_or(&[][..], |(_, body)| body);
        let mut header = RunHeader {
            checked: true,
            log,
            first: Sequence(run.first),
            count: run.count,
            transient: run.transient,
            entries_bytes: u32::try_from(copied.len() + chained_body.len()).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(run.payload_bytes).unwrap_or(u32::MAX),
            crc: 0,
        };
        header.crc = header.crc_behind(run.crc);
        self.version = self.version.max(FORMAT_VERSION_CHECKS);
        let body_offset = run.start as u64 + self.chained_bytes;
        if let Some((number, body)) = chained {
            self.chained.push((self.buffer.len(), number));
            self.chained_bytes += body.len() as u64;
        }
        let encoded = header.encode();
        if let Some(place) = self.buffer.get_mut(run.start..run.start + RUN_BYTES) {
            place.copy_from_slice(&encoded);
        }
        self.crc = crc32c::crc32c_append(self.crc, &encoded);
        self.effects.push(Effect::Run(header, body_offset));
        None
    }

    fn check_from(&mut self, start: usize) {
        let written = self.buffer.get(start..).unwrap_or_default();
        self.crc = crc32c::crc32c_append(self.crc, written);
    }

    /// Nothing was put in that has to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() <= HEADER_BYTES
    }

    /// Something in the record has to be on stable storage.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// The format version from which on programs can read the record.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The index changes with this record.
    pub(crate) fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Ends the body; answers its length and checksum, for the header.
    pub(crate) fn finish(&mut self) -> (u64, u32) {
        format::push_end(&mut self.buffer);
        let body = (self.buffer.len() - HEADER_BYTES) as u64 + self.chained_bytes;
        let total = HEADER_BYTES as u64 + body;
        let padding = format::aligned(total) - total;
        self.buffer
            .resize(self.buffer.len() + usize::try_from(padding).unwrap_or(0), 0);
        (body, self.crc)
    }

    pub(crate) fn set_header(&mut self, header: [u8; HEADER_BYTES]) {
        if let Some(place) = self.buffer.get_mut(..HEADER_BYTES) {
            place.copy_from_slice(&header);
        }
    }

    /// The pieces of the record in the order in which they are written.
    pub(crate) fn slices<'a, P: Payload>(&'a self, changes: &'a [Change<P>]) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(2 * self.chained.len() + 8);
        let mut from = 0;
        for (at, number) in &self.chained {
            slices.push(IoSlice::new(self.buffer.get(from..*at).unwrap_or_default()));
            if let Some(Change::Enqueue(enqueue)) = changes.get(*number) {
                slices.push(IoSlice::new(enqueue.payload.parts()[1]));
            }
            from = *at;
        }
        slices.push(IoSlice::new(self.buffer.get(from..).unwrap_or_default()));
        slices
    }

    /// Brings the index up to this record, which lies at `offset` of `segment`. For a record that was
    /// not written because nothing of it had to be, the place does not matter.
    pub(crate) fn apply(&mut self, index: &mut Index, segment: u32, offset: u64) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Run(header, at) => {
                    let offset = u32::try_from(offset + at).unwrap_or(u32::MAX);
                    index.insert_chunk(header.log, chunk_of(&header, segment, offset));
                }
                Effect::Elsewhere(header, file, at) => {
                    let number = file.number();
                    let offset = u32::try_from(at).unwrap_or(u32::MAX);
                    index.segments.insert(file);
                    if let Some(entry) = index.segments.entries.get_mut(&number) {
                        entry.used = at + u64::from(header.total_bytes());
                    }
                    index.insert_chunk(header.log, chunk_of(&header, number, offset));
                }
                Effect::Acknowledge(log, first, count) => index.acknowledge(log, first, count),
                Effect::DeleteLog(log) => index.delete_log(log),
                Effect::Put(key, value) => index.put_definition(key, value),
                Effect::Remove(key) => index.remove_definition(&key),
                Effect::RaiseNext(log, next) => index.raise_next(log, next),
                Effect::SetCount(log, first, end, count) => {
                    index.set_counts(log, first, end, count);
                }
            }
        }
    }
}

impl OpenRun {
    fn grown(mut self, entry: &[u8], bytes: usize) -> Self {
        self.count += 1;
        self.crc = crc32c::crc32c_append(self.crc, entry);
        self.payload_bytes += bytes as u64;
        self
    }
}

/// The chunk of a run that begins at `offset` of `segment`.
pub(crate) fn chunk_of(header: &RunHeader, segment: u32, offset: u32) -> Chunk {
    let place = Extent {
        segment,
        offset,
        span: header.total_bytes(),
    };
    Chunk::new(
        header.first.0,
        header.count,
        header.transient,
        place,
        header.payload_bytes,
    )
}
