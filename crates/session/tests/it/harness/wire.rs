//! The client's side of the wire: frames put together, and answers told in a few words.

use leveret_codec::protocol::{AMQPClass, basic, channel, connection, queue};
use leveret_codec::{
    ChannelNumber, FieldTable, Frame, FrameKind, Method, decode_method, encode_table, method_ids,
    write_body, write_header,
};

/// The arguments of a method, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Arguments(Vec<u8>);

impl Arguments {
    pub fn new() -> Self {
        Arguments::default()
    }

    /// The reserved short that many methods begin with.
    pub fn ticket(self) -> Self {
        self.u16(0)
    }

    pub fn octet(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn short(mut self, text: &str) -> Self {
        self.0
            .push(u8::try_from(text.len()).expect("a short string"));
        self.0.extend(text.as_bytes());
        self
    }

    pub fn long(mut self, text: &[u8]) -> Self {
        self.0
            .extend(u32::try_from(text.len()).expect("a length").to_be_bytes());
        self.0.extend(text);
        self
    }

    /// Booleans, packed.
    pub fn bits(self, bits: &[bool]) -> Self {
        let packed = bits
            .iter()
            .rev()
            .fold(0, |octet, &bit| octet << 1 | u8::from(bit));
        self.octet(packed)
    }

    pub fn table(self, table: &FieldTable) -> Self {
        self.long(&encode_table(table))
    }
}

/// A frame of any kind.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(
        u32::try_from(payload.len())
            .expect("a length")
            .to_be_bytes(),
    );
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

/// A method frame.
pub fn method(channel: u16, (class, method): (u16, u16), arguments: Arguments) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(method.to_be_bytes());
    payload.extend(arguments.0);
    frame(1, channel, &payload)
}

/// A whole publish: method, header, body.
pub fn publish(
    channel: u16,
    exchange: &str,
    key: &str,
    mandatory: bool,
    header: &[u8],
    body: &[u8],
    frame_max: u32,
) -> Vec<u8> {
    let arguments = Arguments::new()
        .ticket()
        .short(exchange)
        .short(key)
        .bits(&[mandatory, false]);
    let mut bytes = method(channel, (60, 40), arguments);
    write_header(&mut bytes, ChannelNumber(channel), header);
    write_body(&mut bytes, ChannelNumber(channel), frame_max, body);
    bytes
}

/// A method from the broker in a few words: its name and what matters of its arguments.
pub fn describe(frame: &Frame<'_>) -> String {
    assert_eq!(frame.kind, FrameKind::Method, "content without its method");
    let what = match decode_method(frame.payload).expect("the broker writes what it can read") {
        Method::Ack {
            delivery_tag,
            multiple,
        } => format!("ack {delivery_tag}{}", flag(multiple, " multiple")),
        Method::Nack {
            delivery_tag,
            multiple,
            ..
        } => format!("nack {delivery_tag}{}", flag(multiple, " multiple")),
        Method::Control(class) => describe_control(&class)
            .unwrap_or_else(|| name(method_ids(frame.payload).expect("a method"))),
        other => panic!("a method only clients send: {other:?}"),
    };
    match frame.channel.0 {
        0 | 1 => what,
        number => format!("{number}: {what}"),
    }
}

/// The routing key of `basic.deliver` and `basic.get-ok`.
pub fn routing_key(frame: &Frame<'_>) -> Option<String> {
    let method = decode_method(frame.payload).ok()?;
    match method.control()? {
        AMQPClass::Basic(basic::AMQPMethod::Deliver(it)) => Some(it.routing_key.to_string()),
        AMQPClass::Basic(basic::AMQPMethod::GetOk(it)) => Some(it.routing_key.to_string()),
        _ => None,
    }
}

fn flag(set: bool, text: &str) -> &str {
    if set { text } else { "" }
}

fn describe_control(class: &AMQPClass) -> Option<String> {
    Some(match class {
        AMQPClass::Basic(basic::AMQPMethod::Deliver(it)) => format!(
            "deliver {} {}{}",
            it.consumer_tag,
            it.delivery_tag,
            flag(it.redelivered, " redelivered")
        ),
        AMQPClass::Basic(basic::AMQPMethod::GetOk(it)) => format!(
            "get-ok {}{} left={}",
            it.delivery_tag,
            flag(it.redelivered, " redelivered"),
            it.message_count
        ),
        AMQPClass::Basic(basic::AMQPMethod::Return(it)) => {
            format!("return {} {}", it.reply_code, it.reply_text)
        }
        AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(it)) => {
            format!("consume-ok {}", it.consumer_tag)
        }
        AMQPClass::Basic(basic::AMQPMethod::CancelOk(it)) => {
            format!("cancel-ok {}", it.consumer_tag)
        }
        AMQPClass::Basic(basic::AMQPMethod::Cancel(it)) => format!("cancel {}", it.consumer_tag),
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(it)) => format!(
            "declare-ok {} {} {}",
            it.queue, it.message_count, it.consumer_count
        ),
        AMQPClass::Queue(queue::AMQPMethod::PurgeOk(it)) => {
            format!("purge-ok {}", it.message_count)
        }
        AMQPClass::Queue(queue::AMQPMethod::DeleteOk(it)) => {
            format!("delete-ok {}", it.message_count)
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(it)) => {
            format!("channel.close {} {}", it.reply_code, it.reply_text)
        }
        AMQPClass::Connection(connection::AMQPMethod::Close(it)) => {
            format!("connection.close {} {}", it.reply_code, it.reply_text)
        }
        AMQPClass::Connection(connection::AMQPMethod::Blocked(it)) => {
            format!("blocked {}", it.reason)
        }
        AMQPClass::Connection(connection::AMQPMethod::Tune(it)) => {
            format!("tune {} {} {}", it.channel_max, it.frame_max, it.heartbeat)
        }
        _ => return None,
    })
}

/// The names of methods that need no more than that.
fn name(ids: (u16, u16)) -> String {
    match ids {
        (10, 10) => "start",
        (10, 41) => "open-ok",
        (10, 51) => "connection.close-ok",
        (10, 61) => "unblocked",
        (10, 71) => "update-secret-ok",
        (20, 11) => "channel.open-ok",
        (30, 11) => "access.request-ok",
        (20, 21) => "flow-ok",
        (20, 41) => "channel.close-ok",
        (40, 11) => "exchange.declare-ok",
        (40, 21) => "exchange.delete-ok",
        (40, 31) => "exchange.bind-ok",
        (40, 51) => "exchange.unbind-ok",
        (50, 21) => "bind-ok",
        (50, 51) => "unbind-ok",
        (60, 11) => "qos-ok",
        (60, 72) => "get-empty",
        (60, 111) => "recover-ok",
        (85, 11) => "confirm.select-ok",
        (90, 11) => "tx.select-ok",
        (90, 21) => "commit-ok",
        (90, 31) => "rollback-ok",
        (class, method) => return format!("method {class}.{method}"),
    }
    .to_owned()
}
