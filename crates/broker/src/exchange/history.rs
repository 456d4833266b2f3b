//! `x-recent-history`: the last messages that passed, oldest first, for whoever binds.
//!
//! They are in memory. The persistent ones of a durable exchange are in a log as well: a message
//! enters it in the commit in which it enters its queues, and leaves it with the one that takes its
//! place.

use std::collections::VecDeque;

use leveret_codec::{RawTable, RawValue};
use leveret_message::{Message, Store, Timestamp, damaged};
use leveret_routing::ExchangeKind;
use leveret_store_api::{Change, Enqueue, LogId, Sequence};
use parking_lot::Mutex;

use super::delayed_messages::DelayedId;
use super::keeper::{Keeper, KeeperType, Opinion};
use super::logs::ExchangeLogs;

const NO_STORE: &str = "x-recent-history-no-store";
/// Bytes read from the store at once.
const READ_BYTES: usize = 1 << 20;

struct Remembered {
    message: Message,
    /// Its place in the log, if it is there.
    stored: Option<Sequence>,
}

/// What an exchange remembers.
struct History {
    length_max: usize,
    /// Without one nothing survives a restart.
    log: Option<LogId>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    next: u64,
    messages: VecDeque<Remembered>,
}

pub(super) static RECENT_HISTORY: KeeperType = KeeperType {
    kind: ExchangeKind::RecentHistory,
    // Its length is checked where it is read, by routing.
    check: |_| Ok(()),
    logs: |exchange, store| ExchangeLogs {
        history: exchange.durable.then(|| store.allocate_log().0),
        ..ExchangeLogs::default()
    },
    keeper: |exchange, logs, store| {
        let log = logs.history.filter(|_| !store.is_volatile()).map(LogId);
        Some(Box::new(History {
            length_max: exchange.history_length().ok()?,
            log,
            kept: Mutex::default(),
        }))
    },
};

/// Whether a message with these headers is one to remember.
fn is_remembered(headers: Option<RawTable<'_>>) -> bool {
    let header = headers.and_then(|headers| headers.get(NO_STORE.as_bytes()));
    !matches!(header, Some(RawValue::Boolean(true)))
}

impl Keeper for History {
    fn recover(&self, store: &Store, exchange: &str) -> u64 {
        let Some(log) = self.log else { return 0 };
        let mut damaged_count = 0;
        let mut kept = self.kept.lock();
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let from = Sequence(kept.next);
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
            kept.next = last.0 + 1;
            damaged_count += damaged.len() as u64;
            damaged::forget(store, log, &damaged);
            let found = buffer.drain(..).map(|stored| Remembered {
                message: stored.payload,
                stored: Some(stored.sequence),
            });
            kept.messages.extend(found);
        }
        if let Some(state) = store.log_state(log) {
            kept.next = kept.next.max(state.next.0);
        }
        damaged_count
    }

    fn look(&self, headers: Option<RawTable<'_>>, _: Timestamp) -> Opinion {
        if is_remembered(headers) {
            Opinion::IsKept
        } else {
            Opinion::GoesOn
        }
    }

    fn keep(
        &self,
        message: &Message,
        _: Opinion,
        changes: &mut Vec<Change<Message>>,
    ) -> Option<DelayedId> {
        let mut kept = self.kept.lock();
        let stored = self.log.filter(|_| message.is_persistent()).map(|log| {
            let sequence = Sequence(kept.next);
            kept.next += 1;
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
        kept.messages.push_back(Remembered {
            message: message.clone(),
            stored,
        });
        while kept.messages.len() > self.length_max {
            let oldest = kept.messages.pop_front().and_then(|oldest| oldest.stored);
            if let (Some(log), Some(first)) = (self.log, oldest) {
                changes.push(Change::Acknowledge {
                    log,
                    first,
                    count: 1,
                });
            }
        }
        None
    }

    fn remembers(&self) -> bool {
        true
    }

    fn remembered(&self, from: usize, most: usize) -> Vec<Message> {
        let kept = self.kept.lock();
        let some = kept.messages.iter().skip(from).take(most);
        some.map(|remembered| remembered.message.clone()).collect()
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
