//! How many duplicates and gaps there were.

/// How much one exchange or queue recognised since the broker started. Of an exchange
/// `Broker::deduplication_counts` tells it, of a queue
/// `QueueHandle::deduplication_counts`; both answer None where nothing is looked
/// for, and cost one short lock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeduplicationCounts {
    /// Messages not taken, for they were published before.
    pub duplicates: u64,
    /// Messages whose producer's sequence left out numbers, refused or not.
    pub gaps: u64,
    /// Keys known now.
    pub keys: u64,
    /// Producers known now.
    pub producers: u64,
    /// Producers forgotten, for there were too many.
    pub producers_forgotten: u64,
}
