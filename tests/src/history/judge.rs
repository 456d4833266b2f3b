//! The rules by name, and the function that applies them.

use super::copies::{self, Copies};
use super::sources::Sources;
use super::{Event, QueueFacts, order, streams, transactions};

/// Everything that happened, to the end: all queues have been emptied by consumers that acknowledged, and
/// all streams been read from their first message to their last.
#[derive(Clone, Debug)]
pub struct History {
    /// What [`QueueId`](super::QueueId) is an index of.
    pub queues: Vec<QueueFacts>,
    /// In the order in which it happened.
    pub events: Vec<Event>,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A message that was confirmed or committed is gone, and no consumer has settled it; or it was in a stream and is
    /// not there any more.
    Lost,
    /// It came again after its acknowledgement was known to be on stable storage.
    CameBack,
    /// Of a transaction of which nobody knew whether it was committed, one part was and another was not.
    HalfTransaction,
    /// Something of a transaction was seen that was not committed.
    UncommittedSeen,
    /// What was delivered was never published, or not to that queue, or is damaged.
    NeverPublished,
    /// It came again, with nothing between that gave it back.
    CameTwice,
    /// It came again without the flag `redelivered`, or without `x-delivery-count`.
    NotMarked,
    /// It came for the first time, and bore the flag without a reason.
    FalselyMarked,
    /// What one channel published came to a consumer in another order.
    OutOfOrder,
    /// Two publishes of one key were delivered within its window.
    Duplicate,
    /// The broker refused it, and it came all the same.
    RefusedSeen,
    /// A place of a stream held one message and then another.
    Rewritten,
}

/// One breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Of which rule.
    pub rule: Rule,
    /// The number of the event by which it shows.
    pub at: usize,
    /// What, in words.
    pub what: String,
}

/// Applies all rules; answers all breaches, in the order of events.
#[must_use]
pub fn judge(history: &History) -> Vec<Finding> {
    let sources = Sources::of(history);
    let copies = Copies::of(history, &sources);
    let mut findings = Vec::new();
    copies::never_published(history, &sources, &copies, &mut findings);
    copies::came_again(&sources, &copies, &mut findings);
    copies::falsely_marked(&sources, &copies, &mut findings);
    copies::lost(history, &sources, &copies, &mut findings);
    transactions::judge(history, &sources, &copies, &mut findings);
    order::out_of_order(history, &sources, &copies, &mut findings);
    order::duplicates(&sources, &copies, &mut findings);
    order::refused_seen(&sources, &copies, &mut findings);
    streams::judge(history, &sources, &copies.streams, &mut findings);
    findings.sort_by_key(|finding| (finding.at, finding.rule));
    findings
}
