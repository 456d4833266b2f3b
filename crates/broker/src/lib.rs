//! The broker: virtual hosts, exchanges, queues, and what an administrator sets.
//!
//! The time goes in; deadlines and wakes come out. Nothing here is async, reads a clock, opens a file or starts a
//! thread, and what a client says is read elsewhere: in `leveret-session`. Follow one message: [`vhost`] (route),
//! [`queue`] (publish, dispatch), [`mailbox`], [`queue`] (settle).

#![forbid(unsafe_code)]

mod administration;
pub mod arguments;
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
pub mod credit;
mod damaged;
pub mod dead_letter;
mod deadlines;
pub mod declare;
pub mod deduplication;
mod definitions;
pub mod definitions_import;
mod discard;
pub mod error;
pub mod events;
mod excerpt;
pub mod exchange;
mod farewell;
pub mod grant;
pub mod inventory;
pub mod large_body;
mod leaving;
pub mod limits;
pub mod mailbox;
pub mod marks;
pub mod memory_pool;
pub mod message;
mod parameters;
pub mod password;
mod pattern;
pub mod permission;
pub mod policy;
pub mod queue;
mod recovery;
mod services;
pub mod settings;
pub mod store;
pub mod stream;
pub mod tally;
pub mod time;
pub mod unacked_memory;
pub mod users;
pub mod vhost;
mod vhost_policies;

pub use crate::deduplication::counts::DeduplicationCounts;
pub use brake::{Verdict, Waiting};
pub use broker::{Broker, OpenError};
pub use config::{BrokerConfig, ConsumerTimeoutAction};
pub use deduplication::Rules as DeduplicationRules;
pub use definitions::DefinitionError;
pub use discard::{DiscardError, Discarded, discard as discard_definitions};
pub use exchange::{DelayedMessage, DelayedPage, DelayedPlace};
pub use recovery::examine as examine_definitions;
pub use time::Timestamp;
