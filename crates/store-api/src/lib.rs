//! What a store is: its words, what it does, and how it is proved that it does it.
//!
//! A store keeps what must survive: messages of logs, named by [`LogId`] and [`Sequence`], and
//! definitions, named by opaque keys. It says when something has become durable ([`CommitPoint`])
//! and never says so too early. It must not know AMQP, routing or queues' rules: payloads, flags and
//! times are opaque to it.
//!
//! [`MessageLog`] and [`DefinitionStore`] are the boundary; whoever uses a store depends on this crate alone.
//! [`MemoryStore`] keeps nothing. The store on disk is a crate of its own, `leveret-store`, and so is any other: it
//! has to pass the suite `conformance`. With the feature `test-support` there are that suite and a store that keeps everything
//! in memory and commits when a test says so.

#![forbid(unsafe_code)]

mod ahead;
pub mod broken;
mod changes;
#[cfg(feature = "test-support")]
pub mod conformance;
mod error;
pub mod failpoint;
mod memory;
#[cfg(feature = "test-support")]
mod stepped;
mod traits;
mod waiters;

pub use ahead::{Done, WriteAhead};
pub use changes::{
    Change, CommitPoint, DamagedHead, DamagedMessage, Delivered, Enqueue, LogId, LogState,
    Numbered, Payload, Sequence, Shortage, StoreStatus, StoredMessage,
};
pub use error::StoreError;
pub use memory::MemoryStore;
#[cfg(feature = "test-support")]
pub use stepped::{Damage, SteppedStore};
pub use traits::{DefinitionStore, Definitions, MessageLog};
pub use waiters::Waiters;
