//! Why a run ended early.

use leveret_codec::FrameError;
use thiserror::Error;

/// What the network or the broker said.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The socket.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Bytes that are no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The broker closed the connection or the channel, or answered something else.
    #[error("{0}")]
    Broker(String),
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}
