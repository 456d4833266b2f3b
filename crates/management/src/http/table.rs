//! AMQP's field tables as JSON, as RabbitMQ shows arguments.

use crate::view::DeduplicationCounts;
use leveret_codec::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use serde_json::{Map, Value, json};

use super::answer::Refusal;

/// How deep tables may lie in each other.
const DEPTH_MAX: usize = 32;
/// The longest name of a field.
const NAME_BYTES_MAX: usize = 255;

/// An argument table.
pub(crate) fn table(table: &FieldTable) -> Value {
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

/// An argument table from JSON. rabbitmq: an empty list stands for an empty table
pub(crate) fn from_json(value: &Value) -> Result<FieldTable, Refusal> {
    match value {
        Value::Object(fields) => from_fields(fields, DEPTH_MAX),
        Value::Array(items) if items.is_empty() => Ok(FieldTable::default()),
        _ => Err(Refusal::bad("arguments must be an object")),
    }
}

/// A table from the fields of an object.
pub(crate) fn from_fields(
    fields: &Map<String, Value>,
    depth: usize,
) -> Result<FieldTable, Refusal> {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        if name.len() > NAME_BYTES_MAX {
            return Err(Refusal::bad(
                "the name of an argument is longer than 255 bytes",
            ));
        }
        table.insert(ShortString::from(name.as_str()), from_value(value, depth)?);
    }
    Ok(table)
}

fn from_value(value: &Value, depth: usize) -> Result<AMQPValue, Refusal> {
    let Some(below) = depth.checked_sub(1) else {
        return Err(Refusal::bad("arguments lie too deep in each other"));
    };
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => AMQPValue::LongLongInt(whole),
            (None, Some(fraction)) => AMQPValue::Double(fraction),
            (None, None) => return Err(Refusal::bad("a number is out of range")),
        },
        Value::Array(items) => {
            let items = items.iter().map(|item| from_value(item, below));
            AMQPValue::FieldArray(FieldArray::from(items.collect::<Result<Vec<_>, _>>()?))
        }
        Value::Object(fields) => AMQPValue::FieldTable(from_fields(fields, below)?),
    })
}

/// What deduplication has counted since the start.
pub(crate) fn deduplication(counts: &DeduplicationCounts) -> Value {
    json!({
        "duplicates": counts.duplicates,
        "gaps": counts.gaps,
        "keys": counts.keys,
        "producers": counts.producers,
        "producers_forgotten": counts.producers_forgotten,
    })
}

/// Bytes that are no UTF-8 are shown with replacement characters.
pub(crate) fn text(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes))
}
