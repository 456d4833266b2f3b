//! Producers by name, each with the latest number it has used: one entry a producer, whatever it sends.

use leveret_store::{Change, Enqueue, LogId, Sequence};
use rustc_hash::FxHashMap;

use super::record;
use crate::message::Message;
use crate::queue::Store;

/// How a number stands to the latest one of its producer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
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

/// All producers that one exchange or queue has heard of.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_name: FxHashMap<Box<[u8]>, Latest>,
    log: Option<LogId>,
    next_record: u64,
}

impl Producers {
    pub(crate) fn new(log: Option<LogId>) -> Producers {
        Producers {
            log,
            ..Producers::default()
        }
    }

    pub(crate) fn recover(&mut self, store: &Store, whose: &str) {
        let Some(log) = self.log else { return };
        let by_name = &mut self.by_name;
        self.next_record = record::read_all(store, log, whose, |stored| {
            if let Some((producer, number)) = record::producer(&stored.payload) {
                let record = stored.sequence.0;
                by_name.insert(producer, Latest { number, record });
            }
        });
    }

    pub(crate) fn log(&self) -> Option<LogId> {
        self.log
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How this number stands to the producer's latest one.
    pub(crate) fn judge(&self, producer: &[u8], number: u64) -> Verdict {
        match self.by_name.get(producer) {
            Some(latest) if number <= latest.number => Verdict::Past,
            Some(latest) if number - latest.number > 1 => Verdict::Gap,
            _ => Verdict::Next,
        }
    }

    /// The producer's latest number is this one now.
    pub(crate) fn note(
        &mut self,
        producer: Box<[u8]>,
        number: u64,
        changes: &mut Vec<Change<Message>>,
    ) {
        let record = self.next_record;
        self.next_record += 1;
        if let Some(log) = self.log {
            changes.push(Change::Enqueue(Enqueue {
                log,
                sequence: Sequence(record),
                flags: 0,
                time_ms: 0,
                transient: false,
                payload: record::of_producer(&producer, number),
            }));
        }
        let before = self.by_name.insert(producer, Latest { number, record });
        if let (Some(log), Some(before)) = (self.log, before) {
            changes.push(Change::Acknowledge {
                log,
                first: Sequence(before.record),
                count: 1,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up() {
        let mut producers = Producers::default();
        assert_eq!(
            producers.judge(b"a", 5),
            Verdict::Next,
            "the first may be any"
        );
        producers.note(b"a"[..].into(), 5, &mut Vec::new());
        assert_eq!(producers.judge(b"a", 5), Verdict::Past);
        assert_eq!(producers.judge(b"a", 0), Verdict::Past);
        assert_eq!(producers.judge(b"a", 6), Verdict::Next);
        assert_eq!(producers.judge(b"a", 7), Verdict::Gap);
        assert_eq!(producers.judge(b"b", 0), Verdict::Next);
        producers.note(b"a"[..].into(), 9, &mut Vec::new());
        assert_eq!(producers.judge(b"a", 8), Verdict::Past);
        assert_eq!(producers.len(), 1);
    }
}
