//! The codec against `amq-protocol`, against itself, and against arbitrary bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod arbitrary;
mod frames;
mod headers;
mod hostile;
mod methods;
mod tables;
