//! What is left to be done after a queue's verb, once the queue is unlocked; and messages of the broker's own.

use leveret_store_api::broken::broken;
use std::collections::VecDeque;
use std::sync::Arc;

use leveret_deduplication::Look;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::effects::Effects;
use leveret_routing::RouteInput;
use leveret_store_api::CommitPoint;

use crate::dead_letter::LETTERS_MAX;
use crate::events::INTERNAL_USER;
use crate::exchange::Incoming;
use crate::handle::QueueHandle;
use crate::vhost::{Targets, VirtualHost};

impl VirtualHost {
    /// Publishes a message of the broker's own, by the names it bears. Nobody waits for it, and a
    /// queue that is full does without it.
    pub fn publish_from_within(self: &Arc<Self>, message: &Message, now: Timestamp) {
        for queue in self.route_from_within(message, now).into_iter().flatten() {
            self.publish_to(&queue, message, now);
        }
    }

    /// A queue takes a message of the broker's own.
    pub(crate) fn publish_to(
        self: &Arc<Self>,
        queue: &QueueHandle,
        message: &Message,
        now: Timestamp,
    ) {
        let mut rejected = Vec::new();
        let effects = queue.publish(std::iter::once(message.clone()), now, &mut rejected);
        self.carry_out(queue, effects, now);
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
            let incoming = Incoming {
                exchange: &exchange,
                resumes: false,
                returned: false,
                look: Look::Published,
                message,
                random: input.random,
            };
            let shown = self.publish_past(&incoming, Vec::new(), &|_| true, now);
            self.carry_out_all(shown.left, now);
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
