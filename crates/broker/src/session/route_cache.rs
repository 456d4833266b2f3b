//! Routes this connection has used, by exchange and routing key.
//!
//! An entry is made only after existence and permission were checked, and only where exchange and
//! routing key alone decide. All entries are of one topology generation; a newer one voids them.

use rustc_hash::FxHashMap;

use crate::vhost::Targets;

/// Routes kept at most; a connection that uses more starts over.
const ROUTES_MAX: usize = 8192;

#[derive(Default)]
pub(super) struct RouteCache {
    generation: u64,
    routes: FxHashMap<Box<[u8]>, Targets>,
}

impl RouteCache {
    /// Forgets everything if the topology has changed; true if it has.
    pub(super) fn renew(&mut self, generation: u64) -> bool {
        if self.generation == generation {
            return false;
        }
        self.generation = generation;
        self.routes.clear();
        true
    }

    pub(super) fn get(&self, names: &[u8]) -> Option<&Targets> {
        self.routes.get(names)
    }

    pub(super) fn insert(&mut self, names: &[u8], targets: Targets) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(names.into(), targets);
    }
}
