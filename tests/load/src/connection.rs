//! One AMQP connection as a client sees it: a socket, what was read from it, and what is to be written.
//!
//! Opens and declares in blocking calls; the data path then reads and writes what the socket takes at once.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use leveret_codec::protocol::{basic, channel, confirm, connection, exchange, queue};
use leveret_codec::{
    AMQPClass, AMQPValue, ChannelNumber, FieldTable, Frame, FrameKind, Method, PROTOCOL_HEADER,
    decode_method, read_frame, shorten, write_heartbeat, write_method,
};

use crate::error::Error;
use crate::options::Options;

/// The channel everything happens on.
pub(crate) const CHANNEL: ChannelNumber = ChannelNumber(1);

const FRAME_MAX: u32 = 131_072;

/// Buffer of a connection that moves messages.
pub(crate) const BULK: usize = 512 * 1024;
/// Buffer of one that hears short answers only.
pub(crate) const SMALL: usize = 4096;

/// Bytes read and not yet looked at.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Input {
    fn new(room: usize) -> Self {
        Self {
            bytes: vec![0; room],
            from: 0,
            to: 0,
        }
    }

    /// The next whole frame.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let waiting = self.bytes.get(self.from..self.to).unwrap_or_default();
        let frame = read_frame(waiting, 0)?;
        self.from += frame.map_or(0, |frame| frame.wire_length());
        Ok(frame)
    }

    /// Room for another read, behind what is left of a frame.
    fn room(&mut self) -> &mut [u8] {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.bytes.len() {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        self.bytes.get_mut(self.to..).unwrap_or_default()
    }
}

/// What a read that does not wait found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Bytes, and perhaps there are more.
    Full,
    /// Bytes, and there were no more.
    Partly,
    /// Nothing.
    Empty,
}

/// A connection to the broker.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: Input,
    /// Frames to be written.
    pub(crate) output: Vec<u8>,
    written: usize,
    /// Largest frame, overhead included.
    pub(crate) frame_max: u32,
    /// Product and version as the broker tells them.
    pub(crate) server: String,
}

fn connection_method(method: connection::AMQPMethod) -> AMQPClass {
    AMQPClass::Connection(method)
}

fn client_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert(
        "product".into(),
        AMQPValue::LongString("leveret-load".into()),
    );
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

fn announced(properties: &FieldTable) -> String {
    let text = |name: &str| {
        let value = properties
            .inner()
            .get(name)
            .and_then(AMQPValue::as_long_string);
        value.map_or(String::new(), ToString::to_string)
    };
    format!("{} {}", text("product"), text("version"))
}

impl Connection {
    /// Opens a connection with a read buffer of `room` bytes.
    pub(crate) fn open(options: &Options, room: usize) -> Result<Self, Error> {
        let stream = TcpStream::connect(&options.broker)?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            input: Input::new(room),
            output: PROTOCOL_HEADER.to_vec(),
            written: 0,
            frame_max: FRAME_MAX,
            server: String::new(),
        };
        connection.handshake(options)?;
        Ok(connection)
    }

    /// Opens a connection and its channel.
    pub(crate) fn open_with_channel(options: &Options, room: usize) -> Result<Self, Error> {
        let mut connection = Self::open(options, room)?;
        connection.open_channel()?;
        Ok(connection)
    }

    fn handshake(&mut self, options: &Options) -> Result<(), Error> {
        let AMQPClass::Connection(connection::AMQPMethod::Start(start)) = self.answer()? else {
            return Err(Error::Broker("no connection.start".to_owned()));
        };
        self.server = announced(&start.server_properties);
        let login = format!("\0{}\0{}", options.user, options.password);
        let start_ok = connection::StartOk {
            client_properties: client_properties(),
            mechanism: "PLAIN".into(),
            response: login.as_str().into(),
            locale: "en_US".into(),
        };
        let start_ok = connection_method(connection::AMQPMethod::StartOk(start_ok));
        let AMQPClass::Connection(connection::AMQPMethod::Tune(tune)) =
            self.call(ChannelNumber::CONNECTION, &start_ok)?
        else {
            return Err(Error::Broker("no connection.tune".to_owned()));
        };
        if tune.frame_max != 0 {
            self.frame_max = tune.frame_max.min(FRAME_MAX);
        }
        let tune_ok = connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: self.frame_max,
            heartbeat: options.heartbeat,
        };
        let tune_ok = connection_method(connection::AMQPMethod::TuneOk(tune_ok));
        write_method(&mut self.output, ChannelNumber::CONNECTION, &tune_ok);
        let open = connection::Open {
            virtual_host: shorten(&options.vhost),
        };
        self.call(
            ChannelNumber::CONNECTION,
            &connection_method(connection::AMQPMethod::Open(open)),
        )?;
        Ok(())
    }

    /// Sends a method and waits for the next that comes.
    pub(crate) fn call(
        &mut self,
        channel: ChannelNumber,
        method: &AMQPClass,
    ) -> Result<AMQPClass, Error> {
        write_method(&mut self.output, channel, method);
        self.answer()
    }

    fn answer(&mut self) -> Result<AMQPClass, Error> {
        self.flush_waiting()?;
        loop {
            while let Some(frame) = self.input.frame()? {
                if let Some(method) = control(&frame)? {
                    return Ok(method);
                }
            }
            let room = self.input.room();
            match self.stream.read(room)? {
                0 => return Err(ErrorKind::UnexpectedEof.into_io()),
                more => self.input.to += more,
            }
        }
    }

    fn flush_waiting(&mut self) -> Result<(), Error> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Opens the channel.
    pub(crate) fn open_channel(&mut self) -> Result<(), Error> {
        let open = channel::AMQPMethod::Open(channel::Open {});
        self.call(CHANNEL, &AMQPClass::Channel(open)).map(drop)
    }

    /// Closes the channel.
    pub(crate) fn close_channel(&mut self) -> Result<(), Error> {
        let close = channel::Close {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        };
        let close = channel::AMQPMethod::Close(close);
        self.call(CHANNEL, &AMQPClass::Channel(close)).map(drop)
    }

    /// Closes the connection in order.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.stream.set_nonblocking(false)?;
        let close = connection::Close {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        };
        let close = connection_method(connection::AMQPMethod::Close(close));
        write_method(&mut self.output, ChannelNumber::CONNECTION, &close);
        loop {
            // Whatever was under way comes first.
            let closed = connection_method(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
            if self.answer()? == closed {
                return Ok(());
            }
        }
    }

    /// Publishes are confirmed from now on.
    pub(crate) fn select_confirms(&mut self) -> Result<(), Error> {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        self.call(CHANNEL, &AMQPClass::Confirm(select)).map(drop)
    }

    /// Limits what consumers that follow have unacknowledged.
    pub(crate) fn limit_prefetch(&mut self, prefetch_count: u16) -> Result<(), Error> {
        let qos = basic::AMQPMethod::Qos(basic::Qos {
            prefetch_count,
            global: false,
        });
        self.call(CHANNEL, &AMQPClass::Basic(qos)).map(drop)
    }

    /// Begins to consume; deliveries may come from now on.
    pub(crate) fn consume(&mut self, queue: &str, tag: &str, no_ack: bool) -> Result<(), Error> {
        let consume = basic::AMQPMethod::Consume(basic::Consume {
            queue: shorten(queue),
            consumer_tag: shorten(tag),
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: true,
            arguments: FieldTable::default(),
        });
        // Without waiting, so that an answer need not be told from deliveries before it.
        write_method(&mut self.output, CHANNEL, &AMQPClass::Basic(consume));
        self.flush_waiting()
    }

    /// Declares a queue; answers how many messages it has.
    pub(crate) fn declare_queue(&mut self, declare: queue::Declare) -> Result<u64, Error> {
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        match self.call(CHANNEL, &declare)? {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => Ok(ok.message_count.into()),
            other => Err(Error::Broker(format!("no queue.declare-ok: {other:?}"))),
        }
    }

    /// Deletes a queue; one that is not there, too.
    pub(crate) fn delete_queue(&mut self, name: &str) -> Result<(), Error> {
        let delete = queue::AMQPMethod::Delete(queue::Delete {
            queue: shorten(name),
            if_unused: false,
            if_empty: false,
            nowait: false,
        });
        self.call(CHANNEL, &AMQPClass::Queue(delete)).map(drop)
    }

    /// Binds a queue. With `nowait` the broker does not answer, and what is wrong shows with the next call.
    pub(crate) fn bind(&mut self, bind: queue::Bind) -> Result<(), Error> {
        let nowait = bind.nowait;
        let bind = AMQPClass::Queue(queue::AMQPMethod::Bind(bind));
        if !nowait {
            return self.call(CHANNEL, &bind).map(drop);
        }
        write_method(&mut self.output, CHANNEL, &bind);
        if self.output.len() >= BULK {
            self.flush_waiting()?;
        }
        Ok(())
    }

    /// Takes a binding away.
    pub(crate) fn unbind(&mut self, unbind: queue::Unbind) -> Result<(), Error> {
        let unbind = AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind));
        self.call(CHANNEL, &unbind).map(drop)
    }

    /// Declares an exchange anew.
    pub(crate) fn declare_exchange(
        &mut self,
        name: &str,
        kind: &str,
        durable: bool,
    ) -> Result<(), Error> {
        self.delete_exchange(name)?;
        let declare = exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: shorten(name),
            kind: shorten(kind),
            passive: false,
            durable,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        });
        self.call(CHANNEL, &AMQPClass::Exchange(declare)).map(drop)
    }

    /// Deletes an exchange; one that is not there, too.
    pub(crate) fn delete_exchange(&mut self, name: &str) -> Result<(), Error> {
        let delete = exchange::AMQPMethod::Delete(exchange::Delete {
            exchange: shorten(name),
            if_unused: false,
            nowait: false,
        });
        self.call(CHANNEL, &AMQPClass::Exchange(delete)).map(drop)
    }

    /// Says that this end lives.
    pub(crate) fn beat(&mut self) -> Result<(), Error> {
        write_heartbeat(&mut self.output);
        self.write().map(drop)
    }

    /// Reads what is there, once.
    pub(crate) fn read(&mut self) -> Result<Filled, Error> {
        let room = self.input.room();
        let offered = room.len();
        match (&self.stream).read(room) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into_io()),
            Ok(more) => {
                self.input.to += more;
                Ok(if more == offered {
                    Filled::Full
                } else {
                    Filled::Partly
                })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Filled::Empty),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the socket takes; whether that was all.
    pub(crate) fn write(&mut self) -> Result<bool, Error> {
        while let Some(left @ [_, ..]) = self.output.get(self.written..) {
            match (&self.stream).write(left) {
                Ok(more) => self.written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }
}

/// The method in a frame, where it is one that answers a call.
fn control(frame: &Frame<'_>) -> Result<Option<AMQPClass>, Error> {
    if frame.kind != FrameKind::Method {
        return Ok(None);
    }
    match decode_method(frame.payload) {
        Ok(Method::Control(method)) => {
            closed(&method)?;
            Ok(Some(*method).filter(|method| !is_unasked(method)))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(Error::Broker(error.to_string())),
    }
}

/// What comes without having been asked for.
fn is_unasked(method: &AMQPClass) -> bool {
    matches!(
        method,
        AMQPClass::Basic(basic::AMQPMethod::Deliver(_) | basic::AMQPMethod::Cancel(_))
            | AMQPClass::Connection(
                connection::AMQPMethod::Blocked(_) | connection::AMQPMethod::Unblocked(_)
            )
    )
}

fn closed(method: &AMQPClass) -> Result<(), Error> {
    let text = match method {
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => &close.reply_text,
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => &close.reply_text,
        _ => return Ok(()),
    };
    Err(Error::Broker(format!("closed by the broker: {text}")))
}

/// Looks at a frame of the data path that is none of what was expected there: an error if it ends the run.
pub(crate) fn unexpected(frame: &Frame<'_>) -> Result<(), Error> {
    control(frame).map(drop)
}

trait IntoIo {
    fn into_io(self) -> Error;
}

impl IntoIo for ErrorKind {
    fn into_io(self) -> Error {
        Error::Io(self.into())
    }
}
