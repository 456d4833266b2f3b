//! What is deleted and has very many bindings, and what goes with it, leaves in slices.
//!
//! It is no longer found from one moment to the next, and its definition goes in that moment, in memory and in the
//! store. What is left of it is cleared away by [`VirtualHost::clear_some`]: by whoever deleted it, who is answered when
//! all is gone, and by the pager. Until then nothing durable takes its name, whose bindings the store may still know;
//! whoever declares it clears away first. After a crash they lead nowhere, and the start removes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_message::{Message, Timestamp};
use leveret_routing::{Cleared, QueueId, Removed, Topology};
use leveret_store_api::{Change, CommitPoint};
use parking_lot::{Mutex, RwLockWriteGuard};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::definitions::{Definition, remove_exchange};
use crate::events::INTERNAL_USER;
use crate::handle::QueueHandle;
use crate::services::{Party, Services, Task};
use crate::vhost::VirtualHost;

/// So many bindings and exchanges are cleared away before others may have the topology.
const SLICE: usize = 128;

/// The topology, to be changed.
pub(crate) type TopologyWriting<'a> = RwLockWriteGuard<'a, Topology>;

/// Queues that are deleted and have bindings left.
#[derive(Debug, Default)]
pub(crate) struct Leaving {
    /// Something has bindings left, a queue or an exchange; changed under the topology's lock.
    any: AtomicBool,
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    by_id: FxHashMap<QueueId, QueueHandle>,
    /// The names of those whose bindings the store may know.
    names: FxHashSet<Box<str>>,
}

impl Leaving {
    /// A queue that is no longer found by its names.
    pub(crate) fn add(&self, queue: &QueueHandle) {
        let mut queues = self.queues.lock();
        if is_stored(queue) {
            queues.names.insert(queue.name().into());
        }
        queues.by_id.insert(queue.id(), queue.clone());
    }

    fn remove(&self, queue: QueueId) {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.by_id.remove(&queue)
            && is_stored(&queue)
        {
            queues.names.remove(queue.name());
        }
    }

    /// One of the queues.
    pub(crate) fn get(&self, queue: QueueId) -> Option<QueueHandle> {
        self.queues.lock().by_id.get(&queue).cloned()
    }

    /// Whether a queue of that name is to be cleared away before another has it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.queues.lock().names.contains(name)
    }
}

fn is_stored(queue: &QueueHandle) -> bool {
    let identity = queue.identity();
    identity.durable && identity.exclusive.is_none()
}

impl VirtualHost {
    /// Whether there is something for [`VirtualHost::clear_some`].
    #[must_use]
    pub fn is_clearing(&self) -> bool {
        self.leaving.any.load(Ordering::Acquire)
    }

    /// Clears away a slice of what is leaving; answers whether there is more.
    pub fn clear_some(self: &Arc<Self>) -> bool {
        if !self.is_clearing() {
            return false;
        }
        let mut topology = self.topology.write();
        let gone = topology.clear_away(SLICE);
        self.forget(&topology, &gone, Vec::new(), INTERNAL_USER);
        topology.has_leaving()
    }

    /// The topology, to be changed, once nothing is `leaving` any more.
    pub(crate) fn topology_without(
        self: &Arc<Self>,
        leaving: impl Fn(&Topology) -> bool,
    ) -> TopologyWriting<'_> {
        loop {
            let topology = self.topology.write();
            if !self.is_clearing() || !leaving(&topology) {
                return topology;
            }
            drop(topology);
            self.clear_some();
        }
    }

    /// Whether who declares an exchange or a queue of that name has to clear away first.
    #[must_use]
    pub fn is_leaving(&self, exchange: Option<&str>, queue: Option<&str>) -> bool {
        self.is_clearing()
            && (queue.is_some_and(|name| self.leaving.has(name))
                || exchange.is_some_and(|name| self.topology.read().is_leaving(name)))
    }

    /// These have gone, for the user `by`. Their definitions go with `changes`; answers when that is durable. What
    /// has bindings left has the pager clear them away.
    pub(crate) fn forget(
        self: &Arc<Self>,
        topology: &Topology,
        gone: &Removed,
        mut changes: Vec<Change<Message>>,
        by: &str,
    ) -> CommitPoint {
        for binding in &gone.bindings {
            if let Some(definition) = self.define_binding(topology, binding, gone) {
                changes.push(Definition::Binding(definition).remove());
            }
        }
        for exchange in gone.exchanges.iter().filter(|exchange| exchange.durable) {
            changes.push(remove_exchange(self.name(), &exchange.name));
        }
        self.forget_stateful(&gone.exchanges, &mut changes);
        let point = self.stage(&mut changes);
        self.routes_changed();
        self.tell_removed(topology, gone, by);
        for cleared in &gone.cleared {
            if let Cleared::Queue(id) = cleared {
                self.leaving.remove(*id);
            }
        }
        let any = topology.has_leaving();
        let before = self.leaving.any.swap(any, Ordering::AcqRel);
        if any && !before {
            self.clear_by_pager();
        }
        point
    }

    fn clear_by_pager(self: &Arc<Self>) {
        let task = Party::Task(Arc::<VirtualHost>::clone(self));
        self.services.pager.ask(task);
    }
}

impl Task for VirtualHost {
    /// Clears away the next slice.
    fn go_on(self: Arc<Self>, _services: &Services, _now: Timestamp) {
        if self.clear_some() {
            self.clear_by_pager();
        }
    }
}
