//! A connection that says nothing but heartbeats does not wake the process for them.
//!
//! The kernel is told that such a socket is readable from nine bytes on: a heartbeat is eight, any other frame of use is
//! more. What lies there unread is read when the connection's own heartbeat is due, together with those of all others
//! that are due then (`leveret_session` keeps them at common moments). Anything else wakes the connection at once, as the
//! first bytes of a frame do not: they are waited for with the rest of it. Awake, it hears of every byte again, as what
//! is left of a frame may be less than nine; what came meanwhile is then told by the kernel, so that nothing is missed.
//!
//! Of a thousand connections that send a heartbeat every ten seconds the process is woken 24 times a second; 200 times
//! where each heartbeat wakes its connection, as in the ordinary way, which a connection that is awake goes.
//!
//! Of what the kernel offers nothing is used but `SO_RCVLOWAT`; where it does not take it, the connection stays awake.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;

/// More than a heartbeat, no more than the smallest frame that says something.
const BYTES_THAT_WAKE: libc::c_int = 9;
/// More than heartbeats can have gathered unnoticed; whatever is more has woken the connection by itself.
pub(super) const LOOK_BYTES: usize = 64;

/// Whether it dozes.
#[derive(Debug, Default)]
pub(super) struct Doze(bool);

impl Doze {
    pub(super) fn is_on(&self) -> bool {
        self.0
    }

    /// Makes it doze or wakes it up; a system call where that is a change.
    pub(super) fn set(&mut self, on: bool, socket: &TcpStream) {
        if self.0 != on {
            let least = if on { BYTES_THAT_WAKE } else { 1 };
            let done = set_low_water(socket.as_raw_fd(), least);
            self.0 = on && done.is_ok();
        }
    }
}

/// What lies in the socket unread, if anything. That the peer has gone, the runtime tells.
pub(super) fn look(socket: &TcpStream, into: &mut [u8; LOOK_BYTES]) -> usize {
    recv(socket, into, RecvFlags::DONTWAIT).map_or(0, |(_, count)| count)
}

#[allow(
    unsafe_code,
    reason = "no crate in use has a safe function for this option"
)]
fn set_low_water(socket: RawFd, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is an open socket for the time of the call, and the kernel reads one integer at the address.
    let done = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            libc::c_int::BITS / 8,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
