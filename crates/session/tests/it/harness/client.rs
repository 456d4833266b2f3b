//! A client that speaks frames to a session; what it is told, it keeps until the test looks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use leveret_codec::{
    AMQPProperties, AMQPValue, FieldTable, Frame, FrameKind, PROTOCOL_HEADER, decode_header,
    decode_properties, read_frame,
};
use leveret_message::Timestamp;
use leveret_session::{Peer, Session};

pub use super::calls::{Flag, number, string};
use super::wire::{self, Arguments};
use super::{Woken, World};

/// The frame size that [`Client::connect`] agrees on.
pub(super) const FRAME_MAX: u32 = 131_072;

/// Something the broker said; content comes with the method before it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub text: String,
    /// Of a message that was delivered.
    pub routing_key: String,
    /// The content header's payload.
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    /// Bytes of body that are still to come; None: not even the header is here.
    missing: Option<u64>,
}

impl Seen {
    fn has_content(&self) -> bool {
        let text = self
            .text
            .split_once(": ")
            .map_or(self.text.as_str(), |(_, text)| text);
        ["deliver ", "get-ok ", "return "]
            .iter()
            .any(|start| text.starts_with(start))
    }

    pub fn properties(&self) -> AMQPProperties {
        decode_properties(&self.header).expect("properties")
    }

    pub fn headers(&self) -> FieldTable {
        self.properties().headers().clone().unwrap_or_default()
    }

    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Method and body in one line.
    pub(super) fn line(&self) -> String {
        const SHOWN_MAX: usize = 60;
        match self.body.len() {
            _ if !self.has_content() => self.text.clone(),
            0..=SHOWN_MAX => format!("{} '{}'", self.text, self.body_text()),
            length => format!("{} [{length} bytes]", self.text),
        }
    }
}

/// A session, and what flows between it and its client.
pub struct Wired {
    /// None once the socket is closed.
    pub session: Option<Session>,
    woken: Arc<Woken>,
    input: BytesMut,
    output: Vec<u8>,
    pub(super) seen: Vec<Seen>,
    /// The client reads its socket.
    reads: bool,
}

impl Wired {
    /// What a driver does in one turn; true if anything moved.
    pub fn turn(&mut self, now: Timestamp) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let mut moved = self.woken.take();
        if moved {
            session.handle_wake(now);
        }
        if !self.input.is_empty() && session.wants_input() {
            let before = self.input.len();
            session.receive(&mut self.input, now);
            moved |= self.input.len() < before || session.has_done_enough();
        }
        session.transmit(now);
        if self.reads || session.is_finished() {
            moved |= drain(session, &mut self.output);
        }
        if session.is_finished() {
            self.session = None;
            moved = true;
        }
        self.parse();
        moved
    }

    fn parse(&mut self) {
        if self.output.starts_with(b"AMQP") {
            let text = format!("protocol header {:?}", self.output.split_off(4));
            self.output.clear();
            self.seen.push(Seen {
                text,
                ..Seen::default()
            });
        }
        let mut used = 0;
        while let Some(frame) =
            read_frame(&self.output[used..], 0).expect("the broker writes whole frames")
        {
            used += frame.wire_length();
            take_frame(&mut self.seen, &frame);
        }
        self.output.drain(..used);
    }
}

fn take_frame(seen: &mut Vec<Seen>, frame: &Frame<'_>) {
    match frame.kind {
        FrameKind::Method => seen.push(Seen {
            text: wire::describe(frame),
            routing_key: wire::routing_key(frame).unwrap_or_default(),
            ..Seen::default()
        }),
        FrameKind::Heartbeat => seen.push(Seen {
            text: "heartbeat".to_owned(),
            ..Seen::default()
        }),
        FrameKind::Header => {
            let last = seen.last_mut().expect("a method before its content");
            assert!(last.has_content() && last.missing.is_none(), "{last:?}");
            last.header = frame.payload.to_vec();
            last.missing = Some(
                decode_header(frame.payload)
                    .expect("a content header")
                    .body_size,
            );
        }
        FrameKind::Body => {
            let last = seen.last_mut().expect("a header before its body");
            let length = frame.payload.len() as u64;
            last.missing = last.missing.and_then(|missing| missing.checked_sub(length));
            assert!(last.missing.is_some(), "more body than announced");
            last.body.extend_from_slice(frame.payload);
        }
    }
}

fn drain(session: &mut Session, into: &mut Vec<u8>) -> bool {
    let output = session.output();
    let before = into.len();
    while !output.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let filled = output.fill_slices(&mut slices);
        let taken: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
        for slice in &slices[..filled] {
            into.extend_from_slice(slice);
        }
        output.advance(taken);
    }
    into.len() > before
}

/// How a client introduces itself.
#[derive(Clone, Debug)]
pub struct Dial {
    pub remote: &'static str,
    pub tls_identity: Option<String>,
    pub capabilities: Vec<&'static str>,
    pub mechanism: &'static str,
    pub response: Vec<u8>,
    pub vhost: &'static str,
    pub frame_max: u32,
    pub channel_max: u16,
    pub heartbeat_s: u16,
}

impl Default for Dial {
    fn default() -> Self {
        Dial {
            remote: "127.0.0.1:40000",
            tls_identity: None,
            capabilities: vec![
                "authentication_failure_close",
                "connection.blocked",
                "consumer_cancel_notify",
                "basic.nack",
                "publisher_confirms",
            ],
            mechanism: "PLAIN",
            response: b"\0guest\0guest".to_vec(),
            vhost: "/",
            frame_max: FRAME_MAX,
            channel_max: 2047,
            heartbeat_s: 0,
        }
    }
}

impl Dial {
    pub fn start_ok(&self) -> Vec<u8> {
        let mut capabilities = FieldTable::default();
        for name in &self.capabilities {
            capabilities.insert((*name).into(), AMQPValue::Boolean(true));
        }
        let mut properties = FieldTable::default();
        properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        let arguments = Arguments::new()
            .table(&properties)
            .short(self.mechanism)
            .long(&self.response)
            .short("en_US");
        wire::method(0, (10, 11), arguments)
    }

    pub fn tune_ok(&self) -> Vec<u8> {
        let arguments = Arguments::new()
            .u16(self.channel_max)
            .u32(self.frame_max)
            .u16(self.heartbeat_s);
        wire::method(0, (10, 31), arguments)
    }

    pub fn open(&self) -> Vec<u8> {
        let arguments = Arguments::new().short(self.vhost).short("").octet(0);
        wire::method(0, (10, 40), arguments)
    }
}

/// A message to publish.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    pub exchange: &'static str,
    pub mandatory: bool,
    pub properties: AMQPProperties,
}

impl Properties {
    pub fn to(exchange: &'static str) -> Self {
        Properties {
            exchange,
            ..Properties::default()
        }
    }

    pub fn persistent() -> Self {
        Properties::of(AMQPProperties::default().with_delivery_mode(2))
    }

    pub fn of(properties: AMQPProperties) -> Self {
        Properties {
            properties,
            ..Properties::default()
        }
    }

    pub fn expiring(milliseconds: &str) -> Self {
        Properties::of(AMQPProperties::default().with_expiration(milliseconds.into()))
    }

    pub fn priority(priority: u8) -> Self {
        Properties::of(AMQPProperties::default().with_priority(priority))
    }

    pub fn mandatory(mut self) -> Self {
        self.mandatory = true;
        self
    }
}

/// One channel of a connection. Clones, and [`Client::on`], are of the same connection.
#[derive(Clone)]
pub struct Client {
    pub(super) world: Rc<World>,
    pub(super) wired: Rc<RefCell<Wired>>,
    pub(super) channel: u16,
}

impl Client {
    /// A socket that was accepted; nothing is sent yet.
    pub fn socket(world: &Rc<World>, dial: &Dial) -> Client {
        let (woken, waker) = world.waker();
        let peer = Peer {
            remote: dial.remote.parse().expect("an address"),
            local: "127.0.0.1:5672".parse().expect("an address"),
            tls_identity: dial.tls_identity.clone(),
            listed: true,
        };
        let session = Session::new(&world.broker, peer, waker, world.now());
        let wired = Rc::new(RefCell::new(Wired {
            session: Some(session),
            woken,
            input: BytesMut::new(),
            output: Vec::new(),
            seen: Vec::new(),
            reads: true,
        }));
        world.join(&wired);
        Client {
            world: Rc::clone(world),
            wired,
            channel: 1,
        }
    }

    /// An open connection.
    pub fn connect(world: &Rc<World>, dial: Dial) -> Client {
        let client = Client::socket(world, &dial);
        client.send(&PROTOCOL_HEADER);
        client.send(&dial.start_ok());
        client.send(&dial.tune_ok());
        client.send(&dial.open());
        client.expect(&["start", "tune 2047 131072 60", "open-ok"]);
        client
    }

    /// Where it is.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// This connection, on another channel.
    pub fn on(&self, channel: u16) -> Client {
        Client {
            channel,
            ..self.clone()
        }
    }

    /// Opens a channel.
    pub fn with_channel(&self, channel: u16) -> Client {
        let client = self.on(channel);
        client.call((20, 10), Arguments::new().short(""));
        client.expect(&[match channel {
            1 => "channel.open-ok".to_owned(),
            number => format!("{number}: channel.open-ok"),
        }]);
        client
    }

    /// Bytes into the socket, without anybody looking at them yet.
    pub fn write(&self, bytes: &[u8]) {
        self.wired.borrow_mut().input.extend_from_slice(bytes);
    }

    /// What its driver does in one turn, and nobody else anything.
    pub fn turn(&self) {
        self.wired.borrow_mut().turn(self.world.now());
    }

    pub fn send(&self, bytes: &[u8]) {
        self.write(bytes);
        self.world.run();
    }

    /// Sends a method.
    pub fn call(&self, ids: (u16, u16), arguments: Arguments) {
        self.send(&wire::method(self.channel, ids, arguments));
    }

    /// What was said since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.wired.borrow_mut().seen)
    }

    /// Has what was looked at seen again with the next look.
    pub fn put_back(&self, seen: Vec<Seen>) {
        self.wired.borrow_mut().seen.splice(0..0, seen);
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Exactly this was said since the last look.
    #[track_caller]
    pub fn expect<T: AsRef<str> + std::fmt::Debug>(&self, expected: &[T]) {
        let lines = self.lines();
        let same = lines.len() == expected.len()
            && lines
                .iter()
                .zip(expected)
                .all(|(line, expected)| line == expected.as_ref());
        assert!(same, "expected {expected:#?}\nbut seen {lines:#?}");
    }

    #[track_caller]
    pub fn expect_nothing(&self) {
        self.expect::<&str>(&[]);
    }

    /// The bodies that came since the last look, each with what is remarkable about its delivery.
    pub fn bodies(&self) -> Vec<String> {
        self.seen()
            .iter()
            .map(|seen| {
                assert!(seen.has_content(), "unexpected {seen:?}");
                let redelivered = seen.text.ends_with(" redelivered");
                format!("{}{}", seen.body_text(), if redelivered { "!" } else { "" })
            })
            .collect()
    }

    /// Exactly these bodies were delivered, in this order; `!` marks a redelivery.
    #[track_caller]
    pub fn expect_bodies(&self, expected: &str) {
        assert_eq!(self.bodies().join(" "), expected);
    }

    pub fn is_closed(&self) -> bool {
        self.wired.borrow().session.is_none()
    }

    /// Stops, or begins again, to read the socket.
    pub fn set_reads(&self, reads: bool) {
        self.wired.borrow_mut().reads = reads;
        self.world.run();
    }

    /// What its driver does when there is nothing to do for a while.
    pub fn rest(&self) {
        if let Some(session) = &mut self.wired.borrow_mut().session {
            session.rest();
        }
    }

    /// The session is ready to have its socket read.
    pub fn wants_input(&self) -> bool {
        let wired = self.wired.borrow();
        wired.session.as_ref().is_some_and(Session::wants_input)
    }

    /// Bytes the session holds for the client.
    pub fn output_length(&self) -> usize {
        let mut wired = self.wired.borrow_mut();
        wired
            .session
            .as_mut()
            .map_or(0, |session| session.output().len())
    }

    /// The socket is gone, without a word.
    pub fn vanish(&self) {
        self.wired.borrow_mut().session = None;
        self.world.run();
    }

    /// The socket is gone, as its driver says.
    pub fn disconnect(&self) {
        if let Some(session) = &mut self.wired.borrow_mut().session {
            session.disconnect(self.world.now());
        }
        self.world.run();
    }

    /// Runs the session's side of a server-initiated close.
    pub fn force_close(&self, text: &str) {
        if let Some(session) = &mut self.wired.borrow_mut().session {
            session.close(
                leveret_codec::ReplyCode::ConnectionForced,
                text,
                self.world.now(),
            );
        }
        self.world.run();
    }
}
