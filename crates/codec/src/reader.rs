//! Cuts whole frames off received bytes, without copying and without allocating.
//!
//! Checks what makes a frame a frame: size, end octet, type. What the payload means is left to
//! `method` and `header`.

use thiserror::Error;

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
/// `frame_max` is the greatest size of a whole frame in bytes, overhead included; 0 is no limit.
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
    if frame_max != 0 && u64::from(size) + FRAME_OVERHEAD as u64 > u64::from(frame_max) {
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
            let channel = u16::from_be_bytes([c1, c0]);
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

fn octets(snippet: &[u8], length: usize) -> String {
    let extent = if length > SNIPPET_SIZE {
        "first 16"
    } else {
        "all"
    };
    format!("{extent} octets = {}", Pretty(snippet))
}
