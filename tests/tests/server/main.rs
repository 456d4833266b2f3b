//! The process around the broker: how it starts, refuses to, listens and stops. What it says in AMQP beyond the first
//! bytes is tested elsewhere.

#![allow(clippy::unwrap_used, reason = "a test's way to fail")]

mod circles;
mod logging;
mod memory;
mod process;
mod refusals;
mod sockets;
mod startup;
#[cfg(debug_assertions)]
mod steps;
mod stopping;
mod store_commands;
mod tidy;
