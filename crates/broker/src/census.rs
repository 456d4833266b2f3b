//! What all queues have and have done, together, without asking each of them each time.
//!
//! Queues live in wards of 32 each. A ward remembers what its queues had when it was asked last, and whether one of
//! them has been touched since: only then are they asked again. What a queue did stays with its ward when the queue goes,
//! so that no count ever falls. Whoever goes through all queues goes from ward to ward, and keeps no virtual host's table
//! from others meanwhile.
//!
//! ```text
//!   touch ──> ward: a queue was touched        sum ──> ward untouched: what it remembers
//!                                                      touched: its past + each queue, and remembers that
//! ```
//! A ward's lock is held to copy its handles, never while a queue is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_queue::queue::kind::QueueKind;
use leveret_queue::queue::statistics::QueueSum;
use parking_lot::Mutex;
use slab::Slab;

/// Queues of a ward.
const WARD: usize = 32;

/// A queue, as whoever does not keep it knows it.
pub trait Resident {
    /// As whoever keeps it does.
    type Queue;

    /// None: it is gone.
    fn found(&self) -> Option<Self::Queue>;

    /// Adds what it has and has done.
    fn add_to_sum(queue: &Self::Queue, sum: &mut QueueSum);
}

/// All queues of all virtual hosts.
#[derive(Debug)]
pub struct Census<R> {
    classic: District<R>,
    quorum: District<R>,
    stream: District<R>,
}

/// Those of one type.
type District<R> = Arc<Mutex<Wards<R>>>;

#[derive(Debug)]
struct Wards<R> {
    all: Vec<Arc<Ward<R>>>,
    /// Those with room for another.
    roomy: Vec<Arc<Ward<R>>>,
}

#[derive(Debug)]
struct Ward<R> {
    /// A queue was touched, came or went.
    touched: AtomicBool,
    inside: Mutex<Inside<R>>,
}

#[derive(Debug)]
struct Inside<R> {
    queues: Slab<R>,
    /// What queues did that are gone.
    past: Option<Box<QueueSum>>,
    /// What the ward was when it was asked last.
    sum: Option<Box<QueueSum>>,
}

/// Where a queue lives.
#[derive(Debug)]
pub(crate) struct Home<R> {
    district: District<R>,
    ward: Arc<Ward<R>>,
    place: usize,
}

impl<R> Default for Census<R> {
    fn default() -> Census<R> {
        let none = || {
            Arc::new(Mutex::new(Wards {
                all: Vec::new(),
                roomy: Vec::new(),
            }))
        };
        Census {
            classic: none(),
            quorum: none(),
            stream: none(),
        }
    }
}

impl<R: Resident> Census<R> {
    fn district(&self, kind: QueueKind) -> &District<R> {
        match kind {
            QueueKind::Classic => &self.classic,
            QueueKind::Quorum => &self.quorum,
            QueueKind::Stream => &self.stream,
        }
    }

    /// A queue comes.
    pub(crate) fn enter(&self, kind: QueueKind, queue: R) -> Home<R> {
        let district = self.district(kind);
        let mut wards = district.lock();
        let ward = match wards.roomy.last() {
            Some(ward) => Arc::clone(ward),
            None => wards.open(),
        };
        let mut inside = ward.inside.lock();
        let place = inside.queues.insert(queue);
        if inside.queues.len() >= WARD {
            wards.roomy.pop();
        }
        ward.touched.store(true, Ordering::Release);
        drop(inside);
        drop(wards);
        Home {
            district: Arc::clone(district),
            ward,
            place,
        }
    }

    /// What all queues of a type have, and have done since the start, those that are gone included.
    #[must_use]
    pub fn sum(&self, kind: QueueKind) -> QueueSum {
        let mut sum = QueueSum::default();
        let mut number = 0;
        while let Some(ward) = self.ward(kind, number) {
            ward.add_to(&mut sum);
            number += 1;
        }
        sum
    }

    /// The queues of a ward, by its number; None: there are no more wards.
    #[must_use]
    pub fn queues(&self, kind: QueueKind, number: usize) -> Option<Vec<R::Queue>> {
        let ward = self.ward(kind, number)?;
        let inside = ward.inside.lock();
        Some(inside.found())
    }

    fn ward(&self, kind: QueueKind, number: usize) -> Option<Arc<Ward<R>>> {
        self.district(kind).lock().all.get(number).cloned()
    }
}

impl<R> Wards<R> {
    fn open(&mut self) -> Arc<Ward<R>> {
        let ward = Arc::new(Ward {
            touched: AtomicBool::new(true),
            inside: Mutex::new(Inside {
                queues: Slab::new(),
                past: None,
                sum: None,
            }),
        });
        self.all.push(Arc::clone(&ward));
        self.roomy.push(Arc::clone(&ward));
        ward
    }
}

impl<R: Resident> Ward<R> {
    fn add_to(&self, sum: &mut QueueSum) {
        let (mut own, queues) = {
            let inside = self.inside.lock();
            // Before the queues are asked: what is touched from here on is asked for the next time.
            if !self.touched.swap(false, Ordering::AcqRel)
                && let Some(known) = &inside.sum
            {
                return sum.add(known);
            }
            let past = inside.past.as_deref().cloned();
            (past.unwrap_or_default(), inside.found())
        };
        // None of them goes while it is held here.
        for queue in &queues {
            R::add_to_sum(queue, &mut own);
        }
        sum.add(&own);
        self.inside.lock().sum = Some(Box::new(own));
    }
}

impl<R: Resident> Inside<R> {
    fn found(&self) -> Vec<R::Queue> {
        let queues = self.queues.iter();
        queues.filter_map(|(_, queue)| queue.found()).collect()
    }
}

impl<R> Home<R> {
    /// The queue that lives here was, or may have been, changed. To be called under its lock.
    #[inline]
    pub(crate) fn touch(&self) {
        // A store where there is none to make would take the line from the others of the ward.
        if !self.ward.touched.load(Ordering::Relaxed) {
            self.ward.touched.store(true, Ordering::Release);
        }
    }

    /// The queue is gone; `past` is what it did.
    pub(crate) fn leave(&self, past: &QueueSum) {
        let mut inside = self.ward.inside.lock();
        let was_full = inside.queues.len() >= WARD;
        let removed = inside.queues.try_remove(self.place);
        inside.past.get_or_insert_default().add(past);
        self.ward.touched.store(true, Ordering::Release);
        drop(inside);
        // What it lay in is freed outside the lock.
        drop(removed);
        if was_full {
            self.district.lock().roomy.push(Arc::clone(&self.ward));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// So many messages are ready; and how often it was asked.
    #[derive(Debug, Default)]
    struct Told {
        ready: AtomicU64,
        asked: AtomicU64,
    }

    impl Resident for Weak<Told> {
        type Queue = Arc<Told>;

        fn found(&self) -> Option<Arc<Told>> {
            self.upgrade()
        }

        fn add_to_sum(queue: &Arc<Told>, sum: &mut QueueSum) {
            queue.asked.fetch_add(1, Ordering::Relaxed);
            sum.queues += 1;
            sum.ready += queue.ready.load(Ordering::Relaxed);
            sum.totals.published += queue.ready.load(Ordering::Relaxed);
        }
    }

    struct Living {
        queue: Arc<Told>,
        home: Home<Weak<Told>>,
    }

    fn living(census: &Census<Weak<Told>>, count: usize) -> Vec<Living> {
        let enter = |_| {
            let queue = Arc::<Told>::default();
            queue.ready.store(1, Ordering::Relaxed);
            let home = census.enter(QueueKind::Classic, Arc::downgrade(&queue));
            Living { queue, home }
        };
        (0..count).map(enter).collect()
    }

    fn leave(living: Living) {
        let mut past = QueueSum::default();
        <Weak<Told> as Resident>::add_to_sum(&living.queue, &mut past);
        drop(living.queue);
        living.home.leave(&past.of_the_past());
    }

    fn sum(census: &Census<Weak<Told>>) -> (u64, u64, u64) {
        let sum = census.sum(QueueKind::Classic);
        (sum.queues, sum.ready, sum.totals.published)
    }

    #[test]
    fn only_wards_that_were_touched_are_asked_again() {
        let census = Census::default();
        let queues = living(&census, 3 * WARD);
        assert_eq!(sum(&census), (96, 96, 96));
        assert_eq!(sum(&census), (96, 96, 96));
        let asked = |number: usize| queues[number].queue.asked.load(Ordering::Relaxed);
        assert_eq!((asked(0), asked(WARD)), (1, 1));
        queues[WARD].queue.ready.store(5, Ordering::Relaxed);
        queues[WARD].home.touch();
        assert_eq!(sum(&census), (96, 100, 100));
        assert_eq!((asked(0), asked(WARD), asked(2 * WARD)), (1, 2, 1));
        assert_eq!(census.sum(QueueKind::Stream), QueueSum::default());
    }

    #[test]
    fn what_queues_did_that_are_gone_is_not_forgotten() {
        let census = Census::default();
        let mut queues = living(&census, WARD + 1);
        assert_eq!(sum(&census), (33, 33, 33));
        queues.drain(..10).for_each(leave);
        assert_eq!(sum(&census), (23, 23, 33));
        // Their places are taken again.
        queues.extend(living(&census, 10));
        assert_eq!(sum(&census), (33, 33, 43));
        let wards = (0..).map_while(|number| census.queues(QueueKind::Classic, number));
        let mut found: Vec<usize> = wards.map(|ward| ward.len()).collect();
        found.sort_unstable();
        assert_eq!(found, [1, WARD]);
        queues.drain(..).for_each(leave);
        assert_eq!(sum(&census), (0, 0, 43));
    }
}
