//! Arguments of exchanges and bindings.

use leveret_codec::{AMQPValue, FieldTable};

/// The argument `name`.
pub(crate) fn argument<'a>(arguments: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    arguments.inner().get(name)
}

/// A string value's text; None for other types and for bytes that are no UTF-8.
pub(crate) fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}
