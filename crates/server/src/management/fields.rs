//! AMQP's field tables as JSON, as RabbitMQ shows arguments.

use leveret_broker::DeduplicationCounts;
use leveret_codec::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

/// An argument table.
pub(super) fn table(table: &FieldTable) -> Value {
    let fields = table.inner().iter();
    let fields = fields.map(|(name, field)| (name.to_string(), value(field)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn value(field: &AMQPValue) -> Value {
    match field {
        AMQPValue::Boolean(it) => Value::from(*it),
        AMQPValue::ShortShortInt(it) => Value::from(*it),
        AMQPValue::ShortShortUInt(it) => Value::from(*it),
        AMQPValue::ShortInt(it) => Value::from(*it),
        AMQPValue::ShortUInt(it) => Value::from(*it),
        AMQPValue::LongInt(it) => Value::from(*it),
        AMQPValue::LongUInt(it) => Value::from(*it),
        AMQPValue::LongLongInt(it) => Value::from(*it),
        AMQPValue::Float(it) => Value::from(*it),
        AMQPValue::Double(it) => Value::from(*it),
        AMQPValue::DecimalValue(it) => {
            Value::from(f64::from(it.value) / 10f64.powi(i32::from(it.scale)))
        }
        AMQPValue::ShortString(it) => Value::from(it.as_str()),
        AMQPValue::LongString(it) => text(it.as_bytes()),
        AMQPValue::ByteArray(it) => text(it.as_slice()),
        AMQPValue::FieldArray(it) => it.as_slice().iter().map(value).collect(),
        AMQPValue::Timestamp(it) => Value::from(*it),
        AMQPValue::FieldTable(it) => table(it),
        AMQPValue::Void => Value::Null,
    }
}

/// What deduplication has counted since the start.
pub(super) fn deduplication(counts: &DeduplicationCounts) -> Value {
    json!({
        "duplicates": counts.duplicates,
        "gaps": counts.gaps,
        "keys": counts.keys,
        "producers": counts.producers,
        "producers_forgotten": counts.producers_forgotten,
    })
}

/// Bytes that are no UTF-8 are shown with replacement characters.
pub(super) fn text(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes))
}
