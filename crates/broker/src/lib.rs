//! The broker without its sockets: sessions, virtual hosts and queues.
//!
//! Bytes and the time go in; bytes, deadlines and wakes come out. Nothing here is async, reads a
//! clock, opens a file or starts a thread. Follow one message: [`session`] (receive, content,
//! publish), [`vhost`] (route), [`queue`] (publish, dispatch), [`mailbox`], [`session`] (deliver,
//! settle), [`queue`] (settle).

#![forbid(unsafe_code)]

mod administration;
mod arguments;
mod aside;
mod bindings;
mod blocks;
mod brake;
pub mod broker;
mod budget;
mod care;
mod commit;
pub mod config;
pub mod credit;
mod damaged;
mod dead_letter;
mod deadlines;
pub mod declare;
mod deduplication;
mod definitions;
pub mod definitions_import;
mod discard;
pub mod error;
mod events;
mod excerpt;
mod exchange;
mod farewell;
mod grant;
pub mod inventory;
pub mod large_body;
pub mod limits;
pub mod mailbox;
pub mod marks;
mod memory_pool;
pub mod message;
pub mod output;
mod parameters;
pub mod password;
mod pattern;
pub mod permission;
pub mod policy;
pub mod queue;
mod recovery;
mod services;
pub mod session;
pub mod store;
pub mod stream;
mod tally;
pub mod time;
mod unacked_memory;
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
pub use output::Output;
pub use recovery::examine as examine_definitions;
pub use session::{Peer, Session};
pub use time::Timestamp;
