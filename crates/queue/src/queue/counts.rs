//! What may be asked about a queue at any time.

use serde::Serialize;

/// What may be asked about a queue at any time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct QueueCounts {
    /// Messages ready for delivery.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unacknowledged: u64,
    /// Messages that wait for their next delivery (`x-retry-delays`).
    pub waiting: u64,
    /// Consumers.
    pub consumers: u32,
}
