//! Publishing: each message in its steps, see [`crate::publishing`], and to whoever has it then.

use leveret_broker::exchange::{Slice, without_blind_copies};
use leveret_codec::{ChannelNumber, Frame, FrameKind, method_ids};
use leveret_message::Timestamp;
use leveret_message::error::Failure;

use super::assembly::WholePublish;
use super::body_memory::BodyMemory;
use super::connection::Connection;
use super::job::Job;
use super::link::Link;
use super::publishing::decided::Decided;
use super::publishing::routed::Routed;
use super::publishing::sender::Sender;
use super::trace::keys_of_publish;
use super::transaction::Kept;
use super::work;

impl Connection {
    /// Takes a whole publish; `memory` is what its body takes until it is in its queues.
    pub(super) fn take_publish(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        whole: WholePublish<'_>,
        mut memory: Option<BodyMemory>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.renew(link);
        let sender = Sender {
            user: &self.login.user,
            users: &link.broker.users,
            grant: &self.grant,
            delivering: &self.delivering,
            channel: number,
        };
        let checked = self.publishing.check(whole, &sender)?;
        let routed = self.publishing.route(checked, &sender)?;
        if self.vhost.is_watched() {
            self.trace_routed(link, number, &routed, now);
        }
        let Some(channel) = self.channels.get_mut(number) else {
            return Ok(());
        };
        channel.facts.note_published(1, now);
        self.publishing.note_size(routed.header.body_size);
        match self.publishing.decide(link, channel, routed, &mut memory) {
            Decided::Batched(batched) => {
                self.publishing.batch(link, channel, batched);
                if self.publishing.is_full() {
                    self.flush(link, now);
                }
            }
            Decided::KeptByExchange(publish) => {
                link.work.add(work::DETOUR);
                self.publish_stateful(link, number, publish, now)?;
            }
            Decided::InTransaction(kept) => {
                self.publish_in_transaction(link, number, kept, now)?;
            }
            Decided::WrittenAhead(large) => {
                // What came before it need not wait.
                self.flush(link, now);
                self.publishing.await_large(large);
            }
            Decided::Spread(message, queues) => self.spread(link, number, message, queues, now),
        }
        Ok(())
    }

    /// Takes the publishes at the front of `input` that are like the one before them; answers how many bytes
    /// they are.
    #[inline]
    pub(super) fn take_repeats(&mut self, link: &mut Link, input: &[u8], now: Timestamp) -> usize {
        let used = self
            .publishing
            .take_repeats(&mut self.channels, link, input);
        if used > 0 && self.publishing.is_full() {
            self.flush(link, now);
        }
        used
    }

    /// The firehose gets a copy, and who watches traces is told.
    #[cold]
    fn trace_routed(
        &self,
        link: &Link,
        number: ChannelNumber,
        routed: &Routed<'_>,
        now: Timestamp,
    ) {
        let keys = keys_of_publish(routed.names, routed.header);
        let queues = self.publishing.targets_of(routed);
        if let Some(spans) = self.vhost.services.spans.get() {
            spans.published(&routed.message, &queues, now);
        }
        if !self.vhost.is_traced() {
            return;
        }
        let mut message = routed.message.clone();
        if routed.is_stateful() {
            message = without_blind_copies(message);
        }
        self.trace_publish(link, number, &message, keys, queues.iter(), now);
    }

    /// Keeps a publish until the commit.
    fn publish_in_transaction(
        &mut self,
        link: &Link,
        number: ChannelNumber,
        kept: Kept,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let bytes_max = link.broker.config().transaction_bytes_max;
        self.transaction(number)?.publish(kept, bytes_max)?;
        self.note_uncommitted(number);
        self.account_for_transaction(link, number, now)
    }

    /// Publishes the batch. What finds gates shut goes on before all that comes later.
    pub(super) fn flush_publishes(&mut self, link: &Link, now: Timestamp) {
        let waited = self.publishing.waits_at_gate();
        let waker = link.mailbox.waker();
        let flushed = self
            .publishing
            .flush(&mut self.channels, &self.facts, waker, now);
        if let Some(pressure) = flushed {
            self.consider(link, pressure, now);
            if self.publishing.waits_at_gate() && !waited {
                self.begin(link, Job::Flushing);
            }
        }
    }

    /// Publishes more of a batch that has found gates shut.
    pub(super) fn flush_step(&mut self, link: &Link, now: Timestamp) -> Slice {
        self.flush_publishes(link, now);
        if !self.publishing.waits_at_gate() {
            return Slice::Last;
        }
        if self.waiting.gives_up() {
            self.publishing.give_up_waiting();
            return Slice::Last;
        }
        Slice::Waits
    }

    /// Whether a frame has to wait: what was published before it waits for a gate.
    #[inline]
    pub(super) fn must_flush_for(
        &mut self,
        link: &mut Link,
        frame: &Frame<'_>,
        now: Timestamp,
    ) -> bool {
        self.publishing.meets_gates() && frame.kind == FrameKind::Method && {
            // Publishes and settlements are gathered.
            let gathered = [(60, 40), (60, 80), (60, 90), (60, 120)];
            let is_gathered = method_ids(frame.payload).is_some_and(|ids| gathered.contains(&ids));
            if !is_gathered {
                self.flush(link, now);
            }
            self.publishing.waits_at_gate()
        }
    }
}
