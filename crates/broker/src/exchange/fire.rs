//! Delayed messages whose time has come go on; the others can be listed and cancelled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use leveret_deduplication::{DeduplicationCounts, Look};
use leveret_message::error::ChannelError;
use leveret_message::{Message, Timestamp};
use leveret_store_api::CommitPoint;

use super::delayed_messages::{Due, Todo};
use super::{Delayed, StatefulExchange, delay, rewrite};
use crate::broker::Broker;
use crate::exchange::delayed::DelayedPage;
use crate::exchange::delayed_messages::DelayedId;
use crate::exchange::incoming::Incoming;
use crate::vhost::VirtualHost;

/// Messages that go on between two looks at the clock.
const BATCH_MAX: usize = 256;
/// Batches of one exchange before others have their turn.
const BATCHES_MAX: usize = 4;

impl StatefulExchange {
    /// Removes some of the keys that have expired.
    pub(crate) fn expire_keys(self: &Arc<Self>, vhost: &VirtualHost, now: Timestamp) {
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        let mut changes = Vec::new();
        let alarm = {
            let mut gate = self.gate.lock();
            gate.keys.expire(now, &mut changes);
            if !changes.is_empty() {
                vhost.services.store.stage(&mut changes);
            }
            gate.keys.woken();
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
        for _ in 0..BATCHES_MAX {
            let due = delayed.take_due(now, store.durable_point(), BATCH_MAX);
            if due.is_empty() {
                break;
            }
            for one in due {
                vhost.fire(self, delayed, &one, now);
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
    /// leaving the exchange's log are one commit.
    fn fire(
        self: &Arc<Self>,
        exchange: &Arc<StatefulExchange>,
        delayed: &Delayed,
        due: &Due,
        now: Timestamp,
    ) {
        let message = negated(&due.message).unwrap_or_else(|| due.message.clone());
        let incoming = Incoming {
            exchange: exchange.name(),
            resumes: true,
            returned: false,
            look: Look::Published,
            message: &message,
            random: due.place.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        let settles = vec![delayed.settle(due.place.sequence)];
        let shown = self.publish_past(&incoming, settles, &|_| true, now);
        for (queue, effects) in shown.left {
            self.carry_out(&queue, effects, now);
        }
    }

    fn delayed_exchange(&self, exchange: &str) -> Result<Arc<StatefulExchange>, ChannelError> {
        self.stateful(exchange)
            .filter(|found| found.delayed().is_some())
            .ok_or_else(|| ChannelError::no_exchange(exchange, self.name()))
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
