//! Waiting for a broker to be there.

use serde_json::json;

use crate::clock::{self, pause, seconds};
use crate::connection::{Connection, SMALL};
use crate::error::Error;
use crate::options::Options;
use crate::report;
use crate::topology::Topology;
use crate::usage::{Usage, round};

/// Between two attempts, in nanoseconds.
const ATTEMPTS: u64 = 500_000;

/// Waits up to `--time` seconds for a handshake, and for `--messages` to be in the queues.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let start = clock::now();
    loop {
        let attempt = attempt(options);
        let elapsed = seconds(clock::now() - start);
        match attempt {
            Ok((server, depth)) if depth >= options.messages => {
                let figures = json!({
                    "elapsed_ms": round(elapsed * 1e3, 2),
                    "messages": depth,
                    "rss_mb": options.pid.map(|pid| Usage::of(pid).rss_mb()),
                });
                report::print(options, &server, figures);
                return Ok(());
            }
            Err(error) if elapsed > options.time => return Err(error),
            Ok(_) if elapsed > options.time => {
                return Err(Error::Broker("messages are missing".to_owned()));
            }
            _ => pause(ATTEMPTS),
        }
    }
}

fn attempt(options: &Options) -> Result<(String, Option<u64>), Error> {
    let connection = Connection::open(options, SMALL)?;
    let server = connection.server.clone();
    connection.close()?;
    let depth = options
        .messages
        .map(|_| Topology::new(options).depth(options));
    Ok((server, depth.transpose()?))
}
