//! Log lines to standard error: formatted by who has something to tell, limited in rate, written by a thread of their
//! own, so that neither a reader who does not read nor a full disk is felt by anybody else.

mod limit;
mod output;

use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::panic;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::Clock;
use crate::config::values::{LogFilter, LogFormat};
use limit::Limit;
use output::Output;

/// How long the process waits for its last lines to be taken.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a thread that panics does.
const PANIC_PATIENCE: Duration = Duration::from_millis(100);

/// The log of the process.
pub(crate) struct Log {
    output: Output,
    limit: Limit,
}

impl Log {
    /// Installs it; panics are logged in the same form. The first one counts.
    pub(crate) fn start(filter: &LogFilter, format: LogFormat, clock: Clock) -> io::Result<Self> {
        let filter = EnvFilter::builder().parse_lossy(&filter.0);
        let limit = Limit::new(clock);
        let output = Output::start(
            "leveret-log",
            output::descriptor(io::stderr())?,
            limit.clone(),
        )?;
        let writer = output.clone();
        let own = limit.clone();
        let lines = fmt()
            .with_env_filter(filter)
            .with_writer(move || Line(writer.clone()))
            .log_internal_errors(false)
            .with_ansi(io::stderr().is_terminal());
        let installed = match format {
            LogFormat::Text => lines.finish().with(limit).try_init(),
            LogFormat::Json => lines
                .json()
                .flatten_event(true)
                .finish()
                .with(limit)
                .try_init(),
        };
        if installed.is_ok() {
            let output = output.clone();
            panic::set_hook(Box::new(move |panic| {
                let thread = std::thread::current()
                    .name()
                    .unwrap_or("unnamed")
                    .to_owned();
                tracing::error!(thread, %panic, "panicked");
                output.flush(PANIC_PATIENCE);
            }));
        }
        Ok(Self { output, limit: own })
    }
}

/// Nobody waits for lines until the process ends; then for a moment.
impl Drop for Log {
    fn drop(&mut self) {
        self.limit.end();
        self.output.flush(PATIENCE);
    }
}

/// The way of one line.
struct Line(Output);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line to standard error where there is no log, or not any more.
pub(crate) fn last_words(line: String) {
    write_line(output::descriptor(io::stderr()), line);
}

/// Writes a line to standard output; nobody reading it is no reason to stop.
pub(crate) fn announce(line: String) {
    write_line(output::descriptor(io::stdout()), line);
}

/// Without a descriptor or a thread for it there is nobody who could be told.
fn write_line(descriptor: io::Result<OwnedFd>, line: String) {
    drop(descriptor.and_then(|it| output::write_line(it, line, PATIENCE)));
}
