//! Runs that move messages: throughput, latency at a rate, backlog.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::clock::{self, nanoseconds, pause, seconds};
use crate::connection::{Connection, SMALL};
use crate::consumer::Consumer;
use crate::error::Error;
use crate::event_loop;
use crate::histogram::Histogram;
use crate::options::{Options, Phase};
use crate::producer::{Producer, Published, Schedule};
use crate::report::{self, Counters, Moment};
use crate::topology::Topology;
use crate::usage::{self, Usage, round};
use crate::verify::{Received, Sum};

/// Files open beside the connections.
const SPARE_FILES: usize = 64;
/// How often progress is looked at, in nanoseconds.
const LOOK: u64 = 1_000_000;

/// Publishes and consumes at the same time; whether all messages arrived.
pub(crate) fn run(options: &Options) -> Result<bool, Error> {
    let topology = Arc::new(Topology::new(options));
    topology.declare(options)?;
    let ok = stage(options, &topology, None)?;
    if !options.keep {
        topology.delete(options)?;
    }
    Ok(ok)
}

/// First publishes, then consumes, or one of the two.
pub(crate) fn backlog(options: &Options) -> Result<bool, Error> {
    let topology = Arc::new(Topology::new(options));
    let mut ok = true;
    if options.phase != Phase::Drain {
        topology.declare(options)?;
        ok &= stage(options, &topology, Some(Phase::Publish))?;
    }
    if options.phase != Phase::Publish {
        ok &= stage(options, &topology, Some(Phase::Drain))?;
        if !options.keep {
            topology.delete(options)?;
        }
    }
    Ok(ok)
}

/// Use of the machine at one moment.
struct Used {
    broker: Usage,
    client: Usage,
    machine: f64,
}

impl Used {
    fn now(options: &Options) -> Self {
        Self {
            broker: options.pid.map(Usage::of).unwrap_or_default(),
            client: Usage::of(process::id()),
            machine: usage::machine_cpu(),
        }
    }
}

/// The counters when a run began to be measured and when that ended.
struct Window {
    from: Moment,
    to: Moment,
}

fn stage(options: &Options, topology: &Arc<Topology>, phase: Option<Phase>) -> Result<bool, Error> {
    let counters = Arc::new(Counters::default());
    let connections = options.consumer_connections.unwrap_or(options.consumers);
    let connections = connections.min(options.consumers);
    usage::allow_files((options.producers + connections + SPARE_FILES) as u64);
    let server = Connection::open(options, SMALL)?;
    let mut producers = Vec::new();
    if phase != Some(Phase::Drain) {
        for number in 0..u16::try_from(options.producers).unwrap_or(u16::MAX) {
            producers.push(Producer::open(options, topology, number, &counters)?);
        }
    }
    if let Some(pid) = options.pid {
        usage::reset_peak(pid);
    }
    let before = Used::now(options);
    let start = clock::now();
    let mut consumers = Vec::new();
    if phase != Some(Phase::Publish) {
        for number in 0..connections {
            let which = (number, connections);
            consumers.push(Consumer::open(options, topology, which, &counters)?);
        }
    }
    let start = match phase {
        Some(Phase::Drain) => start,
        _ => clock::now() + LOOK,
    };
    let warmup = if options.messages.is_some() {
        0.0
    } else {
        options.warmup
    };
    let measure_from = start + nanoseconds(warmup);
    let schedule = Schedule {
        start,
        measure_from,
        end: measure_from + nanoseconds(options.time),
    };
    producers
        .iter_mut()
        .for_each(|producer| producer.schedule(schedule));
    consumers
        .iter_mut()
        .for_each(|consumer| consumer.measure_from(measure_from));

    let drive = Drive {
        options,
        counters: &counters,
        schedule,
        copies: topology.copies(),
        phase,
    };
    let (window, after) = drive.run(&mut producers, &mut consumers)?;
    let sent = sent_by(options, phase, &producers);
    let mut figures = Figures::of(&producers, &consumers);
    let (ok, verdict) = match consumers.is_empty() || options.reuse {
        true => (true, Value::Null),
        false => figures.received.judge(sent, topology.copies()),
    };
    figures.window = Some(window);
    let server = server.server;
    for connection in producers.into_iter().map(|producer| producer.connection) {
        connection.close()?;
    }
    for connection in consumers.into_iter().map(|consumer| consumer.connection) {
        connection.close()?;
    }
    report::print(
        options,
        &server,
        figures.report(options, phase, verdict, (&before, &after)),
    );
    Ok(ok && figures.published.bad_confirms == 0)
}

/// All messages of a run.
fn sent_by(options: &Options, phase: Option<Phase>, producers: &[Producer]) -> Sum {
    let mut sent = Sum::default();
    producers
        .iter()
        .for_each(|producer| sent.join(producer.published.sum));
    if phase == Some(Phase::Drain) {
        for number in 0..u16::try_from(options.producers).unwrap_or(u16::MAX) {
            let share = options.share(number.into()).unwrap_or(0);
            sent.join(Sum::of_producer(number, share));
        }
    }
    sent
}

/// A run under way, seen from the thread that watches it.
struct Drive<'a> {
    options: &'a Options,
    counters: &'a Counters,
    schedule: Schedule,
    copies: u64,
    phase: Option<Phase>,
}

impl Drive<'_> {
    /// Has both sides work until everything has arrived or nothing moves any more.
    fn run(
        &self,
        producers: &mut [Producer],
        consumers: &mut [Consumer],
    ) -> Result<(Window, Used), Error> {
        let (stop, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let consuming = !consumers.is_empty();
        thread::scope(|scope| {
            let consuming_thread =
                scope.spawn(|| watched(event_loop::run(consumers, &stop), &failed));
            let publishing = scope.spawn(|| watched(event_loop::run(producers, &stop), &failed));
            let from = match self.options.messages {
                Some(_) => Moment {
                    at: self.schedule.start,
                    ..Moment::default()
                },
                None => {
                    self.sleep_until(self.schedule.measure_from, &failed);
                    self.counters.now()
                }
            };
            if self.options.messages.is_none() {
                self.sleep_until(self.schedule.end, &failed);
            }
            let mut to = self.counters.now();
            let end = self.await_end(consuming, || publishing.is_finished(), &failed);
            if self.options.messages.is_some() {
                to = end;
            }
            let after = Used::now(self.options);
            stop.store(true, Ordering::Relaxed);
            joined(publishing.join())?;
            joined(consuming_thread.join())?;
            Ok((Window { from, to }, after))
        })
    }

    fn sleep_until(&self, time: u64, failed: &AtomicBool) {
        while !failed.load(Ordering::Relaxed) {
            match time.saturating_sub(clock::now()) {
                0 => return,
                left => pause(left.min(20 * LOOK)),
            }
        }
    }

    /// Waits until all is sent, confirmed and consumed; answers the last moment at which something moved.
    fn await_end(
        &self,
        consuming: bool,
        published: impl Fn() -> bool,
        failed: &AtomicBool,
    ) -> Moment {
        let mut last = self.counters.now();
        loop {
            let all_sent = published();
            let now = self.counters.now();
            let expected = match self.phase {
                Some(Phase::Drain) => self.options.messages.unwrap_or(0),
                _ => now.published,
            } * self.copies;
            // What was in the queues before is not known, unless it is the backlog.
            let unknown = self.options.reuse && self.phase != Some(Phase::Drain);
            let all_consumed = !consuming || unknown || now.consumed >= expected;
            if now.differs(&last) {
                last = now;
            }
            let stalled = seconds(now.at.saturating_sub(last.at)) > self.options.stall;
            if all_sent && all_consumed || stalled || failed.load(Ordering::Relaxed) {
                return last;
            }
            pause(LOOK);
        }
    }
}

fn watched(result: Result<(), Error>, failed: &AtomicBool) -> Result<(), Error> {
    if result.is_err() {
        failed.store(true, Ordering::Relaxed);
    }
    result
}

fn joined(result: thread::Result<Result<(), Error>>) -> Result<(), Error> {
    result.unwrap_or_else(|_| Err(Error::Broker("a thread ended".to_owned())))
}

/// What all connections together saw.
#[derive(Default)]
struct Figures {
    published: Published,
    received: Received,
    latency: Histogram,
    window: Option<Window>,
}

impl Figures {
    fn of(producers: &[Producer], consumers: &[Consumer]) -> Self {
        let mut all = Self::default();
        for Producer { published, .. } in producers {
            all.published.sum.join(published.sum);
            all.published.confirmed += published.confirmed;
            all.published.nacked += published.nacked;
            all.published.bad_confirms += published.bad_confirms;
            all.published
                .confirm_latency
                .add(&published.confirm_latency);
            all.published.send_lag.add(&published.send_lag);
        }
        for consumer in consumers {
            all.received.join(&consumer.received);
            all.latency.add(&consumer.latency);
        }
        all
    }

    #[allow(clippy::cast_precision_loss, reason = "figures to show")]
    fn report(
        &self,
        options: &Options,
        phase: Option<Phase>,
        verdict: Value,
        (before, after): (&Used, &Used),
    ) -> Value {
        let (from, to) = self
            .window
            .as_ref()
            .map_or_else(Default::default, |window| (window.from, window.to));
        let span = seconds(to.at.saturating_sub(from.at)).max(1e-9);
        let rate = |from: u64, to: u64| round(to.saturating_sub(from) as f64 / span, 1);
        let (published, consumed) = (self.published.sum.count, self.received.sum.count);
        let broker = options
            .pid
            .map(|_| after.broker.report(&before.broker, published, consumed));
        json!({
            "phase": phase.map(|phase| format!("{phase:?}").to_lowercase()),
            "measured_s": round(span, 3),
            "published_per_s": rate(from.published, to.published),
            "confirmed_per_s": rate(from.confirmed, to.confirmed),
            "consumed_per_s": rate(from.consumed, to.consumed),
            "published": published,
            "confirmed": self.published.confirmed,
            "nacked": self.published.nacked,
            "bad_confirms": self.published.bad_confirms,
            "consumed": consumed,
            "latency_us": self.latency.report(),
            "confirm_latency_us": self.published.confirm_latency.report(),
            "send_lag_us": self.published.send_lag.report(),
            "verify": verdict,
            "broker": broker,
            "client_cpu_s": round(after.client.cpu_since(&before.client), 3),
            "machine_cpu_s": round(after.machine - before.machine, 2),
            "disk_mb": options.data_dir.as_deref().map(|path| usage::megabytes(usage::disk_bytes(path))),
        })
    }
}
