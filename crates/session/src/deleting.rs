//! What is deleted and has very many bindings loses them in steps (see [`crate::giving_back`]) before it goes.

use leveret_broker::events::INTERNAL_USER;
use leveret_codec::protocol::{AMQPClass, exchange as exchange_wire, queue as wire};
use leveret_routing::Destination;
use leveret_store_api::CommitPoint;

use super::connection::Connection;
use super::deletion::{Answer, Deleting, Doomed};
use super::job::Job;
use super::link::Link;

impl Connection {
    /// Deletes a queue or an exchange, whatever is in it or uses it.
    pub(super) fn delete(&mut self, link: &mut Link, doomed: Doomed, answer: Answer) {
        let deleting = Deleting {
            doomed,
            answer: Some(answer),
        };
        self.begin_now(link, Job::Deleting(deleting), link.now);
    }

    /// A part of a deletion; answers whether there is more.
    pub(super) fn delete_step(&mut self, link: &mut Link, deleting: &mut Deleting) -> bool {
        let what = match &deleting.doomed {
            Doomed::Queue(queue) => Destination::Queue(queue.id()),
            Doomed::Exchange(name) => Destination::Exchange(name.clone()),
        };
        if self.vhost.thin_out(&what) {
            return true;
        }
        let by = match deleting.answer {
            Some(Answer::Deleted { .. }) => &self.login.user,
            _ => INTERNAL_USER,
        };
        let (deleted, point) = match &deleting.doomed {
            Doomed::Queue(queue) => {
                let (messages, point) = self.vhost.delete_for_good(queue, by);
                (queue_deleted(messages), point)
            }
            Doomed::Exchange(name) => (exchange_deleted(), self.vhost.delete_exchange(name, by)),
        };
        if let Some(answer) = deleting.answer.take() {
            self.answer_deletion(link, answer, deleted, point);
        }
        false
    }

    pub(super) fn answer_deletion(
        &mut self,
        link: &mut Link,
        answer: Answer,
        deleted: AMQPClass,
        point: CommitPoint,
    ) {
        match answer {
            Answer::Deleted { channel, nowait } => {
                self.answer(link, channel, nowait, deleted, point);
            }
            Answer::Reply(reply) => link.output.buffer().extend_from_slice(&reply),
        }
    }
}

/// The answer to `exchange.delete`.
pub(super) fn exchange_deleted() -> AMQPClass {
    AMQPClass::Exchange(exchange_wire::AMQPMethod::DeleteOk(
        exchange_wire::DeleteOk {},
    ))
}

/// The answer to `queue.delete`.
pub(super) fn queue_deleted(messages: u64) -> AMQPClass {
    let message_count = u32::try_from(messages).unwrap_or(u32::MAX);
    AMQPClass::Queue(wire::AMQPMethod::DeleteOk(wire::DeleteOk { message_count }))
}
