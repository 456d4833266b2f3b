//! Whether all messages arrived once, in order, where they belong: by counts and sums that take no room for each
//! message, so that a run of a hundred million can be checked.

use serde_json::{Value, json};

use crate::stamp::Stamp;

/// How many messages, and the sum of their marks: equal only (but for a chance of 1 in 2^64) where the messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// How many.
    pub(crate) count: u64,
    marks: u64,
}

/// Numbers that are near each other become numbers that are not.
fn mark(identity: u64) -> u64 {
    let mixed = (identity ^ (identity >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

impl Sum {
    /// One more message.
    pub(crate) fn add(&mut self, stamp: Stamp) {
        self.count += 1;
        self.marks = self.marks.wrapping_add(mark(stamp.identity()));
    }

    /// All those of another.
    pub(crate) fn join(&mut self, other: Sum) {
        self.count += other.count;
        self.marks = self.marks.wrapping_add(other.marks);
    }

    /// Each message so often.
    fn times(self, copies: u64) -> Sum {
        Sum {
            count: self.count * copies,
            marks: self.marks.wrapping_mul(copies),
        }
    }

    /// The first `count` messages of a producer.
    pub(crate) fn of_producer(producer: u16, count: u64) -> Sum {
        let mut sum = Sum::default();
        for sequence in 0..count {
            sum.add(Stamp {
                producer,
                sequence,
                sent: 0,
            });
        }
        sum
    }
}

/// What consumers noticed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// All messages.
    pub(crate) sum: Sum,
    /// Those that came after a later one of the same producer and queue without having been marked as redelivered.
    pub(crate) out_of_order: u64,
    /// Those that belong into another queue.
    pub(crate) misrouted: u64,
    /// Those of a wrong size.
    pub(crate) corrupt: u64,
}

impl Received {
    /// Takes in another's.
    pub(crate) fn join(&mut self, other: &Received) {
        self.sum.join(other.sum);
        self.out_of_order += other.out_of_order;
        self.misrouted += other.misrouted;
        self.corrupt += other.corrupt;
    }

    /// Whether each message that was sent came in so many copies, and how it is told.
    pub(crate) fn judge(&self, sent: Sum, copies: u64) -> (bool, Value) {
        let expected = sent.times(copies);
        let clean = self.out_of_order + self.misrouted + self.corrupt == 0;
        let ok = clean && self.sum == expected;
        let verdict = json!({
            "ok": ok,
            "expected": expected.count,
            "lost": expected.count.saturating_sub(self.sum.count),
            "duplicated": self.sum.count.saturating_sub(expected.count),
            "exchanged": self.sum.count == expected.count && self.sum != expected,
            "out_of_order": self.out_of_order,
            "misrouted": self.misrouted,
            "corrupt": self.corrupt,
        });
        (ok, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(sequences: &[u64]) -> Received {
        let mut received = Received::default();
        for &sequence in sequences {
            received.sum.add(Stamp {
                producer: 3,
                sequence,
                sent: 7,
            });
        }
        received
    }

    #[test]
    fn any_order_of_all_copies_is_right() {
        let sent = Sum::of_producer(3, 3);
        assert!(received(&[2, 0, 1, 0, 2, 1]).judge(sent, 2).0);
    }

    #[test]
    fn one_lost_and_another_twice_is_noticed() {
        let sent = Sum::of_producer(3, 3);
        assert!(!received(&[0, 1]).judge(sent, 1).0);
        assert!(!received(&[0, 1, 1]).judge(sent, 1).0);
        assert!(!received(&[0, 1, 2, 2]).judge(sent, 1).0);
    }
}
