//! The messages that left a queue for its dead-letter exchange and are not there yet.
//!
//! They come in under the queue's lock, in the order in which they left, and one mover at a time takes
//! them out: whoever finds that somebody is moving leaves his there. So none overtakes another, and
//! nothing is locked while a letter enters its next queues.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_message::Timestamp;
use parking_lot::Mutex;

use super::effects::DeadLetter;
use crate::mailbox::Mailbox;

/// With more letters than this publishers wait until half of them have gone.
const CROWD: usize = 4096;
/// So many letters' place is kept for the next ones.
const KEPT: usize = 64;

/// A leaf of the lock order, below its queue. Costs nothing where no message ever dies.
#[derive(Debug, Default)]
pub struct Outbox(Mutex<Option<Box<Letters>>>);

#[derive(Debug, Default)]
struct Letters {
    letters: VecDeque<DeadLetter>,
    /// When the latest of them left. What begins with their arrival begins no earlier, whoever moves them.
    latest: Timestamp,
    /// Somebody takes letters out, and goes on until there are none.
    moving: bool,
    /// Publishers that wait.
    held_back: Vec<Arc<Mailbox>>,
}

impl Outbox {
    /// Adds letters; called under the queue's lock.
    pub fn put(&self, letters: Vec<DeadLetter>, now: Timestamp) {
        let mut place = self.0.lock();
        let outbox = place.get_or_insert_default();
        outbox.latest = outbox.latest.max(now);
        outbox.letters.extend(letters);
    }

    /// Whether there are no letters.
    #[cfg(debug_assertions)]
    pub fn is_idle(&self) -> bool {
        let outbox = self.0.lock();
        (outbox.as_ref()).is_none_or(|outbox| outbox.letters.is_empty() && !outbox.moving)
    }

    /// Whether the caller is the mover from now on. He calls [`Outbox::next`] until there is none, or
    /// has somebody else do so.
    pub fn begin_moving(&self) -> bool {
        match &mut *self.0.lock() {
            Some(outbox) if !outbox.moving && !outbox.letters.is_empty() => {
                outbox.moving = true;
                true
            }
            _ => false,
        }
    }

    /// The next letter for the mover, and a time at which it had left; None: he is the mover no longer.
    pub fn next(&self) -> Option<(DeadLetter, Timestamp)> {
        let (letter, released) = {
            let mut place = self.0.lock();
            let outbox = place.as_mut()?;
            debug_assert!(outbox.moving, "only the mover takes letters");
            let latest = outbox.latest;
            let letter = outbox.letters.pop_front().map(|letter| (letter, latest));
            let released = if outbox.letters.len() <= CROWD / 2 {
                std::mem::take(&mut outbox.held_back)
            } else {
                Vec::new()
            };
            outbox.moving = letter.is_some();
            if !outbox.moving && outbox.letters.capacity() > KEPT {
                *place = None;
            }
            (letter, released)
        };
        for mailbox in released {
            mailbox.release();
        }
        letter
    }

    /// Holds a publisher back until letters have gone; false: there are few.
    pub fn hold_back(&self, mailbox: &Arc<Mailbox>) -> bool {
        match &mut *self.0.lock() {
            // With a mover alone: he releases them.
            Some(outbox) if outbox.moving && outbox.letters.len() > CROWD => {
                outbox.held_back.push(Arc::clone(mailbox));
                true
            }
            _ => false,
        }
    }

    /// A publisher that is held back goes away.
    pub fn let_go_on(&self, mailbox: &Arc<Mailbox>) {
        if let Some(outbox) = &mut *self.0.lock() {
            outbox.held_back.retain(|held| !Arc::ptr_eq(held, mailbox));
        }
    }
}
