//! Messages that differ in nothing but their bodies: publishes recognised by their bytes, deliveries written
//! from the one before.
//!
//! Of publishes it answers whether the bytes at hand are another such one; what follows from that is not
//! decided here. Whatever does not match, for being different, malformed or not whole, is for the usual reader.

use crate::channel_number::ChannelNumber;
use crate::frame::{FRAME_END, FrameKind};
use crate::tags::{ConsumerTag, DeliveryTag};
use crate::writer::{body_frame_header, frame_header, with_octet, write_deliver};

const CLASS_BASIC: u8 = 60;
const METHOD_PUBLISH: u8 = 40;
/// Class, weight and body size, which precede the properties in a content header.
const BEFORE_PROPERTIES: usize = 12;
const BODY_SIZE_BYTES: usize = 8;

/// Frames of a message as far as its body, with the size of a body in them.
#[derive(Debug)]
struct Frames {
    bytes: Vec<u8>,
    /// Where the content header says how long the body is.
    body_size_at: usize,
    body_size: u32,
}

impl Frames {
    /// `bytes` is the method frame; a content header with these properties and the start of a body frame are added.
    fn behind(mut bytes: Vec<u8>, channel: ChannelNumber, properties: &[u8]) -> Frames {
        let header_size = BEFORE_PROPERTIES + properties.len();
        bytes.extend_from_slice(&frame_header(FrameKind::Header, channel, header_size));
        bytes.extend_from_slice(&[0, CLASS_BASIC, 0, 0]);
        let body_size_at = bytes.len();
        bytes.extend_from_slice(&[0; BODY_SIZE_BYTES]);
        bytes.extend_from_slice(properties);
        bytes.push(FRAME_END);
        bytes.extend_from_slice(&body_frame_header(channel, 0));
        Frames {
            bytes,
            body_size_at,
            body_size: 0,
        }
    }

    /// Sets the size of the body, wherever it stands.
    #[inline]
    fn set_body_size(&mut self, body_size: u32) {
        if self.body_size != body_size {
            self.body_size = body_size;
            self.put(self.body_size_at, u64::from(body_size).to_be_bytes());
            if let Some(last) = self.bytes.last_chunk_mut() {
                *last = body_size.to_be_bytes();
            }
        }
    }

    #[inline]
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        let place = self.bytes.get_mut(at..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
        }
    }
}

/// What the frames of such publishes have in common.
#[derive(Debug)]
pub struct PublishPattern {
    channel: ChannelNumber,
    frames: Frames,
    /// Longer bodies do not match.
    body_max: u32,
}

impl PublishPattern {
    /// The pattern of publishes on `channel` to `names` (two short strings, as on the wire) with these encoded
    /// `properties` and a body of 1 to `body_max` bytes, all of it in one frame.
    #[must_use]
    pub fn new(
        channel: ChannelNumber,
        names: &[u8],
        mandatory: bool,
        properties: &[u8],
        body_max: u32,
    ) -> PublishPattern {
        let mut method = Vec::with_capacity(128);
        let method_size = 4 + 2 + names.len() + 1;
        method.extend_from_slice(&frame_header(FrameKind::Method, channel, method_size));
        method.extend_from_slice(&[0, CLASS_BASIC, 0, METHOD_PUBLISH, 0, 0]);
        method.extend_from_slice(names);
        method.extend_from_slice(&[u8::from(mandatory), FRAME_END]);
        PublishPattern {
            channel,
            frames: Frames::behind(method, channel, properties),
            body_max,
        }
    }

    /// The channel of these publishes.
    #[must_use]
    pub fn channel(&self) -> ChannelNumber {
        self.channel
    }

    /// The body of the publish at the front of `input`, and how many bytes the publish is; None unless a whole one
    /// of this pattern is there.
    #[inline]
    #[must_use]
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let before_body = self.frames.bytes.len();
        let (before, input) = input.split_at_checked(before_body)?;
        if before != self.frames.bytes {
            self.take_size(before)?;
        }
        let size = self.frames.body_size as usize;
        let whole = size > 0 && input.get(size) == Some(&FRAME_END);
        let body = input.get(..size).filter(|_| whole)?;
        Some((body, before_body + size + 1))
    }

    /// Makes the size of the body what `before`, which is all that precedes a body, says it is; None if it does not
    /// match even so.
    fn take_size(&mut self, before: &[u8]) -> Option<()> {
        let size = before.get(self.frames.body_size_at..)?;
        let size = u64::from_be_bytes(*size.first_chunk::<BODY_SIZE_BYTES>()?);
        let size = u32::try_from(size)
            .ok()
            .filter(|&size| size <= self.body_max)?;
        self.frames.set_body_size(size);
        (before == self.frames.bytes).then_some(())
    }
}

/// The frames that such deliveries to one consumer have in common.
#[derive(Debug)]
pub struct DeliveryPattern {
    frames: Frames,
    /// Where in the frames the delivery tag stands; the redelivered bit follows it.
    tag_at: usize,
}

impl DeliveryPattern {
    /// The pattern of deliveries on `channel` to `consumer_tag` of messages that were published to `names` (two
    /// short strings, as on the wire) with these encoded `properties`.
    #[must_use]
    pub fn new(
        channel: ChannelNumber,
        consumer_tag: ConsumerTag<'_>,
        names: &[u8],
        properties: &[u8],
    ) -> DeliveryPattern {
        let mut method = Vec::with_capacity(128);
        write_deliver(
            &mut method,
            channel,
            consumer_tag,
            DeliveryTag::NONE,
            false,
            names,
        );
        let tag_at = method.len() - (size_of::<u64>() + 1 + names.len() + 1);
        DeliveryPattern {
            frames: Frames::behind(method, channel, properties),
            tag_at,
        }
    }

    /// Appends the frames of a delivery with this `body`, which is not empty and fits one frame.
    #[inline]
    pub fn write(
        &mut self,
        out: &mut Vec<u8>,
        delivery_tag: DeliveryTag,
        redelivered: bool,
        body: &[u8],
    ) {
        let tag = with_octet(delivery_tag.0, u8::from(redelivered));
        self.frames.put(self.tag_at, tag);
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.frames.set_body_size(size);
        out.reserve(self.frames.bytes.len() + body.len() + 1);
        out.extend_from_slice(&self.frames.bytes);
        out.extend_from_slice(body);
        out.push(FRAME_END);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        AMQPProperties, Method, decode_header, decode_method, encode_header, read_frame,
        split_names, write_body, write_header, write_names,
    };

    #[derive(Clone, Debug)]
    struct Parts {
        channel: ChannelNumber,
        exchange: String,
        routing_key: String,
        mandatory: bool,
        kind: Option<String>,
        body: Vec<u8>,
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let names = ("[a-b]{0,2}", "[a-b]{0,2}");
        let rest = (any::<bool>(), proptest::option::of("[a-b]{0,2}"));
        let body = proptest::collection::vec(0u8..2, 0..12);
        (1u16..3, names, rest, body).prop_map(|(channel, names, rest, body)| Parts {
            channel: ChannelNumber(channel),
            exchange: names.0,
            routing_key: names.1,
            mandatory: rest.0,
            kind: rest.1,
            body,
        })
    }

    impl Parts {
        fn names(&self) -> Vec<u8> {
            let mut names = Vec::new();
            write_names(
                &mut names,
                self.exchange.as_bytes(),
                self.routing_key.as_bytes(),
            );
            names
        }

        fn header(&self) -> Vec<u8> {
            let properties = AMQPProperties::default();
            let properties = match &self.kind {
                Some(kind) => properties.with_type(kind.as_str().into()),
                None => properties,
            };
            encode_header(self.body.len() as u64, &properties)
        }

        fn pattern(&self, body_max: u32) -> PublishPattern {
            let header = self.header();
            let properties = &header[BEFORE_PROPERTIES..];
            PublishPattern::new(
                self.channel,
                &self.names(),
                self.mandatory,
                properties,
                body_max,
            )
        }

        fn write(&self, out: &mut Vec<u8>) {
            let mut method = vec![0, CLASS_BASIC, 0, METHOD_PUBLISH, 0, 0];
            method.extend(self.names());
            method.push(u8::from(self.mandatory));
            out.extend(frame_header(FrameKind::Method, self.channel, method.len()));
            out.extend(method);
            out.push(FRAME_END);
            write_header(out, self.channel, &self.header());
            write_body(out, self.channel, 0, &self.body);
        }

        fn is_alike(&self, other: &Parts) -> bool {
            let body = other.body.clone();
            let other = other.clone();
            format!(
                "{:?}",
                Parts {
                    body,
                    ..self.clone()
                }
            ) == format!("{other:?}")
        }
    }

    /// What the usual reader makes of the publish at the front of `input`.
    fn read(input: &[u8]) -> (Vec<u8>, usize) {
        let method = read_frame(input, 0).expect("a frame").expect("whole");
        let Ok(Method::Publish(publish)) = decode_method(method.payload) else {
            panic!("a publish");
        };
        assert!(split_names(publish.names).is_some());
        let mut used = method.wire_length();
        let header = read_frame(&input[used..], 0)
            .expect("a frame")
            .expect("whole");
        let size = decode_header(header.payload).expect("a header").body_size;
        used += header.wire_length();
        if size == 0 {
            return (Vec::new(), used);
        }
        let body = read_frame(&input[used..], 0)
            .expect("a frame")
            .expect("whole");
        (body.payload.to_vec(), used + body.wire_length())
    }

    proptest! {
        #[test]
        fn a_delivery_of_a_pattern_is_what_the_usual_writer_writes(
            one in parts(),
            consumer_tag in "[a-b]{0,3}",
            rounds in proptest::collection::vec((any::<u64>(), any::<bool>(), 1usize..9), 1..4),
        ) {
            let consumer_tag = ConsumerTag(consumer_tag.as_bytes());
            let names = one.names();
            let header = one.header();
            let properties = &header[BEFORE_PROPERTIES..];
            let mut pattern = DeliveryPattern::new(one.channel, consumer_tag, &names, properties);
            let (mut written, mut expected) = (Vec::new(), Vec::new());
            for (tag, redelivered, length) in rounds {
                let tag = DeliveryTag(tag);
                let message = Parts { body: vec![1; length], ..one.clone() };
                pattern.write(&mut written, tag, redelivered, &message.body);
                write_deliver(&mut expected, one.channel, consumer_tag, tag, redelivered, &names);
                write_header(&mut expected, one.channel, &message.header());
                write_body(&mut expected, one.channel, 0, &message.body);
            }
            prop_assert_eq!(written, expected);
        }

        #[test]
        fn what_matches_is_what_the_usual_reader_reads(one in parts(), other in parts(), behind in 0usize..20) {
            let mut bytes = Vec::new();
            other.write(&mut bytes);
            let whole = bytes.len();
            bytes.resize(whole + behind, 1);
            let found = one.pattern(8).next(&bytes).map(|(body, used)| (body.to_vec(), used));
            if one.is_alike(&other) && (1..=8).contains(&other.body.len()) {
                prop_assert_eq!(found, Some(read(&bytes)));
            } else {
                prop_assert_eq!(found, None);
            }
            for cut in 0..whole {
                prop_assert_eq!(other.pattern(100).next(&bytes[..cut]), None);
            }
        }

        #[test]
        fn no_byte_but_those_of_the_body_may_differ(one in parts(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = Vec::new();
            one.write(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let body_start = bytes.len() - 1 - one.body.len();
            let in_body = (body_start..bytes.len() - 1).contains(&at);
            prop_assert_eq!(one.pattern(100).next(&bytes).is_some(), in_body);
        }
    }
}
