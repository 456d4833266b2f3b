//! Listening sockets: bound before the store is touched, so that a port in use harms nothing; listened on when the
//! broker is ready, so that nobody is kept waiting; then accepting until aborted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::connection::Connection;
use crate::error::StartError;
use crate::serve::Shared;

/// Connections the kernel completes ahead of us; it caps this at its own limit.
const BACKLOG: i32 = 4096;
/// Pause after an error of accept that a retry at once would only repeat, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(200);

/// What is spoken on a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    /// AMQP 0-9-1.
    Amqp,
    /// The management API.
    Http,
}

impl Protocol {
    /// Its name, which is the scheme of its URLs too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Amqp => "amqp",
            Protocol::Http => "http",
        }
    }

    /// The option that says where it is listened for.
    fn option(self) -> &'static str {
        match self {
            Protocol::Amqp => "--listen",
            Protocol::Http => "--management-listen",
        }
    }
}

/// A socket that has its address and does not listen yet.
#[derive(Debug)]
pub(crate) struct Bound {
    socket: Socket,
    wanted: SocketAddr,
    protocol: Protocol,
}

impl Bound {
    /// Takes the address.
    pub(crate) fn bind(wanted: SocketAddr, protocol: Protocol) -> Result<Self, StartError> {
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
}

impl Listener {
    /// The address with its real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is spoken on it.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The socket itself, for who accepts on it otherwise than here.
    pub(crate) fn into_socket(self) -> TcpListener {
        self.socket
    }

    /// The URL by which a client on this machine reaches it.
    pub(crate) fn url(&self) -> String {
        let reachable = match self.address {
            SocketAddr::V4(address) if address.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(address) if address.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address.ip(),
        };
        let reachable = SocketAddr::new(reachable, self.address.port());
        format!("{}://{reachable}", self.protocol.name())
    }

    /// Accepts AMQP connections for good, one task a connection.
    pub(crate) async fn accept(self, shared: Arc<Shared>) {
        loop {
            match self.socket.accept().await {
                Ok((socket, remote)) => open(&shared, socket, remote),
                Err(error) if is_of_one_peer(&error) => {
                    tracing::debug!(%error, "a connection was gone before it came");
                }
                Err(error) => {
                    let connections = shared.connections.count();
                    tracing::error!(%error, connections, "cannot accept connections; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn open(shared: &Arc<Shared>, socket: TcpStream, remote: SocketAddr) {
    match Connection::new(Arc::clone(shared), socket, remote) {
        // Unconstrained, as it keeps a budget of its own and counts on the runtime's timer being set when it says so.
        Ok(connection) => drop(tokio::spawn(tokio::task::unconstrained(connection))),
        Err(error) => tracing::debug!(%remote, %error, "a connection was gone before it came"),
    }
}

/// Errors that concern the connection that would have been accepted, not the listener.
pub(crate) fn is_of_one_peer(error: &io::Error) -> bool {
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

    #[tokio::test]
    async fn accepted_sockets_inherit_the_options() {
        let listener = Bound::bind("127.0.0.1:0".parse().unwrap(), Protocol::Amqp)
            .unwrap()
            .listen()
            .unwrap();
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
    async fn an_address_in_use_is_an_error_that_says_so() {
        let first = Bound::bind("127.0.0.1:0".parse().unwrap(), Protocol::Amqp)
            .unwrap()
            .listen()
            .unwrap();
        let address = first.address();
        let error = Bound::bind(address, Protocol::Amqp)
            .and_then(Bound::listen)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address}: the port is in use; stop what uses it or choose another with --listen"
            )
        );
    }
}
