//! Whether a second declaration means the same as the first.

use leveret_codec::{
    AMQPValue, FieldTable, show_value, value_as_integer as integer, value_type_name as type_name,
};
use leveret_message::arguments::{argument, text};
use leveret_message::error::ChannelError;
use leveret_queue::queue::kind::QueueKind;

use super::declared;
use super::kinds::{ALL, CLASSIC, Kinds, QUEUES, QUORUM};
use super::names::{DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, QUEUE_TYPE, SINGLE_ACTIVE_CONSUMER};

/// What a second declaration of a queue is compared by first, in RabbitMQ's order, which is another than
/// that of the checks.
const COMPARED_FIRST: &[(&str, Kinds)] = &[
    (DEAD_LETTER_EXCHANGE, QUORUM),
    (DEAD_LETTER_KEY, QUORUM),
    ("x-dead-letter-strategy", QUORUM),
    ("x-expires", QUEUES),
    ("x-message-ttl", CLASSIC),
    (DEAD_LETTER_EXCHANGE, CLASSIC),
    (DEAD_LETTER_KEY, CLASSIC),
    ("x-max-length", QUEUES),
    ("x-max-length-bytes", ALL),
    ("x-max-in-memory-length", QUORUM),
    ("x-max-in-memory-bytes", QUORUM),
    ("x-max-priority", CLASSIC),
    ("x-overflow", QUEUES),
    ("x-queue-mode", CLASSIC),
    ("x-queue-version", CLASSIC),
    (SINGLE_ACTIVE_CONSUMER, QUEUES),
    (QUEUE_TYPE, ALL),
    ("x-quorum-initial-group-size", QUORUM),
    ("x-delivery-limit", QUORUM),
    ("x-message-ttl", QUORUM),
];

/// The names of all arguments that this type of queue takes.
fn taken(kind: QueueKind) -> impl Iterator<Item = &'static str> {
    let known = declared::known();
    known
        .filter(move |it| it.kinds.have(kind))
        .map(|it| it.name)
}

/// The arguments by which two declarations of a queue of this type are compared, in order. Others mean nothing to it.
fn compared(kind: QueueKind) -> impl Iterator<Item = &'static str> {
    let first = COMPARED_FIRST
        .iter()
        .filter(move |(_, kinds)| kinds.have(kind));
    let is_first = move |name: &&str| first.clone().any(|(first, _)| first == name);
    let rest = taken(kind).filter(move |name| !is_first(name));
    let first = COMPARED_FIRST
        .iter()
        .filter(move |(_, kinds)| kinds.have(kind));
    first.map(|(name, _)| *name).chain(rest)
}

/// Checks that a second declaration of a queue means the same arguments as the first.
///
/// # Errors
/// 406 `inequivalent arg`, with RabbitMQ's wording.
pub fn check_equivalent(
    current: &FieldTable,
    received: &FieldTable,
    name: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
    for key in compared(declared::kind(current)) {
        let (current, received) = (argument(current, key), argument(received, key));
        check_equivalent_argument(key, current, received, "queue", name, vhost)?;
    }
    Ok(())
}

/// Checks one argument of a second declaration.
///
/// # Errors
/// 406 `inequivalent arg`, with RabbitMQ's wording.
pub fn check_equivalent_argument(
    key: &str,
    current: Option<&AMQPValue>,
    received: Option<&AMQPValue>,
    kind: &str,
    name: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
    let complaint = match (current, received) {
        (None, None) => return Ok(()),
        // rabbitmq: the default queue type may be left out or named
        (None, Some(value)) | (Some(value), None)
            if key == QUEUE_TYPE && text(value).as_deref() == Some("classic") =>
        {
            return Ok(());
        }
        (Some(current), Some(received)) if same_value(current, received) => return Ok(()),
        // rabbitmq: a void value and none are written alike here
        (Some(current), Some(received)) => format!(
            "received {} but current is {}",
            show_bare(received),
            show_bare(current)
        ),
        (current, received) => format!(
            "received {} but current is {}",
            show_typed(received),
            show_typed(current)
        ),
    };
    Err(ChannelError::precondition(format_args!(
        "inequivalent arg '{key}' for {kind} '{name}' in vhost '{vhost}': {complaint}"
    )))
}

/// rabbitmq: compares Erlang terms. Whole numbers of all widths, and timestamps, are equal by value, and so are floats;
/// strings and byte arrays are; what is inside arrays and tables must be of the same type, too.
fn same_value(left: &AMQPValue, right: &AMQPValue) -> bool {
    use AMQPValue::{
        ByteArray, Double, FieldArray, FieldTable, Float, LongString, ShortString, Timestamp,
    };
    fn whole(value: &AMQPValue) -> Option<i128> {
        match value {
            Timestamp(seconds) => Some((*seconds).into()),
            other => integer(other).map(i128::from),
        }
    }
    fn float(value: &AMQPValue) -> Option<f64> {
        match value {
            Float(number) => Some((*number).into()),
            Double(number) => Some(*number),
            _ => None,
        }
    }
    fn bytes(value: &AMQPValue) -> Option<&[u8]> {
        match value {
            ShortString(text) => Some(text.as_str().as_bytes()),
            LongString(text) => Some(text.as_bytes()),
            ByteArray(bytes) => Some(bytes.as_slice()),
            _ => None,
        }
    }
    if let (Some(left), Some(right)) = (whole(left), whole(right)) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (float(left), float(right)) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (bytes(left), bytes(right)) {
        return left == right;
    }
    match (left, right) {
        (FieldArray(array), FieldTable(table)) | (FieldTable(table), FieldArray(array)) => {
            array.as_slice().is_empty() && table.inner().is_empty()
        }
        _ => left == right,
    }
}

fn show_bare(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Void => "none".to_owned(),
        other => format!("'{}'", show_value(other)),
    }
}

fn show_typed(value: Option<&AMQPValue>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| {
            let type_name = type_name(value);
            format!("the value '{}' of type '{type_name}'", show_value(value))
        },
    )
}

#[cfg(test)]
mod tests {
    use leveret_codec::FieldArray;

    use super::*;

    fn complaint(current: Option<AMQPValue>, received: Option<AMQPValue>) -> Option<String> {
        let (current, received) = (current.as_ref(), received.as_ref());
        let error = check_equivalent_argument("x-max-length", current, received, "queue", "q", "/")
            .err()?;
        let (_, complaint) = error.text.split_once("'/': ")?;
        Some(complaint.to_owned())
    }

    #[test]
    fn values_are_equal_as_erlang_terms() {
        use AMQPValue::{
            Boolean, ByteArray, Double, FieldArray as Array, Float, LongInt, LongLongInt,
            LongString, Timestamp,
        };
        let array = |value| Array(FieldArray::from(vec![value]));
        for (left, right, same) in [
            (LongInt(5), LongLongInt(5), true),
            (LongInt(5), Timestamp(5), true),
            (LongInt(5), Double(5.0), false),
            (Float(0.5), Double(0.5), true),
            (Float(0.1), Double(0.1), false),
            (LongString("a".into()), ByteArray(b"a"[..].into()), true),
            (LongString("true".into()), Boolean(true), false),
            (array(LongInt(5)), array(LongLongInt(5)), false),
            (array(LongInt(5)), array(LongInt(5)), true),
            (
                Array(FieldArray::default()),
                AMQPValue::FieldTable(FieldTable::default()),
                true,
            ),
        ] {
            let shown = format!("{left:?} {right:?}");
            assert_eq!(
                complaint(Some(left), Some(right)).is_none(),
                same,
                "{shown}"
            );
        }
    }

    #[test]
    fn differences_are_worded_as_rabbitmqs() {
        let five = || Some(AMQPValue::LongInt(5));
        for (current, received, text) in [
            (
                five(),
                Some(AMQPValue::Double(5.0)),
                "received '5.0' but current is '5'",
            ),
            (
                five(),
                Some(AMQPValue::Void),
                "received none but current is '5'",
            ),
            (
                None,
                Some(AMQPValue::Void),
                "received the value 'undefined' of type 'void' but current is none",
            ),
            (
                five(),
                None,
                "received none but current is the value '5' of type 'signedint'",
            ),
            (
                Some(AMQPValue::LongString("it".into())),
                Some(AMQPValue::Boolean(true)),
                "received 'true' but current is 'it'",
            ),
        ] {
            assert_eq!(complaint(current, received).as_deref(), Some(text));
        }
    }

    #[test]
    fn each_argument_is_compared_once() {
        for kind in [QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream] {
            let mut all: Vec<_> = compared(kind).collect();
            all.sort_unstable();
            let mut known: Vec<_> = taken(kind).collect();
            known.sort_unstable();
            assert_eq!(all, known);
        }
    }
}
