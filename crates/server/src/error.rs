//! What can end the process early. Errors become text here, at the edge, one line each.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use leveret_broker::definitions_import::ImportError;

use crate::config::ConfigError;

/// Why the broker did not start. Nothing was damaged; the line names the thing and the mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command line is not understood.
    #[error("{0}")]
    Arguments(String),
    /// The configuration is not legal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", listen_mend(.reason, .option))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option it comes from.
        option: &'static str,
        /// The system's reason.
        reason: io::Error,
    },
    /// The data directory cannot be opened.
    #[error("{0}")]
    Store(String),
    /// What the data directory holds cannot be taken up by the broker.
    #[error("{0}")]
    Broker(String),
    /// The definitions file cannot be imported.
    #[error(transparent)]
    Definitions(#[from] DefinitionsError),
    /// The ready file cannot be written.
    #[error(
        "cannot write ready file {path}: {reason}; correct --ready-file or its directory's permissions"
    )]
    ReadyFile {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The ready file is another broker's.
    #[error(
        "ready file {path} is that of a broker that runs; give each broker its own with --ready-file"
    )]
    ReadyFileInUse {
        /// Its path.
        path: PathBuf,
    },
    /// The system refuses threads, descriptors or the like.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Why a definitions file was not imported. Nothing of it was carried out.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// It cannot be read.
    #[error(
        "cannot read definitions file {path}: {reason}; correct --definitions or the file's permissions"
    )]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// Something in it is wrong.
    #[error("definitions file {path}, {error}; correct the file, or leave --definitions out")]
    Wrong {
        /// Its path.
        path: PathBuf,
        /// What and where.
        error: ImportError,
    },
}

/// Why the broker stopped otherwise than on request, or another command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It never started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store lost its footing: nothing more can be promised, so nothing more is done.
    #[error(
        "the store failed: {0}; stopped so that no unsaved message is confirmed; mend the disk and start again"
    )]
    StoreFailed(String),
    /// `store verify` or `store rebuild` met something unreadable.
    #[error("{path} is damaged in {problems} places; {advice}")]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// How many.
        problems: usize,
        /// What helps.
        advice: String,
    },
    /// All that `leveret store` found are definitions that a start puts aside.
    #[error(
        "{path} has {count} definitions that cannot be used; a start puts them aside, with what they keep, and all else starts; `leveret store discard-definitions` removes them for good"
    )]
    Definitions {
        /// The data directory.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A part of the broker panicked.
    #[error("internal error in {0}; stopped; what was confirmed is kept")]
    Internal(String),
}

fn listen_mend(reason: &io::Error, option: &str) -> String {
    match reason.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the port is in use; stop what uses it or choose another with {option}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address; correct {option}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "not permitted; choose a port above 1023 with {option} or grant CAP_NET_BIND_SERVICE"
        ),
        _ => format!("{reason}; correct {option}"),
    }
}
