//! The journal's own copy of what the index knows and the journal may have forgotten: definitions and
//! the bounds of all logs. Owns its encoding; written in parts at each checkpoint.

use std::sync::Arc;

use leveret_store_api::LogId;

use crate::bytes::{Cursor, push_bytes};
use crate::index::{CountRun, Index};

/// Parts are about this large, so that none makes a commit slow.
const PART_BYTES: usize = 256 * 1024;

const KIND_LOG: u8 = 1;
const KIND_DEFINITION: u8 = 2;
const KIND_COUNT: u8 = 3;

/// What the snapshot says about the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartHeader {
    /// Everything up to this record is in the snapshot.
    pub(crate) lsn: u64,
    pub(crate) next_log: u64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
}

/// One fact of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact<'a> {
    /// Nothing lives in the log below `first`; sequences below `next` are used.
    Log {
        log: LogId,
        first: u64,
        next: u64,
    },
    Definition {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// Messages of a log from `first` up to but not including `end` bear a number.
    Count {
        log: LogId,
        first: u64,
        end: u64,
        count: u32,
    },
}

/// A key and its value.
type SharedDefinition = (Arc<[u8]>, Arc<[u8]>);

/// What a snapshot is made from, taken out of the index in one short look.
pub(crate) struct Snapshot {
    lsn: u64,
    next_log: u64,
    logs: Vec<(LogId, u64, u64)>,
    counts: Vec<(LogId, CountRun)>,
    definitions: Vec<SharedDefinition>,
}

impl Snapshot {
    pub(crate) fn of(index: &Index) -> Self {
        Snapshot {
            lsn: index.position.lsn,
            next_log: index.next_log,
            logs: index
                .logs
                .iter()
                .map(|(id, log)| (*id, log.first(), log.next()))
                .collect(),
            counts: index
                .logs
                .iter()
                .flat_map(|(id, log)| log.counts_in(0, u64::MAX).into_iter().map(|run| (*id, run)))
                .collect(),
            definitions: index
                .definitions
                .iter()
                .map(|(key, definition)| (Arc::clone(key), Arc::clone(&definition.value)))
                .collect(),
        }
    }

    /// The parts, each to be written as one operation.
    pub(crate) fn encode(&self) -> Vec<Vec<u8>> {
        let mut bodies = vec![Vec::new()];
        for (log, first, next) in &self.logs {
            let body = room(&mut bodies);
            body.push(KIND_LOG);
            body.extend_from_slice(&log.0.to_le_bytes());
            body.extend_from_slice(&first.to_le_bytes());
            body.extend_from_slice(&next.to_le_bytes());
        }
        for (log, run) in &self.counts {
            let body = room(&mut bodies);
            body.push(KIND_COUNT);
            body.extend_from_slice(&log.0.to_le_bytes());
            body.extend_from_slice(&run.first.to_le_bytes());
            body.extend_from_slice(&run.end.to_le_bytes());
            body.extend_from_slice(&run.count.to_le_bytes());
        }
        for (key, value) in &self.definitions {
            let body = room(&mut bodies);
            body.push(KIND_DEFINITION);
            push_bytes(body, key);
            push_bytes(body, value);
        }
        let parts = u32::try_from(bodies.len()).unwrap_or(u32::MAX);
        (0..parts)
            .zip(bodies)
            .map(|(part, body)| self.part(part, parts, &body))
            .collect()
    }

    fn part(&self, part: u32, parts: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len() + 24);
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(&self.next_log.to_le_bytes());
        out.extend_from_slice(&part.to_le_bytes());
        out.extend_from_slice(&parts.to_le_bytes());
        out.extend_from_slice(body);
        out
    }
}

/// The last body, or a new one if that is full.
fn room(bodies: &mut Vec<Vec<u8>>) -> &mut Vec<u8> {
    if bodies.last().is_none_or(|last| last.len() >= PART_BYTES) {
        bodies.push(Vec::new());
    }
    let last = bodies.len() - 1;
    &mut bodies[last]
}

/// Reads a part; `None` if it is not one.
pub(crate) fn decode(part: &[u8]) -> Option<(PartHeader, Vec<Fact<'_>>)> {
    let mut cursor = Cursor::new(part);
    let header = PartHeader {
        lsn: cursor.u64()?,
        next_log: cursor.u64()?,
        part: cursor.u32()?,
        parts: cursor.u32()?,
    };
    let mut facts = Vec::new();
    while !cursor.is_empty() {
        facts.push(match cursor.u8()? {
            KIND_LOG => Fact::Log {
                log: LogId(cursor.u64()?),
                first: cursor.u64()?,
                next: cursor.u64()?,
            },
            KIND_COUNT => Fact::Count {
                log: LogId(cursor.u64()?),
                first: cursor.u64()?,
                end: cursor.u64()?,
                count: cursor.u32()?,
            },
            KIND_DEFINITION => Fact::Definition {
                key: cursor.bytes()?,
                value: cursor.bytes()?,
            },
            _ => return None,
        });
    }
    Some((header, facts))
}
