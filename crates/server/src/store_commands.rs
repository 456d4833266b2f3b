//! `leveret store …`: looks after a data directory while no broker runs on it.

use std::io::{self, Write};
use std::path::Path;

use leveret_broker::examine_definitions;
use leveret_store::OpenError;

use crate::args::StoreCommand;
use crate::error::{ServeError, StartError};

/// Runs one of the tasks and says on standard output what it found.
pub(crate) fn run(command: &StoreCommand) -> Result<(), ServeError> {
    match command {
        StoreCommand::Verify { directory } => verify(directory),
        StoreCommand::Rebuild { directory } => rebuild(directory),
    }
}

fn verify(directory: &Path) -> Result<(), ServeError> {
    let found = leveret_store::verify(directory).map_err(not_open)?;
    let summary = format!(
        "{}: {} segments, {} definitions, {} logs, {} messages, {} bytes",
        directory.display(),
        found.segments,
        found.definitions.len(),
        found.logs,
        found.messages,
        found.bytes,
    );
    let unusable = examine_definitions(found.definitions);
    conclude(directory, &summary, &found.problems, &unusable)
}

fn rebuild(directory: &Path) -> Result<(), ServeError> {
    let made = leveret_store::rebuild(directory).map_err(not_open)?;
    let summary = format!(
        "{}: rebuilt from {} records: {} definitions, {} logs, {} messages",
        directory.display(),
        made.records,
        made.definitions.len(),
        made.logs,
        made.messages,
    );
    let unusable = examine_definitions(made.definitions);
    conclude(directory, &summary, &made.problems, &unusable)
}

fn not_open(error: OpenError) -> ServeError {
    StartError::Store(error.to_string()).into()
}

/// Prints the summary, each problem and each definition that a start would put aside on a line of its own.
fn conclude(
    directory: &Path,
    summary: &str,
    problems: &[String],
    unusable: &[String],
) -> Result<(), ServeError> {
    let mut output = io::stdout().lock();
    let lines = problems.iter().chain(unusable).map(String::as_str);
    for line in std::iter::once(summary).chain(lines) {
        drop(writeln!(output, "{line}"));
    }
    if problems.is_empty() && unusable.is_empty() {
        return Ok(());
    }
    if problems.is_empty() {
        return Err(ServeError::Definitions {
            path: directory.to_owned(),
            count: unusable.len(),
        });
    }
    Err(ServeError::Damaged {
        path: directory.to_owned(),
        problems: problems.len(),
    })
}
