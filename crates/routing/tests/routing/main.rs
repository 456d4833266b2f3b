//! The routing crate from outside: what a broker sees of it, and agreement with naive references.

mod consistent_hash;
mod graph;
mod headers;
mod kinds;
mod support;
mod topic;
mod topology;
