//! Where the memory of bodies on their way is from.

use std::sync::Arc;

use leveret_broker::budget::{Budget, Share};
use leveret_broker::memory_pool::Portion;
use leveret_codec::ChannelNumber;
use leveret_message::Timestamp;

/// Bodies that one connection may have on their way without asking: small messages always flow.
pub(super) const OWN_BYTES: usize = 256 << 10;

/// Where the memory of a body on its way is from.
#[derive(Debug)]
pub(super) enum BodyMemory {
    /// The connection's own.
    Own(#[expect(dead_code, reason = "goes back when it is dropped")] Share),
    /// That of all.
    Shared(Portion),
}

impl BodyMemory {
    /// Its client went on.
    pub(super) fn touch(&mut self, now: Timestamp) {
        if let BodyMemory::Shared(portion) = self {
            portion.touch(now);
        }
    }

    pub(super) fn portion(&self) -> Option<&Portion> {
        match self {
            BodyMemory::Own(_) => None,
            BodyMemory::Shared(portion) => Some(portion),
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Body,
    Transaction(ChannelNumber),
}

/// The connection's own memory for small bodies.
pub(super) fn own() -> Arc<Budget> {
    Arc::new(Budget::new(OWN_BYTES))
}
