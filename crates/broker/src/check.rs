//! What must balance, counted anew: tests do so after each of their steps. It costs as much as there is in memory,
//! and is there in debug builds alone.

use std::fmt::Debug;
use std::sync::Arc;

use leveret_routing::QueueId;
use leveret_store_api::Sequence;
use rustc_hash::FxHashMap;

use crate::broker::Broker;
use crate::queue::consumers::ConsumerRef;

/// What does not balance.
#[derive(Debug, Default)]
pub struct Faults {
    whose: String,
    found: Vec<String>,
    /// How many things were looked at.
    looked_at: usize,
}

impl Faults {
    /// All that was found.
    #[cfg(test)]
    pub(crate) fn into_found(self) -> Vec<String> {
        self.found
    }

    /// From now on it is about this.
    pub fn look_at(&mut self, whose: String) {
        self.whose = whose;
        self.looked_at += 1;
    }

    /// So many more things were looked at.
    pub fn count(&mut self, more: usize) {
        self.looked_at += more;
    }

    /// What is kept is what was counted.
    pub fn same<T: PartialEq + Debug>(&mut self, what: &str, kept: T, counted: T) {
        if kept != counted {
            let whose = &self.whose;
            self.found
                .push(format!("{whose}: {what}: {kept:?}, counted {counted:?}"));
        }
    }

    /// This is always so.
    pub fn holds(&mut self, what: &str, holds: bool) {
        self.same(what, holds, true);
    }

    /// These rise.
    pub fn rise<T: PartialOrd + Debug>(&mut self, what: &str, values: impl Iterator<Item = T>) {
        let values: Vec<T> = values.collect();
        if !values.is_sorted_by(|one, other| one < other) {
            self.same(what, Some(values), None);
        }
    }
}

/// What sessions hold of the messages of one queue.
#[derive(Debug, Default)]
pub(crate) struct OfQueue {
    pub(crate) in_flight: u64,
    /// Of those with credit of a consumer.
    pub(crate) by_consumer: FxHashMap<ConsumerRef, u32>,
    /// Where these stood, and whether the store has them.
    pub(crate) places: Vec<(u8, Sequence, bool)>,
}

/// What all sessions hold.
#[derive(Debug, Default)]
pub struct Outside {
    queues: FxHashMap<(Arc<str>, QueueId), OfQueue>,
    /// So many open connections were looked at.
    pub connections: u64,
    /// Somebody is in the middle of something, and what that holds is not counted.
    pub is_partial: bool,
    /// What does not balance.
    pub faults: Faults,
}

impl Outside {
    /// A delivery that is not settled.
    pub fn add(
        &mut self,
        vhost: &Arc<str>,
        queue: QueueId,
        consumer: Option<ConsumerRef>,
        place: (u8, Sequence, bool),
    ) {
        let of_queue = self.queues.entry((Arc::clone(vhost), queue)).or_default();
        of_queue.in_flight += 1;
        if let Some(consumer) = consumer {
            *of_queue.by_consumer.entry(consumer).or_default() += 1;
        }
        of_queue.places.push(place);
        self.faults.count(1);
    }
}

impl Broker {
    /// Counts all queues anew, and holds them against what sessions have of them. Answers what does not balance, and
    /// how many things were looked at. Nobody may be at work meanwhile.
    #[must_use]
    pub fn check(&self, outside: Outside) -> (Vec<String>, usize) {
        let Outside {
            mut queues,
            connections,
            is_partial,
            mut faults,
        } = outside;
        let store = &self.services.store;
        let is_durable = store.durable_point() >= store.stage(&mut Vec::new());
        let open = self
            .vhosts()
            .into_iter()
            .map(|vhost| vhost.connection_count());
        let are_all_here = open.sum::<u64>() == connections;
        let is_idle = is_durable && self.services.pager.is_idle();
        let is_whole = is_idle && are_all_here && !is_partial;
        for vhost in self.vhosts() {
            for queue in vhost.queue_handles() {
                faults.look_at(format!("queue {}", queue.name()));
                let held = queues.remove(&(Arc::clone(vhost.name()), queue.id()));
                let held = held.unwrap_or_default();
                queue.check(&held, is_whole.then_some(store), &mut faults);
            }
        }
        (faults.found, faults.looked_at)
    }
}
