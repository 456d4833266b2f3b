//! Puts a load on an AMQP 0-9-1 broker, checks that every message arrived, and prints what it cost as one JSON line.
//!
//! Two threads, one for all publishing connections and one for all consuming ones, each around one epoll: a thousand
//! connections cost no more threads than one, and the generator stays out of the broker's way on a small machine.
//!
//! What a run does is in `options.rs`; `tests/bench.sh` has the runs that are published.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program says its result"
)]

mod churn;
mod clock;
mod connection;
mod consumer;
mod error;
mod event_loop;
mod histogram;
mod idle;
mod load;
mod options;
mod producer;
mod ready;
mod report;
mod stamp;
mod topology;
mod unconfirmed;
mod usage;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::error::Error;
use crate::options::{Mode, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(why) = options.check() {
        eprintln!("leveret-load: {why}");
        return ExitCode::from(2);
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("leveret-load: {error}");
            ExitCode::from(3)
        }
    }
}

/// Whether everything that was sent arrived.
fn run(options: &Options) -> Result<bool, Error> {
    match options.mode {
        Mode::Throughput | Mode::Latency => load::run(options),
        Mode::Backlog => load::backlog(options),
        Mode::Churn => churn::run(options).map(|()| true),
        Mode::Idle => idle::run(options).map(|()| true),
        Mode::Ready => ready::run(options).map(|()| true),
        Mode::Delete => topology::Topology::new(options)
            .delete(options)
            .map(|()| true),
    }
}
