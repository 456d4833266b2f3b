//! Publisher confirms of one channel: which publishes are answered for, and when.
//!
//! Confirms go out in the order of the publishes, as few frames as possible: everything that has
//! become durable is one `basic.ack` with `multiple`.

use std::collections::VecDeque;

use leveret_codec::{ChannelNumber, DeliveryTag, write_ack, write_nack};
use leveret_store_api::CommitPoint;

/// The number of a publish within its channel, counted from `confirm.select`. It goes out as a delivery tag, and
/// is none: the ledger knows nothing of it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct PublishTag(u64);

impl PublishTag {
    /// No publish has it: nothing is to be confirmed.
    pub(super) const NONE: PublishTag = PublishTag(0);

    fn on_wire(self) -> DeliveryTag {
        DeliveryTag(self.0)
    }

    /// How many publishes there are up to it.
    pub(super) fn count(self) -> u64 {
        self.0
    }
}

/// What is owed to the publisher, oldest first.
#[derive(Debug)]
pub(super) struct Owed {
    /// All publishes up to this tag that are not answered for by an earlier entry.
    pub(super) up_to: PublishTag,
    pub(super) point: CommitPoint,
    pub(super) refused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// The tag of the latest publish.
    pub(super) last_tag: PublishTag,
    /// The latest tag answered for.
    pub(super) answered: PublishTag,
    pub(super) owed: VecDeque<Owed>,
}

impl Confirms {
    /// The tag of a publish that comes in now.
    pub(super) fn next_tag(&mut self) -> PublishTag {
        self.last_tag.0 += 1;
        self.last_tag
    }

    pub(super) fn last_owed(&self) -> PublishTag {
        self.owed.back().map_or(self.answered, |owed| owed.up_to)
    }

    /// Publishes up to `tag` are taken care of once `point` is durable.
    pub(super) fn owe_ack(&mut self, tag: PublishTag, point: CommitPoint) {
        if tag <= self.last_owed() {
            return;
        }
        match self.owed.back_mut() {
            // Confirms stay in order: an earlier commit point cannot be reported before a later one.
            Some(last) if !last.refused && point <= last.point => last.up_to = tag,
            _ => self.owed.push_back(Owed {
                up_to: tag,
                point,
                refused: false,
            }),
        }
    }

    /// The publish with this tag was refused by a queue; those before it come first.
    pub(super) fn owe_nack(&mut self, tag: PublishTag, point: CommitPoint) {
        if tag <= self.last_owed() {
            return;
        }
        self.owe_ack(PublishTag(tag.0 - 1), point);
        let point = self
            .owed
            .back()
            .map_or(CommitPoint::NONE, |last| last.point);
        self.owed.push_back(Owed {
            up_to: tag,
            point,
            refused: true,
        });
    }

    /// The commit point of the oldest confirm owed.
    pub(super) fn waiting_for(&self) -> Option<CommitPoint> {
        self.owed.front().map(|owed| owed.point)
    }

    /// Writes what is owed for everything up to `durable`; true when nothing is owed any more.
    pub(super) fn release(
        &mut self,
        durable: CommitPoint,
        channel: ChannelNumber,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut acked = None;
        while let Some(owed) = self.owed.front()
            && owed.point <= durable
        {
            let up_to = owed.up_to;
            if owed.refused {
                self.write_ack(acked.take(), channel, out);
                write_nack(out, channel, up_to.on_wire(), false, false);
                self.answered = up_to;
            } else {
                acked = Some(up_to);
            }
            self.owed.pop_front();
        }
        self.write_ack(acked, channel, out);
        self.owed.is_empty()
    }

    pub(super) fn write_ack(
        &mut self,
        up_to: Option<PublishTag>,
        channel: ChannelNumber,
        out: &mut Vec<u8>,
    ) {
        let Some(up_to) = up_to.filter(|&up_to| up_to > self.answered) else {
            return;
        };
        write_ack(out, channel, up_to.on_wire(), up_to.0 - self.answered.0 > 1);
        self.answered = up_to;
    }
}

#[cfg(test)]
mod tests {
    use leveret_codec::{Method, decode_method, read_frame};

    use super::*;

    fn frames(bytes: &[u8]) -> Vec<(u64, bool, bool)> {
        let mut rest = bytes;
        let mut seen = Vec::new();
        while let Some(frame) = read_frame(rest, 0).unwrap() {
            rest = &rest[frame.wire_length()..];
            seen.push(match decode_method(frame.payload).unwrap() {
                Method::Ack {
                    delivery_tag,
                    multiple,
                } => (delivery_tag.0, multiple, true),
                Method::Nack {
                    delivery_tag,
                    multiple,
                    ..
                } => (delivery_tag.0, multiple, false),
                other => panic!("unexpected {other:?}"),
            });
        }
        seen
    }

    #[test]
    fn confirms_keep_the_order_of_publishes() {
        let mut confirms = Confirms::default();
        for _ in 0..6 {
            confirms.next_tag();
        }
        confirms.owe_ack(PublishTag(2), CommitPoint(5));
        confirms.owe_nack(PublishTag(3), CommitPoint(5));
        confirms.owe_ack(PublishTag(6), CommitPoint::NONE);
        let mut out = Vec::new();
        assert!(!confirms.release(CommitPoint(4), ChannelNumber(1), &mut out));
        assert_eq!(frames(&out), []);
        assert!(confirms.release(CommitPoint(5), ChannelNumber(1), &mut out));
        assert_eq!(
            frames(&out),
            [(2, true, true), (3, false, false), (6, true, true)]
        );
    }

    #[test]
    fn each_waits_for_its_own_point() {
        let mut confirms = Confirms::default();
        confirms.next_tag();
        confirms.next_tag();
        confirms.owe_ack(PublishTag(1), CommitPoint(5));
        confirms.owe_ack(PublishTag(2), CommitPoint(7));
        let mut out = Vec::new();
        assert!(!confirms.release(CommitPoint(5), ChannelNumber(1), &mut out));
        assert_eq!(frames(&out), [(1, false, true)]);
        assert!(confirms.release(CommitPoint(7), ChannelNumber(1), &mut out));
        assert_eq!(frames(&out), [(1, false, true), (2, false, true)]);
    }

    #[test]
    fn a_single_confirm_is_not_multiple() {
        let mut confirms = Confirms::default();
        confirms.next_tag();
        confirms.owe_ack(PublishTag(1), CommitPoint::NONE);
        let mut out = Vec::new();
        assert!(confirms.release(CommitPoint::NONE, ChannelNumber(1), &mut out));
        assert_eq!(frames(&out), [(1, false, true)]);
    }
}
