//! What can go wrong in opening a store, in words for the one who has to mend it.

use std::io;
use std::path::PathBuf;

use leveret_store_api::Shortage;

/// A store could not be opened. Nothing on disk was changed by the refusal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the directory.
    #[error("{} is in use by another process; stop it or choose another data directory", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory was written by a newer version.
    #[error("{} has store format {found}, this version reads up to {supported}; use the newer version that wrote it", path.display())]
    NewerFormat {
        /// The format file.
        path: PathBuf,
        /// The version found there.
        found: u64,
        /// The newest version this code reads.
        supported: u64,
    },
    /// The directory or a file in it cannot be used.
    #[error("cannot use {}: {source}; check that it exists and its owner and permissions", path.display())]
    Unusable {
        /// What could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something has run out.
    #[error("cannot start in {}: {lacks}", path.display())]
    Full {
        /// What could not be used.
        path: PathBuf,
        /// What has run out.
        lacks: Shortage,
    },
    /// Something that had been made durable cannot be read back.
    #[error("{} is damaged at offset {offset}: {reason}; restore it from a backup, or start once with --recover to go on without what is unreadable", path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// The file that names the store's format is lost or not what was written.
    #[error("{}: {reason}; `leveret store rebuild` makes it again from the journal", path.display())]
    FormatDamaged {
        /// The format file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// There is nothing to rebuild a store from.
    #[error("{} has no record of the journal to rebuild from; nothing was changed: restore it from a backup, or start once with --recover, which keeps the definitions that the index has", path.display())]
    NoJournal {
        /// The journal's directory.
        path: PathBuf,
    },
    /// The index cannot be read; the journal can make a new one.
    #[error("the index {} is damaged: {reason}; `leveret store rebuild` makes it anew from the journal", path.display())]
    IndexDamaged {
        /// The index's directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}
