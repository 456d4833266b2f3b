//! Messages that the store has and cannot read. Each is one message: it leaves the place it was in, what stands behind
//! it goes on.

use leveret_store_api::{Change, DamagedMessage, LogId, Sequence, StoredMessage};

use crate::message::Message;
use crate::store::Store;

/// The last message that was read, or could not be.
pub fn last_of(
    messages: &[StoredMessage<Message>],
    damaged: &[DamagedMessage<Message>],
) -> Option<Sequence> {
    let damaged = damaged.last().map(|damaged| damaged.sequence);
    damaged.max(messages.last().map(|stored| stored.sequence))
}

/// Takes out of a log what will never be read again and what nobody else has any use for.
pub fn forget(store: &Store, log: LogId, damaged: &[DamagedMessage<Message>]) {
    let lasting = damaged.iter().filter(|damaged| damaged.is_lasting);
    let mut changes: Vec<Change<Message>> = lasting
        .map(|damaged| Change::Acknowledge {
            log,
            first: damaged.sequence,
            count: 1,
        })
        .collect();
    if !changes.is_empty() {
        store.stage(&mut changes);
    }
}
