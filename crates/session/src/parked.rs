//! Answers that wait until something is durable, and what shows then.

use std::sync::Arc;

use leveret_broker::commit::PendingCommit;
use leveret_broker::memory_pool::Portion;
use leveret_codec::ChannelNumber;
use leveret_store_api::CommitPoint;

/// A reply that waits for stable storage; no further input is taken meanwhile.
pub(super) struct Parked {
    pub(super) point: CommitPoint,
    pub(super) reply: Vec<u8>,
    pub(super) committed: Option<Committed>,
}

/// A transaction that shows with the reply.
pub(super) struct Committed {
    pub(super) commit: Arc<PendingCommit>,
    pub(super) channel: ChannelNumber,
    /// What its settlements give back of the channel's shared credit.
    pub(super) credit: u32,
    /// What it takes until then.
    pub(super) _memory: Option<Portion>,
    /// A queue's limit refused a part of it.
    pub(super) refused: bool,
}

/// A transaction that is durable and shows, in steps.
pub(super) struct Showing {
    pub(super) committed: Committed,
    /// What the client is told in the end.
    pub(super) reply: Vec<u8>,
}
