//! Memory for what clients have begun and not finished: bodies on their way, open transactions. One pool is for all
//! connections; whoever finds nothing left waits, and is not read meanwhile.
//!
//! So that one can always finish, one connection at a time may take more than there is: as much as the largest there
//! may be. That much is kept apart from the start, so the pool as a whole keeps its bound. What it has begun on several
//! channels comes in one stream, so it does not wait for more: what is beyond that is refused. Who neither goes on nor
//! gives anything back while others wait is for its session to end, see [`Portion::is_stalled`].

use std::sync::Arc;

use leveret_message::Timestamp;
use leveret_queue::mailbox::Mailbox;
use leveret_store_api::broken::without;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Whoever holds memory that others wait for must go on within this time, milliseconds.
pub const STALL_MS: u64 = 30_000;

/// What is left for all.
#[derive(Debug)]
pub struct Pool {
    bytes: usize,
    largest: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Less than nothing while somebody takes more than there is.
    left: i64,
    /// Who may, until something is left again or it has nothing.
    first: Option<Holder>,
    /// How many portions of each connection have something.
    portions: FxHashMap<Holder, usize>,
    /// When somebody took something last.
    latest: Timestamp,
    waiting: Vec<Arc<Mailbox>>,
}

/// A connection, by the place of its mailbox, which lives as long as its portions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Holder(usize);

impl Holder {
    fn of(mailbox: &Arc<Mailbox>) -> Holder {
        Holder(Arc::as_ptr(mailbox) as usize)
    }
}

impl State {
    /// Whether a connection may take more than there is.
    fn may_go_first(&mut self, who: Holder) -> bool {
        *self.first.get_or_insert(who) == who
    }

    fn portions_of(&self, who: Holder) -> usize {
        self.portions.get(&who).copied().unwrap_or_default()
    }
}

/// The outcome of asking for memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is there, and taken.
    Taken,
    /// There is none. The mailbox is released when it is worth asking again.
    Wait,
    /// There is none, and what the connection has already would not come to an end while it waits.
    Refused,
}

impl Pool {
    /// `bytes` in all, for things of at most `largest` each.
    pub(crate) fn new(bytes: usize, largest: usize) -> Pool {
        Pool {
            bytes,
            largest,
            state: Mutex::new(State {
                left: signed(bytes.saturating_sub(largest)),
                first: None,
                portions: FxHashMap::default(),
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
    fn taken(&self) -> i64 {
        signed(self.bytes.saturating_sub(self.largest)) - self.state.lock().left
    }
}

/// What one of them has taken. It goes back when this is dropped.
#[derive(Debug)]
pub struct Portion {
    pool: Arc<Pool>,
    /// Of the connection whose it is.
    mailbox: Arc<Mailbox>,
    taken: usize,
    /// When it took something last, or its client went on.
    latest: Timestamp,
}

impl Portion {
    /// Nothing yet, of the connection with this mailbox.
    pub fn new(pool: &Arc<Pool>, mailbox: &Arc<Mailbox>, now: Timestamp) -> Portion {
        Portion {
            pool: Arc::clone(pool),
            mailbox: Arc::clone(mailbox),
            taken: 0,
            latest: now,
        }
    }

    /// How many bytes it has.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Takes so many bytes, or has its connection wait.
    pub fn take(&mut self, bytes: usize, now: Timestamp) -> Answer {
        let pool = Arc::clone(&self.pool);
        let mut state = pool.state.lock();
        let who = Holder::of(&self.mailbox);
        if state.left < signed(bytes) {
            if !state.may_go_first(who) {
                state.waiting.push(Arc::clone(&self.mailbox));
                return Answer::Wait;
            }
            let left = state.left - signed(bytes);
            let is_more = state.left < 0 && left < -signed(pool.largest);
            if is_more && state.portions_of(who) > usize::from(self.taken > 0) {
                return Answer::Refused;
            }
        }
        self.count(bytes, &mut state, now);
        Answer::Taken
    }

    /// Takes so many bytes, whether they are left or not.
    pub fn take_anyway(&mut self, bytes: usize, now: Timestamp) {
        let pool = Arc::clone(&self.pool);
        self.count(bytes, &mut pool.state.lock(), now);
    }

    /// Has its connection wait if more was taken than there is, by others than who may.
    pub fn settle(&mut self) -> Answer {
        let pool = Arc::clone(&self.pool);
        let mut state = pool.state.lock();
        let who = Holder::of(&self.mailbox);
        if state.left >= 0 {
            Answer::Taken
        } else if !state.may_go_first(who) {
            state.waiting.push(Arc::clone(&self.mailbox));
            Answer::Wait
        } else if state.left < -signed(pool.largest) && state.portions_of(who) > 1 {
            Answer::Refused
        } else {
            Answer::Taken
        }
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

    fn count(&mut self, bytes: usize, state: &mut State, now: Timestamp) {
        if self.taken == 0 && bytes > 0 {
            *state.portions.entry(Holder::of(&self.mailbox)).or_default() += 1;
        }
        state.left -= signed(bytes);
        state.latest = state.latest.max(now);
        self.taken += bytes;
        self.latest = now;
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        if self.taken == 0 {
            // Nothing comes back that anybody could wait for.
            return;
        }
        let who = Holder::of(&self.mailbox);
        let waiting = {
            let mut state = self.pool.state.lock();
            state.left += signed(self.taken);
            let others = without(state.portions_of(who), 1, "portions of a pool");
            if others == 0 {
                state.portions.remove(&who);
            } else {
                state.portions.insert(who, others);
            }
            if state.first == Some(who) && (others == 0 || state.left >= 0) {
                state.first = None;
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
        let portion = |mailbox| Portion::new(&pool, mailbox, NOW);
        let mut portions: Vec<_> = mailboxes.iter().map(portion).collect();
        let mut ask = |who: usize, bytes| portions[who].take(bytes, NOW);
        assert_eq!(ask(0, 40), Answer::Taken);
        // No 40 are left: this one goes first.
        assert_eq!(ask(1, 40), Answer::Taken);
        assert_eq!(ask(2, 40), Answer::Wait);
        assert_eq!(ask(3, 10), Answer::Wait);
        assert_eq!(pool.taken(), 80);
        assert!(!mailboxes[2].take_release());
        drop(portions.remove(1));
        assert!(mailboxes[2].take_release());
        assert!(mailboxes[3].take_release());
        drop(portions);
        assert_eq!(pool.taken(), 0);
    }

    #[test]
    fn who_goes_first_does_so_with_all_it_has_begun() {
        let pool = Arc::new(Pool::new(100, 40));
        let (one, other) = (mailbox(), mailbox());
        let begin = |whose: &Arc<Mailbox>, bytes| {
            let mut portion = Portion::new(&pool, whose, NOW);
            (portion.take(bytes, NOW), portion)
        };
        let (answer, others) = begin(&other, 50);
        assert_eq!(answer, Answer::Taken);
        let mut begun = Vec::new();
        for bytes in [10, 20, 20] {
            let (answer, portion) = begin(&one, bytes);
            assert_eq!(answer, Answer::Taken);
            begun.push(portion);
        }
        assert_eq!(begin(&other, 1).0, Answer::Wait);
        // It would wait for itself.
        assert_eq!(begin(&one, 1).0, Answer::Refused);
        assert_eq!(pool.taken(), 100);
        begun.pop();
        assert_eq!(begin(&one, 1).0, Answer::Taken);
        assert_eq!(begin(&other, 1).0, Answer::Wait, "still another is first");
        begun.pop();
        assert_eq!(begin(&other, 1).0, Answer::Taken, "it is over with that");
        drop((begun, others));
        assert_eq!(pool.taken(), 0);
        assert!(pool.state.lock().portions.is_empty());
    }

    #[test]
    fn the_largest_there_may_be_always_fits_who_goes_first() {
        let pool = Arc::new(Pool::new(100, 40));
        let (one, other) = (mailbox(), mailbox());
        let mut others = Portion::new(&pool, &other, NOW);
        others.take_anyway(75, NOW);
        let mut first = Portion::new(&pool, &one, NOW);
        assert_eq!(first.take(40, NOW), Answer::Taken);
        assert_eq!(first.settle(), Answer::Taken);
        let mut more = Portion::new(&pool, &one, NOW);
        more.take_anyway(5, NOW);
        assert_eq!(more.settle(), Answer::Refused);
    }

    #[test]
    fn who_takes_more_than_there_is_waits_unless_it_goes_first() {
        let pool = Arc::new(Pool::new(100, 40));
        let (first, second) = (mailbox(), mailbox());
        let mut one = Portion::new(&pool, &first, NOW);
        let mut other = Portion::new(&pool, &second, NOW);
        one.take_anyway(70, NOW);
        assert_eq!(one.settle(), Answer::Taken);
        other.take_anyway(5, NOW);
        assert_eq!(other.settle(), Answer::Wait);
        drop(one);
        assert!(second.take_release());
        assert_eq!(other.settle(), Answer::Taken);
    }

    #[test]
    fn who_stands_still_is_to_blame_only_while_others_wait() {
        let pool = Arc::new(Pool::new(100, 40));
        let waiting = mailbox();
        let mut one = Portion::new(&pool, &mailbox(), NOW);
        let mut other = Portion::new(&pool, &mailbox(), NOW);
        let mut third = Portion::new(&pool, &waiting, NOW);
        assert_eq!(one.take(60, NOW), Answer::Taken);
        let later = NOW + STALL_MS;
        assert!(!one.is_stalled(false, later));
        assert_eq!(other.take(30, NOW + 10), Answer::Taken);
        assert_eq!(third.take(30, NOW + 10), Answer::Wait);
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
