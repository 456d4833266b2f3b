//! The broker: virtual hosts, exchanges, handles of queues, and what an administrator sets.
//!
//! The time goes in; deadlines and wakes come out. Nothing here is async, reads a clock, opens a file or starts a
//! thread, and what a client says is read elsewhere: in `leveret-session`. Follow one message: [`vhost`] (route),
//! [`handle`] (publish, settle), `care` (what follows when a queue's lock is let go).

#![forbid(unsafe_code)]

mod administration;
mod aside;
mod bindings;
pub mod brake;
pub mod broker;
pub mod budget;
mod care;
#[cfg(debug_assertions)]
pub mod check;
pub mod commit;
pub mod config;
mod dead_letter;
mod deadlines;
pub mod declare;
mod definitions;
pub mod definitions_import;
mod discard;
pub mod events;
mod excerpt;
pub mod exchange;
mod farewell;
pub mod grant;
pub mod handle;
pub mod inventory;
mod leaving;
pub mod limits;
pub mod memory_pool;
mod parameters;
pub mod password;
mod pattern;
pub mod permission;
pub mod policy;
mod recovery;
mod services;
pub mod settings;
pub mod tally;
pub mod unacked_memory;
pub mod users;
pub mod vhost;
mod vhost_policies;

pub use brake::{Verdict, Waiting};
pub use broker::{Broker, OpenError};
pub use config::{BrokerConfig, ConsumerTimeoutAction};
pub use definitions::DefinitionError;
pub use discard::{DiscardError, Discarded, discard as discard_definitions};
pub use exchange::{DelayedMessage, DelayedPage, DelayedPlace};
pub use recovery::examine as examine_definitions;
