//! A transaction between being staged and being durable.
//!
//! Its messages are in their queues, hidden; its settlements have not happened yet as far as anybody can
//! see. [`PendingCommit::finish_some`] makes all of it visible, in steps if it is much. The session does so
//! when it answers the commit; if its connection ends before, the store's waker and the pager see to it. What
//! the broker had not come to when it ended is a commit of its own at the start.
//!
//! What was rejected is settled when everything shows, and goes on to the dead letters from there, as it would
//! without a transaction: read a few at a time, through its queue's outbox, and not faster than the store.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_message::Timestamp;
use leveret_queue::queue::effects::Effects;
use leveret_queue::queue::settle::QueueSettlement;
use leveret_store_api::CommitPoint;
use leveret_store_api::failpoint::{self, Failpoint};
use parking_lot::Mutex;

use crate::exchange::Unit;
use crate::handle::QueueHandle;
use crate::handle::giving_back::GivingBack;
use crate::services::{Party, Services, Task};
use crate::vhost::VirtualHost;

/// What it costs to lock a queue that has little to do then, where an acknowledgement costs 1.
const QUEUE_COST: usize = 64;
/// What it costs to have a queue show what it hides.
const SHOW_COST: usize = 4;
/// So many queues show it together.
const SHOWN_TOGETHER_MAX: usize = 4096;
/// What it costs to have a queue deliver.
const START_COST: usize = 256;

/// The settlements of one queue, in parts: each is settled under one lock.
pub type QueueSettlements = (QueueHandle, VecDeque<Vec<QueueSettlement>>);

/// What shows once the transaction is durable.
pub struct PendingCommit {
    vhost: Arc<VirtualHost>,
    point: CommitPoint,
    rest: Mutex<Rest>,
}

/// How far a commit that shows has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Finished {
    /// Nothing is left.
    All,
    /// There is more.
    Some {
        /// Messages were read for it, that are staged again as dead letters.
        read: bool,
    },
}

/// What is left to be done then.
#[derive(Default)]
pub struct Rest {
    settlements: VecDeque<QueueSettlements>,
    /// Of the first of them some parts are done.
    giving_back: Option<GivingBack>,
    /// What shows.
    unit: Unit,
    /// What may go to the dead letters.
    rejections: VecDeque<QueueSettlements>,
    /// See [`Finished`].
    read: bool,
}

impl Rest {
    /// Nothing of it is done yet.
    pub fn new(
        settlements: Vec<QueueSettlements>,
        rejections: Vec<QueueSettlements>,
        unit: Unit,
    ) -> Rest {
        Rest {
            settlements: settlements.into(),
            unit,
            rejections: rejections.into(),
            ..Rest::default()
        }
    }
}

impl std::fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PendingCommit({:?})", self.point)
    }
}

impl PendingCommit {
    /// A transaction staged at `point`.
    pub fn new(vhost: &Arc<VirtualHost>, point: CommitPoint, rest: Rest) -> Arc<PendingCommit> {
        Arc::new(PendingCommit {
            vhost: Arc::clone(vhost),
            point,
            rest: Mutex::new(rest),
        })
    }

    /// What was decided of a queue's deliveries before the broker was started, and not carried out.
    pub(crate) fn of_earlier(
        vhost: &Arc<VirtualHost>,
        queue: &QueueHandle,
        decided: Vec<QueueSettlement>,
    ) -> Arc<PendingCommit> {
        let mut parts = VecDeque::new();
        let mut part: Vec<QueueSettlement> = Vec::new();
        let mut left = vhost.services.step_cost;
        for settlement in decided {
            let cost = cost_of(std::slice::from_ref(&settlement));
            if cost > left && !part.is_empty() {
                parts.push_back(std::mem::take(&mut part));
                left = vhost.services.step_cost;
            }
            left = left.saturating_sub(cost);
            part.push(settlement);
        }
        parts.push_back(part);
        let rest = Rest {
            rejections: VecDeque::from([(queue.clone(), parts)]),
            ..Rest::default()
        };
        PendingCommit::new(vhost, CommitPoint::NONE, rest)
    }

    /// Shows a part of it, for up to about `most`, where an acknowledgement costs 1; called when it is durable.
    pub fn finish_some(&self, most: usize, now: Timestamp) -> Finished {
        let mut rest = std::mem::take(&mut *self.rest.lock());
        let mut left = most.max(1);
        while left > 0 {
            let Some(cost) = self.finish_next(&mut rest, left, now) else {
                return Finished::All;
            };
            left = left.saturating_sub(cost);
        }
        let read = std::mem::take(&mut rest.read);
        *self.rest.lock() = rest;
        Finished::Some { read }
    }

    /// Does the next thing, for up to about `most`; answers what it cost, None if nothing is left.
    fn finish_next(&self, rest: &mut Rest, most: usize, now: Timestamp) -> Option<usize> {
        if let Some((queue, parts)) = rest.settlements.front_mut() {
            let part = parts.pop_front().unwrap_or_default();
            let is_last = parts.is_empty();
            if !is_last && rest.giving_back.is_none() {
                rest.giving_back = Some(GivingBack::begin(queue, now));
            }
            let settle = match &rest.giving_back {
                // What comes back goes out when all of it is back.
                Some(_) => QueueHandle::settle_quietly,
                None => QueueHandle::settle,
            };
            let cost = self.settle(queue, part, settle, &mut rest.read, now);
            if is_last {
                rest.settlements.pop_front();
                if let Some(giving) = rest.giving_back.take() {
                    let (queue, effects) = giving.finish(now);
                    self.vhost.carry_out(&queue, effects, now);
                }
            }
            return Some(cost);
        }
        let begun = rest.unit.begin_times(most, now);
        if begun > 0 {
            return Some(begun);
        }
        let shown = rest.unit.show_some(SHOWN_TOGETHER_MAX);
        if shown > 0 {
            return Some(shown * SHOW_COST);
        }
        if let Some((queue, parts)) = rest.rejections.front_mut() {
            let part = parts.pop_front().unwrap_or_default();
            let cost = self.settle(queue, part, QueueHandle::settle, &mut rest.read, now);
            if parts.is_empty() {
                rest.rejections.pop_front();
            }
            return Some(cost);
        }
        if let Some((queue, effects)) = rest.unit.deliver_next(now) {
            self.vhost.carry_out(&queue, effects, now);
            failpoint::reached(Failpoint::InReveal);
            return Some(START_COST);
        }
        let (count, queue, effects) = rest.unit.send_next(now)?;
        self.vhost.carry_out(&queue, effects, now);
        Some(QUEUE_COST + count)
    }

    /// Settles a part of what is settled in a queue; answers what it cost.
    fn settle(
        &self,
        queue: &QueueHandle,
        mut part: Vec<QueueSettlement>,
        settle: fn(&QueueHandle, &[QueueSettlement], Timestamp) -> Effects,
        read: &mut bool,
        now: Timestamp,
    ) -> usize {
        let cost = QUEUE_COST + cost_of(&part);
        *read |= part.iter().any(|it| it.delivery.unread() > 0);
        queue.read_for(&self.vhost.services.store, &mut part);
        let effects = settle(queue, &part, now);
        self.vhost.carry_out(queue, effects, now);
        cost
    }

    /// Has the pager finish it, if it is durable: the connection that would have is gone.
    fn finish_by_pager(self: &Arc<Self>, services: &Services) {
        services
            .pager
            .ask(Party::Task(Arc::<PendingCommit>::clone(self)));
    }

    /// Has it finished when it is durable: the connection that would have is gone.
    pub fn finish_alone(self: &Arc<Self>, services: &Arc<Services>) {
        self.finish_at(self.point, services);
    }

    fn finish_at(self: &Arc<Self>, point: CommitPoint, services: &Arc<Services>) {
        let task: Arc<dyn Task> = Arc::<PendingCommit>::clone(self);
        let waker = services.waker(&task);
        if !services.store.wake_at(point, &waker) {
            self.finish_by_pager(services);
        }
    }
}

/// What it costs to settle these, where an acknowledgement costs 1.
pub(crate) fn cost_of(part: &[QueueSettlement]) -> usize {
    let each = |it: &QueueSettlement| it.outcome.cost() + it.delivery.cost_of_reading();
    part.iter().map(each).sum()
}

impl Task for PendingCommit {
    /// One step of what [`PendingCommit::finish_alone`] asked for.
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        match self.finish_some(services.step_cost, now) {
            Finished::All => {}
            // So that what is read is not in memory all together.
            Finished::Some { read: true } if services.store_is_behind() => {
                let point = services.store.stage(&mut Vec::new());
                self.finish_at(point, &self.vhost.services);
            }
            Finished::Some { .. } => self.finish_by_pager(services),
        }
    }
}
