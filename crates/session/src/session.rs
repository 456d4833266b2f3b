//! One client connection as a sans-io machine: bytes and the time in, bytes and deadlines out.
//!
//! A session is owned by one task and has no locks of its own; it calls the broker as plain
//! functions. Delivery tags, the ledger of unacknowledged deliveries and confirms live here; ready
//! messages, credit and what is in flight live in the queues.
//!
//! ```text
//!  AwaitHeader ─> AwaitStartOk (─> AwaitLogin) ─> AwaitTuneOk ─> AwaitOpen ─> Open ─> Leaving ─> Closing ─> Finished
//!       └───────────────┴── errors, timeouts ──────┘                      └────────────────────^
//! ```

#[cfg(debug_assertions)]
mod check;

use std::sync::Arc;
use std::task::Waker;

use bytes::{Buf, BytesMut};
use leveret_broker::broker::Broker;
use leveret_broker::roll::ConnectionState;
use leveret_codec::protocol::{AMQPClass, connection as wire};
use leveret_codec::{
    ChannelNumber, FRAME_SIZE_BEFORE_TUNING, Frame, FrameKind, ReplyCode, read_frame, shorten,
    write_heartbeat,
};
use leveret_message::Timestamp;
use leveret_message::error::{Cause, ConnectionError, Failure};
use leveret_queue::mailbox::{Mail, Mailbox, Notice};

use crate::auth::Login;
use crate::connection::Connection;
use crate::ending::Ending;
use crate::handshake::LateLogin;
use crate::link::{Link, Peer};
use crate::output::Output;
use crate::work::{self, Work};

/// Class and method of `basic.publish`.
const BASIC_PUBLISH: (u16, u16) = (60, 40);
/// How long a client may take to answer `connection.close`.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// The deadlines of a connection's own life (handshake, heartbeats, close) are kept at multiples of this. Those of a
/// thousand connections are then a few moments, and the process is woken once for all that share one. Half a heartbeat
/// is late by no more than this, which is a quarter of the shortest interval.
const COARSE_MS: u64 = 250;

const NO_ANSWER: &str = "no answer in time";

/// A frame without content is this long, and only a heartbeat is one.
const HEARTBEAT_BYTES: usize = leveret_codec::FRAME_OVERHEAD;

/// Where a connection is in its life.
pub(crate) enum Phase {
    AwaitHeader,
    AwaitStartOk,
    /// The name and password are here, and are looked at later.
    AwaitLogin(Box<LateLogin>),
    AwaitTuneOk(Login),
    AwaitOpen(Login),
    Open(Box<Connection>),
    /// What it held goes back, in steps; what is to be said then.
    Leaving(Box<Connection>, Farewell),
    /// `connection.close` is sent; only its answer counts.
    Closing,
    /// Nothing more is read; what is in the output is still written.
    Finished,
}

/// What follows when everything is back.
pub(crate) enum Farewell {
    /// `connection.close-ok`
    CloseOk,
    /// `connection.close`
    Close(wire::Close),
    /// No more than has been said.
    Nothing,
    /// Not even what has been said and was not sent: nobody is there, or shall hear anything.
    Silence,
}

/// One connection. Dropping it releases all it holds.
pub struct Session {
    pub(crate) link: Link,
    pub(crate) phase: Phase,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {})", self.link.id, self.link.peer.remote)
    }
}

impl Session {
    /// A session for a connection just accepted. `waker` is woken whenever
    /// [`Session::handle_wake`] has something to do.
    #[must_use]
    pub fn new(broker: &Arc<Broker>, peer: Peer, waker: Waker, now: Timestamp) -> Session {
        let mailbox = Mailbox::new(waker, broker.config().mailbox_bytes);
        let id = broker.register(&mailbox);
        let deadline = Some(now + broker.config().handshake_timeout_ms);
        let link = Link {
            broker: Arc::clone(broker),
            mailbox,
            id,
            peer,
            output: Output::default(),
            frame_max: FRAME_SIZE_BEFORE_TUNING,
            channel_max: broker.config().channel_max,
            heartbeat_ms: 0,
            only_beats: false,
            last_received: now,
            last_sent: now,
            deadline,
            tells_authentication_failure: false,
            understands_blocked: false,
            understands_cancel: false,
            client_name: None,
            lost: None,
            client_properties: Arc::default(),
            received_bytes: 0,
            received: 0,
            blocked: false,
            now,
            work: Work::default(),
        };
        Session {
            link,
            phase: Phase::AwaitHeader,
        }
    }

    /// Takes whole frames out of `input` and acts on them. A partial frame stays, and so does
    /// everything behind the point where the session does not want input any more, or has done enough
    /// for one turn ([`Session::has_done_enough`]).
    pub fn receive(&mut self, input: &mut BytesMut, now: Timestamp) {
        if input.is_empty() {
            return;
        }
        self.link.now = now;
        self.link.last_received = now;
        self.link.mailbox.stay_awake();
        self.link.work.begin();
        let mut consumed = 0;
        while self.wants_input() && !self.link.work.is_enough() {
            let rest = input.get(consumed..).unwrap_or_default();
            let step = match self.phase {
                Phase::AwaitHeader => self.receive_header(rest),
                _ => self.receive_frame(rest, now),
            };
            match step {
                Some(length) => consumed += length,
                None => break,
            }
        }
        if let Phase::Open(connection) = &mut self.phase {
            connection.flush(&mut self.link, now);
        }
        self.link.only_beats = consumed == HEARTBEAT_BYTES && self.link.heartbeat_ms > 0;
        if self.link.only_beats {
            self.answer_heartbeat(now);
        }
        if matches!(self.phase, Phase::Closing | Phase::Finished) && !self.wants_input() {
            consumed = input.len();
        }
        input.advance(consumed);
        self.link.received += 1;
        self.link.received_bytes += consumed as u64;
        if input.is_empty()
            && let Phase::Open(connection) = &mut self.phase
        {
            connection.channels.forget_closed();
        }
    }

    /// Whether [`Session::receive`] left input only because it had done enough: others are to have their turn before it
    /// is called again.
    #[must_use]
    pub fn has_done_enough(&self) -> bool {
        self.link.work.is_enough()
    }

    /// Acts on the first frame of `rest`; answers how many bytes were used, None for "more needed".
    fn receive_frame(&mut self, rest: &[u8], now: Timestamp) -> Option<usize> {
        if let Phase::Open(connection) = &mut self.phase {
            let used = connection.take_repeats(&mut self.link, rest, now);
            if used > 0 {
                return Some(used);
            }
        }
        let frame = match read_frame(rest, self.link.frame_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(error) => {
                let failure = Failure::Connection(ConnectionError::frame_error(error));
                self.settle_failure(Err(failure), (0, 0), ChannelNumber::CONNECTION, now);
                return Some(rest.len());
            }
        };
        self.link.work.add(1);
        let mut used = frame.wire_length();
        let result = match &mut self.phase {
            Phase::Open(connection) => {
                let behind = rest.get(used..).unwrap_or_default();
                match connection.has_memory_for(&self.link, &frame, now) {
                    Ok(true) if connection.must_clear_for(&self.link, &frame) => return Some(0),
                    Ok(true) if connection.must_flush_for(&mut self.link, &frame, now) => {
                        return Some(0);
                    }
                    Ok(true) => connection
                        .handle_frame(&mut self.link, frame, behind, now)
                        .map(|more| used += more),
                    // The connection waits, and the frame with it.
                    Ok(false) => return Some(0),
                    Err(failure) => Err(failure),
                }
            }
            Phase::Closing => {
                self.await_close_ok(&frame);
                Ok(())
            }
            Phase::Leaving(..) | Phase::Finished => Ok(()),
            _ => self.handle_handshake(&frame, now),
        };
        if result.is_err() {
            let ids = blamed_method(&frame, &result);
            self.settle_failure(result, ids, frame.channel, now);
        }
        if let Phase::Open(connection) = &mut self.phase
            && let Some(close) = connection.take_close_request()
        {
            self.answer_close(&close);
        }
        Some(used)
    }

    /// Sends the heartbeat that would be due before the client's next one at once, in the turn and with the packet that
    /// acknowledges the client's: of an idle connection no timer has to remember it.
    fn answer_heartbeat(&mut self, now: Timestamp) {
        let link = &mut self.link;
        let due = link.last_sent + link.heartbeat_ms / 4 <= now;
        if due && matches!(self.phase, Phase::Open(_)) && link.output.is_empty() {
            write_heartbeat(link.output.buffer());
        }
    }

    fn await_close_ok(&mut self, frame: &Frame<'_>) {
        match leveret_codec::method_ids(frame.payload) {
            Some((10, 51)) if frame.kind == FrameKind::Method => self.phase = Phase::Finished,
            // It crossed ours, of which the end has been told.
            Some((10, 50)) if frame.kind == FrameKind::Method => {
                self.leave(Farewell::CloseOk, Ending::Lost);
            }
            _ => {}
        }
    }

    pub(crate) fn answer_close(&mut self, close: &wire::Close) {
        self.leave(Farewell::CloseOk, Ending::Client(close));
    }

    /// Turns a failure into what the client sees of it.
    pub(crate) fn settle_failure(
        &mut self,
        result: Result<(), Failure>,
        ids: (u16, u16),
        channel: ChannelNumber,
        now: Timestamp,
    ) {
        match result {
            Ok(()) => {}
            Err(Failure::Channel(error)) => {
                self.link.work.add(work::FAILURE);
                if let Phase::Open(connection) = &mut self.phase {
                    connection.fail_channel(&mut self.link, channel, &error, ids, now);
                }
            }
            Err(Failure::Connection(error)) => {
                self.log_error(&error);
                self.close_with(&error, ids, now);
            }
            Err(Failure::Abort(reason)) => {
                self.log_abort(reason.as_deref());
                self.abort(Ending::Aborted(reason.as_deref().unwrap_or_default()));
            }
        }
    }

    fn close_with(&mut self, error: &ConnectionError, ids: (u16, u16), now: Timestamp) {
        if matches!(
            self.phase,
            Phase::Leaving(..) | Phase::Closing | Phase::Finished
        ) {
            return;
        }
        self.link.now = now;
        let close = wire::Close {
            reply_code: error.code.number(),
            reply_text: shorten(&error.text),
            class_id: ids.0,
            method_id: ids.1,
        };
        self.leave(Farewell::Close(close), Ending::Closed(error));
    }

    /// Leaves the present phase, giving back whatever it holds; `farewell` follows.
    pub(crate) fn leave(&mut self, farewell: Farewell, ending: Ending<'_>) {
        self.link.mailbox.close();
        self.phase = match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Open(mut connection) => {
                connection.log_ended(&self.link, ending);
                connection.facts.set_state(ConnectionState::Closing);
                connection.leave(&mut self.link);
                Phase::Leaving(connection, farewell)
            }
            Phase::Leaving(connection, _) => Phase::Leaving(connection, farewell),
            _ => {
                self.say(farewell);
                return;
            }
        };
        self.consider_farewell();
    }

    /// Once everything is back, what follows is said.
    fn consider_farewell(&mut self) {
        if !matches!(&self.phase, Phase::Leaving(connection, _) if !connection.is_working()) {
            return;
        }
        if let Phase::Leaving(_, farewell) = std::mem::replace(&mut self.phase, Phase::Finished) {
            self.say(farewell);
        }
    }

    fn say(&mut self, farewell: Farewell) {
        self.link.broker.unregister(self.link.id);
        match farewell {
            Farewell::CloseOk => {
                let ok = wire::AMQPMethod::CloseOk(wire::CloseOk {});
                self.link
                    .send(ChannelNumber::CONNECTION, &AMQPClass::Connection(ok));
            }
            Farewell::Close(close) => {
                self.phase = Phase::Closing;
                self.link.deadline = Some(self.link.now + CLOSE_TIMEOUT_MS);
                let close = wire::AMQPMethod::Close(close);
                self.link
                    .send(ChannelNumber::CONNECTION, &AMQPClass::Connection(close));
            }
            Farewell::Nothing => {}
            Farewell::Silence => self.link.output.clear(),
        }
    }

    /// Ends without a word.
    fn abort(&mut self, ending: Ending<'_>) {
        self.leave(Farewell::Silence, ending);
    }

    /// The socket is gone: everything goes back, in steps of [`Session::handle_wake`], until the session is
    /// finished.
    pub fn disconnect(&mut self, now: Timestamp) {
        self.link.now = now;
        self.abort(Ending::Lost);
    }

    /// Server-initiated `connection.close`.
    pub fn close(&mut self, code: ReplyCode, text: &str, now: Timestamp) {
        match self.phase {
            Phase::Open(_) => {
                self.close_with(&ConnectionError::new(code, text), (0, 0), now);
            }
            Phase::Leaving(..) | Phase::Closing | Phase::Finished => {}
            _ => self.leave(Farewell::Nothing, Ending::Lost),
        }
    }

    /// Whether the socket should be read now: not while the session waits for a commit, is held
    /// back, or is finished.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::Leaving(..) | Phase::AwaitLogin(_) | Phase::Finished => false,
            Phase::Open(connection) => connection.wants_input(&self.link),
            _ => true,
        }
    }

    /// Whether the client seems to be idle: it keeps heartbeats, and what came last was one alone. Its next ones may then
    /// be received as late as [`Session::poll_timeout`].
    #[must_use]
    pub fn only_beats(&self) -> bool {
        self.link.only_beats && matches!(self.phase, Phase::Open(_))
    }

    /// Looks after whatever the waker was woken for. Call [`Session::receive`] with what is left
    /// of the input afterwards, then [`Session::transmit`].
    pub fn handle_wake(&mut self, now: Timestamp) {
        self.link.now = now;
        if let Phase::Open(connection) = &mut self.phase {
            connection.handle_wake(&mut self.link);
            if let Some((code, text)) = connection.forced_close() {
                self.close(code, &text, now);
            }
        } else if let Phase::Leaving(connection, _) = &mut self.phase {
            connection.go_on(&mut self.link, now);
            self.consider_farewell();
        } else {
            let mut mail = Mail::default();
            self.link.mailbox.take(&mut mail);
            if mail
                .notices
                .iter()
                .any(|notice| matches!(notice, Notice::CloseConnection(..)))
            {
                self.close(ReplyCode::ConnectionForced, "", now);
            }
        }
    }

    /// Moves deliveries and confirms into the output while it has room.
    pub fn transmit(&mut self, now: Timestamp) {
        self.link.now = now;
        if let Phase::Open(connection) = &mut self.phase {
            connection.transmit(&mut self.link, now);
            connection.note_traffic(&self.link);
            if let Some((code, text)) = connection.forced_close() {
                self.close(code, &text, now);
            }
        }
        if !self.link.output.is_empty() {
            self.link.last_sent = now;
        }
    }

    /// There is nothing to do for now: memory that only a busy connection needs is given back.
    pub fn rest(&mut self) {
        self.link.output.shrink();
        if let Phase::Open(connection) = &mut self.phase {
            connection.shrink();
        }
    }

    /// What is to be written to the socket.
    pub fn output(&mut self) -> &mut Output {
        &mut self.link.output
    }

    /// The socket is closed, or to be closed once the output is written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// When [`Session::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let (coarse, exact) = match &self.phase {
            Phase::Open(connection) => (self.link.beat_deadline(), connection.poll_timeout()),
            Phase::AwaitLogin(login) => (self.link.deadline, Some(login.until)),
            _ => (self.link.deadline, None),
        };
        let coarse = coarse.map(|at| at.round_up(COARSE_MS));
        coarse.into_iter().chain(exact).min()
    }

    /// Heartbeats, holds, and deadlines of handshake and close.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.link.now = now;
        if self.link.deadline.is_some_and(|deadline| deadline <= now) {
            tracing::warn!(
                peer = %self.link.peer.remote,
                user = self.user(),
                name = self.link.name(),
                "closing connection: {NO_ANSWER}"
            );
            self.link.deadline = None;
            self.abort(Ending::Aborted(NO_ANSWER));
            return;
        }
        self.late_login(now);
        let heartbeat_ms = self.link.heartbeat_ms;
        let Phase::Open(connection) = &mut self.phase else {
            return;
        };
        connection.handle_timeout(&mut self.link, now);
        if let Some((code, text)) = connection.forced_close() {
            self.close(code, &text, now);
            return;
        }
        if heartbeat_ms == 0 {
            return;
        }
        let reading = connection.wants_input(&self.link);
        if self.link.last_received + heartbeat_ms * 2 <= now {
            if reading {
                self.abort(Ending::Heartbeat);
                return;
            }
            // Whatever the client sent meanwhile was not read; its silence proves nothing.
            self.link.last_received = now;
        }
        if self.link.last_sent + heartbeat_ms / 2 <= now {
            self.link.last_sent = now;
            connection.publishing.rest();
            if self.link.output.is_empty() {
                write_heartbeat(self.link.output.buffer());
            }
        }
    }
}

/// Class and method a close names as its cause.
fn blamed_method(frame: &Frame<'_>, result: &Result<(), Failure>) -> (u16, u16) {
    let cause = match result {
        Err(Failure::Connection(error)) => error.cause,
        _ => Cause::Frame,
    };
    match (cause, frame.kind) {
        (Cause::Nothing, _) | (Cause::Frame, FrameKind::Heartbeat) => (0, 0),
        (Cause::Frame, FrameKind::Method) => {
            leveret_codec::method_ids(frame.payload).unwrap_or_default()
        }
        (Cause::Content, _) | (Cause::Frame, FrameKind::Header | FrameKind::Body) => BASIC_PUBLISH,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Finished) {
            self.abort(Ending::Lost);
        }
        while let Phase::Leaving(connection, _) = &mut self.phase {
            let now = self.link.now;
            connection.waiting.wait_no_more();
            connection.go_on(&mut self.link, now);
            self.consider_farewell();
        }
    }
}
