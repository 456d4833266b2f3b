//! The broker: virtual hosts, exchanges, handles of queues, and what an administrator sets.
//!
//! The time goes in; deadlines and wakes come out. Nothing here is async, reads a clock, opens a file or starts a
//! thread, and what a client says is read elsewhere: in `leveret-session`. Follow one message: [`vhost`] (route),
//! [`handle`] (publish, settle), `effects` (what follows when a queue's lock is let go).

#![forbid(unsafe_code)]

mod administration;
mod aside;
mod bindings;
pub mod bringing;
pub mod broker;
pub mod budget;
pub mod census;
#[cfg(debug_assertions)]
pub mod check;
pub mod churn;
pub mod commit;
pub mod config;
mod dead_letter;
mod deadlines;
pub mod declare;
mod definitions;
pub mod definitions_import;
mod discard;
mod effects;
pub mod events;
pub mod exchange;
mod farewell;
mod forgotten;
pub mod handle;
pub mod inventory;
mod latch;
mod leaving;
pub mod memory_pool;
mod parameters;
mod recovery;
mod removal;
pub mod roll;
mod services;
pub mod spans;
pub mod unacked_memory;
pub mod vhost;
pub mod vhost_metadata;
mod vhost_policies;
pub mod vhost_removal;

pub use broker::{Broker, OpenError};
pub use config::{BrokerConfig, ConsumerTimeoutAction};
pub use discard::{DiscardError, Discarded, discard as discard_definitions};
pub use exchange::{DelayedId, DelayedMessage, DelayedPage};
pub use parameters::Parameter;
pub use recovery::examine as examine_definitions;
