//! How much of a queue is in memory.

/// Bounds on the memory of one queue, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct QueueMemory {
    /// Bytes of messages kept in memory at the head of each level.
    pub head_bytes: usize,
    /// Bytes of messages kept in memory behind a paged run.
    pub tail_bytes: usize,
    /// How far publishers may run ahead of a consumer that keeps up.
    pub publisher_ahead_bytes: usize,
}
