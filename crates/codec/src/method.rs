//! Method frames: the few that come with every message by hand, all others by `amq-protocol`.
//!
//! Answers what a method says. Whether it may be said now is not decided here.

use amq_protocol::protocol::{AMQPClass, parse_class};
use thiserror::Error;

use crate::erlang::Numbers;
use crate::input::Input;
use crate::signature::{Mismatch, Signature, check, signature};
use crate::tags::DeliveryTag;

/// How many argument bytes an error keeps; their numbers alone fill a reply text.
const SHOWN_MAX: usize = 128;

/// One method with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Method<'a> {
    /// basic.publish
    Publish(Publish<'a>),
    /// basic.ack, in both directions.
    Ack {
        /// The delivery, or the confirmed publish.
        delivery_tag: DeliveryTag,
        /// All up to this tag.
        multiple: bool,
    },
    /// basic.nack, in both directions.
    Nack {
        /// The delivery, or the refused publish.
        delivery_tag: DeliveryTag,
        /// All up to this tag.
        multiple: bool,
        /// Back into the queue rather than dead.
        requeue: bool,
    },
    /// basic.reject
    Reject {
        /// The delivery.
        delivery_tag: DeliveryTag,
        /// Back into the queue rather than dead.
        requeue: bool,
    },
    /// basic.qos
    Qos {
        /// Bytes; only 0 is implemented anywhere.
        prefetch_size: u32,
        /// Unacknowledged messages; 0 is no limit.
        prefetch_count: u16,
        /// rabbitmq: for the whole channel rather than each new consumer.
        global: bool,
    },
    /// Any other method, of either side. Boxed, as the hot methods are small and moved often.
    Control(Box<AMQPClass>),
}

impl Method<'_> {
    /// The method where it is none of the hot ones.
    #[must_use]
    pub fn control(&self) -> Option<&AMQPClass> {
        match self {
            Method::Control(class) => Some(class),
            _ => None,
        }
    }
}

/// The arguments of basic.publish, borrowed. Names may be any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Both as they are on the wire: two short strings, see [`crate::split_names`].
    pub names: &'a [u8],
    /// Return the message if it reaches no queue.
    pub mandatory: bool,
    /// Not implemented by RabbitMQ either.
    pub immediate: bool,
}

/// What is wrong with a method. `Display` of [`MethodError::Truncated`] and of
/// [`MethodError::NotUtf8`] is what RabbitMQ writes after `FRAME_ERROR - `; for unknown classes and
/// methods it just closes the socket.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MethodError {
    /// No such class.
    #[error("unknown class {0}")]
    UnknownClass(u16),
    /// No such method in a known class.
    #[error("unknown method {method} of class {class}")]
    UnknownMethod {
        /// The class.
        class: u16,
        /// The method in it.
        method: u16,
    },
    /// Too few or too many bytes of arguments, or a malformed or too deep field table. Holds the
    /// arguments' first bytes.
    #[error("cannot decode {}", Numbers(.0))]
    Truncated(Vec<u8>),
    /// A name in a control method, or of a field in one of its tables, is not UTF-8.
    #[error("Malformed UTF-8 in shortstr")]
    NotUtf8,
    /// A number in the arguments' tables is NaN or infinite.
    #[error("a number in the arguments is not finite")]
    NotFinite,
}

/// Class and method id of a method frame's payload; None where it is shorter than that.
#[inline]
#[must_use]
pub fn method_ids(payload: &[u8]) -> Option<(u16, u16)> {
    let mut input = Input(payload);
    Some((input.u16()?, input.u16()?))
}

/// Reads the payload of a method frame. The hot methods are borrowed and take any bytes as names;
/// in all others a name that is not UTF-8 is an error, as is anything after the last argument.
///
/// # Errors
/// No such method, or bytes that are not its arguments.
#[inline]
pub fn decode_method(payload: &[u8]) -> Result<Method<'_>, MethodError> {
    match payload.split_first_chunk() {
        Some(([0, 60, 0, 40], arguments)) => {
            publish(Input(arguments)).ok_or_else(|| malformed(arguments))
        }
        _ => decode_other(payload),
    }
}

fn decode_other(payload: &[u8]) -> Result<Method<'_>, MethodError> {
    let Some((ids, arguments)) = payload.split_first_chunk::<4>() else {
        return Err(malformed(payload));
    };
    let input = Input(arguments);
    let decoded = match ids {
        [0, 60, 0, 80] => ack(input),
        [0, 60, 0, 120] => nack(input),
        [0, 60, 0, 90] => reject(input),
        [0, 60, 0, 10] => qos(input),
        _ => return control(payload, arguments),
    };
    decoded.ok_or_else(|| malformed(arguments))
}

#[inline]
fn publish(mut input: Input<'_>) -> Option<Method<'_>> {
    let _ticket = input.u16()?;
    let from_names = input.0;
    let exchange = input.short()?;
    let routing_key = input.short()?;
    let names = from_names.get(..2 + exchange.len() + routing_key.len())?;
    let bits = last_octet(input)?;
    let (mandatory, immediate) = (bits & 1 != 0, bits & 2 != 0);
    Some(Method::Publish(Publish {
        exchange,
        routing_key,
        names,
        mandatory,
        immediate,
    }))
}

#[inline]
fn ack(mut input: Input<'_>) -> Option<Method<'_>> {
    let delivery_tag = DeliveryTag(input.u64()?);
    let bits = last_octet(input)?;
    Some(Method::Ack {
        delivery_tag,
        multiple: bits & 1 != 0,
    })
}

fn nack(mut input: Input<'_>) -> Option<Method<'_>> {
    let delivery_tag = DeliveryTag(input.u64()?);
    let bits = last_octet(input)?;
    Some(Method::Nack {
        delivery_tag,
        multiple: bits & 1 != 0,
        requeue: bits & 2 != 0,
    })
}

fn reject(mut input: Input<'_>) -> Option<Method<'_>> {
    let delivery_tag = DeliveryTag(input.u64()?);
    let bits = last_octet(input)?;
    Some(Method::Reject {
        delivery_tag,
        requeue: bits & 1 != 0,
    })
}

/// By hand because `amq-protocol` drops the prefetch size, which has to be refused.
fn qos(mut input: Input<'_>) -> Option<Method<'_>> {
    let prefetch_size = input.u32()?;
    let prefetch_count = input.u16()?;
    let bits = last_octet(input)?;
    Some(Method::Qos {
        prefetch_size,
        prefetch_count,
        global: bits & 1 != 0,
    })
}

/// The octet that must be all there is. rabbitmq: refuses arguments that are too long, too.
#[inline]
fn last_octet(mut input: Input<'_>) -> Option<u8> {
    let octet = input.u8()?;
    input.is_empty().then_some(octet)
}

#[cold]
fn control<'a>(payload: &'a [u8], arguments: &'a [u8]) -> Result<Method<'a>, MethodError> {
    let (class, method) = method_ids(payload).ok_or_else(|| malformed(payload))?;
    let expected = match signature(class, method) {
        Signature::UnknownClass => return Err(MethodError::UnknownClass(class)),
        Signature::UnknownMethod => return Err(MethodError::UnknownMethod { class, method }),
        Signature::Known(expected) => expected,
    };
    match check(expected, arguments) {
        Ok(()) => {}
        Err(Mismatch::NotUtf8) => return Err(MethodError::NotUtf8),
        Err(Mismatch::NotFinite) => return Err(MethodError::NotFinite),
        Err(Mismatch::Malformed) => return Err(malformed(arguments)),
    }
    match parse_class(payload) {
        Ok(([], class)) => Ok(Method::Control(Box::new(class))),
        Ok(_) => Err(malformed(arguments)),
        // All else that the parser could object to has been checked.
        Err(_) => Err(MethodError::NotUtf8),
    }
}

#[cold]
fn malformed(arguments: &[u8]) -> MethodError {
    let shown = Input(arguments).take(SHOWN_MAX).unwrap_or(arguments);
    MethodError::Truncated(shown.to_vec())
}
