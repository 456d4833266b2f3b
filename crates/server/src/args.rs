//! The command line and the `LEVERET_…` environment, as clap reads them. Owns the names of the options and their help;
//! knows no defaults (see `config`) and does nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::Deserialize;

use crate::config::values::{
    ByteSize, DiskShare, HttpAddress, ListenAddress, LogFilter, LogFormat, Name, Names, Number,
    OtlpEndpoint, Span, TimeoutAction,
};
use crate::similar::similar;

/// How the options' environment variables begin.
const PREFIX: &str = "LEVERET_";

/// What Leveret is, at the head of its help.
const ABOUT: &str = "Leveret is a message broker that takes RabbitMQ's place. It speaks AMQP 0-9-1, keeps durable \
    messages on disk and needs no configuration. Without a command it serves.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "leveret", version, about = ABOUT, long_about = ABOUT, args_override_self = true)]
pub struct Cli {
    /// Options of `serve`, which may also stand before the command or without one.
    #[command(flatten)]
    pub serve: ServeOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the broker (the default)
    Serve(Box<ServeOptions>),
    /// Look after a data directory while no broker runs on it
    Store {
        /// Which task.
        #[command(subcommand)]
        command: StoreCommand,
    },
}

/// Tasks on a data directory.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read everything in the data directory, check it, and say what is there; changes nothing
    Verify {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Make the index anew from the journal alone; nothing confirmed is lost, some messages may come twice
    Rebuild {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Remove definitions that cannot be used, for good, with the messages they keep; `verify` lists them
    DiscardDefinitions {
        /// The data directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Only the definitions of these, named as `verify` names them, such as "user 'ann'"
        #[arg(value_name = "WHAT")]
        named: Vec<String>,
    },
}

/// Where the rest of the options comes from, then the options that a file may hold too.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeOptions {
    /// Read further options from this TOML file; flags and environment go before it
    #[arg(long, value_name = "FILE", env = "LEVERET_CONFIG")]
    pub config: Option<PathBuf>,
    /// The options themselves.
    #[command(flatten)]
    pub settings: Settings,
}

macro_rules! settings {
    ($($(#[$attribute:meta])* $field:ident: $type:ty,)*) => {
        /// One layer of options: what the flags and environment say, or what the file says. Absent means "ask the
        /// next layer".
        #[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields, default)]
        pub struct Settings {
            $($(#[$attribute])* pub $field: Option<$type>,)*
        }

        impl Settings {
            /// The keys of the file.
            pub const KEYS: &[&str] = &[$(stringify!($field)),*];

            /// These options, and for those that are absent the ones of `lower`.
            #[must_use]
            pub fn or(self, lower: Settings) -> Settings {
                Settings { $($field: self.$field.or(lower.$field),)* }
            }
        }
    };
}

settings! {
    /// Listen for AMQP clients here; repeatable; port 0 picks a free one [default: 5672, on every interface]
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', env = "LEVERET_LISTEN")]
    listen: Vec<ListenAddress>,
    /// Serve the management HTTP API here; repeatable; port 0 picks a free one; none: nowhere [default: 15672, on every interface]
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', env = "LEVERET_MANAGEMENT_LISTEN")]
    management_listen: Vec<HttpAddress>,
    /// Serve metrics for Prometheus here, without a login; repeatable; port 0 picks a free one; none: nowhere [default: 15692, on every interface]
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', env = "LEVERET_PROMETHEUS_LISTEN")]
    prometheus_listen: Vec<HttpAddress>,
    /// Send spans of traced messages to this OTLP collector; needs a binary with the feature `otel`
    #[arg(long, value_name = "URL", env = "LEVERET_OTLP_ENDPOINT", hide_short_help = true)]
    otlp_endpoint: OtlpEndpoint,
    /// Keep everything durable in this directory [default: ./leveret-data]
    #[arg(long, value_name = "DIR", env = "LEVERET_DATA_DIR")]
    data_dir: PathBuf,
    /// Keep nothing: use no disk at all, whatever --data-dir says
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(), env = "LEVERET_IN_MEMORY")]
    in_memory: bool,
    /// Create this virtual host at start; repeatable
    #[arg(long = "vhost", value_name = "NAME", value_delimiter = ',', env = "LEVERET_VHOST")]
    vhosts: Vec<Name>,
    /// Copy the messages of this virtual host to its exchange amq.rabbitmq.trace; repeatable
    #[arg(long = "trace-vhost", value_name = "NAME", value_delimiter = ',', env = "LEVERET_TRACE_VHOST")]
    trace_vhosts: Vec<Name>,
    /// Which log lines to keep: error, warn, info, debug, trace, or PART=LEVEL,… [default: info]
    #[arg(long, value_name = "FILTER", env = "LEVERET_LOG")]
    log: LogFilter,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "LEVERET_LOG_FORMAT")]
    log_format: LogFormat,
    /// Once clients can connect, write the listeners to this file as JSON
    #[arg(long, value_name = "FILE", env = "LEVERET_READY_FILE")]
    ready_file: PathBuf,
    /// Import users, virtual hosts, policies, queues, … from this JSON file, as RabbitMQ exports it, at start and on SIGHUP
    #[arg(long, value_name = "FILE", env = "LEVERET_DEFINITIONS")]
    definitions: PathBuf,
    /// Open a damaged data directory, giving up only what cannot be read, and say what that was
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = BoolishValueParser::new(), env = "LEVERET_RECOVER")]
    recover: bool,

    /// The user created in a new data directory [default: guest]
    #[arg(long, value_name = "NAME", env = "LEVERET_DEFAULT_USER", help_heading = "Users")]
    default_user: Name,
    /// Its password [default: guest]
    #[arg(long, value_name = "PASSWORD", env = "LEVERET_DEFAULT_PASSWORD", hide_env_values = true, help_heading = "Users")]
    default_password: String,
    /// A file holding its password
    #[arg(long, value_name = "FILE", env = "LEVERET_DEFAULT_PASSWORD_FILE", help_heading = "Users")]
    default_password_file: PathBuf,
    /// The virtual host the default user starts with [default: /]
    #[arg(long, value_name = "NAME", env = "LEVERET_DEFAULT_VHOST", help_heading = "Users")]
    default_vhost: Name,
    /// Users who may only connect from this machine, separated by commas, or none [default: guest]
    #[arg(long, value_name = "NAMES", env = "LEVERET_LOOPBACK_USERS", help_heading = "Users")]
    loopback_users: Names,
    /// Let clients log in without a password (ANONYMOUS), as this user
    #[arg(long, value_name = "NAME", env = "LEVERET_ANONYMOUS_USER", help_heading = "Users")]
    anonymous_user: Name,

    /// Longest frame in bytes, offered to clients [default: 131072]
    #[arg(long, value_name = "BYTES", env = "LEVERET_FRAME_MAX", help_heading = "Limits", hide_short_help = true)]
    frame_max: Number<4096, 0x7fff_ffff>,
    /// Most channels on one connection, offered to clients [default: 2047]
    #[arg(long, value_name = "NUMBER", env = "LEVERET_CHANNEL_MAX", help_heading = "Limits", hide_short_help = true)]
    channel_max: Number<1, 65535>,
    /// Heartbeat interval in seconds, offered to clients; 0 is none [default: 60]
    #[arg(long, value_name = "SECONDS", env = "LEVERET_HEARTBEAT", help_heading = "Limits", hide_short_help = true)]
    heartbeat: Number<0, 65535>,
    /// Time a client has to log in [default: 10s]
    #[arg(long, value_name = "TIME", env = "LEVERET_HANDSHAKE_TIMEOUT", help_heading = "Limits", hide_short_help = true)]
    handshake_timeout: Span,
    /// Longest message body [default: 128MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_MESSAGE_SIZE_MAX", help_heading = "Limits", hide_short_help = true)]
    message_size_max: ByteSize,
    /// Memory for one queue's messages at its head, and again at its tail; the rest is on disk [default: 1MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_QUEUE_MEMORY", help_heading = "Limits", hide_short_help = true)]
    queue_memory: ByteSize,
    /// Deliveries kept ready for one connection that reads slowly [default: 512KiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_MAILBOX_SIZE", help_heading = "Limits", hide_short_help = true)]
    mailbox_size: ByteSize,
    /// How far a publisher may run ahead of a queue's consumers before it is held back [default: 1MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_PUBLISHER_AHEAD", help_heading = "Limits", hide_short_help = true)]
    publisher_ahead: ByteSize,
    /// Bytes waiting to be written to disk before publishers are held back [default: 10MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_STORE_BEHIND", help_heading = "Limits", hide_short_help = true)]
    store_behind: ByteSize,
    /// What stays free on the disk: below, publishers wait; bytes or per cent of it [default: 256MiB, or 5% if that is less, but 4MiB at least]
    #[arg(long, value_name = "SIZE|%", env = "LEVERET_DISK_RESERVE", help_heading = "Limits", hide_short_help = true)]
    disk_reserve: DiskShare,
    /// Largest transaction (tx) held in memory [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_TRANSACTION_SIZE_MAX", help_heading = "Limits", hide_short_help = true)]
    transaction_size_max: ByteSize,
    /// Memory for message bodies that are on their way, of all connections together [default: 512MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_ASSEMBLY_MEMORY", help_heading = "Limits", hide_short_help = true)]
    assembly_memory: ByteSize,
    /// Memory for open transactions (tx), of all connections together [default: 512MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_TRANSACTIONS_MEMORY", help_heading = "Limits", hide_short_help = true)]
    transactions_memory: ByteSize,
    /// Memory for messages that clients were sent and have not settled, of all connections together; beyond, the oldest are on disk only [default: 128MiB]
    #[arg(long, value_name = "SIZE", env = "LEVERET_UNACKED_MEMORY", help_heading = "Limits", hide_short_help = true)]
    unacked_memory: ByteSize,
    /// Producers (x-producer) whose numbers one exchange or queue keeps; beyond, the longest silent is forgotten [default: 100000]
    #[arg(long, value_name = "NUMBER", env = "LEVERET_DEDUP_PRODUCERS_MAX", help_heading = "Limits", hide_short_help = true)]
    dedup_producers_max: Number<1, 100_000_000>,
    /// How long a delivery may stay unacknowledged, unless its queue or consumer says otherwise [default: for ever]
    #[arg(long, value_name = "TIME", env = "LEVERET_CONSUMER_TIMEOUT", help_heading = "Limits", hide_short_help = true)]
    consumer_timeout: Span,
    /// What happens then: close its channel, or cancel its consumer alone [default: close]
    #[arg(long, value_name = "ACTION", env = "LEVERET_CONSUMER_TIMEOUT_ACTION", help_heading = "Limits", hide_short_help = true)]
    consumer_timeout_action: TimeoutAction,
    /// Threads that serve connections [default: one a core]
    #[arg(long, value_name = "NUMBER", env = "LEVERET_WORKER_THREADS", help_heading = "Limits", hide_short_help = true)]
    worker_threads: Number<1, 1024>,

    /// Product name told to clients; some choose their behaviour by it [default: RabbitMQ]
    #[arg(long, value_name = "NAME", env = "LEVERET_PRODUCT", help_heading = "Identity", hide_short_help = true)]
    product: Name,
    /// Product version told to clients [default: 3.13.7]
    #[arg(long, value_name = "VERSION", env = "LEVERET_PRODUCT_VERSION", help_heading = "Identity", hide_short_help = true)]
    product_version: Name,
    /// Cluster name told to clients; leveret@localhost unless given
    #[arg(long, value_name = "NAME", env = "LEVERET_CLUSTER_NAME", help_heading = "Identity", hide_short_help = true)]
    cluster_name: Name,
}

/// Reads the command line. The error is one line of text; help and version are errors of clap's own kind, to be
/// printed as they are.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments)
}

/// The ready file that is named where the command line cannot be understood otherwise: there, the last time, or in the
/// environment.
pub(crate) fn ready_file(arguments: &[OsString], environment: Option<OsString>) -> Option<PathBuf> {
    const FLAG: &str = "--ready-file";
    let joined = format!("{FLAG}=");
    let mut found = environment;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == FLAG {
            found = arguments.next().cloned().or(found);
        } else if let Some(path) = argument.as_bytes().strip_prefix(joined.as_bytes()) {
            found = Some(OsStr::from_bytes(path).to_owned());
        }
    }
    found.filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Tells of variables that look as if they were meant for an option and are none. Others that begin like ours may be
/// anybody's, such as those that Kubernetes sets for a service.
pub(crate) fn warn_of_misspelt_variables() {
    let names = std::env::vars_os().map(|(name, _)| name);
    for (variable, meant) in misspelt(names) {
        tracing::warn!(
            variable,
            "unknown environment variable; did you mean {meant}?"
        );
    }
}

fn misspelt(names: impl IntoIterator<Item = OsString>) -> Vec<(String, String)> {
    let command = Cli::command();
    let known: Vec<&str> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    names
        .filter(|name| !known.contains(&name.as_str()))
        .filter_map(|name| {
            let given = name.strip_prefix(PREFIX)?;
            let options = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
            let meant = format!("{PREFIX}{}", similar(given, options)?);
            Some((name, meant))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hints::one_line;

    fn cli(arguments: &[&str]) -> Result<Cli, String> {
        let arguments = std::iter::once("leveret").chain(arguments.iter().copied());
        parse(arguments.map(Into::into)).map_err(|error| one_line(&error))
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_variable_and_its_line_in_the_documentation() {
        let documentation = include_str!("../../../docs/CONFIGURATION.md");
        for argument in Cli::command().get_arguments() {
            let Some(long) = argument
                .get_long()
                .filter(|long| !["help", "version"].contains(long))
            else {
                continue;
            };
            let variable = format!("LEVERET_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(variable.as_str())
            );
            for name in [format!("`--{long}"), format!("`{variable}`")] {
                assert!(
                    documentation.contains(&name),
                    "docs/CONFIGURATION.md does not mention {name}"
                );
            }
        }
    }

    #[test]
    fn options_may_stand_with_or_without_serve() {
        for arguments in [
            &["--listen", ":1", "--in-memory"][..],
            &["serve", "--listen", ":1", "--in-memory"],
        ] {
            let cli = cli(arguments).unwrap();
            let settings = match cli.command {
                Some(Command::Serve(options)) => options.settings.or(cli.serve.settings),
                _ => cli.serve.settings,
            };
            assert_eq!(settings.listen, Some(vec![":1".parse().unwrap()]));
            assert_eq!(settings.in_memory, Some(true));
        }
    }

    #[test]
    fn store_commands_take_a_directory() {
        let command = cli(&["store", "verify", "/somewhere"]).unwrap().command;
        assert!(matches!(
            command,
            Some(Command::Store {
                command: StoreCommand::Verify { .. }
            })
        ));
        assert!(cli(&["store", "rebuild"]).unwrap_err().contains("<DIR>"));
    }

    #[test]
    fn a_bad_value_gives_one_line_with_the_option_and_the_mend() {
        let error = cli(&["--frame-max", "12"]).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
        assert!(error.contains("--frame-max"), "{error}");
        assert!(
            error.contains("a whole number from 4096 to 2147483647"),
            "{error}"
        );
        assert!(cli(&["--lisen", ":1"]).unwrap_err().contains("--lisen"));
    }

    #[test]
    fn the_ready_file_is_found_on_a_command_line_with_mistakes() {
        let found = |arguments: &[&str], environment: Option<&str>| {
            let arguments: Vec<_> = arguments.iter().map(OsString::from).collect();
            let found = ready_file(&arguments, environment.map(OsString::from));
            found.map(|path| path.to_str().unwrap().to_owned())
        };
        let path = Some("x.json".to_owned());
        let apart = [
            "serve",
            "--lisen",
            ":1",
            "--ready-file",
            "x.json",
            "-p",
            "1",
        ];
        assert_eq!(found(&apart, None), path);
        assert_eq!(found(&apart, Some("y.json")), path);
        assert_eq!(found(&["--ready-file=x.json", "--heartbeat"], None), path);
        assert_eq!(
            found(&["--ready-file=y.json", "--ready-file", "x.json"], None),
            path
        );
        assert_eq!(found(&["--lisen", ":1"], Some("x.json")), path);
        assert_eq!(found(&["--lisen", ":1", "--ready-file"], None), None);
        assert_eq!(found(&["--ready-file="], None), None);
    }

    #[test]
    fn misspelt_variables_are_told_from_those_of_others() {
        let names = [
            "LEVERET_LISEN",
            "LEVERET_LISTEN",
            "LEVERET_PORT_5672_TCP_ADDR",
            "LEVERET_SERVICE_HOST",
            "HOME",
        ];
        let found = misspelt(names.map(Into::into));
        assert_eq!(
            found,
            [("LEVERET_LISEN".to_owned(), "LEVERET_LISTEN".to_owned())]
        );
    }
}
