//! Memory for what a client has begun and not finished: a body whose size is announced, an open transaction. A
//! connection for which there is none left is not read; one that stands still while others wait is ended.

use leveret_store_api::broken::broken;
use std::sync::Arc;

use leveret_broker::memory_pool::{Answer, Portion, STALL_MS};
use leveret_codec::{ChannelNumber, ContentHeader, Frame, FrameKind, ReplyCode};
use leveret_message::Timestamp;
use leveret_message::error::{ChannelError, Failure};

use super::body_memory::{BodyMemory, Wanted};
use super::channel::PublishMode;
use super::connection::Connection;
use super::link::Link;

impl Connection {
    /// Whether there is memory for the body that a header frame announces. Without any, the frame is left where it
    /// is, and the connection waits.
    #[inline]
    pub(super) fn has_memory_for(
        &mut self,
        link: &Link,
        frame: &Frame<'_>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        match frame.kind {
            FrameKind::Header => self.has_memory_for_body(link, frame, now),
            FrameKind::Method | FrameKind::Body | FrameKind::Heartbeat => Ok(true),
        }
    }

    #[inline(never)]
    fn has_memory_for_body(
        &mut self,
        link: &Link,
        frame: &Frame<'_>,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let Some(channel) = self.channels.get_mut(frame.channel) else {
            return Ok(true);
        };
        let mut header = ContentHeader::default();
        let is_legal = header.read(frame.payload).is_ok()
            && header.body_size <= link.broker.config().message_bytes_max;
        let (true, Some(assembly)) = (is_legal, channel.assembly.as_mut()) else {
            // What is wrong with it is said by whoever takes it.
            return Ok(true);
        };
        let size = usize::try_from(header.body_size).unwrap_or(usize::MAX);
        let bytes = size.saturating_add(frame.payload.len());
        if let Some(share) = self.publishing.own_share(bytes) {
            assembly.memory = Some(BodyMemory::Own(share));
            return Ok(true);
        }
        let services = &self.vhost.services;
        if let PublishMode::Transaction(transaction) = &mut channel.mode
            && !transaction.would_be_too_large(size, link.broker.config().transaction_bytes_max)
        {
            let pool = &services.transaction_memory;
            let wants = transaction.memory_wanted(size);
            let portion = transaction.memory(pool, &link.mailbox, now);
            let answer = match wants {
                0 => Answer::Taken,
                _ => portion.take(wants, now),
            };
            match answer {
                Answer::Taken => self.waiting.watch_memory(now),
                Answer::Wait => {
                    self.waiting.hold_back_for_memory(Wanted::Body);
                    return Ok(false);
                }
                Answer::Refused => return Err(beyond_all_transactions(pool.bytes())),
            }
        }
        let pool = Arc::clone(&services.assembly_memory);
        let mut portion = Portion::new(&pool, &link.mailbox, now);
        if bytes > pool.bytes() {
            return Err(too_large(size, pool.bytes()));
        }
        match portion.take(bytes, now) {
            Answer::Taken => {}
            Answer::Wait => {
                let own: usize = self.portions().map(Portion::taken).sum();
                if own.saturating_add(bytes) > pool.bytes() {
                    pool.stop_waiting(&link.mailbox);
                    return Err(too_large(size, pool.bytes()));
                }
                self.waiting.hold_back_for_memory(Wanted::Body);
                return Ok(false);
            }
            Answer::Refused => return Err(too_large(size, pool.bytes())),
        }
        if let Some(assembly) = self
            .channels
            .get_mut(frame.channel)
            .and_then(|channel| channel.assembly.as_mut())
        {
            assembly.memory = Some(BodyMemory::Shared(portion));
        }
        self.waiting.watch_memory(now);
        Ok(true)
    }

    /// What its bodies on their way have of the memory of all.
    fn portions(&self) -> impl Iterator<Item = &Portion> {
        let assemblies = self.channels.iter().filter_map(|it| it.assembly.as_ref());
        assemblies.filter_map(|assembly| assembly.memory.as_ref()?.portion())
    }

    /// A transaction has grown: if there was no memory for that, the connection waits.
    pub(super) fn account_for_transaction(
        &mut self,
        link: &Link,
        number: ChannelNumber,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mode = self.channels.get_mut(number).map(|it| &mut it.mode);
        let Some(PublishMode::Transaction(transaction)) = mode else {
            broken(&"a transaction has grown that is none");
            return Ok(());
        };
        let wants = transaction.memory_wanted(0);
        let pool = &self.vhost.services.transaction_memory;
        let portion = transaction.memory(pool, &link.mailbox, now);
        portion.take_anyway(wants, now);
        self.waiting.watch_memory(now);
        if self.waiting.is_held_back() {
            return Ok(());
        }
        match portion.settle() {
            Answer::Taken => Ok(()),
            Answer::Wait => {
                let wanted = Wanted::Transaction(number);
                self.waiting.hold_back_for_memory(wanted);
                Ok(())
            }
            Answer::Refused => Err(beyond_all_transactions(pool.bytes())),
        }
    }

    /// The connection was told that there may be memory again.
    pub(super) fn may_go_on(&mut self, wanted: Wanted, link: &Link) -> bool {
        let Wanted::Transaction(number) = wanted else {
            // It asks again with the frame it left.
            return true;
        };
        let mode = self
            .channels
            .get_mut(number)
            .map(|channel| &mut channel.mode);
        let Some(PublishMode::Transaction(transaction)) = mode else {
            return true;
        };
        let pool = &self.vhost.services.transaction_memory;
        let portion = transaction.memory(pool, &link.mailbox, link.now);
        // What is refused is told with the next publish.
        portion.settle() != Answer::Wait
    }

    /// Ends what stands still while others wait for the memory it has.
    pub(super) fn end_what_stands_still(&mut self, link: &mut Link, now: Timestamp) {
        if !self.waiting.ends_watch(now) {
            return;
        }
        let waits = self.waiting.is_held_back_for_memory();
        // Held for something else, it could not go on if it would.
        let is_free = waits || self.wants_input(link);
        if is_free
            && self
                .portions()
                .any(|portion| portion.is_stalled(waits, now))
        {
            let text = format!(
                "a body stood still for {} s while others waited for its memory",
                STALL_MS / 1000
            );
            self.force_close(ReplyCode::ResourceError, text);
            return;
        }
        let numbers = self.channels.numbers();
        for number in numbers {
            let mode = self.channels.get(number).map(|channel| &channel.mode);
            let Some(PublishMode::Transaction(transaction)) = mode else {
                continue;
            };
            let stalled = |portion: &Portion| portion.is_stalled(waits, now);
            if is_free && transaction.portion().is_some_and(stalled) {
                let error = ChannelError::precondition(format_args!(
                    "the transaction stood still for {} s while others waited for its memory",
                    STALL_MS / 1000
                ));
                self.fail_channel(link, number, &error, (0, 0), now);
                if self.waiting.is_held_back_for_memory() {
                    self.waiting.let_go();
                }
            }
        }
        if self.portions().next().is_some() || self.has_open_transactions() {
            self.waiting.watch_memory(now);
        }
    }

    fn has_open_transactions(&self) -> bool {
        self.channels.iter().any(|channel| match &channel.mode {
            PublishMode::Transaction(transaction) => transaction.portion().is_some(),
            _ => false,
        })
    }
}

fn beyond_all_transactions(bytes: usize) -> Failure {
    ChannelError::precondition(format_args!(
        "transaction is larger than what is left of the {bytes} bytes for transactions"
    ))
    .into()
}

fn too_large(size: usize, bytes: usize) -> Failure {
    ChannelError::precondition(format_args!(
        "message size {size} is larger than what is left of the {bytes} bytes for bodies on their way"
    ))
    .into()
}
