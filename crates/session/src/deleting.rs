//! What is deleted and has very many bindings leaves in steps (see [`crate::giving_back`]), and its client is told when
//! nothing is left of it.

use leveret_codec::protocol::{AMQPClass, exchange as exchange_wire, queue as wire};
use leveret_codec::{Frame, FrameKind, decode_method};
use leveret_store_api::CommitPoint;

use super::connection::Connection;
use super::deletion::{Answer, Clearing, Told};
use super::job::Job;
use super::link::Link;
use super::topology::clean;

impl Connection {
    /// Something was deleted at `point`; the client is told when it is cleared away, and durable.
    pub(super) fn tell_deleted(
        &mut self,
        link: &mut Link,
        answer: Answer,
        deleted: AMQPClass,
        point: CommitPoint,
    ) {
        let told = Told {
            answer,
            deleted,
            point,
        };
        if self.vhost.is_clearing() {
            let answer = Some(told);
            self.begin(link, Job::Clearing(Clearing { answer }));
        } else {
            self.answer_deletion(link, told);
        }
    }

    /// Clears away a slice of what was deleted; answers whether there is more.
    pub(super) fn clear_step(&mut self, link: &mut Link, clearing: &mut Clearing) -> bool {
        if self.vhost.clear_some() {
            return true;
        }
        if let Some(mut told) = clearing.answer.take() {
            told.point = told.point.max(self.vhost.services.definitions_point());
            self.answer_deletion(link, told);
        }
        false
    }

    fn answer_deletion(&mut self, link: &mut Link, told: Told) {
        match told.answer {
            Answer::Deleted { channel, nowait } => {
                self.answer(link, channel, nowait, told.deleted, told.point);
            }
            Answer::Reply(reply) => link.output.buffer().extend_from_slice(&reply),
        }
    }

    /// Whether a frame has to wait: it declares what was deleted a moment ago, of which something is left.
    #[inline]
    pub(super) fn must_clear_for(&mut self, link: &Link, frame: &Frame<'_>) -> bool {
        self.vhost.is_clearing()
            && frame.kind == FrameKind::Method
            && self.declares_what_leaves(link, frame)
    }

    #[cold]
    fn declares_what_leaves(&mut self, link: &Link, frame: &Frame<'_>) -> bool {
        let method = decode_method(frame.payload).ok();
        let is_leaving = match method.as_ref().and_then(|method| method.control()) {
            Some(AMQPClass::Exchange(exchange_wire::AMQPMethod::Declare(declare))) => {
                let name = clean(declare.exchange.as_str());
                self.vhost.is_leaving(Some(&name), None)
            }
            Some(AMQPClass::Queue(wire::AMQPMethod::Declare(declare))) => {
                let name = clean(declare.queue.as_str());
                self.vhost.is_leaving(None, Some(&name))
            }
            _ => false,
        };
        if is_leaving {
            self.begin(link, Job::Clearing(Clearing { answer: None }));
        }
        is_leaving
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
