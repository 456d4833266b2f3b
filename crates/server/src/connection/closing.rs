//! The end of a connection whose session is over: the last bytes go out, then the peer gets time to read them.
//!
//! A socket closed with unread input is reset by the kernel, and a reset can overtake `connection.close-ok`. So the
//! sending half is shut down first and what the peer still sends is read and dropped, for a short time.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use leveret_message::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use super::scratch;
use crate::alarm::Alarm;
use crate::connections::Member;
use crate::shared::Shared;

/// How long a peer may take to read the last bytes and close its side.
const PATIENCE_MS: u64 = 1_000;
/// How much it may still send meanwhile.
const DRAIN_BYTES_MAX: usize = 16 << 20;

/// A connection without a session.
pub(super) struct Closing {
    /// The session's last output, from `written` on still to be written.
    rest: Vec<u8>,
    written: usize,
    shut_down: bool,
    drained: usize,
    deadline: Timestamp,
    alarm: Alarm,
    shared: Arc<Shared>,
    /// Counts as connected until the end, so that a stopping broker waits for it.
    _member: Member,
}

impl Closing {
    /// `rest` is what the session left to be written.
    pub(super) fn new(rest: Vec<u8>, alarm: Alarm, member: Member, shared: Arc<Shared>) -> Self {
        Self {
            rest,
            written: 0,
            shut_down: false,
            drained: 0,
            deadline: Timestamp(shared.clock.now().0.saturating_add(PATIENCE_MS)),
            alarm,
            shared,
            _member: member,
        }
    }

    /// Ready when the socket can be dropped.
    pub(super) fn poll(&mut self, socket: &mut TcpStream, task: &mut Context<'_>) -> Poll<()> {
        let now = self.shared.clock.now();
        if now >= self.deadline || self.farewell(socket, task).is_ready() {
            return Poll::Ready(());
        }
        self.alarm.arm(Some(self.deadline), now, task);
        Poll::Pending
    }

    fn farewell(&mut self, socket: &mut TcpStream, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .rest
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            self.written += match ready!(Pin::new(&mut *socket).poll_write(task, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => count,
            };
        }
        if !self.shut_down {
            ready!(Pin::new(&mut *socket).poll_shutdown(task))?;
            self.shut_down = true;
        }
        loop {
            ready!(socket.poll_read_ready(task))?;
            let mut buffer = scratch::take();
            let read = pin!(socket.read_buf(&mut buffer)).poll(task);
            scratch::put_back(buffer);
            let count = ready!(read)?;
            self.drained = self.drained.saturating_add(count);
            if count == 0 || self.drained > DRAIN_BYTES_MAX {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
