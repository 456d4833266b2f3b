//! A socket whose peer must take what is written to it: after a while without progress writing fails.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::guests::Taking;

/// How long a peer may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket. Reading is not bounded here: hyper bounds the time for a request's head.
pub(super) struct Patient {
    socket: TcpStream,
    /// Runs while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Told when that begins and ends.
    taking: Taking,
}

impl Patient {
    pub(super) fn new(socket: TcpStream, taking: Taking) -> Self {
        Self {
            socket,
            stalled: None,
            taking,
        }
    }

    /// Passes the result of a write on; pending ones only for so long.
    fn bounded<T>(
        &mut self,
        task: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if self.stalled.take().is_some() {
                self.taking.stalls(None);
            }
            return result;
        }
        let taking = &self.taking;
        let stalled = self.stalled.get_or_insert_with(|| {
            taking.stalls(Some(Instant::now()));
            Box::pin(sleep(PATIENCE))
        });
        match stalled.as_mut().poll(task) {
            Poll::Ready(()) => {
                stalled.as_mut().reset(Instant::now() + PATIENCE);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(task, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(task, bytes);
        self.bounded(task, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(task, slices);
        self.bounded(task, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(task)
    }
}
