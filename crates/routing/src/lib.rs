//! Exchanges and bindings of one virtual host: from (exchange, routing key, headers) to queues.
//!
//! Owns: which exchanges exist, what is bound to what, and the indexes that answer
//! [`Topology::route`]. Knows nothing of messages, consumers, permissions or durability, takes no
//! locks, and has neither a clock nor a source of randomness: what a message says about itself comes
//! in a [`RouteInput`], a random number included.

mod arguments;
mod binding;
mod binding_table;
mod consistent_hash;
mod delayed_message;
mod direct;
mod erlang_text;
mod exchange;
mod exchange_error;
mod fanout;
mod headers;
mod kind;
mod matcher;
mod message_deduplication;
mod modulus_hash;
mod names;
mod number_set;
mod places;
mod random;
mod recent_history;
mod route;
mod sliced_table;
mod stable_hash;
mod target;
mod topic;
mod topology;
mod topology_routing;

pub use binding::{BindError, Binding, Destination, QueueId};
pub use exchange::Exchange;
pub use exchange_error::ExchangeError;
pub use kind::ExchangeKind;
pub use route::{Route, RouteInput};
pub use topology::{Cleared, Removed, Topology};
