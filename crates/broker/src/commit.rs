//! A transaction between being staged and being durable.
//!
//! Its messages are in their queues, hidden; its settlements have not happened yet as far as anybody can
//! see. [`PendingCommit::finish_some`] makes all of it visible, in steps if it is much. The session does so
//! when it answers the commit; if its connection ends before, the store's waker and the pager see to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};

use leveret_message::Timestamp;
use leveret_queue::queue::effects::Effects;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use leveret_store_api::CommitPoint;
use leveret_store_api::failpoint::{self, Failpoint};
use parking_lot::Mutex;

use crate::exchange::RefusedLetters;
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
    staged_at: Timestamp,
    rest: Mutex<Rest>,
}

/// What is left to be done then.
#[derive(Default)]
pub struct Rest {
    /// They stage nothing more.
    pub(crate) settlements: VecDeque<QueueSettlements>,
    /// Of the first of them some parts are done.
    giving_back: Option<GivingBack>,
    /// Queues with messages that show.
    pub(crate) hidden_in: Vec<QueueHandle>,
    /// So many of these show them.
    shown: usize,
    /// So many of these have delivered them.
    delivered: usize,
    pub(crate) letters: VecDeque<RefusedLetters>,
}

impl Rest {
    /// Nothing of it is done yet.
    pub fn new(
        settlements: impl Into<VecDeque<QueueSettlements>>,
        hidden_in: Vec<QueueHandle>,
        letters: Vec<RefusedLetters>,
    ) -> Rest {
        Rest {
            settlements: settlements.into(),
            giving_back: None,
            hidden_in,
            shown: 0,
            delivered: 0,
            letters: letters.into(),
        }
    }
}

impl std::fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PendingCommit({:?})", self.point)
    }
}

impl PendingCommit {
    /// A transaction staged at `point`; delays of what is put back were reckoned from `staged_at`.
    pub fn new(
        vhost: &Arc<VirtualHost>,
        point: CommitPoint,
        staged_at: Timestamp,
        rest: Rest,
    ) -> Arc<PendingCommit> {
        Arc::new(PendingCommit {
            vhost: Arc::clone(vhost),
            point,
            staged_at,
            rest: Mutex::new(rest),
        })
    }

    /// Shows a part of it, for up to about `most`, where an acknowledgement costs 1; called when it is durable.
    /// Answers whether there is more.
    pub fn finish_some(&self, most: usize, now: Timestamp) -> bool {
        let mut rest = std::mem::take(&mut *self.rest.lock());
        let mut left = most.max(1);
        while left > 0 {
            let Some(cost) = self.finish_next(&mut rest, now) else {
                return false;
            };
            left = left.saturating_sub(cost);
        }
        *self.rest.lock() = rest;
        true
    }

    /// Does the next thing; answers what it cost, None if nothing is left.
    fn finish_next(&self, rest: &mut Rest, now: Timestamp) -> Option<usize> {
        if let Some((queue, parts)) = rest.settlements.front_mut() {
            let part = parts.pop_front().unwrap_or_default();
            let is_last = parts.is_empty();
            if !is_last && rest.giving_back.is_none() {
                rest.giving_back = Some(GivingBack::begin(queue, now));
            }
            let cost = match &rest.giving_back {
                // What comes back goes out when all of it is back.
                Some(_) => self.settle(queue, part, QueueHandle::settle_quietly, now),
                None => self.settle(queue, part, QueueHandle::settle, now),
            };
            if is_last {
                rest.settlements.pop_front();
                if let Some(giving) = rest.giving_back.take() {
                    let (queue, effects) = giving.finish(now);
                    self.vhost.care(&queue, effects, now);
                }
            }
            return Some(cost);
        }
        // All that is hidden shows before any of it is delivered: nobody sees half of it.
        if rest.shown < rest.hidden_in.len() {
            failpoint::reached(Failpoint::BeforeReveal);
            let before = rest.shown;
            for queue in rest.hidden_in.iter().skip(before).take(SHOWN_TOGETHER_MAX) {
                queue.reveal_quietly(self.point, now);
                rest.shown += 1;
            }
            return Some((rest.shown - before) * SHOW_COST);
        }
        if let Some(queue) = rest.hidden_in.get(rest.delivered) {
            let effects = queue.deliver_shown(now);
            self.vhost.care(queue, effects, now);
            failpoint::reached(Failpoint::InReveal);
            rest.delivered += 1;
            return Some(START_COST);
        }
        let (queue, letters) = rest.letters.pop_front()?;
        let cost = QUEUE_COST + letters.len();
        let effects = queue.send(letters, now);
        self.vhost.care(&queue, effects, now);
        Some(cost)
    }

    /// Settles a part of what is settled in a queue; answers what it cost.
    fn settle(
        &self,
        queue: &QueueHandle,
        mut part: Vec<QueueSettlement>,
        settle: fn(&QueueHandle, &[QueueSettlement], Timestamp) -> Effects,
        now: Timestamp,
    ) -> usize {
        let mut cost = QUEUE_COST;
        for settlement in &mut part {
            cost += settlement.outcome.cost();
            // Delays begin now, as times to live do.
            if let Outcome::Waits(due) = &mut settlement.outcome {
                *due = now + (*due - self.staged_at);
            }
        }
        let effects = settle(queue, &part, now);
        self.vhost.care(queue, effects, now);
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
        let waker = Waker::from(Arc::new(CommitWaker {
            services: Arc::clone(services),
            commit: Arc::clone(self),
        }));
        if !services.store.wake_at(self.point, &waker) {
            self.finish_by_pager(services);
        }
    }
}

impl Task for PendingCommit {
    /// One step of what [`PendingCommit::finish_alone`] asked for.
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        if self.finish_some(services.step_cost, now) {
            self.finish_by_pager(services);
        }
    }
}

struct CommitWaker {
    services: Arc<Services>,
    commit: Arc<PendingCommit>,
}

impl Wake for CommitWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.commit.finish_by_pager(&self.services);
    }
}
