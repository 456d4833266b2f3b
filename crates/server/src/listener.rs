//! Listening sockets: bound before the store is touched, so that a port in use harms nothing; listened on when the
//! broker is ready, so that nobody is kept waiting; then accepting until aborted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::values::ListenAddress;
use crate::connection::Connection;
use crate::descriptors::FilePermit;
use crate::error::StartError;
use crate::shared::Shared;

/// Connections the kernel completes ahead of us; it caps this at its own limit.
const BACKLOG: i32 = 4096;
/// How often a port is looked for that is free for IPv4 and IPv6.
const FREE_PORT_TRIES: u32 = 32;
/// Pause after an error of accept that a retry at once would only repeat, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(200);

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// AMQP 0-9-1.
    Amqp,
    /// The management API.
    Http,
    /// Metrics.
    Prometheus,
}

impl Protocol {
    /// Its name. rabbitmq: as in its lists of listeners
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Amqp => "amqp",
            Protocol::Http => "http",
            Protocol::Prometheus => "http/prometheus",
        }
    }

    /// The scheme of its URLs.
    fn scheme(self) -> &'static str {
        match self {
            Protocol::Amqp => "amqp",
            Protocol::Http | Protocol::Prometheus => "http",
        }
    }

    /// The option that says where it is listened for.
    fn option(self) -> &'static str {
        match self {
            Protocol::Amqp => "--listen",
            Protocol::Http => "--management-listen",
            Protocol::Prometheus => "--prometheus-listen",
        }
    }
}

/// A socket that has its address and does not listen yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    wanted: SocketAddr,
    protocol: Protocol,
    /// It was to be listened on for IPv6 too, which the machine does not have.
    lacks_ipv6: bool,
}

impl Bound {
    /// Takes the address, and its IPv6 counterpart where that is wanted and the machine has IPv6.
    pub(crate) fn bind(wanted: ListenAddress, protocol: Protocol) -> Result<Vec<Self>, StartError> {
        let mut tries = if wanted.address.port() == 0 {
            FREE_PORT_TRIES
        } else {
            1
        };
        loop {
            tries -= 1;
            match Self::bind_both(wanted, protocol) {
                // The port that the system chose for one may be taken for the other.
                Err(StartError::Listen { reason, .. })
                    if tries > 0 && reason.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound,
            }
        }
    }

    fn bind_both(wanted: ListenAddress, protocol: Protocol) -> Result<Vec<Self>, StartError> {
        let mut first = Self::bind_one(wanted.address, protocol)?;
        let Some(ipv6) = wanted.and_ipv6 else {
            return Ok(vec![first]);
        };
        let port = first.port().unwrap_or(wanted.address.port());
        match Self::bind_one(SocketAddr::from((ipv6, port)), protocol) {
            Ok(second) => Ok(vec![first, second]),
            Err(StartError::Listen { reason, .. }) if is_without_ipv6(&reason) => {
                first.lacks_ipv6 = true;
                Ok(vec![first])
            }
            Err(error) => Err(error),
        }
    }

    fn port(&self) -> Option<u16> {
        Some(self.socket.local_addr().ok()?.as_socket()?.port())
    }

    fn bind_one(wanted: SocketAddr, protocol: Protocol) -> Result<Self, StartError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, None)?;
            if wanted.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            // Accepted sockets inherit both, which saves two system calls a connection.
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            socket.bind(&wanted.into())?;
            Ok(socket)
        };
        let socket = bind().map_err(|reason| StartError::Listen {
            address: wanted,
            option: protocol.option(),
            reason,
        })?;
        Ok(Self {
            socket,
            wanted,
            protocol,
            lacks_ipv6: false,
        })
    }

    /// Begins to listen. Needs the runtime.
    pub(crate) fn listen(self) -> Result<Listener, StartError> {
        let listen = || {
            self.socket.listen(BACKLOG)?;
            let socket = TcpListener::from_std(self.socket.into())?;
            let address = socket.local_addr()?;
            Ok(Listener {
                socket,
                address,
                protocol: self.protocol,
                lacks_ipv6: self.lacks_ipv6,
            })
        };
        listen().map_err(|reason| StartError::Listen {
            address: self.wanted,
            option: self.protocol.option(),
            reason,
        })
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
    lacks_ipv6: bool,
}

impl Listener {
    /// Says where it listens.
    pub(crate) fn tell(&self) {
        let url = self.shown();
        if self.lacks_ipv6 {
            tracing::info!(url, "listening; this machine has no IPv6");
        } else {
            tracing::info!(url, "listening");
        }
    }

    /// The address with its real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is spoken on it.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What is listened for and where, as it is.
    pub(crate) fn shown(&self) -> String {
        format!("{}://{}", self.protocol.scheme(), self.address)
    }

    /// The URL by which a client on this machine reaches it.
    pub(crate) fn url(&self) -> String {
        let reachable = match self.address {
            SocketAddr::V4(address) if address.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(address) if address.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address.ip(),
        };
        let reachable = SocketAddr::new(reachable, self.address.port());
        format!("{}://{reachable}", self.protocol.scheme())
    }

    /// The next connection, with its place. What is wrong with one peer is passed over; what accepting lacks
    /// (descriptors, memory) is waited for, and told when it begins and when it is over.
    pub(crate) async fn accepted(&self, shared: &Shared) -> (TcpStream, SocketAddr, FilePermit) {
        let place = shared.descriptors.place().await;
        let mut failing = false;
        loop {
            match self.socket.accept().await {
                Ok((socket, remote)) => {
                    if failing {
                        tracing::info!(listener = self.shown(), "connections are accepted again");
                    }
                    return (socket, remote, place);
                }
                Err(error) if is_of_one_peer(&error) => {
                    tracing::debug!(%error, "a connection was gone before it came");
                }
                Err(error) => {
                    if !failing {
                        let connections = shared.connections.count();
                        tracing::error!(%error, listener = self.shown(), connections, "cannot accept connections; trying again");
                    }
                    failing = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Accepts AMQP connections for good, one task a connection.
    pub(crate) async fn accept(self, shared: Arc<Shared>) {
        loop {
            let (socket, remote, place) = self.accepted(&shared).await;
            match Connection::new(Arc::clone(&shared), socket, remote, place) {
                // Unconstrained, as it keeps a budget of its own and counts on the runtime's timer being set when it
                // says so.
                Ok(connection) => drop(tokio::spawn(tokio::task::unconstrained(connection))),
                Err(error) => {
                    tracing::debug!(%remote, %error, "a connection was gone before it came");
                }
            }
        }
    }
}

/// The machine, or the container, does without IPv6.
fn is_without_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Errors that concern the connection that would have been accepted, not the listener.
fn is_of_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, PermissionDenied,
        TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | Interrupted
            | PermissionDenied
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(wanted: &str) -> Result<Vec<Listener>, StartError> {
        let bound = Bound::bind(wanted.parse().unwrap(), Protocol::Amqp)?;
        bound.into_iter().map(Bound::listen).collect()
    }

    #[tokio::test]
    async fn accepted_sockets_inherit_the_options() {
        let listener = bound("127.0.0.1:0").unwrap().remove(0);
        assert_eq!(
            listener.url(),
            format!("amqp://127.0.0.1:{}", listener.address().port())
        );
        let _client = TcpStream::connect(listener.address()).await.unwrap();
        let (socket, _) = listener.socket.accept().await.unwrap();
        let socket = socket2::SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_port_alone_is_listened_on_for_ipv4_and_ipv6() {
        let listeners = bound("0").unwrap();
        let port = listeners[0].address().port();
        assert_eq!(listeners[0].shown(), format!("amqp://0.0.0.0:{port}"));
        assert_eq!(listeners[0].url(), format!("amqp://127.0.0.1:{port}"));
        // A machine without IPv6 has the first alone.
        if let Some(second) = listeners.get(1) {
            assert_eq!(second.shown(), format!("amqp://[::]:{port}"));
            drop(TcpStream::connect(("::1", port)).await.unwrap());
        }
        drop(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_says_so() {
        let first = bound("127.0.0.1:0").unwrap().remove(0);
        let address = first.address();
        let error = bound(&address.to_string()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address}: the port is in use; stop what uses it or choose another with --listen"
            )
        );
    }
}
