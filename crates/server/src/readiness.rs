//! Tells the outside that clients can connect: one line on standard output, and a file for programs.

use std::fs;
use std::io;
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

/// The file that lists the listeners, removed when the broker stops in order.
pub(crate) struct ReadyFile {
    path: PathBuf,
}

/// What will be the ready file, under another name.
pub(crate) struct ReadyDraft {
    path: PathBuf,
    draft: PathBuf,
}

impl ReadyFile {
    /// Removes the one that an earlier run left, so that nobody takes it for ours.
    pub(crate) fn remove_stale(path: &Path) -> Result<(), StartError> {
        match fs::remove_file(path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(StartError::ReadyFile {
                path: path.to_owned(),
                reason,
            }),
            _ => Ok(()),
        }
    }
}

impl ReadyDraft {
    /// Writes it, so that nothing can go wrong any more once the broker says that it is ready.
    pub(crate) fn write(path: &Path, listeners: &[Listener]) -> Result<Self, StartError> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.tmp", std::process::id()));
        let draft = Self {
            path: path.to_owned(),
            draft: draft.into(),
        };
        match fs::write(&draft.draft, content(listeners)) {
            Ok(()) => Ok(draft),
            Err(reason) => Err(draft.fail(reason)),
        }
    }

    /// Gives it its name, in one step: whoever sees it sees all of it.
    pub(crate) fn publish(self) -> Result<ReadyFile, StartError> {
        match fs::rename(&self.draft, &self.path) {
            Ok(()) => Ok(ReadyFile { path: self.path }),
            Err(reason) => Err(self.fail(reason)),
        }
    }

    fn fail(self, reason: io::Error) -> StartError {
        drop(fs::remove_file(&self.draft));
        StartError::ReadyFile {
            path: self.path,
            reason,
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
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
