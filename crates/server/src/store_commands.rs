//! `leveret store …`: looks after a data directory while no broker runs on it.

use std::io::{self, Write};
use std::path::Path;

use leveret_broker::{discard_definitions, examine_definitions};
use leveret_store::OpenError;

use crate::args::StoreCommand;
use crate::config::Storage;
use crate::definitions::wait_until_durable;
use crate::error::{ServeError, StartError};
use crate::store::OpenStore;

/// What helps where a start refuses a store.
const ADVICE_RECOVER: &str = "a start refuses it: restore it from a backup, or start once with --recover to go on without what is unreadable";

/// Runs one of the tasks and says on standard output what it found.
pub(crate) fn run(command: &StoreCommand) -> Result<(), ServeError> {
    match command {
        StoreCommand::Verify { directory } => verify(directory),
        StoreCommand::Rebuild { directory } => rebuild(directory),
        StoreCommand::DiscardDefinitions { directory, named } => discard(directory, named),
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
    let unreadable = found.problems.len() as u64 - found.damaged;
    let unusable = examine_definitions(found.definitions);
    let mut advice = Vec::new();
    if found.is_refused {
        advice.push(ADVICE_RECOVER);
    } else if unreadable > 0 {
        advice
            .push("a start does not need what is unreadable in the journal; `store rebuild` would");
    }
    if found.damaged > 0 {
        advice.push("a start sets damaged messages aside and delivers the others");
    }
    let told = found
        .set_aside
        .iter()
        .map(|line| format!("set aside before: {line}"));
    let summary: Vec<String> = std::iter::once(summary).chain(told).collect();
    conclude(
        directory,
        &summary,
        &found.problems,
        &unusable,
        &advice.join("; "),
    )
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
    let advice = "the index was made without it; a start goes on with what was found";
    conclude(directory, &[summary], &made.problems, &unusable, advice)
}

/// Opens the store as a start does.
fn discard(directory: &Path, named: &[String]) -> Result<(), ServeError> {
    if !directory.join("format").is_file() {
        let path = directory.display();
        return Err(
            StartError::Store(format!("cannot open {path}: there is no store here")).into(),
        );
    }
    let store = OpenStore::open(&Storage::Directory {
        path: directory.to_owned(),
        recover: false,
        reserve: None,
    })?;
    let handle = store.handle();
    let result = discard_definitions(handle.clone(), named);
    if let Ok(discarded) = &result {
        wait_until_durable(&handle, discarded.point);
        if handle.durable_point() < discarded.point {
            return Err(ServeError::StoreFailed(format!("{:?}", handle.status())));
        }
    }
    drop(handle);
    store.close();
    let discarded = result.map_err(|error| {
        let path = directory.display();
        StartError::Store(format!(
            "{path}: {error}; `leveret store verify` lists what is"
        ))
    })?;
    let mut output = io::stdout().lock();
    let count = discarded.lines.len();
    drop(writeln!(
        output,
        "{}: discarded {count} definitions",
        directory.display()
    ));
    for line in discarded.lines {
        drop(writeln!(output, "{line}"));
    }
    Ok(())
}

fn not_open(error: OpenError) -> ServeError {
    StartError::Store(error.to_string()).into()
}

/// Prints the summary, each problem and each definition that a start would put aside on a line of its own.
fn conclude(
    directory: &Path,
    summary: &[String],
    problems: &[String],
    unusable: &[String],
    advice: &str,
) -> Result<(), ServeError> {
    let mut output = io::stdout().lock();
    for line in summary.iter().chain(problems).chain(unusable) {
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
        advice: advice.to_owned(),
    })
}
