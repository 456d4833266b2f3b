//! A client that does one thing at a time and says when it does it: no threads, no queue between caller and socket.
//!
//! That other clients understand the broker is tested with their libraries; here it matters that the order of calls is
//! the order on the wire.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use leveret_codec::protocol::{basic, channel, connection};
use leveret_codec::{
    AMQPClass, AMQPProperties, AMQPValue, ChannelNumber, DeliveryTag, FieldTable, FrameKind,
    Method, PROTOCOL_HEADER, decode_method, decode_properties, encode_header, read_frame,
    value_as_integer, write_ack, write_body, write_header, write_method, write_nack,
};

use crate::PATIENCE;

/// The one channel that a client has.
const CHANNEL: ChannelNumber = ChannelNumber(1);

const FRAME_MAX: u32 = 131_072;

/// Something from the broker.
#[derive(Debug)]
pub enum Incoming {
    /// A message: basic.deliver, or basic.get-ok.
    Delivery(Delivery),
    /// Confirms up to this tag, or of it alone.
    Acked {
        /// Of the publish, from 1 on.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// Refusals, likewise.
    Nacked {
        /// Of the publish.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// Any other method.
    Method(AMQPClass),
}

/// A message.
#[derive(Debug)]
pub struct Delivery {
    /// By which it is settled.
    pub tag: u64,
    /// The flag.
    pub redelivered: bool,
    /// The header x-delivery-count.
    pub count: Option<u64>,
    /// The header x-stream-offset.
    pub offset: Option<u64>,
    /// What was published.
    pub body: Vec<u8>,
}

/// A connection with channel 1 open.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Came while an answer was waited for.
    early: VecDeque<Incoming>,
    /// A message of which not all is there.
    partial: Option<(Delivery, u64)>,
}

impl Client {
    /// Connects as guest and opens channel 1.
    ///
    /// # Errors
    /// The broker is not there, or has gone.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut client = Self {
            socket: TcpStream::connect(address)?,
            input: Vec::new(),
            output: PROTOCOL_HEADER.to_vec(),
            early: VecDeque::new(),
            partial: None,
        };
        client.socket.set_nodelay(true)?;
        client.answer()?;
        let start = connection::StartOk {
            client_properties: FieldTable::default(),
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "en_US".into(),
        };
        client.say_on(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(connection::AMQPMethod::StartOk(start)),
        );
        client.answer()?;
        let tune = connection::TuneOk {
            channel_max: 2047,
            frame_max: FRAME_MAX,
            heartbeat: 0,
        };
        client.say_on(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune)),
        );
        let open = connection::Open {
            virtual_host: "/".into(),
        };
        client.say_on(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(connection::AMQPMethod::Open(open)),
        );
        client.answer()?;
        client.call(&AMQPClass::Channel(channel::AMQPMethod::Open(
            channel::Open {},
        )))?;
        Ok(client)
    }

    fn say_on(&mut self, number: ChannelNumber, method: &AMQPClass) {
        write_method(&mut self.output, number, method);
    }

    /// Writes a method, to be sent with the next [`flush`](Self::flush).
    pub fn say(&mut self, method: &AMQPClass) {
        self.say_on(CHANNEL, method);
    }

    /// Writes a persistent message.
    pub fn publish(&mut self, exchange: &str, routing_key: &str, body: &[u8]) {
        self.publish_as(exchange, routing_key, AMQPProperties::default(), body);
    }

    /// Writes a persistent message with these properties.
    pub fn publish_as(
        &mut self,
        exchange: &str,
        routing_key: &str,
        properties: AMQPProperties,
        body: &[u8],
    ) {
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            mandatory: false,
            immediate: false,
        };
        self.say(&AMQPClass::Basic(basic::AMQPMethod::Publish(publish)));
        let properties = properties.with_delivery_mode(2);
        let header = encode_header(body.len() as u64, &properties);
        write_header(&mut self.output, CHANNEL, &header);
        write_body(&mut self.output, CHANNEL, FRAME_MAX, body);
    }

    /// Writes an acknowledgement.
    pub fn ack(&mut self, tag: u64, multiple: bool) {
        write_ack(&mut self.output, CHANNEL, DeliveryTag(tag), multiple);
    }

    /// Writes a refusal.
    pub fn nack(&mut self, tag: u64, requeue: bool) {
        write_nack(&mut self.output, CHANNEL, DeliveryTag(tag), false, requeue);
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// The broker has gone.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self.socket.write_all(&self.output);
        self.output.clear();
        sent
    }

    /// Sends a method with all that was written, and waits for its answer.
    ///
    /// # Errors
    /// The broker has gone, or has closed the channel.
    pub fn call(&mut self, method: &AMQPClass) -> io::Result<AMQPClass> {
        self.say(method);
        self.answer()
    }

    /// Asks for one message of a queue; None if there is none.
    ///
    /// # Errors
    /// The broker has gone.
    pub fn get(&mut self, queue: &str) -> io::Result<Option<Delivery>> {
        let get = basic::Get {
            queue: queue.into(),
            no_ack: false,
        };
        self.say(&AMQPClass::Basic(basic::AMQPMethod::Get(get)));
        self.flush()?;
        match self.receive(PATIENCE)? {
            Some(Incoming::Delivery(delivery)) => Ok(Some(delivery)),
            Some(Incoming::Method(AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)))) => Ok(None),
            other => Err(io::Error::other(format!("instead of get-ok: {other:?}"))),
        }
    }

    /// Says goodbye and waits for the answer: what this client did is done.
    ///
    /// # Errors
    /// The broker has gone.
    pub fn close(mut self) -> io::Result<()> {
        let close = connection::Close {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        };
        self.say_on(
            ChannelNumber::CONNECTION,
            &AMQPClass::Connection(connection::AMQPMethod::Close(close)),
        );
        loop {
            let answer = self.answer()?;
            if matches!(
                answer,
                AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))
            ) {
                return Ok(());
            }
        }
    }

    fn answer(&mut self) -> io::Result<AMQPClass> {
        self.flush()?;
        loop {
            match self.receive(PATIENCE)? {
                Some(Incoming::Method(method)) => return Ok(method),
                Some(other) => self.early.push_back(other),
                None => return Err(io::Error::other("the broker does not answer")),
            }
        }
    }

    /// The next thing from the broker, for at most this long.
    ///
    /// # Errors
    /// The broker has gone, or has closed the channel.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Incoming>> {
        match self.early.pop_front() {
            Some(incoming) => Ok(Some(incoming)),
            None => self.receive(patience),
        }
    }

    fn receive(&mut self, patience: Duration) -> io::Result<Option<Incoming>> {
        loop {
            if let Some(incoming) = self.take_frames()? {
                return Ok(Some(incoming));
            }
            // Zero would be for ever.
            let patience = patience.max(Duration::from_micros(1));
            self.socket.set_read_timeout(Some(patience))?;
            let mut bytes = [0; 65536];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Ok(read) => self.input.extend_from_slice(&bytes[..read]),
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes frames out of what was read, until something is whole.
    fn take_frames(&mut self) -> io::Result<Option<Incoming>> {
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        let mut found = None;
        while found.is_none()
            && let Some(frame) = read_frame(rest, FRAME_MAX).map_err(io::Error::other)?
        {
            rest = &rest[frame.wire_length()..];
            found = match frame.kind {
                FrameKind::Method => {
                    let method = decode_method(frame.payload).map_err(io::Error::other)?;
                    self.take_method(method)?
                }
                FrameKind::Header => self.take_header(frame.payload)?,
                FrameKind::Body => self.take_body(frame.payload),
                FrameKind::Heartbeat => None,
            };
        }
        self.input = rest.to_vec();
        Ok(found)
    }

    fn take_method(&mut self, method: Method<'_>) -> io::Result<Option<Incoming>> {
        let (tag, redelivered) = match method {
            Method::Ack {
                delivery_tag: DeliveryTag(tag),
                multiple,
            } => return Ok(Some(Incoming::Acked { tag, multiple })),
            Method::Nack {
                delivery_tag: DeliveryTag(tag),
                multiple,
                ..
            } => return Ok(Some(Incoming::Nacked { tag, multiple })),
            Method::Control(method) => match *method {
                AMQPClass::Basic(basic::AMQPMethod::Deliver(it)) => {
                    (it.delivery_tag, it.redelivered)
                }
                AMQPClass::Basic(basic::AMQPMethod::GetOk(it)) => (it.delivery_tag, it.redelivered),
                AMQPClass::Channel(channel::AMQPMethod::Close(it)) => {
                    return Err(io::Error::other(it.reply_text.to_string()));
                }
                AMQPClass::Connection(connection::AMQPMethod::Close(it)) => {
                    return Err(io::Error::other(it.reply_text.to_string()));
                }
                method => return Ok(Some(Incoming::Method(method))),
            },
            other => return Err(io::Error::other(format!("{other:?}"))),
        };
        let delivery = Delivery {
            tag,
            redelivered,
            count: None,
            offset: None,
            body: Vec::new(),
        };
        self.partial = Some((delivery, 0));
        Ok(None)
    }

    fn take_header(&mut self, payload: &[u8]) -> io::Result<Option<Incoming>> {
        let size = payload.get(4..12).and_then(|size| size.try_into().ok());
        let size = u64::from_be_bytes(size.unwrap_or_default());
        let properties = decode_properties(payload).map_err(io::Error::other)?;
        let headers = properties.headers().clone().unwrap_or_default();
        let Some((delivery, body_size)) = &mut self.partial else {
            return Err(io::Error::other("a header without its method"));
        };
        let number = |name| headers.inner().get(name).and_then(integer);
        delivery.count = number("x-delivery-count");
        delivery.offset = number("x-stream-offset");
        *body_size = size;
        Ok(self.finish())
    }

    fn take_body(&mut self, payload: &[u8]) -> Option<Incoming> {
        if let Some((delivery, _)) = &mut self.partial {
            delivery.body.extend_from_slice(payload);
        }
        self.finish()
    }

    fn finish(&mut self) -> Option<Incoming> {
        let whole = |(delivery, size): &mut (Delivery, u64)| delivery.body.len() as u64 >= *size;
        let (delivery, _) = self.partial.take_if(whole)?;
        Some(Incoming::Delivery(delivery))
    }
}

fn integer(value: &AMQPValue) -> Option<u64> {
    value_as_integer(value).and_then(|value| u64::try_from(value).ok())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The broker has gone away, as opposed to having said that something is wrong.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}
