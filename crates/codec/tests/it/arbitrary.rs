//! Strategies for values that can be on the wire, and small helpers to read frames back.

use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use leveret_codec::{AMQPProperties, Frame, read_frame};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

pub(crate) fn short_string() -> impl Strategy<Value = ShortString> {
    "[a-zäα.#*]{0,20}".prop_map(ShortString::from)
}

pub(crate) fn table() -> impl Strategy<Value = FieldTable> {
    btree_map(short_string(), value(), 0..6).prop_map(FieldTable::from)
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_map(AMQPValue::Float),
        any::<f64>().prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>())
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        vec(any::<u8>(), 0..30).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        vec(any::<u8>(), 0..30).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|all| AMQPValue::FieldArray(FieldArray::from(all))),
            btree_map(short_string(), inner, 0..4)
                .prop_map(|all| AMQPValue::FieldTable(FieldTable::from(all))),
        ]
    })
}

pub(crate) fn properties() -> impl Strategy<Value = AMQPProperties> {
    let strings = vec(option::of(short_string()), 10);
    let others = (
        option::of(table()),
        option::of(any::<u8>()),
        option::of(any::<u8>()),
    );
    (strings, others, option::of(any::<u64>())).prop_map(|(strings, others, timestamp)| {
        let (headers, delivery_mode, priority) = others;
        let mut properties = AMQPProperties::default();
        for (index, text) in strings.into_iter().enumerate() {
            properties = match text {
                Some(text) => with_string(properties, index, text),
                None => properties,
            };
        }
        properties = headers
            .into_iter()
            .fold(properties, AMQPProperties::with_headers);
        properties = delivery_mode
            .into_iter()
            .fold(properties, AMQPProperties::with_delivery_mode);
        properties = priority
            .into_iter()
            .fold(properties, AMQPProperties::with_priority);
        timestamp
            .into_iter()
            .fold(properties, AMQPProperties::with_timestamp)
    })
}

fn with_string(properties: AMQPProperties, index: usize, text: ShortString) -> AMQPProperties {
    match index {
        0 => properties.with_content_type(text),
        1 => properties.with_content_encoding(text),
        2 => properties.with_correlation_id(text),
        3 => properties.with_reply_to(text),
        4 => properties.with_expiration(text),
        5 => properties.with_message_id(text),
        6 => properties.with_type(text),
        7 => properties.with_user_id(text),
        8 => properties.with_app_id(text),
        _ => properties.with_cluster_id(text),
    }
}

/// All frames in `bytes`, which must hold nothing else.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let frame = read_frame(bytes, 0).unwrap().unwrap();
        bytes = &bytes[frame.wire_length()..];
        frames.push(frame);
    }
    frames
}

/// The only frame in `bytes`.
pub(crate) fn only_frame(bytes: &[u8]) -> Frame<'_> {
    let frames = frames(bytes);
    assert_eq!(frames.len(), 1);
    frames[0]
}
