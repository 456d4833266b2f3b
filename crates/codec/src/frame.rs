//! What a frame is: its kinds, its fixed sizes, and the protocol header that precedes all frames.
//!
//! Cutting frames out of bytes is in `reader`, composing them in `writer`.

use crate::channel_number::ChannelNumber;

/// Bytes that a frame has besides its payload: type, channel, size and the end marker.
pub const FRAME_OVERHEAD: usize = 8;

/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;

/// The least frame size (overhead included) both peers must accept.
pub const FRAME_MIN_SIZE: u32 = 4096;

/// The largest frame before tuning. The specification has [`FRAME_MIN_SIZE`], RabbitMQ this since 4.1: tokens and
/// client properties can be long.
pub const FRAME_SIZE_BEFORE_TUNING: u32 = 8192;

/// What a client sends first: "AMQP", then protocol id 0 and version 0-9-1.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEADER_SIZE: usize = 7;

/// The four kinds of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A method with its arguments.
    Method,
    /// A content header: body size and properties.
    Header,
    /// A piece of a content body.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl FrameKind {
    /// The kind with this type octet.
    #[inline]
    #[must_use]
    pub fn from_octet(octet: u8) -> Option<FrameKind> {
        match octet {
            1 => Some(FrameKind::Method),
            2 => Some(FrameKind::Header),
            3 => Some(FrameKind::Body),
            8 => Some(FrameKind::Heartbeat),
            _ => None,
        }
    }

    /// The type octet on the wire.
    #[inline]
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            FrameKind::Method => 1,
            FrameKind::Header => 2,
            FrameKind::Body => 3,
            FrameKind::Heartbeat => 8,
        }
    }
}

/// One whole frame, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel.
    pub channel: ChannelNumber,
    /// All between the frame's header and its end octet.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// How many bytes the frame took on the wire.
    #[inline]
    #[must_use]
    pub fn wire_length(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 0-9-1: eight bytes, then frames.
    Amqp091,
    /// A prefix of the header of AMQP 0-9-1; more bytes are needed.
    Incomplete,
    /// Something else: answer with [`PROTOCOL_HEADER`] and close.
    Unknown,
}

/// Recognizes the protocol header at the start of `input`, as soon as a byte decides.
#[must_use]
pub fn protocol_header(input: &[u8]) -> ProtocolHeader {
    let differs = input
        .iter()
        .zip(PROTOCOL_HEADER)
        .any(|(&octet, expected)| octet != expected);
    if differs {
        ProtocolHeader::Unknown
    } else if input.len() < PROTOCOL_HEADER.len() {
        ProtocolHeader::Incomplete
    } else {
        ProtocolHeader::Amqp091
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_header_is_decided_by_the_first_wrong_byte() {
        assert_eq!(protocol_header(b""), ProtocolHeader::Incomplete);
        assert_eq!(
            protocol_header(b"AMQP\x00\x00\x09"),
            ProtocolHeader::Incomplete
        );
        assert_eq!(
            protocol_header(b"AMQP\x00\x00\x09\x01"),
            ProtocolHeader::Amqp091
        );
        assert_eq!(
            protocol_header(b"AMQP\x00\x00\x09\x01\x01\x00"),
            ProtocolHeader::Amqp091
        );
        assert_eq!(protocol_header(b"G"), ProtocolHeader::Unknown);
        assert_eq!(protocol_header(b"AMQP\x01"), ProtocolHeader::Unknown);
        assert_eq!(
            protocol_header(b"AMQP\x00\x00\x09\x02"),
            ProtocolHeader::Unknown
        );
    }
}
