//! What a queue can be told by the arguments of its declaration and by policies: a row for each in `table`.
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

pub(crate) mod argument;
pub(crate) mod by_policy;
#[cfg(test)]
mod compatibility;
pub mod declared;
pub(crate) mod equivalence;
pub(crate) mod in_force;
pub(crate) mod key;
pub(crate) mod kinds;
pub mod names;
pub(crate) mod setting;
pub(crate) mod table;
pub(crate) mod value;
