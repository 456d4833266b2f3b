//! Messages that were found to be damaged while the store ran: told in the log, and noted in a file, so that `verify`
//! can list them when they are long gone. Owns that file.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret_store_api::{LogId, Sequence};
use parking_lot::Mutex;

use crate::files::{Files, OpenMode};

/// What is noted beyond this is only logged.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// So many messages are remembered, each to be told once.
const KNOWN_MAX: usize = 1 << 16;

/// A message that cannot be read.
pub(super) struct Aside {
    pub(super) log: LogId,
    pub(super) sequence: Sequence,
    /// The file in which it should be …
    pub(super) path: PathBuf,
    /// … somewhere behind this place.
    pub(super) offset: u32,
    /// It is not what was written. Otherwise the system refused to read it.
    pub(super) is_lasting: bool,
}

/// All of them.
pub(crate) struct SetAside {
    files: Arc<dyn Files>,
    path: PathBuf,
    known: Mutex<HashSet<(LogId, Sequence)>>,
}

impl SetAside {
    pub(super) fn new(files: Arc<dyn Files>, directory: &Path) -> Self {
        SetAside {
            files,
            path: path_in(directory),
            known: Mutex::default(),
        }
    }

    /// Tells of those that were not told of before, which all lie in one place.
    pub(super) fn note(&self, found: &[Aside]) {
        let mut known = self.known.lock();
        let mut lines = String::new();
        let mut new = 0;
        for aside in found {
            if known.len() >= KNOWN_MAX || known.insert((aside.log, aside.sequence)) {
                new += 1;
                if aside.is_lasting {
                    let Aside {
                        log,
                        sequence,
                        path,
                        offset,
                        ..
                    } = aside;
                    // Writing to a string does not fail.
                    let _ = writeln!(
                        lines,
                        "{}, offset {offset}: log {}, message {}",
                        path.display(),
                        log.0,
                        sequence.0
                    );
                }
            }
        }
        let Some(first) = found.first().filter(|_| new > 0) else {
            return;
        };
        tracing::error!(
            file = %first.path.display(),
            offset = first.offset,
            log = first.log.0,
            first = first.sequence.0,
            messages = new,
            why = if first.is_lasting { "not what was written" } else { "the system refuses to read it" },
            "damaged messages are set aside"
        );
        if let Err(error) = self.write(&lines) {
            tracing::warn!(file = %self.path.display(), %error, "cannot note what was set aside");
        }
    }

    fn write(&self, lines: &str) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let file = self.files.open(&self.path, OpenMode::Create)?;
        let end = file.length()?;
        if end >= FILE_BYTES_MAX {
            return Ok(());
        }
        file.write_at(&mut [IoSlice::new(lines.as_bytes())], end, true)
    }
}

pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join("damaged")
}

/// What was noted, one line for each message.
pub(super) fn noted(files: &dyn Files, directory: &Path) -> io::Result<Vec<String>> {
    let file = match files.open(&path_in(directory), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.length()?.min(2 * FILE_BYTES_MAX)).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0)?;
    let text = String::from_utf8_lossy(bytes.get(..read).unwrap_or_default());
    Ok(text.lines().map(str::to_owned).collect())
}
