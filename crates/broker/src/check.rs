//! What must balance, counted anew: tests do so after each of their steps. It costs as much as there is in memory,
//! and is there in debug builds alone.

use std::sync::Arc;

use leveret_queue::check::{Faults, OfQueue};
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_routing::QueueId;
use leveret_store_api::Sequence;
use rustc_hash::FxHashMap;

use crate::broker::Broker;

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
