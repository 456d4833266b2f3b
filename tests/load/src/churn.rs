//! Opening and closing one thing after another, on several connections at once.

use std::thread;

use leveret_codec::protocol::queue;
use leveret_codec::{FieldTable, shorten};
use serde_json::json;

use crate::clock::{self, nanoseconds, seconds};
use crate::connection::{Connection, SMALL};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::options::{Churn, Options};
use crate::report;
use crate::usage::{Usage, round};

/// Opens and closes for `--time` seconds.
#[allow(clippy::cast_precision_loss, reason = "figures to show")]
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let server = Connection::open(options, SMALL)?;
    let usage = || options.pid.map(Usage::of).unwrap_or_default();
    let before = usage();
    let start = clock::now();
    let end = start + nanoseconds(options.time);
    let mut latency = Histogram::default();
    thread::scope(|scope| {
        let one = |number| scope.spawn(move || Opener::open(options, number)?.run(end));
        let all: Vec<_> = (0..options.producers).map(one).collect();
        for thread in all {
            let result = thread.join();
            latency
                .add(&result.unwrap_or_else(|_| Err(Error::Broker("a thread ended".to_owned())))?);
        }
        Ok::<(), Error>(())
    })?;
    let elapsed = seconds(clock::now() - start);
    let after = usage();
    let count = latency.count();
    let figures = json!({
        "churn": format!("{:?}", options.churn).to_lowercase(),
        "operations": count,
        "operations_per_s": round(count as f64 / elapsed, 1),
        "latency_us": latency.report(),
        "broker": options.pid.map(|_| after.report(&before, count, 0)),
    });
    report::print(options, &server.server, figures);
    server.close()
}

/// One of the connections, and the names it uses.
struct Opener<'a> {
    options: &'a Options,
    connection: Option<Connection>,
    queue: String,
    exchange: String,
}

impl<'a> Opener<'a> {
    fn open(options: &'a Options, number: usize) -> Result<Self, Error> {
        let mut opener = Self {
            options,
            connection: None,
            queue: format!("{}.churn{number}", options.prefix),
            exchange: format!("{}.churned{number}", options.prefix),
        };
        if options.churn != Churn::Connection {
            let mut connection = Connection::open(options, SMALL)?;
            if options.churn != Churn::Channel {
                connection.open_channel()?;
            }
            if options.churn == Churn::Binding {
                connection.declare_queue(opener.declaration())?;
                let durable = options.durable_queues();
                connection.declare_exchange(&opener.exchange, "topic", durable)?;
            }
            opener.connection = Some(connection);
        }
        Ok(opener)
    }

    fn declaration(&self) -> queue::Declare {
        queue::Declare {
            queue: shorten(&self.queue),
            passive: false,
            durable: self.options.durable_queues(),
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: self.options.queue_arguments(),
        }
    }

    fn run(mut self, end: u64) -> Result<Histogram, Error> {
        let mut latency = Histogram::default();
        let mut begun = clock::now();
        while begun < end {
            self.once()?;
            let now = clock::now();
            latency.record(now - begun);
            begun = now;
        }
        if let Some(mut connection) = self.connection {
            if self.options.churn == Churn::Binding {
                connection.delete_queue(&self.queue)?;
                connection.delete_exchange(&self.exchange)?;
            }
            connection.close()?;
        }
        Ok(latency)
    }

    fn once(&mut self) -> Result<(), Error> {
        let declaration = self.declaration();
        let Some(connection) = &mut self.connection else {
            return Connection::open_with_channel(self.options, SMALL)?.close();
        };
        match self.options.churn {
            Churn::Connection => Ok(()),
            Churn::Channel => {
                connection.open_channel()?;
                connection.close_channel()
            }
            Churn::Queue => {
                connection.declare_queue(declaration)?;
                connection.delete_queue(&self.queue)
            }
            Churn::Binding => {
                let (queue, exchange) = (shorten(&self.queue), shorten(&self.exchange));
                connection.bind(queue::Bind {
                    queue: queue.clone(),
                    exchange: exchange.clone(),
                    routing_key: "churned.*.#".into(),
                    nowait: false,
                    arguments: FieldTable::default(),
                })?;
                connection.unbind(queue::Unbind {
                    queue,
                    exchange,
                    routing_key: "churned.*.#".into(),
                    arguments: FieldTable::default(),
                })
            }
        }
    }
}
