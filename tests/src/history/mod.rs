//! What happened to messages, and whether it may have happened.
//!
//! A [`Ledger`] takes down [`Event`]s while clients work and a broker dies and starts again; [`judge`] is a pure
//! function over the [`History`] they make. Owns the rules of docs/EXACTLY_ONCE.md; knows no wire and no process.
//!
//! What the order of events means: what a client does is noted *before* it is sent, what it is told *after* it was
//! received. Where a rule says "later", the broker cannot have seen it the other way round.

mod copies;
mod event;
mod judge;
mod ledger;
mod order;
mod sources;
mod streams;
mod transactions;

pub use event::{
    ConsumerId, DeliveryId, Event, MessageId, Outcome, PublisherId, QueueFacts, QueueId,
    TransactionId,
};
pub use judge::{Finding, History, Rule, judge};
pub use ledger::Ledger;
