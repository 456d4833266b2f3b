//! The store on disk: a journal of messages, and an index and definitions on sled.
//!
//! What a store is and promises is `leveret-store-api`'s: this crate is one that keeps everything in a directory, as
//! [`Journal`]. It must not know AMQP, routing or queues' rules. The layout of the files is described in
//! `docs/STORE.md`.

#![forbid(unsafe_code)]

mod bytes;
mod clock;
mod delivered;
mod error;
pub mod files;
mod index;
mod journal;
mod metered;
mod options;
mod segments;
#[cfg(any(test, feature = "test-support"))]
pub mod simulation;

pub use error::OpenError;
pub use index::disk::{IndexStore, SledIndex};
pub use index::rows::Row;
pub use journal::Journal;
pub use journal::inspect::{Rebuilt, Verified, rebuild, verify};
pub use metered::{IoCounts, IoFigures, IoOperations};
pub use options::JournalOptions;
