//! A message, and the words about it that all floors share: time, arguments, what a client is told when something goes
//! wrong, and the store with messages in it.
//!
//! Nothing here knows queues, exchanges or clients.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod damaged;
pub mod error;
pub mod large_body;
pub mod marks;
mod message;
mod store;
mod time;

pub use message::{Body, LARGE_BODY_BYTES, Message, MessageForm, MessageScratch, parse_expiration};
pub use store::{Storage, Store};
pub use time::Timestamp;
