//! Memory for what clients have begun and not finished: bodies on their way, open transactions. One pool is for all
//! connections; whoever finds nothing left waits, and is not read meanwhile.
//!
//! So that one can always finish, one at a time may take more than there is: as much as the largest there may be. That
//! much is kept apart from the start, so the pool as a whole keeps its bound. Who neither goes on nor gives anything
//! back while others wait is for its session to end, see [`Portion::is_stalled`].

use std::sync::Arc;

use leveret_message::Timestamp;
use leveret_queue::mailbox::Mailbox;
use parking_lot::Mutex;

/// Whoever holds memory that others wait for must go on within this time, milliseconds.
pub const STALL_MS: u64 = 30_000;

/// What is left for all.
#[derive(Debug)]
pub struct Pool {
    bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Less than nothing while somebody takes more than there is.
    left: i64,
    /// Somebody may.
    is_overdrawn: bool,
    /// When somebody took something last.
    latest: Timestamp,
    waiting: Vec<Arc<Mailbox>>,
}

/// The outcome of asking for memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is there, and taken.
    Taken,
    /// There is none. The mailbox is released when it is worth asking again.
    Wait,
}

impl Pool {
    /// `bytes` in all, for things of at most `largest` each.
    pub(crate) fn new(bytes: usize, largest: usize) -> Pool {
        Pool {
            bytes,
            state: Mutex::new(State {
                left: signed(bytes.saturating_sub(largest)),
                is_overdrawn: false,
                latest: Timestamp::default(),
                waiting: Vec::new(),
            }),
        }
    }

    /// How much there is in all.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A connection that waited does so no longer.
    pub fn stop_waiting(&self, mailbox: &Arc<Mailbox>) {
        let waiting = &mut self.state.lock().waiting;
        waiting.retain(|other| !Arc::ptr_eq(other, mailbox));
    }

    /// How much is taken.
    #[cfg(test)]
    fn taken(&self, largest: usize) -> i64 {
        signed(self.bytes.saturating_sub(largest)) - self.state.lock().left
    }
}

/// What one of them has taken. It goes back when this is dropped.
#[derive(Debug)]
pub struct Portion {
    pool: Arc<Pool>,
    taken: usize,
    /// It may take more than there is.
    goes_first: bool,
    /// When it took something last, or its client went on.
    latest: Timestamp,
}

impl Portion {
    /// Nothing yet.
    pub fn new(pool: &Arc<Pool>, now: Timestamp) -> Portion {
        Portion {
            pool: Arc::clone(pool),
            taken: 0,
            goes_first: false,
            latest: now,
        }
    }

    /// How many bytes it has.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Takes so many bytes, or has `mailbox` wait.
    pub fn take(&mut self, bytes: usize, mailbox: &Arc<Mailbox>, now: Timestamp) -> Answer {
        let pool = Arc::clone(&self.pool);
        let mut state = pool.state.lock();
        let fits = state.left >= signed(bytes);
        if !fits && !self.may_go_first(&mut state) {
            state.waiting.push(Arc::clone(mailbox));
            return Answer::Wait;
        }
        self.count(bytes, &mut state, now);
        Answer::Taken
    }

    /// Takes so many bytes, whether they are left or not.
    pub fn take_anyway(&mut self, bytes: usize, now: Timestamp) {
        let pool = Arc::clone(&self.pool);
        self.count(bytes, &mut pool.state.lock(), now);
    }

    /// Has `mailbox` wait if more was taken than there is, by others than who may.
    pub fn settle(&mut self, mailbox: &Arc<Mailbox>) -> Answer {
        let pool = Arc::clone(&self.pool);
        let mut state = pool.state.lock();
        if state.left >= 0 || self.may_go_first(&mut state) {
            return Answer::Taken;
        }
        state.waiting.push(Arc::clone(mailbox));
        Answer::Wait
    }

    /// Its client went on.
    pub fn touch(&mut self, now: Timestamp) {
        self.latest = now;
    }

    /// Whether it stands still while others wait for what it has. `waits`: it does so for want of memory itself, so
    /// that it is to blame only if nobody goes on.
    pub fn is_stalled(&self, waits: bool, now: Timestamp) -> bool {
        let state = self.pool.state.lock();
        let latest = if waits {
            self.latest.max(state.latest)
        } else {
            self.latest
        };
        self.taken > 0 && !state.waiting.is_empty() && latest + STALL_MS <= now
    }

    fn may_go_first(&mut self, state: &mut State) -> bool {
        if !self.goes_first && !state.is_overdrawn {
            state.is_overdrawn = true;
            self.goes_first = true;
        }
        self.goes_first
    }

    fn count(&mut self, bytes: usize, state: &mut State, now: Timestamp) {
        state.left -= signed(bytes);
        state.latest = state.latest.max(now);
        self.taken += bytes;
        self.latest = now;
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if self.taken == 0 && !self.goes_first {
            // Nothing comes back that anybody could wait for.
            return;
        }
        let waiting = {
            let mut state = self.pool.state.lock();
            state.left += signed(self.taken);
            if self.goes_first {
                state.is_overdrawn = false;
            }
            std::mem::take(&mut state.waiting)
        };
        for mailbox in waiting {
            mailbox.release();
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn mailbox() -> Arc<Mailbox> {
        Mailbox::new(Waker::noop().clone(), 1000)
    }

    #[test]
    fn one_may_always_finish_and_the_bound_holds() {
        let pool = Arc::new(Pool::new(100, 40));
        let mailboxes: Vec<_> = (0..4).map(|_| mailbox()).collect();
        let mut portions: Vec<_> = (0..4).map(|_| Portion::new(&pool, NOW)).collect();
        let mut ask = |who: usize, bytes| portions[who].take(bytes, &mailboxes[who], NOW);
        assert_eq!(ask(0, 40), Answer::Taken);
        // No 40 are left: this one goes first.
        assert_eq!(ask(1, 40), Answer::Taken);
        assert_eq!(ask(2, 40), Answer::Wait);
        assert_eq!(ask(3, 10), Answer::Wait);
        assert_eq!(pool.taken(40), 80);
        assert!(!mailboxes[2].take_release());
        drop(portions.remove(1));
        assert!(mailboxes[2].take_release());
        assert!(mailboxes[3].take_release());
        drop(portions);
        assert_eq!(pool.taken(40), 0);
    }

    #[test]
    fn who_takes_more_than_there_is_waits_unless_it_goes_first() {
        let pool = Arc::new(Pool::new(100, 40));
        let (first, second) = (mailbox(), mailbox());
        let mut one = Portion::new(&pool, NOW);
        let mut other = Portion::new(&pool, NOW);
        one.take_anyway(70, NOW);
        assert_eq!(one.settle(&first), Answer::Taken);
        other.take_anyway(5, NOW);
        assert_eq!(other.settle(&second), Answer::Wait);
        drop(one);
        assert!(second.take_release());
        assert_eq!(other.settle(&second), Answer::Taken);
    }

    #[test]
    fn who_stands_still_is_to_blame_only_while_others_wait() {
        let pool = Arc::new(Pool::new(100, 40));
        let waiting = mailbox();
        let mut one = Portion::new(&pool, NOW);
        let mut other = Portion::new(&pool, NOW);
        let mut third = Portion::new(&pool, NOW);
        assert_eq!(one.take(60, &waiting, NOW), Answer::Taken);
        let later = NOW + STALL_MS;
        assert!(!one.is_stalled(false, later));
        assert_eq!(other.take(30, &waiting, NOW + 10), Answer::Taken);
        assert_eq!(third.take(30, &waiting, NOW + 10), Answer::Wait);
        assert!(one.is_stalled(false, later));
        assert!(!one.is_stalled(true, later), "another goes on");
        assert!(one.is_stalled(true, later + 10));
        one.touch(NOW + 1);
        assert!(!one.is_stalled(false, later));
        assert!(!third.is_stalled(true, later + 10), "it has nothing");
        pool.stop_waiting(&waiting);
        assert!(!one.is_stalled(false, later + 10));
    }
}
