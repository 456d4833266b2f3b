//! Producers by name, each with the latest number it has used: one entry a producer, whatever it sends.
//!
//! There is a limit to the entries, so that clients which make up a new name at each start do not fill the
//! memory: beyond it the producer that was silent for longest is forgotten, and its next number may be any,
//! like that of a new one. A producer's record moves to the end of the log with each number, so that the
//! log's order is that of their last use.

use std::collections::BTreeMap;

use leveret_message::{Message, Store};
use leveret_store_api::{Change, Enqueue, LogId, Sequence};

use super::key::{Key, Number};
use super::keyed::Keyed;
use super::record;
use crate::counts::DeduplicationCounts;

/// How a number stands to the latest one of its producer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The latest one or before it: published before.
    Past,
    /// The one that follows, or the first.
    Next,
    /// Numbers are left out.
    Gap,
}

/// So many producers at most are forgotten with each number: more than one, so that a limit that was
/// lowered is reached in use.
const FORGET_ALONG: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Latest {
    number: u64,
    /// Where the log has it.
    record: u64,
}

/// The producers that one exchange or queue has heard of. What it does is the same for both.
#[derive(Debug)]
pub struct Producers {
    latest: Keyed<Latest>,
    /// Who has each record, the longest silent first.
    by_use: BTreeMap<u64, Key>,
    log: Option<LogId>,
    next_record: u64,
    max: usize,
    forgotten: u64,
    duplicates: u64,
    gaps: u64,
}

impl Producers {
    /// Knows nobody yet, and at most `max` later on.
    fn new(log: Option<LogId>, max: usize) -> Producers {
        Producers {
            latest: Keyed::default(),
            by_use: BTreeMap::new(),
            log,
            next_record: 0,
            max,
            duplicates: 0,
            gaps: 0,
            forgotten: 0,
        }
    }

    /// As the store has kept them, and how many of them are damaged; without a log they do not survive a restart. Blocks
    /// on files.
    pub fn recovered(
        log: Option<LogId>,
        max: usize,
        store: &Store,
        whose: &str,
    ) -> (Producers, u64) {
        let mut producers = Producers::new(log, max);
        let mut damaged = 0;
        if let Some(log) = log {
            let read = record::read_all(store, log, whose, |stored| {
                if let Some(number) = record::number(&stored.payload) {
                    producers.put(&number, stored.sequence.0);
                }
            });
            producers.next_record = read.next;
            damaged = read.damaged;
        }
        (producers, damaged)
    }

    /// The producer's latest number is this one, of this record; answers the record of the one before.
    fn put(&mut self, number: &Number, record: u64) -> Option<u64> {
        let latest = Latest {
            number: number.sequence,
            record,
        };
        self.by_use.insert(record, number.producer);
        let before = self.latest.insert(number.producer, latest)?.record;
        self.by_use.remove(&before);
        Some(before)
    }

    /// How this number stands to its producer's latest one, which is `latest`.
    pub fn compare(latest: Option<u64>, sequence: u64) -> Standing {
        match latest {
            Some(latest) if sequence <= latest => Standing::Past,
            Some(latest) if sequence - latest > 1 => Standing::Gap,
            _ => Standing::Next,
        }
    }

    /// The producer's latest number.
    pub fn latest(&self, producer: &Key) -> Option<u64> {
        self.latest.get(producer).map(|latest| latest.number)
    }

    /// How this number stands to its producer's latest one; what is not next is counted.
    pub fn judge(&mut self, number: &Number) -> Standing {
        let standing = Producers::compare(self.latest(&number.producer), number.sequence);
        self.duplicates += u64::from(standing == Standing::Past);
        self.gaps += u64::from(standing == Standing::Gap);
        standing
    }

    /// The producer's latest number is this one now; what makes that durable is added to `changes`.
    pub fn remember(&mut self, number: &Number, changes: &mut Vec<Change<Message>>) {
        let record = self.next_record;
        self.next_record += 1;
        if let Some(log) = self.log {
            changes.push(Change::Enqueue(Enqueue {
                log,
                sequence: Sequence(record),
                flags: 0,
                time_ms: 0,
                transient: false,
                payload: record::of_number(number),
            }));
        }
        let before = self.put(number, record);
        self.acknowledge(before, changes);
        for _ in 0..FORGET_ALONG {
            self.forget_silent(changes);
        }
    }

    /// Forgets the producer that was silent for longest, if there are too many.
    fn forget_silent(&mut self, changes: &mut Vec<Change<Message>>) {
        if self.latest.len() <= self.max {
            return;
        }
        if let Some((record, producer)) = self.by_use.pop_first() {
            self.latest.remove(&producer);
            self.forgotten += 1;
            self.acknowledge(Some(record), changes);
        }
    }

    /// The log need not have this record any longer.
    fn acknowledge(&self, record: Option<u64>, changes: &mut Vec<Change<Message>>) {
        if let (Some(log), Some(record)) = (self.log, record) {
            changes.push(Change::Acknowledge {
                log,
                first: Sequence(record),
                count: 1,
            });
        }
    }

    /// Adds what is known and was recognised here to `counts`.
    pub fn add_to(&self, counts: &mut DeduplicationCounts) {
        counts.duplicates += self.duplicates;
        counts.gaps += self.gaps;
        counts.producers += self.latest.len() as u64;
        counts.producers_forgotten += self.forgotten;
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.latest.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(producer: &[u8], sequence: u64) -> Number {
        Number {
            producer: Key::of(b'p', producer),
            sequence,
        }
    }

    #[test]
    fn numbers_go_up() {
        let mut producers = Producers::new(None, 10);
        let judge = |producers: &mut Producers, name: &[u8], sequence| {
            producers.judge(&number(name, sequence))
        };
        let first = judge(&mut producers, b"a", 5);
        assert_eq!(first, Standing::Next, "the first may be any");
        producers.remember(&number(b"a", 5), &mut Vec::new());
        for (name, sequence, expected) in [
            (b"a", 5, Standing::Past),
            (b"a", 0, Standing::Past),
            (b"a", 6, Standing::Next),
            (b"a", 7, Standing::Gap),
            (b"b", 0, Standing::Next),
        ] {
            assert_eq!(judge(&mut producers, name, sequence), expected);
        }
        producers.remember(&number(b"a", 9), &mut Vec::new());
        assert_eq!(judge(&mut producers, b"a", 8), Standing::Past);
        let mut counts = DeduplicationCounts::default();
        producers.add_to(&mut counts);
        assert_eq!(
            (counts.duplicates, counts.gaps, counts.producers),
            (3, 1, 1)
        );
    }

    #[test]
    fn the_longest_silent_is_forgotten() {
        let mut producers = Producers::new(Some(LogId(1)), 2);
        let mut changes = Vec::new();
        for (name, sequence) in [(b"a", 1), (b"b", 1), (b"a", 2), (b"c", 1)] {
            producers.remember(&number(name, sequence), &mut changes);
        }
        let latest = |name: &[u8]| producers.latest(&Key::of(b'p', name));
        assert_eq!(
            (latest(b"a"), latest(b"b"), latest(b"c")),
            (Some(2), None, Some(1))
        );
        let gone: Vec<u64> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Acknowledge { first, .. } => Some(first.0),
                _ => None,
            })
            .collect();
        assert_eq!(gone, [0, 1], "a's first record, and b's");
        assert_eq!(producers.by_use.len(), 2);
        assert_eq!(producers.judge(&number(b"b", 1)), Standing::Next);
    }
}
