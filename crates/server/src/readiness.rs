//! Tells the outside that clients can connect: one line on standard output, and a file for programs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::listener::Listener;

/// Prints the line that people, scripts and test tools wait for. Nobody reading it is no reason to stop.
pub(crate) fn announce(listeners: &[Listener]) {
    let urls = listeners
        .iter()
        .map(Listener::url)
        .collect::<Vec<_>>()
        .join(" ");
    let line = format!(
        "Leveret {}: Server startup complete; {urls}\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut output = io::stdout().lock();
    drop(
        output
            .write_all(line.as_bytes())
            .and_then(|()| output.flush()),
    );
}

/// The file that lists the listeners, removed when the broker stops in order.
pub(crate) struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// Writes it in one step: whoever sees it sees all of it.
    pub(crate) fn write(path: &Path, listeners: &[Listener]) -> Result<Self, StartError> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.tmp", std::process::id()));
        let draft = PathBuf::from(draft);
        fs::write(&draft, content(listeners))
            .and_then(|()| fs::rename(&draft, path))
            .map_err(|reason| {
                drop(fs::remove_file(&draft));
                StartError::ReadyFile {
                    path: path.to_owned(),
                    reason,
                }
            })?;
        Ok(Self {
            path: path.to_owned(),
        })
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
