//! Reads the TOML file. Its keys are the flags' names with underscores; an unknown key is an error.

use std::path::Path;

use super::{ConfigError, rabbitmq};
use crate::args::Settings;
use crate::similar::similar;

/// The options in the file at `path`.
pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let what = "config file";
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|reason| ConfigError::Unreadable {
        what,
        path: path.to_owned(),
        reason,
    })?;
    toml::from_str(&text).map_err(|error| {
        if let Some(advice) = rabbitmq::advice(path, &text, memory_bytes()) {
            return ConfigError::RabbitMq {
                path: path.to_owned(),
                advice,
            };
        }
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.bytes().take(offset);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        let message =
            unknown_key(error.message()).unwrap_or_else(|| error.message().replace('\n', " "));
        ConfigError::File {
            path: path.to_owned(),
            line,
            message,
        }
    })
}

/// How much memory the machine has.
fn memory_bytes() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = table
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Says it in fewer words than serde, which lists every key.
fn unknown_key(message: &str) -> Option<String> {
    let (key, _) = message.strip_prefix("unknown field `")?.split_once('`')?;
    Some(match similar(key, Settings::KEYS.iter().copied()) {
        Some(meant) => format!("unknown key `{key}`; did you mean `{meant}`?"),
        None => format!(
            "unknown key `{key}`; `leveret --help` lists all options, whose keys have _ for -"
        ),
    })
}
