//! The last messages that passed an `x-recent-history` exchange, oldest first, for whoever binds.
//!
//! They are in memory. The persistent ones of a durable exchange are in a log as well: a message
//! enters it in the commit in which it enters its queues, and leaves it with the one that takes its
//! place.

use std::collections::VecDeque;

use leveret_codec::{RawTable, RawValue};
use leveret_message::{Message, Store, damaged};
use leveret_store_api::{Change, Enqueue, LogId, Sequence};

const NO_STORE: &str = "x-recent-history-no-store";
/// Bytes read from the store at once.
const READ_BYTES: usize = 1 << 20;

struct Remembered {
    message: Message,
    /// Its place in the log, if it is there.
    stored: Option<Sequence>,
}

/// What an exchange remembers.
pub(crate) struct History {
    length_max: usize,
    log: Option<LogId>,
    next: u64,
    messages: VecDeque<Remembered>,
}

/// Whether a message with these headers is one to remember.
pub(crate) fn is_remembered(headers: Option<RawTable<'_>>) -> bool {
    let header = headers.and_then(|headers| headers.get(NO_STORE.as_bytes()));
    !matches!(header, Some(RawValue::Boolean(true)))
}

impl History {
    /// Nothing yet, and never more than `length_max` messages; without a log none survives a restart.
    pub(crate) fn new(length_max: usize, log: Option<LogId>) -> History {
        History {
            length_max,
            log,
            next: 0,
            messages: VecDeque::new(),
        }
    }

    /// Remembers a message; adds to `changes` what is to be staged with it.
    pub(crate) fn remember(&mut self, message: &Message, changes: &mut Vec<Change<Message>>) {
        let stored = self.log.filter(|_| message.is_persistent()).map(|log| {
            let sequence = Sequence(self.next);
            self.next += 1;
            changes.push(Change::Enqueue(Enqueue {
                log,
                sequence,
                flags: 0,
                time_ms: 0,
                transient: false,
                payload: message.clone(),
            }));
            sequence
        });
        self.messages.push_back(Remembered {
            message: message.clone(),
            stored,
        });
        self.forget_oldest(changes);
    }

    fn forget_oldest(&mut self, changes: &mut Vec<Change<Message>>) {
        while self.messages.len() > self.length_max {
            let oldest = self.messages.pop_front().and_then(|oldest| oldest.stored);
            if let (Some(log), Some(first)) = (self.log, oldest) {
                changes.push(Change::Acknowledge {
                    log,
                    first,
                    count: 1,
                });
            }
        }
    }

    /// The messages, oldest first.
    pub(crate) fn messages(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.messages.iter().map(|remembered| &remembered.message)
    }

    /// Reads back what the store has kept; answers how many messages are damaged.
    pub(crate) fn recover(&mut self, store: &Store, exchange: &str) -> u64 {
        let Some(log) = self.log else { return 0 };
        let mut damaged_count = 0;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let from = Sequence(self.next);
            let damaged = match store.read(log, from, usize::MAX, READ_BYTES, &mut buffer) {
                Ok(damaged) => damaged,
                Err(error) => {
                    tracing::error!(exchange, %error, "cannot read a recent history back from the store");
                    break;
                }
            };
            let Some(last) = damaged::last_of(&buffer, &damaged) else {
                break;
            };
            self.next = last.0 + 1;
            damaged_count += damaged.len() as u64;
            damaged::forget(store, log, &damaged);
            let found = buffer.drain(..).map(|stored| Remembered {
                message: stored.payload,
                stored: Some(stored.sequence),
            });
            self.messages.extend(found);
        }
        if let Some(state) = store.log_state(log) {
            self.next = self.next.max(state.next.0);
        }
        damaged_count
    }
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPValue, FieldTable, encode_table};

    use super::*;

    fn remembered(value: AMQPValue) -> bool {
        let mut table = FieldTable::default();
        table.insert(NO_STORE.into(), value);
        is_remembered(Some(RawTable::from_encoded(&encode_table(&table))))
    }

    #[test]
    fn only_a_header_that_is_true_keeps_a_message_out() {
        assert!(is_remembered(None));
        assert!(!remembered(AMQPValue::Boolean(true)));
        assert!(remembered(AMQPValue::Boolean(false)));
        assert!(remembered(AMQPValue::LongString("true".into())));
        assert!(remembered(AMQPValue::LongInt(1)));
    }
}
