//! Composes whole frames at the end of a buffer.
//!
//! Room is reserved once a frame; the hot frames are put together by hand. Limits on a frame's size
//! matter to bodies alone, and are kept there.

use amq_protocol::protocol::{AMQPClass, gen_class};

use crate::channel_number::ChannelNumber;
use crate::frame::{FRAME_END, FRAME_HEADER_SIZE, FRAME_OVERHEAD, FrameKind};
use crate::names::write_short;
use crate::tags::{ConsumerTag, DeliveryTag};

const CLASS_BASIC: u8 = 60;

/// Appends the frame of any method. For those of the data path there are functions of their own.
pub fn write_method(out: &mut Vec<u8>, channel: ChannelNumber, method: &AMQPClass) {
    // Writing to memory does not fail; if it did, half a frame would be worse than none.
    if let Ok(written) = gen_class(method)(Vec::with_capacity(64).into()) {
        write_frame(out, FrameKind::Method, channel, &written.write);
    }
}

/// Appends the method frame of basic.deliver; content header and body frames have to follow.
/// `names` is exchange and routing key as they came with the publish, see [`crate::write_names`].
#[inline]
pub fn write_deliver(
    out: &mut Vec<u8>,
    channel: ChannelNumber,
    consumer_tag: ConsumerTag<'_>,
    delivery_tag: DeliveryTag,
    redelivered: bool,
    names: &[u8],
) {
    let consumer_tag = consumer_tag.0.get(..255).unwrap_or(consumer_tag.0);
    let payload_size = 4 + 1 + consumer_tag.len() + 8 + 1 + names.len();
    start_method(out, channel, 60, payload_size);
    write_short(out, consumer_tag);
    out.extend_from_slice(&with_octet(delivery_tag.0, u8::from(redelivered)));
    out.extend_from_slice(names);
    out.push(FRAME_END);
}

/// Appends the method frame of basic.get-ok; content header and body frames have to follow.
/// `message_count` is how many messages are left in the queue.
#[inline]
pub fn write_get_ok(
    out: &mut Vec<u8>,
    channel: ChannelNumber,
    delivery_tag: DeliveryTag,
    redelivered: bool,
    names: &[u8],
    message_count: u32,
) {
    start_method(out, channel, 71, 4 + 8 + 1 + names.len() + 4);
    out.extend_from_slice(&with_octet(delivery_tag.0, u8::from(redelivered)));
    out.extend_from_slice(names);
    out.extend_from_slice(&message_count.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends the method frame of basic.return; content header and body frames have to follow.
/// Bytes of `text` past the 255th are left out.
pub fn write_return(
    out: &mut Vec<u8>,
    channel: ChannelNumber,
    code: u16,
    text: &str,
    names: &[u8],
) {
    let text = text.as_bytes();
    let text = text.get(..255).unwrap_or(text);
    start_method(out, channel, 50, 4 + 2 + 1 + text.len() + names.len());
    out.extend_from_slice(&code.to_be_bytes());
    write_short(out, text);
    out.extend_from_slice(names);
    out.push(FRAME_END);
}

/// Appends a content header frame. It is never split, whatever its size: AMQP has no way to.
#[inline]
pub fn write_header(out: &mut Vec<u8>, channel: ChannelNumber, payload: &[u8]) {
    write_frame(out, FrameKind::Header, channel, payload);
}

/// Appends `body` in as many body frames as `frame_max` (bytes, overhead included; 0 is no limit)
/// asks for; none for an empty body.
#[inline]
pub fn write_body(out: &mut Vec<u8>, channel: ChannelNumber, frame_max: u32, body: &[u8]) {
    let piece_max = match usize::try_from(frame_max) {
        Ok(0) | Err(_) => u32::MAX as usize,
        Ok(frame_max) => frame_max.saturating_sub(FRAME_OVERHEAD).max(1),
    };
    if body.len() <= piece_max {
        if !body.is_empty() {
            write_frame(out, FrameKind::Body, channel, body);
        }
        return;
    }
    out.reserve(body.len() + body.len().div_ceil(piece_max) * FRAME_OVERHEAD);
    for piece in body.chunks(piece_max) {
        write_frame(out, FrameKind::Body, channel, piece);
    }
}

/// What precedes `len` bytes of body that are written from where they are; [`crate::FRAME_END`] has
/// to follow them.
#[inline]
#[must_use]
pub fn body_frame_header(channel: ChannelNumber, len: u32) -> [u8; FRAME_HEADER_SIZE] {
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = len.to_be_bytes();
    [FrameKind::Body.octet(), c1, c0, s3, s2, s1, s0]
}

/// Appends basic.ack.
#[inline]
pub fn write_ack(
    out: &mut Vec<u8>,
    channel: ChannelNumber,
    delivery_tag: DeliveryTag,
    multiple: bool,
) {
    write_settle(out, channel, 80, delivery_tag, u8::from(multiple));
}

/// Appends basic.nack.
#[inline]
pub fn write_nack(
    out: &mut Vec<u8>,
    channel: ChannelNumber,
    delivery_tag: DeliveryTag,
    multiple: bool,
    requeue: bool,
) {
    let bits = u8::from(multiple) | (u8::from(requeue) << 1);
    write_settle(out, channel, 120, delivery_tag, bits);
}

/// Appends a heartbeat.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    write_frame(out, FrameKind::Heartbeat, ChannelNumber::CONNECTION, &[]);
}

#[inline]
fn write_settle(
    out: &mut Vec<u8>,
    channel: ChannelNumber,
    method: u8,
    delivery_tag: DeliveryTag,
    bits: u8,
) {
    start_method(out, channel, method, 4 + 8 + 1);
    out.extend_from_slice(&with_octet(delivery_tag.0, bits));
    out.push(FRAME_END);
}

/// Reserves the whole frame and appends its header and the ids of a method of class basic.
#[inline]
fn start_method(out: &mut Vec<u8>, channel: ChannelNumber, method: u8, payload_size: usize) {
    out.reserve(payload_size + FRAME_OVERHEAD);
    let [kind, c1, c0, s3, s2, s1, s0] = frame_header(FrameKind::Method, channel, payload_size);
    out.extend_from_slice(&[kind, c1, c0, s3, s2, s1, s0, 0, CLASS_BASIC, 0, method]);
}

#[inline]
fn write_frame(out: &mut Vec<u8>, kind: FrameKind, channel: ChannelNumber, payload: &[u8]) {
    out.reserve(payload.len() + FRAME_OVERHEAD);
    out.extend_from_slice(&frame_header(kind, channel, payload.len()));
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// Payloads here are far below 4 GiB: a header or method frame was one when it was received, and
/// bodies are cut.
#[inline]
pub(crate) fn frame_header(
    kind: FrameKind,
    channel: ChannelNumber,
    payload_size: usize,
) -> [u8; FRAME_HEADER_SIZE] {
    let size = u32::try_from(payload_size).unwrap_or(u32::MAX);
    let [_, rest @ ..] = body_frame_header(channel, size);
    let [c1, c0, s3, s2, s1, s0] = rest;
    [kind.octet(), c1, c0, s3, s2, s1, s0]
}

/// A 64-bit integer and the octet after it, as one piece.
#[inline]
pub(crate) fn with_octet(value: u64, octet: u8) -> [u8; 9] {
    let mut bytes = [octet; 9];
    bytes[..8].copy_from_slice(&value.to_be_bytes());
    bytes
}
