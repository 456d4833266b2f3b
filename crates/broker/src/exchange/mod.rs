//! Exchanges that keep something of the messages that come by: delayed messages, a recent history,
//! the keys of what was published before.
//!
//! Routing asks at each of them ([`leveret_routing::Exchange::is_stateful`]); all others are routed
//! by their names alone and never come here. What an exchange keeps lies in logs of the store that
//! its definition names, and becomes durable in the same commit as the message: `unit` is such
//! a commit. Lock order: gates, in the order of their ids, then topology, then a queue; the
//! other locks here are leaves.

mod cache;
mod delay;
mod delayed;
mod delayed_messages;
mod fire;
mod gates;
mod history;
mod incoming;
mod keeper;
mod keepers;
mod logs;
mod numbers;
mod passage;
mod publish_past;
mod rewrite;
mod stateful;
mod unit;

pub use crate::exchange::delayed::{DelayedMessage, DelayedPage};
pub use crate::exchange::delayed_messages::DelayedId;
pub use crate::exchange::incoming::Incoming;
pub(crate) use delayed::Delayed;
pub use gates::{Gated, Gatekeeper, Gates, ShutGates, Shutting};
pub(crate) use keepers::check;
pub(crate) use logs::ExchangeLogs;
pub use numbers::Numbers;
pub(crate) use passage::AT_ONCE_MAX;
pub use passage::{Passage, Slice};
pub use publish_past::{Taking, Verdict};
pub use rewrite::{blind_keys, copy_without_blind, without_blind_copies};
pub(crate) use stateful::StatefulExchange;
pub use unit::{Shown, Unit};
