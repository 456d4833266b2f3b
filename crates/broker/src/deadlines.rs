//! The earliest deadlines of queues and exchanges, for the whole broker, with whom they are of.
//!
//! Each has one at most, the earliest it asked for: whoever is woken early asks again. One that is gone has none.

use std::collections::BTreeMap;
use std::task::Waker;

use leveret_message::Timestamp;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Owner {
    Queue(u64),
    Exchange(u64),
    Events,
}

/// A place in the order of deadlines: those of the same time in the order in which they were asked for.
type Turn = (Timestamp, u64);

#[derive(Debug)]
struct Order<P> {
    places: FxHashMap<Owner, Turn>,
    by_time: BTreeMap<Turn, (Owner, P)>,
    asked: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Deadlines<P> {
    order: Mutex<Order<P>>,
    waker: Mutex<Option<Waker>>,
}

impl<P> Default for Deadlines<P> {
    fn default() -> Self {
        Deadlines {
            order: Mutex::new(Order {
                places: FxHashMap::default(),
                by_time: BTreeMap::new(),
                asked: 0,
            }),
            waker: Mutex::new(None),
        }
    }
}

impl<P> Deadlines<P> {
    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    pub(crate) fn earliest(&self) -> Option<Timestamp> {
        let order = self.order.lock();
        order.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// Adds a deadline, unless there is an earlier one; wakes the timer task if it is now the earliest of all.
    pub(crate) fn add(&self, at: Timestamp, owner: Owner, party: P) {
        let earlier = {
            let mut order = self.order.lock();
            let known = order.places.get(&owner).copied();
            if known.is_some_and(|(known, _)| known <= at) {
                return;
            }
            if let Some(known) = known {
                order.by_time.remove(&known);
            }
            let first = order.by_time.first_key_value();
            let earlier = first.is_none_or(|((first, _), _)| at < *first);
            order.asked += 1;
            let place = (at, order.asked);
            order.places.insert(owner, place);
            order.by_time.insert(place, (owner, party));
            earlier
        };
        if earlier && let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Nothing is to be told to somebody who is gone.
    pub(crate) fn forget(&self, owner: Owner) {
        let gone = {
            let mut order = self.order.lock();
            let place = order.places.remove(&owner);
            place.and_then(|place| order.by_time.remove(&place))
        };
        drop(gone);
    }

    /// Takes one deadline that has come.
    pub(crate) fn pop_due(&self, now: Timestamp) -> Option<P> {
        let mut order = self.order.lock();
        let first = order.by_time.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (owner, party) = first.remove();
        order.places.remove(&owner);
        Some(party)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.order.lock().by_time.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_the_earliest_and_who_is_gone_none() {
        let deadlines = Deadlines::default();
        let add = |at, owner| deadlines.add(Timestamp(at), owner, ());
        for at in [50, 70, 40, 60] {
            add(at, Owner::Queue(1));
            add(at + 5, Owner::Exchange(1));
        }
        add(30, Owner::Queue(2));
        assert_eq!(deadlines.count(), 3);
        deadlines.forget(Owner::Queue(2));
        assert_eq!(deadlines.earliest(), Some(Timestamp(40)));
        assert!(deadlines.pop_due(Timestamp(39)).is_none());
        assert!(deadlines.pop_due(Timestamp(40)).is_some());
        assert_eq!(deadlines.earliest(), Some(Timestamp(45)));
        add(70, Owner::Queue(1));
        deadlines.forget(Owner::Exchange(1));
        deadlines.forget(Owner::Exchange(1));
        assert_eq!(
            (deadlines.earliest(), deadlines.count()),
            (Some(Timestamp(70)), 1)
        );
    }
}
