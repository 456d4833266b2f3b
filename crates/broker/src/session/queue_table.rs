//! The queues a connection has deliveries from, by small numbers, and the settlements for each.
//!
//! The ledger and the consumers name a queue by its number here, so that no shared reference count
//! is touched per message.

use leveret_routing::QueueId;

use crate::queue::handle::{QueueHandle, QueueSettlement};

/// A queue of this connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct QueueNumber(u32);

struct Row {
    queue: QueueHandle,
    /// Consumers and unacknowledged deliveries that name it.
    uses: u32,
    settlements: Vec<QueueSettlement>,
}

#[derive(Default)]
pub(super) struct QueueTable {
    rows: Vec<Option<Row>>,
    /// Rows with settlements, each once.
    dirty: Vec<QueueNumber>,
}

impl QueueTable {
    /// The number of `queue`, with one use more.
    pub(super) fn acquire(&mut self, queue: &QueueHandle) -> QueueNumber {
        let id: QueueId = queue.id();
        let found = self
            .rows
            .iter()
            .position(|row| row.as_ref().is_some_and(|row| row.queue.id() == id));
        let index = found
            .or_else(|| self.rows.iter().position(Option::is_none))
            .unwrap_or_else(|| {
                self.rows.push(None);
                self.rows.len() - 1
            });
        let row = self.rows[index].get_or_insert_with(|| Row {
            queue: queue.clone(),
            uses: 0,
            settlements: Vec::new(),
        });
        row.uses += 1;
        QueueNumber(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn row(&mut self, number: QueueNumber) -> Option<&mut Row> {
        self.rows.get_mut(number.0 as usize)?.as_mut()
    }

    /// One use more of a queue that has a number.
    pub(super) fn add_use(&mut self, number: QueueNumber) {
        if let Some(row) = self.row(number) {
            row.uses += 1;
        }
    }

    /// One use less; a queue without uses loses its number once its settlements are carried out.
    pub(super) fn release(&mut self, number: QueueNumber) {
        let Some(row) = self.row(number) else { return };
        row.uses = row.uses.saturating_sub(1);
        if row.uses == 0 && row.settlements.is_empty() {
            self.rows[number.0 as usize] = None;
        }
    }

    pub(super) fn queue(&self, number: QueueNumber) -> Option<&QueueHandle> {
        self.rows
            .get(number.0 as usize)?
            .as_ref()
            .map(|row| &row.queue)
    }

    /// Gathers a settlement; `used` says that it ends one use.
    pub(super) fn settle(&mut self, number: QueueNumber, settlement: QueueSettlement, used: bool) {
        let Some(row) = self.row(number) else { return };
        row.uses = row.uses.saturating_sub(u32::from(used));
        row.settlements.push(settlement);
        if row.settlements.len() == 1 {
            self.dirty.push(number);
        }
    }

    /// Hands each queue's settlements to `carry_out`.
    pub(super) fn drain_settlements(
        &mut self,
        mut carry_out: impl FnMut(&QueueHandle, &[QueueSettlement]),
    ) {
        const KEPT: usize = 256;
        while let Some(number) = self.dirty.pop() {
            let Some(row) = self.row(number) else {
                continue;
            };
            carry_out(&row.queue, &row.settlements);
            row.settlements.clear();
            if row.settlements.capacity() > KEPT {
                row.settlements = Vec::new();
            }
            if row.uses == 0 {
                self.rows[number.0 as usize] = None;
            }
        }
    }

    /// Whether any settlement waits.
    pub(super) fn has_settlements(&self) -> bool {
        !self.dirty.is_empty()
    }
}
