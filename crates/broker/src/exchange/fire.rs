//! Delayed messages whose time has come go on; the others can be listed and cancelled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use leveret_deduplication::{DeduplicationCounts, Look};
use leveret_message::error::ChannelError;
use leveret_message::{Message, Timestamp};
use leveret_store_api::CommitPoint;
use parking_lot::Mutex;

use super::delayed_messages::{Due, Todo};
use super::passage::{Passage, Slice};
use super::{Delayed, StatefulExchange, delay, rewrite};
use crate::broker::Broker;
use crate::exchange::delayed::DelayedPage;
use crate::exchange::delayed_messages::DelayedId;
use crate::exchange::incoming::Incoming;
use crate::services::{Party, Services, Task};
use crate::vhost::VirtualHost;

/// Messages that are taken out together.
const BATCH_MAX: usize = 256;
/// Queues that get a message of one exchange before others have their turn.
const FIRED_MAX: usize = 1024;

impl StatefulExchange {
    /// Removes some of the keys that have expired.
    pub(crate) fn expire_keys(self: &Arc<Self>, vhost: &VirtualHost, now: Timestamp) {
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        let mut changes = Vec::new();
        let alarm = {
            let mut gate = self.gate.lock();
            gate.keys.woken();
            if !gate.latch.is_off() {
                // Some of the keys are not staged yet. Whoever opens the gate asks for the alarm.
                return;
            }
            gate.keys.expire(now, &mut changes);
            if !changes.is_empty() {
                vhost.services.store.stage(&mut changes);
            }
            gate.keys.alarm(now)
        };
        if let Some(at) = alarm {
            vhost.services.wake_exchange_at(at, self);
        }
    }

    /// The alarm went off, or messages were read: what is due goes on.
    pub(crate) fn handle_timeout(self: &Arc<Self>, vhost: &Arc<VirtualHost>, now: Timestamp) {
        self.expire_keys(vhost, now);
        let Some(delayed) = self.delayed() else {
            // It keeps something else.
            return;
        };
        delayed.woken();
        let store = &vhost.services.store;
        let mut left = FIRED_MAX;
        while left > 0 {
            let mut due = VecDeque::from(delayed.take_due(now, store.durable_point(), BATCH_MAX));
            if due.is_empty() {
                break;
            }
            while let Some(one) = due.pop_front() {
                match vhost.fire(self, delayed, &one, now) {
                    Ok(queues) => left = left.saturating_sub(queues.max(1)),
                    Err(passage) => {
                        // It asks what is to be done next when all of these are on their way.
                        vhost.fire_by_pager(self, passage, due);
                        return;
                    }
                }
            }
            delayed.fired();
        }
        let todo = delayed.todo(now, store.durable_point());
        self.look_after(vhost, todo);
    }

    /// Reads what is wanted, and lets go on what is due. Blocks on files.
    pub(crate) fn page_in(self: &Arc<Self>, vhost: &Arc<VirtualHost>, now: Timestamp) {
        if let Some(delayed) = self.delayed() {
            let damaged = delayed.load(&vhost.services.store, self.name(), now);
            if damaged > 0 {
                vhost.tell_damaged("exchange", self.name(), damaged);
            }
            self.handle_timeout(vhost, now);
        }
    }

    /// Does what is left to be done.
    pub(crate) fn look_after(self: &Arc<Self>, vhost: &VirtualHost, todo: Todo) {
        if let Some(at) = todo.alarm {
            vhost.services.wake_exchange_at(at, self);
        }
        if todo.read {
            vhost.services.pager.ask(Arc::clone(self));
        }
    }
}

impl VirtualHost {
    /// Routes a message on from the exchange that held it back. Its arrival in its queues and its
    /// leaving the exchange's log are one commit. Answers how many queues have it.
    ///
    /// # Errors
    /// What cannot be done at once.
    fn fire(
        self: &Arc<Self>,
        exchange: &Arc<StatefulExchange>,
        delayed: &Delayed,
        due: &Due,
        now: Timestamp,
    ) -> Result<usize, Box<Passage>> {
        let message = negated(&due.message).unwrap_or_else(|| due.message.clone());
        let incoming = Incoming {
            exchange: exchange.name(),
            resumes: true,
            returned: false,
            look: Look::Published,
            message: &message,
            random: due.place.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            barred: &[],
        };
        let settles = vec![delayed.settle(due.place.sequence)];
        let shown = self.publish_past(&incoming, settles, now)?;
        let queues = shown.left.len();
        self.carry_out_all(shown.left, now);
        Ok(queues)
    }

    /// Has the pager go on with a message that is due, and with those behind it.
    fn fire_by_pager(
        self: &Arc<Self>,
        exchange: &Arc<StatefulExchange>,
        passage: Box<Passage>,
        behind: VecDeque<Due>,
    ) {
        let firing = Firing {
            vhost: Arc::clone(self),
            exchange: Arc::clone(exchange),
            rest: Mutex::new((Some(passage), behind)),
        };
        self.services.pager.ask(Party::Task(Arc::new(firing)));
    }

    fn delayed_exchange(&self, exchange: &str) -> Result<Arc<StatefulExchange>, ChannelError> {
        self.stateful(exchange)
            .filter(|found| found.delayed().is_some())
            .ok_or_else(|| ChannelError::no_exchange(exchange, self.name()))
    }
}

/// Messages of an exchange that are due, the first of them on its way.
struct Firing {
    vhost: Arc<VirtualHost>,
    exchange: Arc<StatefulExchange>,
    rest: Mutex<(Option<Box<Passage>>, VecDeque<Due>)>,
}

impl std::fmt::Debug for Firing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Firing({})", self.exchange.name())
    }
}

impl Task for Firing {
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        let Some(delayed) = self.exchange.delayed() else {
            return;
        };
        let task: Arc<dyn Task> = Arc::<Firing>::clone(&self);
        let waker = self.vhost.services.waker(&task);
        let mut left = Vec::new();
        // Whoever is woken before it is back in its place waits for it.
        let mut rest = self.rest.lock();
        let (passage, behind) = &mut *rest;
        if passage.is_none() && behind.is_empty() {
            // Asked once too often.
            return;
        }
        let slice = passage.as_mut().map_or(Slice::Last, |passage| {
            passage.go_on(&self.vhost, services.step_cost, &waker, &mut left, now)
        });
        let mut is_over = false;
        if slice == Slice::Last {
            *passage = None;
            let mut room = BATCH_MAX.saturating_sub(left.len());
            while room > 0
                && passage.is_none()
                && let Some(due) = behind.pop_front()
            {
                match self.vhost.fire(&self.exchange, delayed, &due, now) {
                    Ok(queues) => room = room.saturating_sub(queues.max(1)),
                    Err(next) => *passage = Some(next),
                }
            }
            is_over = passage.is_none() && behind.is_empty();
        }
        drop(rest);
        self.vhost.carry_out_all(left, now);
        if is_over {
            delayed.fired();
            services.pager.ask(Arc::clone(&self.exchange));
        } else if slice != Slice::Waits {
            services.pager.ask(Party::Task(task));
        }
    }
}

/// The message with its delay turned negative.
fn negated(message: &Message) -> Option<Message> {
    let header = message.decode_header().ok()?;
    let delay_ms = delay::delay_ms(header.properties.headers)?;
    rewrite::with_headers(message, |headers, fields| {
        delay::negate(headers, delay_ms, fields);
    })
}

impl Broker {
    /// Duplicates and gaps in what was published to an exchange; None: they are not looked for.
    ///
    /// # Errors
    /// 404: there is no such exchange.
    pub fn deduplication_counts(
        &self,
        vhost: &str,
        exchange: &str,
    ) -> Result<Option<DeduplicationCounts>, ChannelError> {
        let missing = || ChannelError::no_exchange(exchange, vhost);
        let found = self.vhost(vhost).ok_or_else(missing)?;
        if found.topology.read().exchange(exchange).is_none() {
            return Err(missing());
        }
        Ok(found.deduplication_counts(exchange))
    }

    fn delayed_exchange(
        &self,
        vhost: &str,
        exchange: &str,
    ) -> Result<(Arc<VirtualHost>, Arc<StatefulExchange>), ChannelError> {
        let vhost = self
            .vhost(vhost)
            .ok_or_else(|| ChannelError::no_exchange(exchange, vhost))?;
        let stateful = vhost.delayed_exchange(exchange)?;
        Ok((vhost, stateful))
    }

    /// How many messages an `x-delayed-message` exchange holds back.
    ///
    /// # Errors
    /// 404: there is no such exchange.
    pub fn delayed_count(&self, vhost: &str, exchange: &str) -> Result<usize, ChannelError> {
        let (_, stateful) = self.delayed_exchange(vhost, exchange)?;
        Ok(stateful.delayed().map_or(0, Delayed::count))
    }

    /// The messages an `x-delayed-message` exchange holds back as `view` sees them, the earliest
    /// first: at most `max`, and fewer if their bodies are large, but one at least; beginning after
    /// `after`. Blocks on files.
    ///
    /// # Errors
    /// 404: there is no such exchange.
    pub fn delayed_messages<T>(
        &self,
        vhost: &str,
        exchange: &str,
        after: Option<DelayedId>,
        max: usize,
        view: impl Fn(&Message) -> T,
    ) -> Result<DelayedPage<T>, ChannelError> {
        let (vhost, stateful) = self.delayed_exchange(vhost, exchange)?;
        let Some(delayed) = stateful.delayed() else {
            return Err(ChannelError::no_exchange(exchange, vhost.name()));
        };
        Ok(delayed.list(&vhost.services.store, exchange, after, max, view))
    }

    /// Cancels a delayed message by its sequence. Answers when that is durable; None: it is not held
    /// back any more.
    ///
    /// # Errors
    /// 404: there is no such exchange.
    pub fn cancel_delayed(
        &self,
        vhost: &str,
        exchange: &str,
        sequence: u64,
    ) -> Result<Option<CommitPoint>, ChannelError> {
        let (vhost, stateful) = self.delayed_exchange(vhost, exchange)?;
        let cancelled = stateful
            .delayed()
            .filter(|delayed| delayed.cancel(sequence));
        Ok(cancelled.map(|delayed| {
            let mut changes = vec![delayed.settle(sequence)];
            vhost.services.store.stage(&mut changes)
        }))
    }
}
