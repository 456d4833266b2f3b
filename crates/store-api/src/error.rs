//! What can go wrong with a store, in words for the one who has to mend it.

use std::io;
use std::path::PathBuf;

/// A running store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused to read or write.
    #[error("{}, offset {offset}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error("{} is damaged at offset {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found.
        reason: String,
    },
}
