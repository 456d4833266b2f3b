//! The leveret binary: sockets, signals, configuration and the clock.
//!
//! The only async crate, and the only one that reads a clock or knows the operating system. What the bytes on a socket
//! mean is `leveret-session`'s business, what they ask for `leveret-broker`'s; what a file holds is `leveret-store`'s.

mod alarm;
pub mod args;
mod background;
mod clock;
pub mod config;
mod connection;
mod connections;
mod deadlines;
mod definitions;
mod descriptors;
mod error;
mod hints;
mod listener;
mod log;
mod lookout;
mod management;
mod mappings;
mod memory;
#[cfg(feature = "otel")]
mod otlp;
mod pager;
mod readiness;
mod serve;
mod shared;
mod shutdown;
mod similar;
mod steps;
mod store;
mod store_commands;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;

pub use error::{DefinitionsError, ServeError, StartError};

use args::{Cli, Command, ServeOptions};
use config::Config;

/// The broker did not start; nothing was changed.
const EXIT_NOT_STARTED: u8 = 1;
/// The broker ran and had to stop, or a check found damage.
const EXIT_FAILED: u8 = 2;
/// No command was given where one is needed; the code that clap's programs have for that.
const EXIT_NO_COMMAND: u8 = 2;

/// Runs the command line `arguments`, the program's name first, and returns the process's exit code: 0 after help or
/// an orderly stop, 1 if the command could not be started, 2 if the broker failed while it ran or a check found damage.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let cli = match args::parse(arguments.clone()) {
        Ok(cli) => cli,
        // A command without the one that must follow: clap lists those.
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            drop(help.print());
            return ExitCode::from(EXIT_NO_COMMAND);
        }
        Err(error) if error.use_stderr() => {
            let named = args::ready_file(&arguments, std::env::var_os("LEVERET_READY_FILE"));
            named.as_deref().map(forget_earlier_run);
            return report(&ServeError::Start(StartError::Arguments(hints::one_line(
                &error,
            ))));
        }
        Err(help) => {
            drop(help.print());
            return ExitCode::SUCCESS;
        }
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn dispatch(cli: Cli) -> Result<(), ServeError> {
    let Cli {
        serve: outer,
        command,
    } = cli;
    let options = match command {
        Some(Command::Store { command }) => return store_commands::run(&command),
        None => outer,
        Some(Command::Serve(inner)) => ServeOptions {
            config: inner.config.or(outer.config),
            settings: inner.settings.or(outer.settings),
        },
    };
    let named = options.settings.ready_file.as_deref();
    named.map(forget_earlier_run);
    let config =
        Config::load(options, &|name| std::env::var(name).ok()).map_err(StartError::from)?;
    // The file of the configuration may name it.
    config.ready_file.as_deref().map(forget_earlier_run);
    serve::serve(config)
}

/// Whatever a start fails of, the ready file of an earlier run is gone by then. One that cannot be removed stops the
/// start later.
fn forget_earlier_run(ready_file: &Path) {
    drop(readiness::remove_stale(ready_file));
}

/// One line on standard error, and the exit code.
fn report(error: &ServeError) -> ExitCode {
    log::last_words(format!("leveret: {error}\n"));
    match error {
        ServeError::Start(_) => ExitCode::from(EXIT_NOT_STARTED),
        ServeError::StoreFailed(_)
        | ServeError::Internal(_)
        | ServeError::Damaged { .. }
        | ServeError::Definitions { .. } => ExitCode::from(EXIT_FAILED),
    }
}
