//! What a session writes to the log of itself: whom it is with, what went wrong, how it ended.

use std::fmt::Write as _;

use leveret_codec::protocol::connection::Close;
use leveret_codec::{AMQPValue, ChannelNumber, FieldTable, ReplyCode};
use leveret_message::error::{ChannelError, ConnectionError};

use super::connection::Connection;
use super::link::Link;
use super::session::{Phase, Session};

/// A client's name for its connection is kept up to this length.
const NAME_BYTES_MAX: usize = 255;

/// Why a connection ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending<'a> {
    /// The client asked for it.
    Client(&'a Close),
    /// It was closed with this error, or by an administrator or the end of the broker.
    Closed(&'a ConnectionError),
    /// What the client sent, or did not send, deserves no answer.
    Aborted(&'a str),
    /// The client was silent for too long.
    Heartbeat,
    /// The socket is gone.
    Lost,
}

impl Link {
    /// Keeps the name that a client gives its connection.
    pub(super) fn set_name(&mut self, properties: &FieldTable) {
        if let Some(AMQPValue::LongString(name)) = properties.inner().get("connection_name") {
            let name = String::from_utf8_lossy(name.as_bytes());
            let end = name.floor_char_boundary(NAME_BYTES_MAX);
            self.client_name = name.get(..end).map(Box::from);
        }
    }

    /// The client's name for its connection, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }
}

impl Session {
    /// The user, once it is known.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.phase {
            Phase::AwaitTuneOk(login) | Phase::AwaitOpen(login) => Some(&login.user),
            Phase::Open(connection) => Some(&connection.login.user),
            _ => None,
        }
    }

    /// The socket is gone, for `reason`. To be called before the session is dropped for that.
    pub fn set_lost(&mut self, reason: &str) {
        match &self.phase {
            // Whoever only looks whether the port is open says no more.
            Phase::AwaitHeader | Phase::Leaving(..) | Phase::Closing | Phase::Finished => {
                tracing::debug!(peer = %self.link.peer.remote, reason, "connection lost");
            }
            Phase::Open(_) => self.link.lost = Some(reason.into()),
            _ => {
                tracing::warn!(
                    peer = %self.link.peer.remote,
                    user = self.user(),
                    name = self.link.name(),
                    reason,
                    "connection lost while it was being opened"
                );
            }
        }
    }

    /// A connection that is not open yet is closed without a word; of one that is open the end is told.
    pub(super) fn log_abort(&self, reason: Option<&str>) {
        if let Some(reason) = reason
            && !matches!(self.phase, Phase::Open(_))
        {
            tracing::warn!(
                peer = %self.link.peer.remote,
                user = self.user(),
                name = self.link.name(),
                reason,
                "closing connection"
            );
        }
    }

    /// A connection is closed for an error.
    pub(super) fn log_error(&self, error: &ConnectionError) {
        let vhost = match &self.phase {
            Phase::Open(connection) => Some(&**connection.vhost.name()),
            _ => None,
        };
        tracing::warn!(
            peer = %self.link.peer.remote,
            user = self.user(),
            vhost,
            name = self.link.name(),
            code = error.code.number(),
            text = error.text,
            "closing connection"
        );
    }
}

impl Connection {
    pub(super) fn log_channel_error(
        &self,
        link: &Link,
        channel: ChannelNumber,
        error: &ChannelError,
    ) {
        tracing::warn!(
            peer = %link.peer.remote,
            user = self.login.user,
            vhost = &**self.vhost.name(),
            name = link.name(),
            channel = channel.0,
            code = error.code.number(),
            text = error.text,
            "closing channel"
        );
    }

    pub(super) fn log_ended(&self, link: &Link, ending: Ending<'_>) {
        // Writing to a String does not fail.
        let mut reason = String::new();
        let expected = match ending {
            Ending::Client(close) => {
                let (code, text) = (close.reply_code, close.reply_text.as_str());
                let _ = write!(reason, "closed by the client: {code} {text}");
                code == ReplyCode::Success.number() || code == 0
            }
            Ending::Closed(error) => {
                let _ = write!(reason, "{} {}", error.code.number(), error.text);
                true
            }
            Ending::Aborted(why) => {
                reason.push_str(why);
                false
            }
            Ending::Heartbeat => {
                reason.push_str("missed heartbeats from client");
                false
            }
            Ending::Lost => {
                reason.push_str(link.lost.as_deref().unwrap_or("the broker stops"));
                false
            }
        };
        let (peer, name) = (link.peer.remote, link.name());
        let (user, vhost) = (&self.login.user, &**self.vhost.name());
        let seconds = (link.now - self.facts.identity.connected_at) / 1000;
        if expected {
            tracing::info!(%peer, user, vhost, name, seconds, reason, "connection ended");
        } else {
            tracing::warn!(%peer, user, vhost, name, seconds, reason, "connection ended");
        }
    }
}
