//! Producers by name, each with the latest number it has used: one entry a producer, whatever it sends.

use leveret_store::{Change, Enqueue, LogId, Sequence};

use super::DeduplicationCounts;
use super::key::{Key, Number};
use super::keyed::Keyed;
use super::record;
use crate::message::Message;
use crate::queue::Store;

/// How a number stands to the latest one of its producer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// The latest one or before it: published before.
    Past,
    /// The one that follows, or the first.
    Next,
    /// Numbers are left out.
    Gap,
}

#[derive(Clone, Copy, Debug)]
struct Latest {
    number: u64,
    /// Where the log has it.
    record: u64,
}

/// All producers that one exchange or queue has heard of. What it does is the same for both.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    latest: Keyed<Latest>,
    log: Option<LogId>,
    next_record: u64,
    duplicates: u64,
    gaps: u64,
}

impl Producers {
    /// As the store has kept them; without a log they do not survive a restart. Blocks on files.
    pub(crate) fn recovered(log: Option<LogId>, store: &Store, whose: &str) -> Producers {
        let mut producers = Producers {
            log,
            ..Producers::default()
        };
        let Some(log) = log else { return producers };
        let latest = &mut producers.latest;
        producers.next_record = record::read_all(store, log, whose, |stored| {
            if let Some(number) = record::number(&stored.payload) {
                let known = Latest {
                    number: number.sequence,
                    record: stored.sequence.0,
                };
                latest.insert(number.producer, known);
            }
        });
        producers
    }

    /// How this number stands to its producer's latest one, which is `latest`.
    pub(crate) fn compare(latest: Option<u64>, sequence: u64) -> Standing {
        match latest {
            Some(latest) if sequence <= latest => Standing::Past,
            Some(latest) if sequence - latest > 1 => Standing::Gap,
            _ => Standing::Next,
        }
    }

    /// The producer's latest number.
    pub(crate) fn latest(&self, producer: &Key) -> Option<u64> {
        self.latest.get(producer).map(|latest| latest.number)
    }

    /// How this number stands to its producer's latest one; what is not next is counted.
    pub(crate) fn judge(&mut self, number: &Number) -> Standing {
        let standing = Producers::compare(self.latest(&number.producer), number.sequence);
        self.duplicates += u64::from(standing == Standing::Past);
        self.gaps += u64::from(standing == Standing::Gap);
        standing
    }

    /// The producer's latest number is this one now; what makes that durable is added to `changes`.
    pub(crate) fn note(&mut self, number: &Number, changes: &mut Vec<Change<Message>>) {
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
        let latest = Latest {
            number: number.sequence,
            record,
        };
        let before = self.latest.insert(number.producer, latest);
        if let (Some(log), Some(before)) = (self.log, before) {
            changes.push(Change::Acknowledge {
                log,
                first: Sequence(before.record),
                count: 1,
            });
        }
    }

    /// Adds what is known and was recognised here to `counts`.
    pub(crate) fn add_to(&self, counts: &mut DeduplicationCounts) {
        counts.duplicates += self.duplicates;
        counts.gaps += self.gaps;
        counts.producers += self.latest.len() as u64;
    }

    /// Whether no producer was ever heard of.
    pub(crate) fn is_empty(&self) -> bool {
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
        let mut producers = Producers::default();
        let judge = |producers: &mut Producers, name: &[u8], sequence| {
            producers.judge(&number(name, sequence))
        };
        let first = judge(&mut producers, b"a", 5);
        assert_eq!(first, Standing::Next, "the first may be any");
        producers.note(&number(b"a", 5), &mut Vec::new());
        for (name, sequence, expected) in [
            (b"a", 5, Standing::Past),
            (b"a", 0, Standing::Past),
            (b"a", 6, Standing::Next),
            (b"a", 7, Standing::Gap),
            (b"b", 0, Standing::Next),
        ] {
            assert_eq!(judge(&mut producers, name, sequence), expected);
        }
        producers.note(&number(b"a", 9), &mut Vec::new());
        assert_eq!(judge(&mut producers, b"a", 8), Standing::Past);
        let mut counts = DeduplicationCounts::default();
        producers.add_to(&mut counts);
        assert_eq!(
            (counts.duplicates, counts.gaps, counts.producers),
            (3, 1, 1)
        );
    }
}
