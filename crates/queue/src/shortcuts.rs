//! Ways that are there for their speed alone. Beside each is the ordinary way, which leaves everything as it does; tests
//! run the same history with a shortcut and without it.
//!
//! | shortcut | instructions a message without it and with it | the ordinary way |
//! |---|---|---|
//! | [`Shortcut::PastReady`] | 1,213 and 931 | a message becomes ready, and is dispatched |
//! | [`Shortcut::Gathered`] | 1,875 and 1,532, with four consumers | each delivery to one of many consumers locks its mailbox |
//! | [`Shortcut::Repeats`] | 2,210 and 931 | a publish is read, checked and routed by itself |
//! | [`Shortcut::DeliveryForms`] | 1,128 and 931 | a delivery is composed by itself |
//! | [`Shortcut::KnownRoutes`] | 4,197 and 2,611, with a topic of 1,000 bindings | a publish is looked up in the topology, and rights are asked for |
//! | [`Shortcut::UpcomingRoutes`] | as many: it saves waits for memory where very many routes are known | a publish is looked up in the cache when it is its turn |
//!
//! Counted by `tests/bench.sh instructions`' cases "no ack, 16 B", "4 consumers, 16 B" and "topic of 1000, 16 B", built with
//! the feature `shortcuts`; further arguments of the bench name those that are closed.
//!
//! In a release build nothing is asked: all are taken.

/// A way that is there for its speed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shortcut {
    /// From a batch to consumers that wait, past the ready messages.
    PastReady,
    /// What several consumers get in turn goes to each connection at once.
    Gathered,
    /// Publishes that differ from the one before in nothing but their bodies.
    Repeats,
    /// Deliveries that do.
    DeliveryForms,
    /// The route of the publish before, and those of before that.
    KnownRoutes,
    /// Routes of the next publishes in the buffer are fetched together.
    UpcomingRoutes,
}

impl Shortcut {
    /// All there are.
    pub const ALL: [Shortcut; 6] = [
        Shortcut::PastReady,
        Shortcut::Gathered,
        Shortcut::Repeats,
        Shortcut::DeliveryForms,
        Shortcut::KnownRoutes,
        Shortcut::UpcomingRoutes,
    ];

    /// Whether it may be taken.
    #[cfg(not(any(debug_assertions, feature = "shortcuts")))]
    #[inline(always)]
    #[must_use]
    pub const fn is_open(self) -> bool {
        true
    }
}

#[cfg(any(debug_assertions, feature = "shortcuts"))]
mod closed {
    use std::cell::Cell;

    use super::Shortcut;

    thread_local! {
        /// One bit for each.
        static CLOSED: Cell<u32> = const { Cell::new(0) };
    }

    impl Shortcut {
        /// Whether it may be taken.
        #[inline]
        #[must_use]
        pub fn is_open(self) -> bool {
            CLOSED.get() & (1 << self as u32) == 0
        }

        /// From now on this thread takes all but these.
        pub fn close(these: &[Shortcut]) {
            CLOSED.set(these.iter().fold(0, |bits, it| bits | 1 << *it as u32));
        }
    }
}
