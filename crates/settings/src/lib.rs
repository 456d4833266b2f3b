//! What a queue can be told by the arguments of its declaration and by policies: a row for each in `table`. What it is told
//! becomes the options that `leveret-queue` goes by.
//!
//! ```text
//!   arguments ───────── checked (declared: 406) ──────────────┐
//!   policy ──────────── checked (policy::settings) ──┐        ├─ merged (in_force) ──> QueueOptions ──> the queue
//!   operator policy ─── checked (policy::settings) ──┴ merged ┘
//! ```
//!
//! All of these read the rows and name no argument themselves, and so do the comparison with a second declaration
//! (`equivalence`) and the report of what policies set. The queue knows its options only.
//! docs/COMPATIBILITY.md lists the rows, which a test compares.

#![forbid(unsafe_code)]

mod argument;
pub mod by_policy;
#[cfg(test)]
mod compatibility;
pub mod declared;
pub mod equivalence;
pub mod in_force;
mod key;
mod kinds;
pub mod names;
pub mod policy;
mod setting;
mod table;
pub mod value;
