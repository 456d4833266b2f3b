//! From flags, environment and file (low level) to one [`Config`] (high level) whose values are all legal.
//!
//! Layers, first wins: flags, `LEVERET_…` environment, `RABBITMQ_DEFAULT_…` environment, file, defaults.
//! Reads files, opens nothing else.

mod file;
mod image;
mod rabbitmq;
pub mod values;

use std::path::{Path, PathBuf};

use leveret_broker::BrokerConfig;

use crate::args::{ServeOptions, Settings};
use values::{HttpAddress, ListenAddress, LogFilter, LogFormat, Number};

/// AMQP's registered port.
const AMQP_PORT: u16 = 5672;
/// rabbitmq: the port of its management plugin
const MANAGEMENT_PORT: u16 = 15672;
/// rabbitmq: the port of its Prometheus plugin
const PROMETHEUS_PORT: u16 = 15692;
/// Where durable things go unless said otherwise.
const DATA_DIRECTORY: &str = "./leveret-data";

/// How the broker is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen for AMQP clients; never empty.
    pub listeners: Vec<ListenAddress>,
    /// Where to serve the management API.
    pub management: HttpListen,
    /// Where to serve metrics to whoever asks.
    pub prometheus: HttpListen,
    /// Where spans of traced messages are sent.
    pub otlp: Option<values::OtlpEndpoint>,
    /// Where durable things go.
    pub storage: Storage,
    /// The broker's own part.
    pub broker: BrokerConfig,
    /// Which log lines are kept.
    pub log_filter: LogFilter,
    /// The form of the log lines.
    pub log_format: LogFormat,
    /// Where to write the listeners once clients can connect.
    pub ready_file: Option<PathBuf>,
    /// What to import at start and on SIGHUP.
    pub definitions: Option<PathBuf>,
    /// Threads that serve connections.
    pub worker_threads: usize,
}

/// Where to serve something over HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HttpListen {
    /// There, if it is free: nobody asked for it.
    Usual(ListenAddress),
    /// At all of these; none of them: nowhere.
    Asked(Vec<ListenAddress>),
}

impl HttpListen {
    /// What was asked for, or the usual port.
    fn new(wanted: Option<Vec<HttpAddress>>, usual: u16) -> Self {
        let Some(wanted) = wanted else {
            return Self::Usual(ListenAddress::everywhere(usual));
        };
        let addresses = wanted.into_iter().filter_map(|address| match address {
            HttpAddress::At(address) => Some(address),
            HttpAddress::Nowhere => None,
        });
        Self::Asked(addresses.collect())
    }
}

/// Where durable things go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Storage {
    /// Nowhere: no disk is used.
    InMemory,
    /// Into a data directory.
    Directory {
        /// The directory, created if it is not there.
        path: PathBuf,
        /// Whether damage may be skipped instead of refusing to start.
        recover: bool,
        /// What is to stay free on its disk; `None`: what is usual.
        reserve: Option<values::DiskShare>,
    },
}

/// Why there is no legal configuration. Each is one line naming the thing and the mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file named by an option cannot be read.
    #[error("cannot read {what} {path}: {reason}; correct the path or its permissions")]
    Unreadable {
        /// What the file was to hold.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The configuration file holds something illegal.
    #[error("config file {path}, line {line}: {message}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The configuration file is one of RabbitMQ's.
    #[error("config file {path} is RabbitMQ's, and Leveret reads TOML: {advice}")]
    RabbitMq {
        /// Its path.
        path: PathBuf,
        /// What to write instead.
        advice: String,
    },
    /// An environment variable holds something illegal.
    #[error("environment variable {variable}: {message}")]
    Environment {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// Puts the layers together. `environment` looks up a variable that clap does not read.
    pub fn load(
        options: ServeOptions,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let mut settings = options.settings.or(image::settings(environment)?);
        if let Some(path) = &options.config {
            settings = settings.or(file::read(path)?);
        }
        Self::from_settings(settings)
    }

    fn from_settings(mut settings: Settings) -> Result<Config, ConfigError> {
        let listeners = settings.listen.take().unwrap_or_default();
        let storage = if settings.in_memory.unwrap_or(false) {
            Storage::InMemory
        } else {
            let path = settings
                .data_dir
                .take()
                .unwrap_or_else(|| DATA_DIRECTORY.into());
            Storage::Directory {
                path,
                recover: settings.recover.unwrap_or(false),
                reserve: settings.disk_reserve,
            }
        };
        Ok(Config {
            listeners: if listeners.is_empty() {
                vec![ListenAddress::everywhere(AMQP_PORT)]
            } else {
                listeners
            },
            management: HttpListen::new(settings.management_listen.take(), MANAGEMENT_PORT),
            prometheus: HttpListen::new(settings.prometheus_listen.take(), PROMETHEUS_PORT),
            otlp: settings.otlp_endpoint.take(),
            storage,
            log_filter: settings.log.take().unwrap_or_default(),
            log_format: settings.log_format.unwrap_or_default(),
            ready_file: settings.ready_file.take(),
            definitions: settings.definitions.take(),
            worker_threads: worker_threads(settings.worker_threads),
            broker: broker(settings)?,
        })
    }
}

/// The broker's part of the settings over the broker's own defaults.
fn broker(settings: Settings) -> Result<BrokerConfig, ConfigError> {
    let mut config = BrokerConfig::default();
    let set_name = |field: &mut String, name: Option<values::Name>| {
        if let Some(name) = name {
            *field = name.0;
        }
    };
    let set_memory = |field: &mut usize, size: Option<values::ByteSize>| {
        if let Some(size) = size {
            *field = usize::try_from(size.0).unwrap_or(usize::MAX);
        }
    };

    let vhosts = settings
        .default_vhost
        .into_iter()
        .chain(settings.vhosts.unwrap_or_default());
    config.vhosts = vhosts.map(|name| name.0).collect();
    let traced = settings.trace_vhosts.unwrap_or_default();
    config.traced_vhosts = traced.into_iter().map(|name| name.0).collect();
    set_name(&mut config.default_user, settings.default_user);
    if let Some(password) = settings.default_password {
        config.default_password = password;
    } else if let Some(path) = settings.default_password_file {
        config.default_password = secret(&path)?;
    }
    if let Some(names) = settings.loopback_users {
        config.loopback_users = names.0;
    }
    config.anonymous = settings.anonymous_user.map(|name| name.0);

    config.frame_max = settings
        .frame_max
        .map_or(config.frame_max, |number| number.0);
    config.channel_max = settings
        .channel_max
        .map_or(config.channel_max, Number::to_u16);
    config.heartbeat_s = settings
        .heartbeat
        .map_or(config.heartbeat_s, Number::to_u16);
    if let Some(span) = settings.handshake_timeout {
        config.handshake_timeout_ms = span.milliseconds;
    }
    config.message_bytes_max = settings
        .message_size_max
        .map_or(config.message_bytes_max, |size| size.0);
    config.store_behind_bytes = settings
        .store_behind
        .map_or(config.store_behind_bytes, |size| size.0);
    set_memory(&mut config.queue_memory_bytes, settings.queue_memory);
    set_memory(&mut config.mailbox_bytes, settings.mailbox_size);
    set_memory(&mut config.publisher_ahead_bytes, settings.publisher_ahead);
    set_memory(
        &mut config.transaction_bytes_max,
        settings.transaction_size_max,
    );
    set_memory(&mut config.assembly_bytes_max, settings.assembly_memory);
    set_memory(
        &mut config.transactions_bytes_max,
        settings.transactions_memory,
    );
    set_memory(&mut config.unacked_bytes_max, settings.unacked_memory);
    if let Some(number) = settings.dedup_producers_max {
        config.producers_max = usize::try_from(number.0).unwrap_or(usize::MAX);
    }

    config.consumer_timeout_ms = settings.consumer_timeout.map(|span| span.milliseconds);
    if let Some(action) = settings.consumer_timeout_action {
        config.consumer_timeout_action = action.0;
    }

    set_name(&mut config.product, settings.product);
    set_name(&mut config.version, settings.product_version);
    set_name(&mut config.cluster_name, settings.cluster_name);
    Ok(config)
}

/// A password kept in a file: its content without the line end.
fn secret(path: &Path) -> Result<String, ConfigError> {
    let what = "password file";
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|reason| ConfigError::Unreadable {
        what,
        path: path.to_owned(),
        reason,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn worker_threads(wanted: Option<Number<1, 1024>>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    wanted
        .and_then(|number| usize::try_from(number.0).ok())
        .unwrap_or_else(cores)
}

#[cfg(test)]
mod tests;
