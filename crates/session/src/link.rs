//! What every phase of a session needs, and what all parts of an open connection are given.

use std::net::SocketAddr;
use std::sync::Arc;

use leveret_broker::broker::Broker;
use leveret_codec::protocol::AMQPClass;
use leveret_codec::{ChannelNumber, write_method};
use leveret_message::Timestamp;
use leveret_queue::mailbox::Mailbox;
use leveret_queue::queue::identity::SessionId;

use super::work::Work;
use crate::output::Output;

/// What every phase needs.
pub(crate) struct Link {
    pub(crate) broker: Arc<Broker>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) id: SessionId,
    pub(crate) peer: Peer,
    pub(crate) output: Output,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    pub(super) heartbeat_ms: u64,
    /// What was received last was a heartbeat alone.
    pub(super) only_beats: bool,
    pub(super) last_received: Timestamp,
    pub(super) last_sent: Timestamp,
    /// Handshake or close must be done by then.
    pub(super) deadline: Option<Timestamp>,
    /// The client takes `connection.close` for failed logins.
    pub(crate) tells_authentication_failure: bool,
    /// The client understands `connection.blocked`.
    pub(crate) understands_blocked: bool,
    /// The client understands `basic.cancel` from the server.
    pub(crate) understands_cancel: bool,
    /// The client's name for its connection.
    pub(super) client_name: Option<Box<str>>,
    /// Why the socket is gone.
    pub(super) lost: Option<Box<str>>,
    /// What the client said of itself, encoded.
    pub(super) client_properties: Arc<[u8]>,
    /// Bytes received, and how often some were.
    pub(super) received_bytes: u64,
    pub(super) received: u64,
    /// The store is full, and this connection publishes.
    pub(crate) blocked: bool,
    /// The time of the latest call.
    pub(crate) now: Timestamp,
    /// What was done of the input so far, in this turn.
    pub(super) work: Work,
}

impl Link {
    /// Appends a method frame to the output.
    pub(crate) fn send(&mut self, channel: ChannelNumber, method: &AMQPClass) {
        write_method(self.output.buffer(), channel, method);
    }

    /// When a heartbeat is due or the client has been silent for too long, whichever comes first.
    pub(super) fn beat_deadline(&self) -> Option<Timestamp> {
        let due = self.last_sent + self.heartbeat_ms / 2;
        let lost = self.last_received + self.heartbeat_ms * 2;
        (self.heartbeat_ms > 0).then_some(due.min(lost))
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The name a client certificate gives, for EXTERNAL.
    pub tls_identity: Option<String>,
    /// Administrators see the connection; those of the broker's own they do not.
    pub listed: bool,
}

/// Output beyond which no more deliveries are taken until some of it is written.
pub(super) const OUTPUT_HIGH_WATER: usize = 256 << 10;

/// Output beyond which nothing more is read from a client that does not take its answers.
pub(super) const OUTPUT_MAX: usize = 4 << 20;
