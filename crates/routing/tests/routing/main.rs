//! The routing crate from outside: what a broker sees of it, and agreement with naive references.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at what should not fail, helpers included"
)]

mod consistent_hash;
mod graph;
mod hash_model;
mod headers;
mod kinds;
mod support;
mod topic;
mod topology;
