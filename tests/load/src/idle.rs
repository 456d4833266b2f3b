//! Many connections that do nothing, but for heartbeats where they are asked for.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leveret_codec::protocol::queue;
use leveret_codec::shorten;
use serde_json::json;

use crate::clock::{self, nanoseconds, pause, seconds};
use crate::connection::{self, Connection, Filled, SMALL};
use crate::error::Error;
use crate::event_loop::{self, Next, Peer};
use crate::options::Options;
use crate::report;
use crate::usage::{self, Usage, round};

const SPARE_FILES: usize = 64;
/// How long the broker has to come to rest, beside half a heartbeat: by then every client has sent one.
const SETTLE: f64 = 1.0;

/// Opens `--connections` and holds them for `--time` seconds.
#[allow(clippy::cast_precision_loss, reason = "figures to show")]
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    usage::allow_files((options.connections + SPARE_FILES) as u64);
    let usage = || options.pid.map(Usage::of).unwrap_or_default();
    let before = usage();
    let start = clock::now();
    let mut idlers = open_all(options)?;
    let opened_in = seconds(clock::now() - start);
    let server = idlers.first().map(|idler| idler.connection.server.clone());
    let server = server.unwrap_or_default();
    let stop = AtomicBool::new(false);
    let held = thread::scope(|scope| {
        let held = scope.spawn(|| event_loop::run(&mut idlers, &stop));
        pause(nanoseconds(SETTLE + f64::from(options.heartbeat) / 2.0));
        let settled = usage();
        pause(nanoseconds(options.time));
        let after = usage();
        stop.store(true, Ordering::Relaxed);
        let ended = held
            .join()
            .unwrap_or_else(|_| Err(Error::Broker("a thread ended".to_owned())));
        ended.map(|()| (settled, after))
    });
    let (settled, after) = held?;
    let each = (after.rss_mb() - before.rss_mb()) * 1e6 / 1024.0 / options.connections as f64;
    let figures = json!({
        "connections": options.connections,
        "heartbeat_s": options.heartbeat,
        "opened_per_s": round(options.connections as f64 / opened_in, 1),
        "rss_before_mb": before.rss_mb(),
        "rss_after_mb": after.rss_mb(),
        "rss_per_connection_kb": round(each, 1),
        "idle_cpu": round(after.cpu_since(&settled) / options.time, 4),
        "wakeups_per_s": round(after.switches_since(&settled) as f64 / options.time, 1),
    });
    report::print(options, &server, figures);
    Ok(())
}

fn open_all(options: &Options) -> Result<Vec<Idler>, Error> {
    let openers = options.producers;
    thread::scope(|scope| {
        let some = |first| {
            scope.spawn(move || -> Result<Vec<Idler>, Error> {
                let numbers = (first..options.connections).step_by(openers);
                numbers.map(|number| Idler::open(options, number)).collect()
            })
        };
        let threads: Vec<_> = (0..openers).map(some).collect();
        let mut all = Vec::new();
        for thread in threads {
            let opened = thread.join();
            all.extend(opened.unwrap_or_else(|_| Err(Error::Broker("a thread ended".to_owned())))?);
        }
        Ok(all)
    })
}

/// A connection with a channel, a queue and a consumer.
struct Idler {
    connection: Connection,
    /// Nanoseconds between heartbeats.
    beat: Option<u64>,
    next_beat: u64,
}

impl Idler {
    fn open(options: &Options, number: usize) -> Result<Self, Error> {
        let mut connection = Connection::open_with_channel(options, SMALL)?;
        let name = format!("{}.idle{number}", options.prefix);
        connection.declare_queue(queue::Declare {
            queue: shorten(&name),
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            nowait: false,
            arguments: options.queue_arguments(),
        })?;
        connection.consume(&name, "", options.auto_ack)?;
        let beat = (options.heartbeat > 0).then(|| nanoseconds(f64::from(options.heartbeat) / 2.0));
        // Spread out, as those of clients are that were not all started at once.
        let first = beat.map_or(0, |beat| beat * (number as u64 % 1000) / 1000);
        Ok(Self {
            connection,
            beat,
            next_beat: clock::now() + first,
        })
    }
}

impl Peer for Idler {
    fn stream(&self) -> &TcpStream {
        &self.connection.stream
    }

    fn step(&mut self, now: u64, readable: bool) -> Result<Next, Error> {
        if readable && self.connection.read()? != Filled::Empty {
            while let Some(frame) = self.connection.input.frame()? {
                connection::unexpected(&frame)?;
            }
        }
        let Some(beat) = self.beat else {
            return Ok(Next::OnEvent);
        };
        if now >= self.next_beat {
            self.next_beat += beat;
            self.connection.beat()?;
        }
        Ok(Next::At(self.next_beat))
    }

    fn tick(&mut self, _now: u64) -> Result<(), Error> {
        Ok(())
    }
}
