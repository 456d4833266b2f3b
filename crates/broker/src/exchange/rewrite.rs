//! Changing the headers of a message on its way through the broker.

use leveret_codec::{FieldTable, RawTable, decode_header, encode_table};

use crate::message::{Body, Message, MessageScratch};

/// The message with its headers changed; None if what was stored of it cannot be read.
pub(crate) fn with_headers(
    message: &Message,
    change: impl FnOnce(&mut FieldTable),
) -> Option<Message> {
    let header = message.decode_header().ok()?;
    let mut properties = header.properties;
    let mut headers = properties
        .headers
        .map(|headers| headers.to_table())
        .unwrap_or_default();
    change(&mut headers);
    let headers = encode_table(&headers);
    properties.headers = Some(RawTable::from_encoded(&headers));
    let payload = properties.encode_header(header.body_size);
    let header = decode_header(&payload).ok()?;
    let body = message.large_body().map_or_else(
        || Body::Borrowed(message.body()),
        |body| Body::Owned(body.clone()),
    );
    Some(Message::compose(
        &mut MessageScratch::default(),
        message.names(),
        &header,
        body,
    ))
}

/// Takes the header `name` out.
pub(crate) fn remove(headers: &mut FieldTable, name: &str) {
    let mut kept = FieldTable::default();
    for (key, value) in headers
        .inner()
        .iter()
        .filter(|(key, _)| key.as_str() != name)
    {
        kept.insert(key.clone(), value.clone());
    }
    *headers = kept;
}

/// The message as its receivers may see it: without the BCC header, which only routing reads.
pub(crate) fn without_blind_copies(message: Message) -> Message {
    let blind = message.has_headers()
        && message.decode_header().is_ok_and(|header| {
            header
                .properties
                .headers
                .is_some_and(|headers| headers.get(b"BCC").is_some())
        });
    if !blind {
        return message;
    }
    with_headers(&message, |headers| remove(headers, "BCC")).unwrap_or(message)
}
