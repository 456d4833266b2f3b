//! One task per connection: socket bytes into the session, the session's output into the socket, timers, wakes.
//!
//! Reading and writing are one hand-written future, so that a message needs no channel and no second task. Knows
//! nothing of frames: what the bytes mean is the session's.

mod closing;
mod doze;
pub(crate) mod scratch;
mod wake;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use leveret_codec::ReplyCode;
use leveret_session::{Peer, Session};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::alarm::Alarm;
use crate::connections::Member;
use crate::descriptors::FilePermit;
use crate::shared::Shared;
use crate::steps::Step;
use closing::Closing;
use doze::Doze;
use wake::SessionWake;

/// Bytes read and written in one turn before the other connections of the worker get theirs. What is done with them is
/// the session's to bound ([`Session::has_done_enough`]).
const TURN_BYTES_MAX: usize = 512 << 10;
/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;
/// What clients read when the broker stops; RabbitMQ's words, which some of them parse.
const SHUTDOWN_TEXT: &str = "broker forced connection closure with reason 'shutdown'";

/// What the log says of a peer that closes its socket without a word of AMQP.
const PEER_CLOSED: &str = "the client closed its socket";

/// Serves one accepted socket until it is closed.
///
/// ```text
///   New ──first poll──> Open ──session finished──> Closing ──peer closed or time is up──> end
///                         └──peer gone──> Leaving ──session finished──────────────────────> end
/// ```
///
/// To be spawned, and not moved into another future: it relies on being polled with one waker only.
pub(crate) struct Connection {
    socket: TcpStream,
    state: State,
    /// Given up after the socket.
    _place: FilePermit,
}

enum State {
    New(Arc<Shared>, Peer),
    Open(Open),
    /// The socket is of no use any more; what the session holds goes back, in steps.
    Leaving(Open),
    Closing(Closing),
    Ended,
}

/// A connection with a living session.
struct Open {
    session: Session,
    wake: Arc<SessionWake>,
    /// What the session left of the bytes read: a partial frame, or all of them while it is held back. Otherwise it
    /// holds no memory.
    input: BytesMut,
    doze: Doze,
    alarm: Alarm,
    shutdown_sent: bool,
    member: Member,
    shared: Arc<Shared>,
}

/// Why a turn is over.
enum Pause {
    /// The budget is spent; the connection goes on when others have had theirs.
    Spent,
    /// There is nothing to do.
    Idle,
    Ended(Ending),
}

/// Why the session is over.
enum Ending {
    /// It said so: what it still has to say is to be written, then the socket closed.
    Finished,
    /// The peer is not there any more.
    Gone,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        socket: TcpStream,
        remote: SocketAddr,
        place: FilePermit,
    ) -> io::Result<Self> {
        let peer = Peer {
            remote,
            local: socket.local_addr()?,
            tls_identity: None,
            listed: true,
        };
        Ok(Self {
            socket,
            state: State::New(shared, peer),
            _place: place,
        })
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let Connection { socket, state, .. } = self.get_mut();
        loop {
            match state {
                State::New(..) => {
                    if let State::New(shared, peer) = std::mem::replace(state, State::Ended) {
                        *state = State::Open(Open::new(shared, peer, task));
                    }
                }
                State::Open(open) => {
                    let mut step = Step::begin("wake");
                    let ending = ready!(open.turn(socket, task, &mut step));
                    step.goes_on("release");
                    // The session goes here: what it held is free before the peer hears that it is closed.
                    *state = match (ending, std::mem::replace(state, State::Ended)) {
                        (Ending::Finished, State::Open(open)) => {
                            State::Closing(open.into_closing())
                        }
                        (Ending::Gone, State::Open(mut open)) => {
                            open.session.disconnect(open.shared.clock.now());
                            State::Leaving(open)
                        }
                        _ => State::Ended,
                    };
                }
                State::Leaving(open) => {
                    let _step = Step::begin("leave");
                    ready!(open.leave());
                    *state = State::Ended;
                }
                State::Closing(closing) => {
                    ready!(closing.poll(socket, task));
                    *state = State::Ended;
                }
                State::Ended => return Poll::Ready(()),
            }
        }
    }
}

impl Open {
    fn new(shared: Arc<Shared>, peer: Peer, task: &Context<'_>) -> Self {
        let member = shared.connections.join(task.waker());
        let wake = SessionWake::new(task.waker().clone());
        let session = Session::new(
            &shared.broker,
            peer,
            Arc::clone(&wake).into(),
            shared.clock.now(),
        );
        Self {
            session,
            wake,
            input: BytesMut::new(),
            doze: Doze::default(),
            alarm: Alarm::default(),
            shutdown_sent: false,
            member,
            shared,
        }
    }

    /// Does all that can be done now, up to a budget, and says if the session is over.
    fn turn(
        &mut self,
        socket: &mut TcpStream,
        task: &mut Context<'_>,
        step: &mut Step,
    ) -> Poll<Ending> {
        if self.wake.take() {
            // Delays begin here, too: of what goes back in steps the first was begun as bytes were read.
            self.session.handle_wake(self.shared.clock.after_now());
        }
        let now = self.shared.clock.now();
        if self
            .session
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now)
        {
            step.goes_on("timeout");
            // What the client has said meanwhile counts, however long nobody listened.
            if let Err(error) = self.listen(socket, task) {
                self.session.set_lost(&error.to_string());
                return Poll::Ready(Ending::Gone);
            }
            self.session.handle_timeout(now);
        }
        if self.member.is_shutting_down() && !self.shutdown_sent {
            self.shutdown_sent = true;
            step.goes_on("close");
            self.session
                .close(ReplyCode::ConnectionForced, SHUTDOWN_TEXT, now);
        }
        match self.exchange(socket, task, step) {
            Ok(Pause::Ended(ending)) => Poll::Ready(ending),
            Ok(pause) => {
                if matches!(pause, Pause::Idle) {
                    self.session.rest();
                }
                self.alarm.arm(self.session.poll_timeout(), now, task);
                Poll::Pending
            }
            Err(error) => {
                self.session.set_lost(&error.to_string());
                Poll::Ready(Ending::Gone)
            }
        }
    }

    /// Takes over what the session left to be written, and drops the session.
    fn into_closing(mut self) -> Closing {
        let output = self.session.output();
        let mut rest = Vec::new();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.fill_slices(&mut slices);
            slices[..filled]
                .iter()
                .for_each(|slice| rest.extend_from_slice(slice));
            let taken = slices[..filled].iter().map(|slice| slice.len()).sum();
            output.advance(taken);
        }
        Closing::new(rest, self.alarm, self.member, self.shared)
    }

    /// Has the session give back a part of what it holds; it wakes the task for the next.
    fn leave(&mut self) -> Poll<()> {
        if self.wake.take() {
            self.session.handle_wake(self.shared.clock.after_now());
        }
        if self.session.is_finished() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Writes and reads in turn until neither gets further or the budget is spent.
    fn exchange(
        &mut self,
        socket: &mut TcpStream,
        task: &mut Context<'_>,
        step: &mut Step,
    ) -> io::Result<Pause> {
        let mut budget = TURN_BYTES_MAX;
        // Input that is here already goes first once it may: whatever held it back has just been released.
        let mut held = !self.input.is_empty();
        let mut enough = false;
        loop {
            step.goes_on("transmit");
            self.write(socket, task, &mut budget)?;
            if self.session.is_finished() {
                return Ok(Pause::Ended(Ending::Finished));
            }
            if enough || budget == 0 {
                go_on_later(task);
                return Ok(Pause::Spent);
            }
            if !self.session.wants_input() {
                return Ok(Pause::Idle);
            }
            step.goes_on("receive");
            if std::mem::take(&mut held) {
                self.session
                    .receive(&mut self.input, self.shared.clock.after_now());
                enough = self.session.has_done_enough();
                continue;
            }
            match self.read(socket, task)? {
                Poll::Pending => return Ok(Pause::Idle),
                Poll::Ready(0) => {
                    self.session.set_lost(PEER_CLOSED);
                    return Ok(Pause::Ended(Ending::Gone));
                }
                Poll::Ready(count) => budget = budget.saturating_sub(count),
            }
            enough = self.session.has_done_enough();
            held = !self.input.is_empty() && !self.session.wants_input();
        }
    }

    /// Reads once, into the worker's buffer, and hands the bytes to the session. Ready(0): the peer will send no more.
    fn read(&mut self, socket: &mut TcpStream, task: &mut Context<'_>) -> io::Result<Poll<usize>> {
        if socket.poll_read_ready(task)?.is_pending() {
            return Ok(Poll::Pending);
        }
        self.shared.lookout.count_turn();
        let mut buffer = scratch::take();
        buffer.extend_from_slice(&self.input);
        let read = pin!(socket.read_buf(&mut buffer)).poll(task);
        if let Poll::Ready(Ok(1..)) = read {
            self.receive(&mut buffer, socket);
        }
        scratch::put_back(buffer);
        Ok(match read {
            Poll::Ready(read) => Poll::Ready(read?),
            Poll::Pending => Poll::Pending,
        })
    }

    /// Has the session take `buffer`, which begins with what was left before, and keeps what it leaves. The clock is
    /// asked only here: what a message waits for begins when the message has come, not when its turn did.
    fn receive(&mut self, buffer: &mut BytesMut, socket: &TcpStream) {
        self.input = BytesMut::new();
        self.session.receive(buffer, self.shared.clock.after_now());
        if !buffer.is_empty() {
            self.input = BytesMut::from(&buffer[..]);
        }
        self.doze
            .set(self.session.only_beats() && self.input.is_empty(), socket);
    }

    /// Reads what has come, before it is judged how long the client has been silent.
    fn listen(&mut self, socket: &mut TcpStream, task: &mut Context<'_>) -> io::Result<()> {
        if !self.session.wants_input() {
            return Ok(());
        }
        if self.doze.is_on() {
            self.look(socket);
        } else if let Poll::Ready(0) = self.read(socket, task)? {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, PEER_CLOSED));
        }
        Ok(())
    }

    /// Reads what the kernel does not wake a dozing connection for.
    fn look(&mut self, socket: &TcpStream) {
        let mut bytes = [0; doze::LOOK_BYTES];
        let count = doze::look(socket, &mut bytes);
        if count > 0 {
            let mut buffer = scratch::take();
            buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
            self.receive(&mut buffer, socket);
            scratch::put_back(buffer);
        }
    }

    /// Has the session transmit and writes that, until it has nothing more, the socket is full or the budget is spent.
    fn write(
        &mut self,
        socket: &mut TcpStream,
        task: &mut Context<'_>,
        budget: &mut usize,
    ) -> io::Result<()> {
        loop {
            self.session.transmit(self.shared.clock.after_now());
            let output = self.session.output();
            if output.is_empty() {
                return Ok(());
            }
            while !output.is_empty() {
                if *budget == 0 {
                    return Ok(());
                }
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled = output.fill_slices(&mut slices);
                match Pin::new(&mut *socket).poll_write_vectored(task, &slices[..filled])? {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(count) => {
                        output.advance(count);
                        *budget = budget.saturating_sub(count);
                    }
                }
            }
        }
    }
}

/// Has the task wake up again after all those that are woken already, and after the sockets have been looked at.
fn go_on_later(task: &mut Context<'_>) {
    // It puts the waker aside until then; its own answer, the next time, is not waited for.
    let asked = pin!(tokio::task::yield_now()).poll(task);
    debug_assert!(asked.is_pending());
}
