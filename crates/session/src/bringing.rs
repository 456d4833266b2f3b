//! A binding that brings a history, in steps (see [`crate::giving_back`]): its client is told when all of it is there.

use leveret_broker::bringing::Bound;
use leveret_broker::exchange::Slice;
use leveret_codec::ChannelNumber;
use leveret_codec::protocol::AMQPClass;
use leveret_message::Timestamp;
use leveret_message::error::Failure;

use super::bring::BringingHistory;
use super::connection::Connection;
use super::job::Job;
use super::link::Link;

impl Connection {
    /// The client is told that a binding is there, once it is.
    pub(super) fn tell_bound(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        nowait: bool,
        ok: AMQPClass,
        bound: Bound,
    ) -> Result<(), Failure> {
        let mut bringing = match bound {
            Bound::At(point) => {
                self.answer(link, number, nowait, ok, point);
                return Ok(());
            }
            Bound::Brings(bringing) => bringing,
        };
        let waker = link.mailbox.waker();
        if bringing.go_on(self.step_cost(), waker, link.now)? == Slice::Last {
            self.answer(link, number, nowait, ok, bringing.point());
            return Ok(());
        }
        let history = BringingHistory {
            channel: number,
            nowait,
            ok,
            bringing,
        };
        self.begin(link, Job::Bringing(Box::new(history)));
        Ok(())
    }

    /// Brings some more of a history.
    pub(super) fn bring_step(
        &mut self,
        link: &mut Link,
        history: &mut BringingHistory,
        now: Timestamp,
    ) -> Slice {
        let waker = link.mailbox.waker();
        match history.bringing.go_on(self.step_cost(), waker, now) {
            Ok(Slice::Last) => {
                let point = history.bringing.point();
                let ok = history.ok.clone();
                self.answer(link, history.channel, history.nowait, ok, point);
                Slice::Last
            }
            Ok(Slice::Waits) if self.waiting.gives_up() => Slice::Last,
            Ok(slice) => slice,
            Err(failure) => {
                self.fail_later(link, history.channel, failure, &history.ok, now);
                Slice::Last
            }
        }
    }

    /// What a client asked for has failed after its method was taken; `ok` would have been the answer.
    fn fail_later(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        failure: Failure,
        ok: &AMQPClass,
        now: Timestamp,
    ) {
        const QUEUE_BIND: (u16, u16) = (50, 20);
        const EXCHANGE_BIND: (u16, u16) = (40, 30);
        if self.leaves {
            return;
        }
        let ids = match ok {
            AMQPClass::Queue(_) => QUEUE_BIND,
            _ => EXCHANGE_BIND,
        };
        match failure {
            Failure::Channel(error) => self.fail_channel(link, number, &error, ids, now),
            Failure::Connection(error) => self.force_close(error.code, error.text),
            Failure::Abort(reason) => {
                let code = leveret_codec::ReplyCode::InternalError;
                self.force_close(code, reason.unwrap_or_default());
            }
        }
    }
}
