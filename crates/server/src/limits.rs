//! Limits of the process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the number of open files, and so of connections, to what the system permits.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let open_files_max = getrlimit(Resource::Nofile).current;
    tracing::debug!(open_files_max, "limit of open files");
}
