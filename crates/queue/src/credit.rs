//! The prefetch limit that the consumers of one channel share (`basic.qos` with `global`).
//!
//! ```text
//!  queue: take ──room──> delivered ──settled──> session: give back
//!           │ none, or somebody waits                 │ somebody waits
//!           └──> in line, by queues ──in turn──> grant: a share of all there is
//! ```
//! Queues take credit while they dispatch. A consumer that finds none waits in line, and from then on
//! nobody of the channel takes any by itself: the session hands out what comes back, a fair share to each
//! queue in line. A queue that never runs dry starves no other, and consumers take turns.
//!
//! A leaf of the lock order. Where nobody is refused only the counter is touched, which is an atomic.

use leveret_store_api::broken::{broken, without};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use leveret_routing::QueueId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::mailbox::ConsumerSlot;

/// Somebody is in line. With it no count is below a limit, so that whoever takes credit looks once.
const WAITED_FOR: u32 = 1 << 31;

/// What is counted here.
const CREDIT: &str = "credit of a channel";

/// Consumers of one queue, in the order in which they were refused.
type Refused = SmallVec<[ConsumerSlot; 2]>;

/// Deliveries a channel may have unacknowledged over all its consumers.
#[derive(Debug, Default)]
pub struct ChannelCredit {
    /// 0: no limit.
    limit: AtomicU32,
    /// How many are unacknowledged or reserved, and [`WAITED_FOR`].
    in_flight: AtomicU32,
    line: Mutex<Line>,
}

/// Who waits for credit.
#[derive(Debug, Default)]
struct Line {
    /// Whose turn it is; each once.
    queues: VecDeque<QueueId>,
    consumers: FxHashMap<QueueId, Refused>,
}

/// Whose turn it is.
struct Turn {
    consumers: Refused,
    /// How many queues stand in line, it included.
    in_line: u32,
}

impl Line {
    fn join(&mut self, queue: QueueId, who: ConsumerSlot) {
        let refused = self.consumers.entry(queue).or_default();
        if refused.is_empty() {
            self.queues.push_back(queue);
        }
        refused.push(who);
    }

    fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

impl ChannelCredit {
    /// Changes the limit; 0 takes it away. Whoever is in line may have room now: see `ChannelCredit::hand_out`.
    pub fn set_limit(&self, limit: u16) {
        self.limit.store(u32::from(limit), Ordering::Relaxed);
    }

    /// The limit in force; 0 for none.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes room for one delivery; false when the channel is full, or when others wait for it.
    #[inline]
    pub fn take(&self) -> bool {
        let limit = self.limit();
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_flight| {
                (limit == 0 || in_flight < limit).then_some(in_flight + 1)
            })
            .is_ok()
    }

    /// How many deliveries are unacknowledged or reserved.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire) & !WAITED_FOR
    }

    /// For how many deliveries there is room.
    pub(crate) fn room(&self) -> u32 {
        match self.limit() {
            0 => u32::MAX,
            // It may have been lowered below what is out.
            limit => limit.saturating_sub(self.in_flight.load(Ordering::Acquire)),
        }
    }

    /// Whether a delivery that nobody acknowledges may go out: it takes no room, and is held back where there is none.
    #[inline]
    pub(crate) fn lets_out(&self) -> bool {
        let limit = self.limit();
        limit == 0 || self.in_flight.load(Ordering::Acquire) < limit
    }

    /// For a consumer that was refused: it takes room after all (if its delivery `counts`), or is put in line.
    #[cold]
    pub(crate) fn take_or_wait(&self, queue: QueueId, who: ConsumerSlot, counts: bool) -> bool {
        let mut line = self.line.lock();
        let limit = self.limit();
        let mut has_room = false;
        let next = |in_flight| {
            has_room = limit == 0 || in_flight < limit;
            Some(if has_room {
                in_flight + u32::from(counts)
            } else {
                in_flight | WAITED_FOR
            })
        };
        // In one step with the look: what is given back from now on finds that somebody waits.
        let _always = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if !has_room {
            line.join(queue, who);
        }
        has_room
    }

    /// Gives back room for `count` deliveries; true when somebody is in line for it.
    pub fn give_back(&self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        let before = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_flight| {
                let counted = in_flight & !WAITED_FOR;
                Some((in_flight & WAITED_FOR) | without(counted, count, CREDIT))
            })
            .unwrap_or_else(|in_flight| in_flight);
        before & WAITED_FOR != 0
    }

    /// Hands all the room there is to those in line, in rounds: each queue that stands there when a round begins is
    /// offered the same share. `grant` offers a queue's consumers so many deliveries and answers how many of them were
    /// not made. After `most` offers the rest is left; answers whether that is so.
    pub fn hand_out(
        &self,
        most: usize,
        mut grant: impl FnMut(&[ConsumerSlot], u32) -> u32,
    ) -> bool {
        let limited = self.limit() != 0;
        let mut left = self.reserve();
        let (mut in_round, mut share) = (0, 0);
        let mut offers = 0;
        while left > 0 {
            if offers == most {
                self.pause_hand_out(if limited { left } else { 0 });
                return true;
            }
            let Some(turn) = self.next_in_line() else {
                if self.end_hand_out(if limited { left } else { 0 }) {
                    return false;
                }
                continue;
            };
            offers += 1;
            if in_round == 0 {
                in_round = turn.in_line;
                share = (left / turn.in_line).max(1);
            }
            in_round -= 1;
            let offered = share.min(left);
            let unused = grant(&turn.consumers, offered);
            debug_assert!(unused <= offered, "a queue has made its deliveries");
            if limited {
                left -= offered - unused;
            }
        }
        false
    }

    /// Takes all the room there is; without a limit that is any number, and is not counted.
    fn reserve(&self) -> u32 {
        let limit = self.limit();
        if limit == 0 {
            return u32::MAX;
        }
        let mut reserved = 0;
        let take_all = |in_flight: u32| {
            // It may have been lowered below what is out.
            reserved = limit.saturating_sub(in_flight & !WAITED_FOR);
            (reserved > 0).then_some(in_flight + reserved)
        };
        let _nothing_left =
            self.in_flight
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, take_all);
        reserved
    }

    fn next_in_line(&self) -> Option<Turn> {
        let mut line = self.line.lock();
        let in_line = u32::try_from(line.queues.len()).unwrap_or(u32::MAX);
        let queue = line.queues.pop_front()?;
        let consumers = line.consumers.remove(&queue).unwrap_or_else(|| {
            broken(&"no consumer waits in a queue that is in line");
            Refused::new()
        });
        Some(Turn { consumers, in_line })
    }

    /// Gives back what was reserved, for those that are still in line.
    fn pause_hand_out(&self, left: u32) {
        let _always =
            self.in_flight
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_flight| {
                    let counted = in_flight & !WAITED_FOR;
                    Some(without(counted, left, CREDIT) | WAITED_FOR)
                });
    }

    /// Gives back what was reserved and nobody wanted; from now on everybody takes for himself. False: somebody has
    /// joined the line meanwhile.
    fn end_hand_out(&self, left: u32) -> bool {
        let line = self.line.lock();
        if !line.is_empty() {
            return false;
        }
        let _always =
            self.in_flight
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_flight| {
                    Some(without(in_flight & !WAITED_FOR, left, CREDIT))
                });
        true
    }

    /// A consumer is gone, and is not in line any more.
    pub fn leave(&self, queue: QueueId, who: ConsumerSlot) {
        let mut line = self.line.lock();
        let Some(refused) = line.consumers.get_mut(&queue) else {
            // Nobody of the queue is in line.
            return;
        };
        refused.retain(|other| *other != who);
        if refused.is_empty() {
            line.consumers.remove(&queue);
            line.queues.retain(|other| *other != queue);
        }
    }

    /// The channel closes: nobody waits any more.
    pub fn leave_all(&self) {
        *self.line.lock() = Line::default();
    }
}

/// A share of a channel's credit that its session gives to one queue, for the length of one verb.
#[derive(Debug)]
pub struct Grant {
    credit: Arc<ChannelCredit>,
    left: u32,
}

impl Grant {
    /// `share` deliveries of the channel with this credit.
    pub fn new(credit: &Arc<ChannelCredit>, share: u32) -> Grant {
        Grant {
            credit: Arc::clone(credit),
            left: share,
        }
    }

    /// Uses it for a delivery on the channel with this credit, if one `counts`; false if it is used up, or another's.
    pub(crate) fn covers(&mut self, credit: &Arc<ChannelCredit>, counts: bool) -> bool {
        let covers = self.left > 0 && Arc::ptr_eq(&self.credit, credit);
        self.left -= u32::from(covers && counts);
        covers
    }

    /// How many deliveries were not made of it.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }
}
