//! The queues a connection has deliveries from, by small numbers, and the settlements for each.
//!
//! The ledger and the consumers name a queue by its number here, so that no shared reference count
//! is touched per message.

#[cfg(debug_assertions)]
mod check;

use leveret_broker::handle::QueueHandle;
use leveret_message::{Store, Timestamp};
use leveret_queue::mailbox::InFlight;
use leveret_queue::queue::reference::Outstanding;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use leveret_routing::QueueId;
use leveret_store_api::broken::{broken, without};
use rustc_hash::FxHashMap;
use slab::Slab;

/// What is counted of each queue.
const USES: &str = "uses of a queue";

/// A queue of this connection.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct QueueNumber(u32);

struct Row {
    queue: QueueHandle,
    /// Consumers and unacknowledged deliveries that name it.
    uses: u32,
    settlements: Vec<QueueSettlement>,
}

#[derive(Default)]
pub(super) struct QueueTable {
    rows: Slab<Row>,
    by_id: FxHashMap<QueueId, QueueNumber>,
    /// Rows with settlements, each once.
    dirty: Vec<QueueNumber>,
    /// See [`QueueTable::require_reading`].
    unread: bool,
}

impl QueueTable {
    /// The number of `queue`, with one use more.
    pub(super) fn acquire(&mut self, queue: &QueueHandle) -> QueueNumber {
        let number = *self.by_id.entry(queue.id()).or_insert_with(|| {
            let row = self.rows.insert(Row {
                queue: queue.clone(),
                uses: 0,
                settlements: Vec::new(),
            });
            QueueNumber(u32::try_from(row).unwrap_or(u32::MAX))
        });
        self.add_uses(number, 1);
        number
    }

    /// The queue loses its number.
    fn remove(&mut self, number: QueueNumber) {
        if let Some(row) = self.rows.try_remove(number.0 as usize) {
            self.by_id.remove(&row.queue.id());
        }
    }

    fn row(&mut self, number: QueueNumber) -> Option<&mut Row> {
        self.rows.get_mut(number.0 as usize)
    }

    /// So many uses more of a queue that has a number.
    #[inline]
    pub(super) fn add_uses(&mut self, number: QueueNumber, count: usize) {
        match self.row(number) {
            Some(row) => row.uses += u32::try_from(count).unwrap_or(u32::MAX),
            None => broken(&"a queue that is used has lost its number"),
        }
    }

    /// One use less; a queue without uses loses its number once its settlements are carried out.
    pub(super) fn release(&mut self, number: QueueNumber) {
        let Some(row) = self.row(number) else {
            broken(&"a queue has lost its number");
            return;
        };
        row.uses = without(row.uses, 1, USES);
        if row.uses == 0 && row.settlements.is_empty() {
            self.remove(number);
        }
    }

    pub(super) fn queue(&self, number: QueueNumber) -> Option<&QueueHandle> {
        self.rows.get(number.0 as usize).map(|row| &row.queue)
    }

    /// Some of what is gathered may need its message, which only the store has.
    pub(super) fn require_reading(&mut self) {
        self.unread = true;
    }

    /// Gathers a settlement; `used` says that it ends one use.
    pub(super) fn settle(&mut self, number: QueueNumber, settlement: QueueSettlement, used: bool) {
        let Some(row) = self.row(number) else {
            broken(&"a settlement is lost, for its queue has no number");
            return;
        };
        row.uses = without(row.uses, u32::from(used), USES);
        row.settlements.push(settlement);
        if row.settlements.len() == 1 {
            self.dirty.push(number);
        }
    }

    /// Gathers the settlement of a stored message that was sent and needs no acknowledgement.
    #[inline]
    pub(super) fn settle_unasked(&mut self, number: QueueNumber, sent: InFlight, used: bool) {
        let settlement = QueueSettlement {
            delivery: Outstanding::Message(sent),
            consumer: None,
            outcome: Outcome::Acknowledged,
            delivered_at: Timestamp::NEVER,
        };
        self.settle(number, settlement, used);
    }

    /// Hands each queue's settlements to `carry_out`, with the messages they need.
    pub(super) fn drain_settlements(
        &mut self,
        store: &Store,
        mut carry_out: impl FnMut(&QueueHandle, &[QueueSettlement]),
    ) {
        const KEPT: usize = 256;
        let unread = std::mem::take(&mut self.unread);
        while let Some(number) = self.dirty.pop() {
            let Some(row) = self.row(number) else {
                broken(&"settlements are lost, for their queue has no number");
                continue;
            };
            if unread {
                row.queue.read_for(store, &mut row.settlements);
            }
            carry_out(&row.queue, &row.settlements);
            row.settlements.clear();
            if row.settlements.capacity() > KEPT {
                row.settlements = Vec::new();
            }
            if row.uses == 0 {
                self.remove(number);
            }
        }
    }

    /// Whether any settlement waits.
    pub(super) fn has_settlements(&self) -> bool {
        !self.dirty.is_empty()
    }
}

/// The queues that die with a connection. Some are deleted before it, which nobody tells it: with each one that is
/// added, two are looked at in turn, so that no more than half of them are gone.
#[derive(Default)]
pub(super) struct ExclusiveQueues {
    queues: Vec<QueueHandle>,
    next: usize,
}

impl ExclusiveQueues {
    pub(super) fn add(&mut self, queue: QueueHandle) {
        for _ in 0..2 {
            if self.next >= self.queues.len() {
                self.next = 0;
            }
            match self.queues.get(self.next) {
                Some(queue) if queue.is_deleted() => drop(self.queues.swap_remove(self.next)),
                _ => self.next += 1,
            }
        }
        self.queues.push(queue);
    }

    pub(super) fn pop(&mut self) -> Option<QueueHandle> {
        self.queues.pop()
    }
}
