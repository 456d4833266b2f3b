//! The process around the broker: how it starts, refuses to, listens and stops. What it says in AMQP beyond the first
//! bytes is tested elsewhere.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod circles;
mod logging;
mod memory;
mod refusals;
mod sockets;
mod startup;
mod stopping;
mod store_commands;
mod tidy;
