//! Log lines to standard error.

use std::io::{self, IsTerminal};
use std::panic;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::values::{LogFilter, LogFormat};

/// Installs the log for the whole process; panics are logged in the same form. The first call counts.
pub(crate) fn start(filter: &LogFilter, format: LogFormat) {
    let filter = EnvFilter::builder().parse_lossy(&filter.0);
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let installed = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if installed.is_ok() {
        panic::set_hook(Box::new(|panic| {
            let thread = std::thread::current()
                .name()
                .unwrap_or("unnamed")
                .to_owned();
            tracing::error!(thread, %panic, "panicked");
        }));
    }
}
