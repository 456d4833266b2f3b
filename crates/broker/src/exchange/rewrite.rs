//! Changing the headers of a message on its way through the broker.

use leveret_codec::{RawTable, RawValue, decode_header};
use leveret_message::marks::{Marks, encode_keys};
use leveret_message::{Body, Message, MessageScratch};

/// The message with its headers changed; None if what was stored of it cannot be read. `change` gets the headers as
/// they are, and writes the fields that are to be.
pub(crate) fn with_headers(
    message: &Message,
    change: impl FnOnce(RawTable<'_>, &mut Vec<u8>),
) -> Option<Message> {
    with_headers_and_marks(message, message.marks(), change)
}

fn with_headers_and_marks(
    message: &Message,
    marks: Marks<'_>,
    change: impl FnOnce(RawTable<'_>, &mut Vec<u8>),
) -> Option<Message> {
    let header = message.decode_header().ok()?;
    let mut properties = header.properties;
    let mut fields = Vec::new();
    change(properties.headers.unwrap_or_default(), &mut fields);
    properties.headers = Some(RawTable::from_encoded(&fields));
    let payload = properties.encode_header(header.body_size);
    let header = decode_header(&payload).ok()?;
    let body = message.large_body().map_or_else(
        || Body::Borrowed(message.body()),
        |body| Body::Owned(body.clone()),
    );
    Some(Message::compose_marked(
        &mut MessageScratch::default(),
        message.names(),
        marks,
        &header,
        body,
    ))
}

/// The message as its receivers may see it: the keys of its BCC header are kept in its marks only.
pub fn without_blind_copies(message: Message) -> Message {
    let header = message.decode_header().ok();
    let headers = header.and_then(|header| header.properties.headers);
    let Some(keys) = headers.and_then(blind_keys) else {
        return message;
    };
    with_headers_and_marks(&message, Marks::blind(&keys), copy_without_blind).unwrap_or(message)
}

/// The header with the keys that receivers do not see.
const BLIND_COPIES: &str = "BCC";

/// Copies all headers but that one.
pub fn copy_without_blind(headers: RawTable<'_>, fields: &mut Vec<u8>) {
    headers.copy_fields(fields, |name| name != BLIND_COPIES.as_bytes());
}

/// The keys of the BCC header, for [`Marks::blind`]; None where there is no such header.
pub fn blind_keys(headers: RawTable<'_>) -> Option<Vec<u8>> {
    match headers.get(BLIND_COPIES.as_bytes())? {
        RawValue::Array(keys) => Some(encode_keys(
            keys.iter().filter_map(|key| key.ok()?.as_bytes()),
        )),
        _ => Some(Vec::new()),
    }
}
