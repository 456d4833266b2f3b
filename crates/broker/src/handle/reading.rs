//! Reading messages back from the store, outside the queue's lock.

use leveret_message::{Message, Store, Timestamp};
use leveret_queue::mailbox::Notice;
use leveret_queue::queue::Queue;
use leveret_queue::queue::effects::Effects;
use leveret_queue::queue::kind::QueueKind;
use leveret_queue::queue::machine::Machine;
use leveret_queue::queue::ready::PageIn;
use leveret_queue::queue::reference::{MustRead, Outstanding};
use leveret_queue::queue::settle::QueueSettlement;
use leveret_store_api::StoredMessage;

use super::QueueHandle;

/// So often a verb reads before it leaves the rest to the pager.
const READS_MAX: usize = 4;

impl QueueHandle {
    /// Reads, outside the lock, what a verb needs to be done, and has the queue go on. It stays asked for if it cannot be
    /// read or is much; the pager goes on with the latter.
    #[cold]
    pub(super) fn read_first(&self, effects: &mut Effects) {
        let mut buffer = Vec::new();
        for _ in 0..READS_MAX {
            let wanted = self.run(effects, |queue, _| queue.read_first());
            effects.read_first = false;
            let Some((store, request)) = wanted else {
                // Somebody else has read it, and the queue has gone on.
                return;
            };
            if !self.read_requested(&store, &mut buffer, &request, effects) {
                effects.read_first = true;
                return;
            }
            if !effects.read_first {
                return;
            }
        }
        effects.page_in = true;
    }

    /// Reads what `basic.get` needs, whether or not the pager is at it.
    pub fn page_in_now(
        &self,
        store: &Store,
        buffer: &mut Vec<StoredMessage<Message>>,
        now: Timestamp,
    ) -> (bool, Effects) {
        self.read_in(store, buffer, now, Machine::urgent_page_in)
    }

    /// Reads the front of the paged run into memory, outside the lock. False: nothing to read.
    pub fn page_in(
        &self,
        store: &Store,
        buffer: &mut Vec<StoredMessage<Message>>,
        now: Timestamp,
    ) -> (bool, Effects) {
        if self.kind() == QueueKind::Stream {
            return self.read_stream(store, buffer, now);
        }
        self.read_in(store, buffer, now, Machine::page_in_request)
    }

    /// Reads, outside the lock, the messages that these settlements need and do not have.
    pub fn read_for(&self, store: &Store, settlements: &mut [QueueSettlement]) {
        self.read_where(Queue::must_read, store, settlements);
    }

    /// As [`QueueHandle::read_for`], what [`QueueHandle::settle_apart`] needs. That are keys, for which no body is kept.
    pub fn read_apart(&self, store: &Store, settlements: &mut [QueueSettlement]) {
        for number in self.read_where(Queue::must_read_apart, store, settlements) {
            if let Some(settlement) = settlements.get_mut(number)
                && let Outstanding::Message(in_flight) = &mut settlement.delivery
                && let Some(message) = in_flight.message.without_body()
            {
                in_flight.message = message;
            }
        }
    }

    /// Answers the numbers of those whose messages it was to read.
    fn read_where(
        &self,
        must_read: MustRead,
        store: &Store,
        settlements: &mut [QueueSettlement],
    ) -> Vec<usize> {
        const READ_BYTES_MAX: usize = 1 << 20;
        let is_reference = |it: &QueueSettlement| matches!(it.delivery, Outstanding::Reference(_));
        if !settlements.iter().any(is_reference) {
            return Vec::new();
        }
        let (to_read, _) = self.with(|queue, _| queue.to_read(settlements, must_read));
        let numbers = to_read.settlements();
        to_read.read(
            settlements,
            |log, from, count, messages| store.read(log, from, count, READ_BYTES_MAX, messages),
            |error| {
                tracing::error!(queue = self.name(), %error, "cannot read unacknowledged messages back from the store");
            },
        );
        numbers
    }

    fn read_in(
        &self,
        store: &Store,
        buffer: &mut Vec<StoredMessage<Message>>,
        now: Timestamp,
        request: impl FnOnce(&mut Machine) -> Option<PageIn>,
    ) -> (bool, Effects) {
        let mut effects = Effects::at(now);
        let Some(request) = self.run(&mut effects, |queue, _| request(queue)) else {
            return (false, effects);
        };
        let read = self.read_requested(store, buffer, &request, &mut effects);
        if effects.read_first {
            self.read_first(&mut effects);
        }
        (read, effects)
    }

    /// Reads what is asked for through `buffer`, and gives it to the queue; false: it cannot be read.
    fn read_requested(
        &self,
        store: &Store,
        buffer: &mut Vec<StoredMessage<Message>>,
        request: &PageIn,
        effects: &mut Effects,
    ) -> bool {
        buffer.clear();
        let read = store.read(
            request.log,
            request.from,
            request.messages_max,
            request.bytes_max,
            buffer,
        );
        let now = effects.now;
        match read {
            Ok(damaged) => {
                self.run(effects, |queue, effects| {
                    queue.loaded(request, buffer, damaged, now, effects);
                });
                true
            }
            Err(error) => {
                tracing::error!(queue = self.name(), %error, "cannot read messages back from the store");
                buffer.clear();
                self.run(effects, |queue, _| queue.read_failed(request));
                false
            }
        }
    }

    /// Does one piece of what a stream's readers wait for, outside the lock. False: nothing to do.
    fn read_stream(
        &self,
        store: &Store,
        buffer: &mut Vec<StoredMessage<Message>>,
        now: Timestamp,
    ) -> (bool, Effects) {
        let (wish, mut effects) =
            self.with(|machine, effects| machine.stream_mut()?.next_wish(now, effects));
        let Some(wish) = wish else {
            return (false, effects);
        };
        let answer = wish.carry_out(store, buffer);
        if let Err(error) = &answer {
            tracing::error!(queue = self.name(), %error, "cannot read a stream back from the store");
        }
        let (orphan, more) = self.with(|machine, effects| {
            machine
                .stream_mut()?
                .fulfilled(&wish, answer.ok(), now, effects)
        });
        effects.join(more);
        if let Some(orphan) = orphan {
            orphan
                .mailbox
                .notify(Notice::ConsumerCancelled(orphan.slot));
        }
        (true, effects)
    }
}
