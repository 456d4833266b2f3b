//! The store from outside: one conformance suite for all stores, and what only the journal promises.

#![allow(missing_docs, reason = "tests")]

mod basics;
mod crashes;
mod faults;
mod support;
