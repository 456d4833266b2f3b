//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use leveret_codec::{AMQPValue, FieldTable};

use crate::stamp;

/// What kind of run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Publish and consume as fast as the broker allows
    Throughput,
    /// Publish at --rate; latencies count from the time a message was to be sent
    Latency,
    /// Publish --messages with no consumer, then drain them
    Backlog,
    /// Open and close one thing after another
    Churn,
    /// Open --connections, each with a channel, a queue and a consumer, and hold them
    Idle,
    /// Wait until the broker completes a handshake (and holds --messages)
    Ready,
    /// Delete the queues and the exchange of a run that was told to --keep them
    Delete,
}

/// Where messages are published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExchangeKind {
    /// The default exchange: producer i publishes to queue i mod Q
    Default,
    /// By routing key
    Direct,
    /// To all queues
    Fanout,
    /// By pattern
    Topic,
    /// By header
    Headers,
}

impl ExchangeKind {
    /// AMQP's name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// The parts of a backlog run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Only fill the queues
    Publish,
    /// Only empty them
    Drain,
    /// One after the other
    Both,
}

/// What a churn run opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Churn {
    /// Connections, each with a channel
    Connection,
    /// Channels
    Channel,
    /// Queues
    Queue,
    /// Bindings, to a queue and an exchange that stay
    Binding,
}

/// Load generator for AMQP 0-9-1 brokers; prints one JSON line a run.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Address of the broker
    #[arg(default_value = "127.0.0.1:5672")]
    pub(crate) broker: String,
    #[arg(long, default_value = "guest", help = "User name")]
    pub(crate) user: String,
    #[arg(long, default_value = "guest", help = "Password")]
    pub(crate) password: String,
    #[arg(long, default_value = "/", help = "Virtual host")]
    pub(crate) vhost: String,
    #[arg(
        long,
        value_enum,
        default_value = "throughput",
        help = "What kind of run"
    )]
    pub(crate) mode: Mode,

    /// Publishing connections
    #[arg(long, default_value_t = 1)]
    pub(crate) producers: usize,
    /// Consumers; consumer i consumes queue i mod Q
    #[arg(long, default_value_t = 1)]
    pub(crate) consumers: usize,
    /// Connections of the consumers; one each when absent
    #[arg(long)]
    pub(crate) consumer_connections: Option<usize>,
    /// Queues
    #[arg(long, default_value_t = 1)]
    pub(crate) queues: usize,
    /// Each producer publishes to all queues in turn, through the default exchange
    #[arg(long)]
    pub(crate) spread: bool,
    /// Bytes of a body, at least 16
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Seconds to measure; not used with --messages
    #[arg(long, default_value_t = 10.0)]
    pub(crate) time: f64,
    /// Seconds before that which are not measured
    #[arg(long, default_value_t = 0.0)]
    pub(crate) warmup: f64,
    /// Messages to publish in all, instead of --time
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// Messages a second over all producers
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Most messages a second that one consuming connection takes
    #[arg(long)]
    pub(crate) consume_rate: Option<f64>,

    /// Persistent messages and durable queues
    #[arg(long)]
    pub(crate) persistent: bool,
    /// Durable queues
    #[arg(long)]
    pub(crate) durable: bool,
    /// Most unconfirmed messages of a producer; 0 is without confirms
    #[arg(long, default_value_t = 0)]
    pub(crate) confirms: usize,
    /// Consume without acknowledgements
    #[arg(long)]
    pub(crate) auto_ack: bool,
    /// Most unacknowledged messages of a consumer; 0 is no limit
    #[arg(long, default_value_t = 0)]
    pub(crate) prefetch: u16,
    /// Acknowledge every so many messages at once
    #[arg(long, default_value_t = 1)]
    pub(crate) multi_ack: u64,

    #[arg(
        long,
        value_enum,
        default_value = "default",
        help = "Type of the exchange"
    )]
    pub(crate) exchange: ExchangeKind,
    /// Bindings in all, spread over the queues; producers use as many routing keys in turn
    #[arg(long)]
    pub(crate) bindings: Option<usize>,
    /// An argument of the queues, NAME=VALUE; repeatable
    #[arg(long = "queue-args", value_parser = argument)]
    pub(crate) queue_args: Vec<(String, AMQPValue)>,
    /// Most bytes of one write
    #[arg(long, default_value_t = 65_536)]
    pub(crate) batch: usize,

    /// Part of a backlog run
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) phase: Phase,
    /// What a churn run opens and closes, on --producers connections at once
    #[arg(long, value_enum, default_value = "connection")]
    pub(crate) churn: Churn,
    /// Connections of an idle run
    #[arg(long, default_value_t = 1000)]
    pub(crate) connections: usize,
    /// Heartbeat in seconds, for idle runs; 0 is none
    #[arg(long, default_value_t = 0)]
    pub(crate) heartbeat: u16,

    /// Process of the broker, whose CPU time, memory and wake-ups are told
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Data directory of the broker, whose size is told
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Seconds without a delivery after which the rest counts as lost
    #[arg(long, default_value_t = 10.0)]
    pub(crate) stall: f64,
    /// Use the queues as they are: what is in them already is consumed too, so that nothing is said about losses
    #[arg(long)]
    pub(crate) reuse: bool,
    /// Leave queues and exchange in place
    #[arg(long)]
    pub(crate) keep: bool,
    /// Begin of the names of queues and exchanges
    #[arg(long, default_value = "load")]
    pub(crate) prefix: String,
}

/// `NAME=VALUE`, where a value may be a number, `true`, `false` or a text.
fn argument(text: &str) -> Result<(String, AMQPValue), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) => AMQPValue::LongLongInt(number),
        (_, Ok(flag)) => AMQPValue::Boolean(flag),
        _ => AMQPValue::LongString(value.into()),
    };
    Ok((name.to_owned(), value))
}

impl Options {
    /// Refuses what would hang or measure something else.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let too_few_consumers = self.consumers > 0 && self.consumers < self.queues;
        let never_acknowledges =
            self.prefetch > 0 && self.multi_ack > u64::from(self.prefetch) && !self.auto_ack;
        let wrong = [
            (
                self.size < stamp::LENGTH,
                "--size is 16 at least: a body begins with a stamp",
            ),
            (self.queues == 0, "--queues is 1 at least"),
            (
                self.producers == 0 || self.producers > 65_535,
                "--producers is 1 to 65535",
            ),
            (self.multi_ack == 0, "--multi-ack is 1 at least"),
            (
                never_acknowledges,
                "--multi-ack above --prefetch would never acknowledge",
            ),
            (
                too_few_consumers,
                "fewer consumers than queues would leave messages behind",
            ),
            (
                self.consumer_connections == Some(0),
                "--consumer-connections is 1 at least",
            ),
            (
                self.spread && self.exchange != ExchangeKind::Default,
                "--spread is for the default exchange",
            ),
            (
                self.mode == Mode::Backlog && self.messages.is_none(),
                "--mode backlog needs --messages",
            ),
            (
                self.mode == Mode::Latency && self.rate.is_none(),
                "--mode latency needs --rate",
            ),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }

    /// Whether queues and exchanges are durable.
    pub(crate) fn durable_queues(&self) -> bool {
        let replicated = self.queue_args.iter().any(|(name, value)| {
            let kind = value
                .as_long_string()
                .map(|kind| kind.as_bytes().to_owned());
            name == "x-queue-type" && kind.is_some_and(|kind| kind != b"classic")
        });
        self.durable || self.persistent || replicated
    }

    /// The arguments of the queues.
    pub(crate) fn queue_arguments(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in &self.queue_args {
            table.insert(leveret_codec::shorten(name), value.clone());
        }
        table
    }

    /// How many of all messages producer `number` sends, where a run is bounded by their count.
    pub(crate) fn share(&self, number: usize) -> Option<u64> {
        let (number, producers) = (number as u64, self.producers as u64);
        let share = |total| total / producers + u64::from(number < total % producers);
        self.messages.map(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Options {
        Options::parse_from(format!("load {arguments}").split(' '))
    }

    #[test]
    fn what_would_hang_is_refused() {
        for wrong in [
            "--size 15",
            "--queues 2",
            "--prefetch 5 --multi-ack 10",
            "--mode backlog",
            "--mode latency",
        ] {
            assert!(parse(wrong).check().is_err(), "{wrong}");
        }
        assert_eq!(parse("--queues 2 --consumers 2").check(), Ok(()));
    }

    #[test]
    fn the_shares_add_up() {
        let options = parse("--producers 3 --messages 10");
        let shares: Vec<_> = (0..3).filter_map(|number| options.share(number)).collect();
        assert_eq!(shares, [4, 3, 3]);
    }

    #[test]
    fn quorum_queues_are_durable() {
        assert!(parse("--queue-args x-queue-type=quorum").durable_queues());
        assert!(!parse("--queue-args x-max-length=5").durable_queues());
    }
}
