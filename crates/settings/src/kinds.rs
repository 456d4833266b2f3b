//! Sets of queue types.

use std::ops::BitAnd;

use leveret_queue::queue::kind::QueueKind;

/// Queue types.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kinds(u8);

pub(crate) const CLASSIC: Kinds = Kinds(1);
pub(crate) const QUORUM: Kinds = Kinds(2);
pub(crate) const STREAM: Kinds = Kinds(4);
/// Those that lose a message that is settled.
pub(crate) const QUEUES: Kinds = Kinds(CLASSIC.0 | QUORUM.0);
pub(crate) const ALL: Kinds = Kinds(QUEUES.0 | STREAM.0);

impl Kinds {
    /// Whether `kind` is among them.
    pub(crate) fn have(self, kind: QueueKind) -> bool {
        let one = match kind {
            QueueKind::Classic => CLASSIC,
            QueueKind::Quorum => QUORUM,
            QueueKind::Stream => STREAM,
        };
        self.0 & one.0 != 0
    }
}

impl BitAnd for Kinds {
    type Output = Kinds;

    /// Those that are in both.
    fn bitand(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }
}
