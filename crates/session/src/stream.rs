//! What a session does differently for streams: what it refuses, and the header that says at which
//! offset a delivery stands.

use leveret_broker::handle::QueueHandle;
use leveret_codec::{RawTable, decode_header};
use leveret_message::Message;
use leveret_message::error::{ConnectionError, Failure};
use leveret_queue::queue::kind::QueueKind;

/// The header with a delivery's offset.
const OFFSET_HEADER: &[u8] = b"x-stream-offset";
/// A signed 64-bit number among field values.
const LONG: u8 = b'l';

/// `queue 'q' in vhost '/'`, as RabbitMQ names it in its texts.
pub(super) fn named(queue: &QueueHandle) -> String {
    let identity = queue.identity();
    format!("queue '{}' in vhost '{}'", identity.name, identity.vhost)
}

/// 540 for what streams do not have.
pub(super) fn refuse_for_streams(method: &str, queue: &QueueHandle) -> Result<(), Failure> {
    if queue.kind() != QueueKind::Stream {
        return Ok(());
    }
    let text = format!("{method} not supported by stream queues {}", named(queue));
    Err(ConnectionError::not_implemented(text).into())
}

/// The message's content header with `x-stream-offset` among its headers. Other fields keep their
/// bytes; an offset from another stream, in a message published again, makes way.
pub(super) fn header_with_offset(message: &Message, offset: u64) -> Vec<u8> {
    let Ok(header) = decode_header(message.header()) else {
        return message.header().to_vec();
    };
    let mut properties = header.properties;
    let before = properties.headers.map_or(&[][..], |it| it.as_encoded());
    let mut fields = Vec::with_capacity(before.len() + OFFSET_HEADER.len() + 10);
    match properties.headers {
        Some(headers) if headers.get(OFFSET_HEADER).is_some() => {
            headers.copy_fields(&mut fields, |name| name != OFFSET_HEADER);
        }
        _ => fields.extend_from_slice(before),
    }
    fields.push(u8::try_from(OFFSET_HEADER.len()).unwrap_or(u8::MAX));
    fields.extend_from_slice(OFFSET_HEADER);
    fields.push(LONG);
    fields.extend_from_slice(&offset.to_be_bytes());
    properties.headers = Some(RawTable::from_encoded(&fields));
    properties.encode_header(header.body_size)
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPProperties, AMQPValue, FieldTable, decode_properties, encode_header};
    use leveret_message::{Body, MessageScratch};

    use super::*;

    fn delivered(properties: AMQPProperties, offset: u64) -> AMQPProperties {
        let header = encode_header(4, &properties);
        let header = decode_header(&header).expect("header");
        let message = Message::compose(
            &mut MessageScratch::default(),
            b"\x00\x01q",
            &header,
            Body::Borrowed(b"body"),
        );
        let header = header_with_offset(&message, offset);
        assert_eq!(decode_header(&header).expect("header").body_size, 4);
        decode_properties(&header).expect("properties")
    }

    #[test]
    fn the_offset_joins_the_headers_there_are() {
        let plain = delivered(AMQPProperties::default(), 7);
        let headers = plain.headers().clone().expect("headers");
        assert_eq!(
            headers.inner().get("x-stream-offset"),
            Some(&AMQPValue::LongLongInt(7))
        );

        let mut headers = FieldTable::default();
        headers.insert("a".into(), AMQPValue::LongString("b".into()));
        headers.insert("x-stream-offset".into(), AMQPValue::LongLongInt(1));
        headers.insert("z".into(), AMQPValue::Boolean(true));
        let properties = AMQPProperties::default()
            .with_message_id("id".into())
            .with_headers(headers);
        let again = delivered(properties, u64::from(u32::MAX) + 1);
        assert_eq!(
            again.message_id().as_ref().map(|id| id.as_str()),
            Some("id")
        );
        let headers = again.headers().clone().expect("headers");
        assert_eq!(headers.inner().len(), 3);
        assert_eq!(
            headers.inner().get("x-stream-offset"),
            Some(&AMQPValue::LongLongInt(i64::from(u32::MAX) + 1))
        );
        assert_eq!(
            headers.inner().get("a"),
            Some(&AMQPValue::LongString("b".into()))
        );
    }
}
