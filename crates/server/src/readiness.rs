//! Tells the outside that clients can connect: one line on standard output, and a file for programs.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::listener::Listener;
use crate::log;

/// Prints the line that people, scripts and test tools wait for. Nobody reading it is no reason to stop.
pub(crate) fn announce(listeners: &[Listener]) {
    let urls = listeners
        .iter()
        .map(Listener::shown)
        .collect::<Vec<_>>()
        .join(" ");
    log::announce(format!(
        "Leveret {}: Server startup complete; {urls}\n",
        env!("CARGO_PKG_VERSION")
    ));
}

/// The file that lists the listeners, removed when the broker stops in order. It is locked as long as the broker runs,
/// however that ends: so one that an earlier run left is told from one that counts.
pub(crate) struct ReadyFile {
    path: PathBuf,
    file: File,
}

/// What will be the ready file, under another name.
pub(crate) struct ReadyDraft {
    path: PathBuf,
    draft: PathBuf,
    file: File,
}

/// Removes the ready file that an earlier run left, so that nobody takes it for ours. Answers false, and leaves it
/// alone, if it is that of a broker that runs.
pub(crate) fn remove_stale(path: &Path) -> Result<bool, StartError> {
    let removed = try_remove_stale(path);
    removed.map_err(|reason| StartError::ReadyFile {
        path: path.to_owned(),
        reason,
    })
}

/// The same, where it has to be gone for the start to go on.
pub(crate) fn claim(path: &Path) -> Result<(), StartError> {
    if remove_stale(path)? {
        Ok(())
    } else {
        let path = path.to_owned();
        Err(StartError::ReadyFileInUse { path })
    }
}

fn try_remove_stale(path: &Path) -> io::Result<bool> {
    // A name may be anything's, also of what would not open before somebody writes.
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let gone = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(true),
        _ => Err(error),
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) => return gone(error),
    };
    // Where files cannot be locked, nothing speaks for a broker that runs.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Ok(false);
    }
    if !is_at(&file, path) {
        // Another has come in its place meanwhile.
        return Ok(!path.exists());
    }
    fs::remove_file(path).map_or_else(gone, |()| Ok(true))
}

/// Whether this file is the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(found)) => (file.dev(), file.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

impl ReadyDraft {
    /// Writes it, so that nothing can go wrong any more once the broker says that it is ready.
    pub(crate) fn write(path: &Path, listeners: &[Listener]) -> Result<Self, StartError> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.tmp", std::process::id()));
        let draft = PathBuf::from(draft);
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(content(listeners).as_bytes())?;
            // Nobody else knows it yet. Where files cannot be locked it does without.
            let _ = file.try_lock();
            Ok(file)
        };
        match write() {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                draft,
                file,
            }),
            Err(reason) => Err(failed(path.to_owned(), &draft, reason)),
        }
    }

    /// Gives it its name, in one step: whoever sees it sees all of it.
    pub(crate) fn publish(self) -> Result<ReadyFile, StartError> {
        let Self { path, draft, file } = self;
        match fs::rename(&draft, &path) {
            Ok(()) => Ok(ReadyFile { path, file }),
            Err(reason) => Err(failed(path, &draft, reason)),
        }
    }
}

fn failed(path: PathBuf, draft: &Path, reason: io::Error) -> StartError {
    drop(fs::remove_file(draft));
    StartError::ReadyFile { path, reason }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            drop(fs::remove_file(&self.path));
        }
    }
}

fn content(listeners: &[Listener]) -> String {
    let listeners: Vec<_> = listeners
        .iter()
        .map(|listener| {
            let address = listener.address();
            serde_json::json!({
                "protocol": listener.protocol().name(),
                "address": address.ip(),
                "port": address.port(),
                "url": listener.url(),
            })
        })
        .collect();
    let content = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "listeners": listeners,
    });
    format!("{content:#}\n")
}
