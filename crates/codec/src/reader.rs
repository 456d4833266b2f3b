//! Cuts whole frames off received bytes, without copying and without allocating.
//!
//! Checks what makes a frame a frame: size, end octet, type. What the payload means is left to
//! `method` and `header`.

use thiserror::Error;

use crate::channel_number::ChannelNumber;
use crate::erlang::Pretty;
use crate::frame::{FRAME_END, FRAME_HEADER_SIZE, FRAME_OVERHEAD, Frame, FrameKind};
use crate::input::Input;

/// How many octets of a bad frame are kept for the error's text. rabbitmq: payload_snippet.
const SNIPPET_SIZE: usize = 16;

/// Bytes that are not a frame. All of these end the connection with 501 FRAME_ERROR; `Display` is
/// what RabbitMQ writes after `FRAME_ERROR - `.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The octet after the payload is not [`FRAME_END`].
    #[error("type {kind}, {}: {{invalid_frame_end_marker,{end}}}", octets(.payload, *.length))]
    BadEnd {
        /// The type octet.
        kind: u8,
        /// The first octets of the payload.
        payload: Vec<u8>,
        /// The length of the whole payload in bytes.
        length: usize,
        /// The octet in the end marker's place.
        end: u8,
    },
    /// The announced payload is larger than agreed on. Known from the frame's header alone.
    #[error("type {kind}, all octets = <<>>: {{frame_too_large,{size},{max}}}")]
    TooLarge {
        /// The type octet.
        kind: u8,
        /// The announced size of the payload in bytes.
        size: u64,
        /// The largest payload allowed in bytes.
        max: u64,
    },
    /// No known type, or a payload that cannot be one of its type: a method without its ids, a
    /// content header without its fixed fields, a heartbeat that carries something.
    #[error("type {kind}, {}: unknown_frame", octets(.payload, *.length))]
    UnknownType {
        /// The type octet.
        kind: u8,
        /// The first octets of the payload.
        payload: Vec<u8>,
        /// The length of the whole payload in bytes.
        length: usize,
    },
}

/// Cuts the first frame off `input`; `Ok(None)` where more bytes are needed.
///
/// `frame_max` is the greatest size of a frame in bytes, 0 is no limit. It is meant for the whole frame; as in
/// RabbitMQ the payload alone may be that large too, because there are clients that count so.
/// The frame takes [`Frame::wire_length`] bytes of `input`. Allocates for nothing but an error.
///
/// # Errors
/// The bytes cannot become a frame, however many follow.
#[inline]
pub fn read_frame(input: &[u8], frame_max: u32) -> Result<Option<Frame<'_>>, FrameError> {
    let Some((&[kind, c1, c0, s3, s2, s1, s0], rest)) =
        input.split_first_chunk::<FRAME_HEADER_SIZE>()
    else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    if frame_max != 0 && size > frame_max {
        return Err(too_large(kind, size, frame_max));
    }
    let Some((payload, &[end, ..])) = usize::try_from(size)
        .ok()
        .and_then(|size| rest.split_at_checked(size))
    else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(bad_end(kind, payload, end));
    }
    match FrameKind::from_octet(kind) {
        Some(frame_kind) if is_possible(frame_kind, payload) => {
            let channel = ChannelNumber(u16::from_be_bytes([c1, c0]));
            Ok(Some(Frame {
                kind: frame_kind,
                channel,
                payload,
            }))
        }
        _ => Err(unknown_type(kind, payload)),
    }
}

/// rabbitmq: `rabbit_command_assembler:analyze_frame` has no clause for anything shorter.
#[inline]
fn is_possible(kind: FrameKind, payload: &[u8]) -> bool {
    match kind {
        FrameKind::Method => payload.len() >= 4,
        FrameKind::Header => payload.len() >= 12,
        FrameKind::Body => true,
        FrameKind::Heartbeat => payload.is_empty(),
    }
}

#[cold]
fn too_large(kind: u8, size: u32, frame_max: u32) -> FrameError {
    let max = u64::from(frame_max).saturating_sub(FRAME_OVERHEAD as u64);
    FrameError::TooLarge {
        kind,
        size: u64::from(size),
        max,
    }
}

#[cold]
fn bad_end(kind: u8, payload: &[u8], end: u8) -> FrameError {
    FrameError::BadEnd {
        kind,
        payload: snippet(payload),
        length: payload.len(),
        end,
    }
}

#[cold]
fn unknown_type(kind: u8, payload: &[u8]) -> FrameError {
    FrameError::UnknownType {
        kind,
        payload: snippet(payload),
        length: payload.len(),
    }
}

fn snippet(payload: &[u8]) -> Vec<u8> {
    Input(payload)
        .take(SNIPPET_SIZE)
        .unwrap_or(payload)
        .to_vec()
}

/// A frame that has no business where it came, as RabbitMQ names it in its texts.
#[must_use]
pub fn describe_frame(frame: &Frame<'_>) -> String {
    let payload = frame.payload;
    let octets = octets(&snippet(payload), payload.len());
    format!("type {}, {octets}", frame.kind.octet())
}

fn octets(snippet: &[u8], length: usize) -> String {
    let extent = if length > SNIPPET_SIZE {
        "first 16"
    } else {
        "all"
    };
    format!("{extent} octets = {}", Pretty(snippet))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &[u8], frame_max: u32) -> String {
        read_frame(input, frame_max).unwrap_err().to_string()
    }

    #[test]
    fn a_frame_is_cut_off_and_what_follows_is_left() {
        let input = b"\x01\x00\x05\x00\x00\x00\x04\x00\x14\x00\x0a\xce\x08";
        let frame = read_frame(input, 4096).unwrap().unwrap();
        assert_eq!(
            (frame.kind, frame.channel),
            (FrameKind::Method, ChannelNumber(5))
        );
        assert_eq!(frame.payload, [0, 20, 0, 10]);
        assert_eq!(frame.wire_length(), 12);
    }

    #[test]
    fn a_frame_that_is_not_all_there_is_waited_for() {
        let input = b"\x03\x00\x01\x00\x00\x00\x02ab\xce";
        for length in 0..input.len() {
            assert_eq!(read_frame(&input[..length], 0), Ok(None));
        }
        assert!(read_frame(input, 0).unwrap().is_some());
    }

    #[test]
    fn errors_read_as_rabbitmq_writes_them() {
        assert_eq!(
            error(b"\x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x0a\x00\x00", 0),
            "type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,0}"
        );
        assert_eq!(
            error(b"\x03\x00\x01\x00\x02\x00\x01", 131_072),
            "type 3, all octets = <<>>: {frame_too_large,131073,131064}"
        );
        assert_eq!(
            error(b"\x09\x00\x01\x00\x00\x00\x01x\xce", 0),
            "type 9, all octets = <<\"x\">>: unknown_frame"
        );
        assert_eq!(
            error(b"\x09\x00\x01\x00\x00\x00\x110123456789abcdefg\xce", 0),
            "type 9, first 16 octets = <<\"0123456789abcdef\">>: unknown_frame"
        );
    }

    #[test]
    fn the_limit_is_for_the_payload_alone_too() {
        let mut input = b"\x03\x00\x01\x00\x00\x10\x00".to_vec();
        input.resize(4096 + FRAME_HEADER_SIZE, 0);
        input.push(FRAME_END);
        assert!(read_frame(&input, 4096).unwrap().is_some());
        assert!(read_frame(&input, 4095).is_err());
        assert!(read_frame(&input, 0).unwrap().is_some());
    }

    #[test]
    fn a_frame_out_of_place_is_described_as_rabbitmq_does() {
        let input = b"\x03\x00\x00\x00\x00\x00\x01x\xce";
        let frame = read_frame(input, 0).unwrap().unwrap();
        assert_eq!(describe_frame(&frame), "type 3, all octets = <<\"x\">>");
    }

    #[test]
    fn payloads_too_short_for_their_type_are_unknown_frames() {
        for input in [
            &b"\x01\x00\x01\x00\x00\x00\x03\x00\x14\x00\xce"[..],
            b"\x02\x00\x01\x00\x00\x00\x02\x00\x3c\xce",
            b"\x08\x00\x00\x00\x00\x00\x01x\xce",
        ] {
            assert!(matches!(
                read_frame(input, 0),
                Err(FrameError::UnknownType { .. })
            ));
        }
    }
}
