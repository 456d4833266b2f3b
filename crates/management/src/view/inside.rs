//! A connection of the API's own to the broker: what a user may do by AMQP is done so, within the process. Names,
//! permissions, limits, equivalence of what is there already, durability and the texts of refusals are then those that
//! every client meets.

use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use leveret_codec::protocol::{channel, connection};
use leveret_codec::{
    AMQPClass, AMQPValue, ChannelNumber, FRAME_SIZE_BEFORE_TUNING, FieldTable, FrameKind,
    LongString, Method, PROTOCOL_HEADER, ShortString, decode_method, read_frame, write_body,
    write_header, write_method,
};
use leveret_session::{Peer, Session};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Caller, View};

/// rabbitmq: `reply_success`
const REPLY_SUCCESS: u16 = 200;
/// The one channel.
const CHANNEL: ChannelNumber = ChannelNumber(1);
/// How long the broker may take for one answer: a disk that is full or very slow takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to let go of a connection.
const GOODBYE_WITHIN: Duration = Duration::from_secs(5);

/// Why the broker does not do it.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It says so.
    Said {
        /// AMQP's code.
        code: u16,
        /// Its text.
        text: String,
    },
    /// This cannot be a name.
    Name(String),
    /// It has not answered in time, or not as it should.
    Late,
}

/// What the broker says, piece by piece.
#[derive(Debug)]
pub(crate) enum Said {
    /// A method, but for the next two.
    Method(Box<AMQPClass>),
    /// What was published is confirmed, or could not be taken.
    Confirmed(bool),
    /// A content header.
    Header(Vec<u8>),
    /// A part of a body.
    Body(Vec<u8>),
}

/// The connection, with one open channel.
pub(crate) struct Inside {
    view: View,
    session: Session,
    bell: Arc<Bell>,
    /// Said to the broker, and not taken by it yet.
    input: BytesMut,
    /// Said by the broker, and not read yet.
    output: BytesMut,
    frame_max: u32,
    /// The broker has closed the connection.
    is_closed: bool,
}

/// Rung by the broker when the session has something to do.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    heard: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.heard.notify_one();
    }
}

impl Inside {
    /// Connects as somebody who has just logged in, and opens a channel.
    pub(super) async fn open(view: &View, by: &Caller, vhost: &str) -> Result<Self, Refused> {
        let bell = Arc::<Bell>::default();
        let peer = Peer {
            remote: by.from,
            local: by.from,
            tls_identity: None,
            listed: false,
        };
        let waker = Waker::from(Arc::clone(&bell));
        let session = Session::new(&view.broker, peer, waker, view.host.after_now());
        let mut inside = Self {
            view: view.clone(),
            session,
            bell,
            input: BytesMut::from(&PROTOCOL_HEADER[..]),
            output: BytesMut::new(),
            frame_max: FRAME_SIZE_BEFORE_TUNING,
            is_closed: false,
        };
        inside.shake_hands(by, vhost).await?;
        Ok(inside)
    }

    async fn shake_hands(&mut self, by: &Caller, vhost: &str) -> Result<(), Refused> {
        use connection::AMQPMethod::{Open, StartOk, TuneOk};
        self.method().await?;
        let response = [b"\0", by.user.name.as_bytes(), b"\0", &by.password].concat();
        self.say(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(StartOk(connection::StartOk {
                client_properties: about_us(),
                mechanism: ShortString::from("PLAIN"),
                response: LongString::from(response),
                locale: ShortString::from("en_US"),
            })),
        );
        let AMQPClass::Connection(connection::AMQPMethod::Tune(tune)) = self.method().await? else {
            return Err(Refused::Late);
        };
        self.frame_max = tune.frame_max;
        self.say(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(TuneOk(connection::TuneOk {
                channel_max: tune.channel_max,
                frame_max: tune.frame_max,
                heartbeat: 0,
            })),
        );
        self.say(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(Open(connection::Open {
                virtual_host: short(vhost)?,
            })),
        );
        self.method().await?;
        let open = channel::AMQPMethod::Open(channel::Open {});
        self.call(AMQPClass::Channel(open)).await?;
        Ok(())
    }

    /// Says a method on the channel and waits for its answer.
    pub(crate) async fn call(&mut self, method: AMQPClass) -> Result<AMQPClass, Refused> {
        self.tell(&method);
        self.method().await
    }

    /// Says a method on the channel that is not answered, or not at once.
    pub(crate) fn tell(&mut self, method: &AMQPClass) {
        self.say(CHANNEL, method);
    }

    /// Says the content that belongs to the method before.
    pub(crate) fn tell_content(&mut self, header: &[u8], body: &[u8]) {
        let mut frames = Vec::new();
        write_header(&mut frames, CHANNEL, header);
        write_body(&mut frames, CHANNEL, self.frame_max, body);
        self.input.extend_from_slice(&frames);
    }

    /// The next thing that the broker says.
    ///
    /// # Errors
    /// It closes the channel or the connection, or says nothing in time.
    pub(crate) async fn next(&mut self) -> Result<Said, Refused> {
        let next = timeout(ANSWER_WITHIN, self.hear());
        next.await.unwrap_or(Err(Refused::Late))
    }

    /// Says goodbye and waits until the broker has let go of everything.
    pub(crate) async fn close(mut self) {
        use connection::AMQPMethod::{Close, CloseOk};
        if self.is_closed {
            self.say(
                ChannelNumber::CONNECTION,
                &AMQPClass::Connection(CloseOk(connection::CloseOk {})),
            );
            return self.turn();
        }
        let close = connection::Close {
            reply_code: REPLY_SUCCESS,
            reply_text: ShortString::default(),
            class_id: 0,
            method_id: 0,
        };
        self.say(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(Close(close)),
        );
        // What was on its way is of no interest, nor that it does not answer in time.
        let goodbye = async {
            while let Ok(said) = self.hear().await {
                if let Said::Method(method) = said
                    && matches!(*method, AMQPClass::Connection(CloseOk(_)))
                {
                    return;
                }
            }
        };
        drop(timeout(GOODBYE_WITHIN, goodbye).await);
    }

    fn say(&mut self, channel: ChannelNumber, method: &AMQPClass) {
        let mut frame = Vec::new();
        write_method(&mut frame, channel, method);
        self.input.extend_from_slice(&frame);
    }

    /// The next method; nothing else may come before it.
    async fn method(&mut self) -> Result<AMQPClass, Refused> {
        match self.next().await? {
            Said::Method(method) => Ok(*method),
            _ => Err(Refused::Late),
        }
    }

    async fn hear(&mut self) -> Result<Said, Refused> {
        loop {
            self.turn();
            if let Some(said) = self.read()? {
                return Ok(said);
            }
            if self.session.is_finished() {
                return Err(Refused::Late);
            }
            if self.session.wants_input() && !self.input.is_empty() {
                // Others of the thread first: this was a turn's worth of work.
                tokio::task::yield_now().await;
                continue;
            }
            let bell = Arc::clone(&self.bell);
            tokio::select! {
                () = bell.heard.notified() => {}
                () = self.deadline() => {}
            }
        }
    }

    /// Returns when the session has to be looked at though nobody rang.
    fn deadline(&self) -> impl Future<Output = ()> + use<> {
        let due = self.session.poll_timeout().map(|due| {
            let left = due.0.saturating_sub(self.view.now().0);
            // A deadline is due in the millisecond that has begun with it.
            Duration::from_millis(left + 1)
        });
        async move {
            match due {
                Some(due) => sleep(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Has the session do what it can do now.
    fn turn(&mut self) {
        if self.bell.rung.swap(false, Ordering::SeqCst) {
            self.session.handle_wake(self.view.host.after_now());
        }
        let now = self.view.now();
        if self.session.poll_timeout().is_some_and(|due| due <= now) {
            self.session.handle_timeout(now);
        }
        if self.session.wants_input() && !self.input.is_empty() {
            self.session
                .receive(&mut self.input, self.view.host.after_now());
        }
        self.session.transmit(self.view.host.after_now());
        let output = self.session.output();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = output.fill_slices(&mut slices);
            let before = self.output.len();
            for slice in slices.iter().take(filled) {
                self.output.extend_from_slice(slice);
            }
            output.advance(self.output.len() - before);
        }
    }

    /// Takes a frame off what the broker said. Its heartbeats are passed over: there are none.
    fn read(&mut self) -> Result<Option<Said>, Refused> {
        let Ok(Some(frame)) = read_frame(&self.output, 0) else {
            return Ok(None);
        };
        let length = frame.wire_length();
        let said = match frame.kind {
            FrameKind::Header => Ok(Said::Header(frame.payload.to_vec())),
            FrameKind::Body => Ok(Said::Body(frame.payload.to_vec())),
            FrameKind::Heartbeat => Err(Refused::Late),
            FrameKind::Method => match decode_method(frame.payload) {
                Ok(Method::Ack { .. }) => Ok(Said::Confirmed(true)),
                Ok(Method::Nack { .. }) => Ok(Said::Confirmed(false)),
                Ok(Method::Control(method)) => {
                    use connection::AMQPMethod::Close;
                    self.is_closed |= matches!(*method, AMQPClass::Connection(Close(_)));
                    understood(method)
                }
                _ => Err(Refused::Late),
            },
        };
        drop(self.output.split_to(length));
        said.map(Some)
    }
}

/// A method, unless it says that the broker will have no more of this.
fn understood(method: Box<AMQPClass>) -> Result<Said, Refused> {
    let (code, text) = match &*method {
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
            (close.reply_code, &close.reply_text)
        }
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
            (close.reply_code, &close.reply_text)
        }
        _ => return Ok(Said::Method(method)),
    };
    let text = text.as_str();
    // rabbitmq: its API says the text without the code's name
    let text = text.split_once(" - ").map_or(text, |(_, text)| text);
    Err(Refused::Said {
        code,
        text: text.to_owned(),
    })
}

/// A name as AMQP has it.
pub(super) fn short(name: &str) -> Result<ShortString, Refused> {
    if name.len() > usize::from(u8::MAX) {
        return Err(Refused::Name(name.to_owned()));
    }
    Ok(ShortString::from(name))
}

fn about_us() -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "authentication_failure_close",
        "publisher_confirms",
        "basic.nack",
    ] {
        capabilities.insert(ShortString::from(name), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    let name = LongString::from("management");
    properties.insert(
        ShortString::from("connection_name"),
        AMQPValue::LongString(name),
    );
    let capabilities = AMQPValue::FieldTable(capabilities);
    properties.insert(ShortString::from("capabilities"), capabilities);
    properties
}
