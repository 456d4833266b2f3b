//! The store from outside: one conformance suite for all stores, and what only the journal promises.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests: helpers outside of test functions fail by panicking, too"
)]

mod ballast;
mod basics;
mod bodies;
mod checkpoints;
mod conforming;
mod counts;
mod crashes;
mod damage;
mod ends;
mod faults;
mod formats;
mod freeing;
mod index;
mod support;
mod tools;
mod ways;
