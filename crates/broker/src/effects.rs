//! What is left to be done after a queue's verb, once the queue is unlocked; and messages of the broker's own.

use leveret_store_api::broken::broken;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use leveret_deduplication::Look;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::effects::Effects;
use leveret_routing::RouteInput;
use leveret_store_api::CommitPoint;

use crate::dead_letter::LETTERS_MAX;
use crate::events::INTERNAL_USER;
use crate::exchange::{Incoming, Passage};
use crate::handle::QueueHandle;
use crate::vhost::{Targets, VirtualHost};

/// The way of a message of the broker's own.
fn passing_from_within<'a>(exchange: &'a str, message: &'a Message, random: u64) -> Incoming<'a> {
    Incoming {
        exchange,
        resumes: false,
        returned: false,
        look: Look::Published,
        message,
        random,
        barred: &[],
    }
}

impl VirtualHost {
    /// Publishes a message of the broker's own, by the names it bears. Nobody waits for it, and a
    /// queue that is full does without it.
    pub fn publish_from_within(self: &Arc<Self>, message: &Message, now: Timestamp) {
        for queue in self.route_from_within(message, now).into_iter().flatten() {
            if !self.publish_to(&queue, message, Waker::noop(), now) {
                let (exchange, _) = message.exchange_and_key();
                let exchange = String::from_utf8_lossy(exchange);
                let incoming = passing_from_within(&exchange, message, 0);
                self.pass_by_pager(Passage::to_gate(&incoming, queue, self));
            }
        }
    }

    /// A queue takes a message of the broker's own. False: its gate is shut, and `waker` is woken when it is open.
    pub(crate) fn publish_to(
        self: &Arc<Self>,
        queue: &QueueHandle,
        message: &Message,
        waker: &Waker,
        now: Timestamp,
    ) -> bool {
        let Some(gate) = queue.open_gate(waker) else {
            return false;
        };
        let messages = std::iter::once(message.clone());
        let effects = queue.publish(&gate, messages, now, &mut Vec::new());
        drop(gate);
        self.carry_out(queue, effects, now);
        true
    }

    /// The queues that are to take a message of the broker's own; None if it went past exchanges that keep something.
    pub(crate) fn route_from_within(
        self: &Arc<Self>,
        message: &Message,
        now: Timestamp,
    ) -> Option<Targets> {
        let (exchange, key) = message.exchange_and_key();
        let exchange = String::from_utf8_lossy(exchange);
        let Ok(header) = message.decode_header() else {
            broken(&"the header of a message of the broker's own");
            return None;
        };
        let input = RouteInput {
            headers: header.properties.headers,
            random: self.services.next_random(),
            ..RouteInput::new(key)
        };
        let (targets, stateful) = self.route_internally(&exchange, &input);
        if stateful {
            let incoming = passing_from_within(&exchange, message, input.random);
            match self.publish_past(&incoming, Vec::new(), now) {
                Ok(shown) => self.carry_out_all(shown.left, now),
                Err(passage) => self.pass_by_pager(passage),
            }
            return None;
        }
        Some(targets)
    }

    /// Does what a queue's verb left to be done, and what that leaves in turn.
    pub fn carry_out(self: &Arc<Self>, queue: &QueueHandle, effects: Effects, now: Timestamp) {
        if !effects.leaves_work() {
            return;
        }
        let mut letters_max = LETTERS_MAX;
        let mut work = VecDeque::from([(queue.clone(), effects)]);
        while let Some((queue, effects)) = work.pop_front() {
            if let Some(deadline) = effects.deadline
                && !queue.is_deleted()
            {
                self.services.wake_queue_at(deadline, &queue);
            }
            if effects.damaged > 0 {
                self.tell_damaged("queue", queue.name(), effects.damaged);
            }
            if effects.page_in {
                self.services.pager.ask(queue.clone());
            }
            if !effects.garbage.is_empty() {
                self.services.pager.free(effects.garbage);
            }
            if let Some(point) = effects.durable_at {
                work.extend(self.look_again_at(point, &queue, now));
            }
            if effects.letters && queue.outbox().begin_moving() {
                work.extend(self.move_letters(&queue, &mut letters_max, now));
            }
            if effects.delete_queue {
                self.delete_queue(&queue, INTERNAL_USER);
            }
        }
    }

    /// [`VirtualHost::carry_out`] for each of these.
    pub fn carry_out_all(self: &Arc<Self>, left: Vec<(QueueHandle, Effects)>, now: Timestamp) {
        for (queue, effects) in left {
            self.carry_out(&queue, effects, now);
        }
    }

    /// Has the pager look at `queue` once `point` is durable; if it is already, looks now.
    fn look_again_at(
        &self,
        point: CommitPoint,
        queue: &QueueHandle,
        now: Timestamp,
    ) -> Option<(QueueHandle, Effects)> {
        let services = Arc::clone(&self.services);
        let waker = queue.waker(move |queue| services.pager.ask(queue));
        if self.services.store.wake_at(point, &waker) {
            return None;
        }
        Some((queue.clone(), queue.deliver_shown(now)))
    }
}
