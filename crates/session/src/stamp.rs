//! Headers that a delivery carries beyond what was published, such as `x-delivery-count`.
//!
//! The stored message stays as it is; only the content header of this one delivery is composed.

use leveret_codec::{AMQPValue, FieldTable, RawTable, decode_header, encode_table};
use leveret_message::Message;

/// How often a message came back before this delivery (RabbitMQ's quorum queues; here, every queue).
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";

/// The content header of `message` with one more entry in its headers table.
pub(super) fn with_entry(message: &Message, name: &str, value: AMQPValue) -> Vec<u8> {
    let Ok(header) = decode_header(message.header()) else {
        return message.header().to_vec();
    };
    let mut entry = FieldTable::default();
    entry.insert(name.into(), value);
    let present = header
        .properties
        .headers
        .map(|headers| headers.as_encoded());
    let mut table = present.unwrap_or_default().to_vec();
    table.extend(encode_table(&entry));
    let mut properties = header.properties;
    properties.headers = Some(RawTable::from_encoded(&table));
    properties.encode_header(header.body_size)
}

#[cfg(test)]
mod tests {
    use leveret_codec::{RawValue, encode_header, protocol::basic::AMQPProperties};
    use leveret_message::{Body, MessageScratch};

    use super::*;

    #[test]
    fn an_entry_is_added_to_whatever_is_there() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::LongInt(1));
        for properties in [
            AMQPProperties::default(),
            AMQPProperties::default().with_headers(table),
        ] {
            let had = properties.headers().is_some();
            let header = encode_header(4, &properties.with_message_id("m".into()));
            let header = decode_header(&header).unwrap();
            let message = Message::compose(
                &mut MessageScratch::default(),
                b"\0\0",
                &header,
                Body::Borrowed(b"body"),
            );
            let stamped = with_entry(&message, DELIVERY_COUNT, AMQPValue::LongLongInt(3));
            let stamped = decode_header(&stamped).unwrap();
            let headers = stamped.properties.headers.unwrap();
            assert_eq!(headers.get(b"x-delivery-count"), Some(RawValue::I64(3)));
            assert_eq!(headers.get(b"a").is_some(), had);
            assert_eq!(stamped.properties.message_id, Some(&b"m"[..]));
            assert_eq!(stamped.body_size, 4);
        }
    }
}
