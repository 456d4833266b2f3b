//! The store from outside: one conformance suite for all stores, and what only the journal promises.

#![allow(missing_docs, reason = "tests")]

mod basics;
mod conforming;
mod crashes;
mod faults;
mod kills;
mod support;
