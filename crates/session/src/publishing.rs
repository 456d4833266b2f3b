//! What a connection publishes, from the check of one message to its confirm.
//!
//! ```text
//!  whole ─> checked ─> routed ─┬─> batched ─> in its queues, with all of one read ─> confirmed
//!                              ├─> kept by an exchange: decided by itself
//!                              ├─> in a transaction: kept until the commit
//!                              ├─> written ahead: batched once its bytes are on the disk
//!                              └─> spread: in very many queues, in steps
//! ```
//! Each step takes what the one before it made, so that none can be left out or come too early.

mod ahead;
mod batched;
mod checked;
mod confirming;
mod counts;
pub(super) mod decided;
mod repeated;
pub(super) mod routed;
pub(super) mod sender;
mod way;

use std::sync::Arc;

use leveret_broker::budget::{Budget, Share};
use leveret_broker::vhost::VirtualHost;
use leveret_codec::ChannelNumber;

use super::batch::Batch;
use super::body_memory::own;
use super::large_publish::LargePublish;
use super::repeat_form::Repeat;
use super::route_cache::RouteCache;
use counts::PublishCounts;

pub(super) struct Publishing {
    vhost: Arc<VirtualHost>,
    routes: RouteCache,
    batch: Batch,
    counts: PublishCounts,
    repeat: Repeat,
    /// A large message on its way to the disk; no further input is taken meanwhile.
    large: Option<Box<LargePublish>>,
    /// Channels with confirms that wait for a commit.
    confirming: Vec<ChannelNumber>,
    /// For small bodies on their way.
    own_memory: Arc<Budget>,
    /// See [`Publishing::waits_at_gate`].
    waits_at_gate: bool,
    /// Something was published.
    has_begun: bool,
    /// The store is full; input stops with the first publish.
    store_full: bool,
}

impl Publishing {
    pub(super) fn new(vhost: &Arc<VirtualHost>) -> Publishing {
        Publishing {
            vhost: Arc::clone(vhost),
            routes: RouteCache::new(&vhost.services.route_memory),
            batch: Batch::default(),
            counts: PublishCounts::default(),
            repeat: Repeat::default(),
            large: None,
            confirming: Vec::new(),
            own_memory: own(),
            waits_at_gate: false,
            has_begun: false,
            store_full: false,
        }
    }

    /// Forgets what it knows of routes, if the topology, or permissions, have changed; true if they have.
    #[inline]
    pub(super) fn renew(&mut self) -> bool {
        let has_changed = self.routes.renew(self.vhost.generation());
        if has_changed {
            self.batch.routes_changed();
            self.let_forgotten_go();
        }
        has_changed
    }

    /// What has to do with very many queues is dropped by somebody else, in steps.
    #[cold]
    fn let_forgotten_go(&mut self) {
        if let Some(routes) = self.routes.take_forgotten() {
            self.vhost.let_go(routes);
        }
    }

    /// A publish came.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// A message of this size was taken.
    #[inline]
    pub(super) fn note_size(&mut self, size: u64) {
        self.counts.note_size(size);
    }

    /// There is no queue for a message.
    pub(super) fn note_unroutable(&mut self, exchange: &[u8], mandatory: bool) {
        self.counts
            .note_unroutable(&self.vhost, exchange, mandatory);
    }

    /// The store is full, or has room again.
    pub(super) fn set_store_full(&mut self, is_full: bool) {
        self.store_full = is_full;
    }

    /// The store is full, and input stops with the first publish.
    pub(super) fn meets_full_store(&self) -> bool {
        self.store_full
    }

    /// The store is full, and this connection publishes.
    #[inline]
    pub(super) fn is_blocked(&self) -> bool {
        self.store_full && self.has_begun
    }

    /// Any number; the seed differs from connection to connection.
    pub(super) fn next_random(&mut self) -> u64 {
        self.batch.next_random()
    }

    /// Memory of its own for a small body, if there is enough.
    pub(super) fn own_share(&self, bytes: usize) -> Option<Share> {
        let mut share = Share::new(&self.own_memory);
        share.take(bytes).then_some(share)
    }

    /// Lets go of routes that nobody has asked for since the last time.
    pub(super) fn rest(&mut self) {
        self.routes.rest();
        self.let_forgotten_go();
    }

    /// Nothing more is published. Routes hold their queues: these are deleted one by one, and shall go so, too.
    pub(super) fn end(&mut self) {
        self.routes.end();
        self.let_forgotten_go();
        self.batch.routes_changed();
    }

    /// Gives buffers back that have grown in a burst.
    pub(super) fn shrink(&mut self) {
        self.batch.shrink();
        self.repeat.forget();
    }
}
