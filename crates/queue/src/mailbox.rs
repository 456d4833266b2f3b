//! Where queues leave deliveries and notices for a session; the session swaps it out in one go.
//!
//! A leaf of the lock order. Waking happens outside every queue lock, once per batch: `push`
//! answers whether the session must be woken, and the caller wakes it after unlocking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use leveret_codec::ReplyCode;
use leveret_message::{Message, Timestamp};
use leveret_store_api::Sequence;
use parking_lot::{Mutex, MutexGuard};

use crate::queue::delivery_count::DeliveryCount;

/// What a closed mailbox counts as holding.
const CLOSED_BYTES: usize = usize::MAX / 2;

/// A consumer as its session knows it: a slot, and a generation that makes stale uses harmless.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConsumerSlot {
    /// Index into the session's consumers.
    pub index: u32,
    /// Which of the consumers that ever used the slot.
    pub generation: u32,
}

/// A message that left its queue's ready ones and is not settled yet.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The message.
    pub message: Message,
    /// Its place within its level.
    pub sequence: Sequence,
    /// When it expires, should it come back.
    pub expires_at: Timestamp,
    /// How often it was delivered before and came back.
    pub delivery_count: DeliveryCount,
    /// The priority level it stood in.
    pub level: u8,
    /// How many delays of `x-retry-delays` it has used up.
    pub retries: u8,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// Whether the store knows it, so that its acknowledgement must be staged.
    pub stored: bool,
}

/// One message on its way to a consumer.
#[derive(Debug)]
pub struct Delivery {
    /// The consumer within the session.
    pub consumer: ConsumerSlot,
    /// What is delivered.
    pub in_flight: InFlight,
}

/// Something a session must tell its client.
#[derive(Debug)]
pub enum Notice {
    /// The consumer's queue is gone (or its node decided to cancel it): `basic.cancel`.
    ConsumerCancelled(ConsumerSlot),
    /// Close the connection: 320 CONNECTION_FORCED and the like.
    CloseConnection(ReplyCode, String),
    /// The store cannot take more: `connection.blocked` with the reason; None: `connection.unblocked`.
    Blocked(Option<String>),
}

/// What a session takes out of its mailbox in one swap.
#[derive(Debug, Default)]
pub struct Mail {
    /// Deliveries in the order the queues made them.
    pub deliveries: Vec<Delivery>,
    /// Notices, oldest first.
    pub notices: Vec<Notice>,
    /// Consumers that were skipped because this mailbox was full; their queues want to go on.
    pub stalled: Vec<ConsumerSlot>,
    bytes: usize,
    /// The session has been woken, or is at work, and will look by itself.
    awake: bool,
    closed: bool,
}

impl Mail {
    /// Whether a delivery may be added without going over the bound.
    #[inline]
    #[must_use]
    pub fn has_room(&self, bytes_max: usize) -> bool {
        self.bytes < bytes_max
    }

    /// Adds a delivery.
    #[inline]
    pub fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.in_flight.message.memory_bytes();
        self.deliveries.push(delivery);
    }

    /// Makes place for `count` more deliveries, or for as many as there can be within the bound.
    pub(crate) fn reserve(&mut self, count: usize, bytes_max: usize) {
        let most = self.room(bytes_max) / Message::MEMORY_MIN;
        self.deliveries.reserve(count.min(most));
    }

    /// Bytes of deliveries that may be added without going over the bound.
    pub(crate) fn room(&self, bytes_max: usize) -> usize {
        bytes_max.saturating_sub(self.bytes)
    }

    /// Adds deliveries that occupy `bytes`, and leaves none; answers whether there were any.
    pub(crate) fn add_all(&mut self, deliveries: &mut Vec<Delivery>, bytes: usize) -> bool {
        if deliveries.is_empty() {
            return false;
        }
        self.bytes += bytes;
        if self.deliveries.is_empty() {
            std::mem::swap(&mut self.deliveries, deliveries);
        } else {
            self.deliveries.append(deliveries);
        }
        true
    }

    /// Gives buffers back that have grown in a burst.
    pub fn shrink(&mut self) {
        const KEPT: usize = 64;
        if self.deliveries.is_empty() && self.deliveries.capacity() > KEPT {
            self.deliveries = Vec::new();
        }
    }

    /// True once per sleep of the session: whoever gets it must call [`Mailbox::wake`].
    pub fn needs_wake(&mut self) -> bool {
        !std::mem::replace(&mut self.awake, true)
    }
}

/// The mail of one session and the way to wake it.
#[derive(Debug)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    waker: Waker,
    bytes_max: usize,
    released: AtomicBool,
}

impl Mailbox {
    /// A mailbox that holds at most about `bytes_max` bytes of messages.
    #[must_use]
    pub fn new(waker: Waker, bytes_max: usize) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            mail: Mutex::default(),
            waker,
            bytes_max,
            released: AtomicBool::new(false),
        })
    }

    /// Locks the mail for adding deliveries.
    pub fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock()
    }

    /// The bound on bytes of messages.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Wakes the session. Never call it under a queue lock.
    pub fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// The session's waker, for other things it waits for.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Adds a notice and wakes the session.
    pub fn notify(&self, notice: Notice) {
        let wake = {
            let mut mail = self.mail.lock();
            if mail.closed {
                return;
            }
            mail.notices.push(notice);
            mail.needs_wake()
        };
        if wake {
            self.wake();
        }
    }

    /// Lets a held-back publisher go on.
    pub fn release(&self) {
        self.released.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it was let go on since the last call.
    pub fn take_release(&self) -> bool {
        self.released.swap(false, Ordering::AcqRel)
    }

    /// The session is at work: no wake is needed until it has taken its mail.
    pub fn stay_awake(&self) {
        self.mail.lock().awake = true;
    }

    /// Takes everything out; `into` must be empty and its buffers are reused. The session counts
    /// as asleep from here on, so whatever comes later wakes it.
    pub fn take(&self, into: &mut Mail) {
        let mut mail = self.mail.lock();
        mail.awake = false;
        if mail.deliveries.is_empty() && mail.notices.is_empty() && mail.stalled.is_empty() {
            return;
        }
        std::mem::swap(&mut mail.deliveries, &mut into.deliveries);
        std::mem::swap(&mut mail.notices, &mut into.notices);
        std::mem::swap(&mut mail.stalled, &mut into.stalled);
        mail.bytes = if mail.closed { CLOSED_BYTES } else { 0 };
    }

    /// Takes no more notices and has no room for deliveries; the session is going away.
    pub fn close(&self) {
        let mut mail = self.mail.lock();
        mail.closed = true;
        mail.bytes = CLOSED_BYTES;
    }
}
