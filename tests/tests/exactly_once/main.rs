//! Exactly once: the checker itself, fed with histories good and broken, and then the real binary, which is killed
//! again and again, at random and at named places, and judged by it. docs/EXACTLY_ONCE.md says what that proves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's way to fail"
)]

mod broken;
mod failpoints;
mod kills;
mod model;
mod mutations;
mod scene;
mod story;
mod workload;
