//! Queues and streams, as machines: plain `&mut self` values that lock nothing, name no handle, no virtual host, no exchange
//! and no session, and leave in [`queue::effects`] what is to be done when their lock is let go.
//!
//! Nothing here is async, reads a clock, opens a file or starts a thread. Follow one message: [`queue`] (publish,
//! dispatch), [`mailbox`], [`queue`] (settle).

#![forbid(unsafe_code)]

#[cfg(debug_assertions)]
pub mod check;
pub mod credit;
pub mod mailbox;
pub mod queue;
pub mod shortcuts;
pub mod stream;
