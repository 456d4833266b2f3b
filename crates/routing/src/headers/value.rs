//! Field values as headers exchanges compare them: by what they say, not by how wide they are.
//!
//! RabbitMQ compares Erlang terms with `=:=`: integers of any width (and timestamps, which are
//! integers there) are equal by value, floats and doubles likewise, but an integer never equals a
//! float; long strings and byte arrays are equal by their bytes.

use std::borrow::Cow;

use leveret_codec::{AMQPValue, FieldTable, RawValue, decode_table, encode_table};

use crate::stable_hash;

/// A value that a binding expects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Integer(i128),
    /// The bits of a double; zero has no sign.
    Float(u64),
    Boolean(bool),
    Bytes(Box<[u8]>),
    /// An array, a table or a decimal, encoded.
    Nested(Box<[u8]>),
}

/// A value, borrowed, that a message has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ValueRef<'a> {
    Integer(i128),
    Float(u64),
    Boolean(bool),
    Bytes(&'a [u8]),
    Nested(Cow<'a, [u8]>),
    /// Equal to nothing that is expected: void, or not looked at.
    Present,
}

impl Value {
    /// What a binding argument expects; None, mere presence, for void.
    pub(crate) fn of_argument(value: &AMQPValue) -> Option<Self> {
        Some(match value {
            AMQPValue::Void => return None,
            AMQPValue::Boolean(value) => Self::Boolean(*value),
            AMQPValue::ShortShortInt(value) => Self::Integer((*value).into()),
            AMQPValue::ShortShortUInt(value) => Self::Integer((*value).into()),
            AMQPValue::ShortInt(value) => Self::Integer((*value).into()),
            AMQPValue::ShortUInt(value) => Self::Integer((*value).into()),
            AMQPValue::LongInt(value) => Self::Integer((*value).into()),
            AMQPValue::LongUInt(value) => Self::Integer((*value).into()),
            AMQPValue::LongLongInt(value) => Self::Integer((*value).into()),
            AMQPValue::Timestamp(value) => Self::Integer((*value).into()),
            AMQPValue::Float(value) => Self::Float(float_bits((*value).into())),
            AMQPValue::Double(value) => Self::Float(float_bits(*value)),
            AMQPValue::ShortString(value) => Self::Bytes(value.as_str().as_bytes().into()),
            AMQPValue::LongString(value) => Self::Bytes(value.as_bytes().into()),
            AMQPValue::ByteArray(value) => Self::Bytes(value.as_slice().into()),
            AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => {
                Self::Nested(encode_nested(value.clone()).into())
            }
        })
    }

    pub(crate) fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Float(bits) => ValueRef::Float(*bits),
            Self::Boolean(value) => ValueRef::Boolean(*value),
            Self::Bytes(bytes) => ValueRef::Bytes(bytes),
            Self::Nested(encoded) => ValueRef::Nested(Cow::Borrowed(encoded)),
        }
    }
}

impl<'a> ValueRef<'a> {
    /// What a message's header says. Compound values are decoded only `with_nested`, because that
    /// allocates.
    pub(crate) fn of_header(value: RawValue<'a>, with_nested: bool) -> Self {
        match value {
            RawValue::Boolean(value) => Self::Boolean(value),
            RawValue::LongString(bytes) | RawValue::Bytes(bytes) => Self::Bytes(bytes),
            RawValue::F32(value) => Self::Float(float_bits(value.into())),
            RawValue::F64(value) => Self::Float(float_bits(value)),
            RawValue::I8(value) => Self::Integer(value.into()),
            RawValue::U8(value) => Self::Integer(value.into()),
            RawValue::I16(value) => Self::Integer(value.into()),
            RawValue::U16(value) => Self::Integer(value.into()),
            RawValue::I32(value) => Self::Integer(value.into()),
            RawValue::U32(value) => Self::Integer(value.into()),
            RawValue::I64(value) => Self::Integer(value.into()),
            RawValue::Timestamp(value) => Self::Integer(value.into()),
            RawValue::Array(array) if with_nested => Self::sized(b'A', array.as_encoded()),
            RawValue::Table(table) if with_nested => Self::sized(b'F', table.as_encoded()),
            RawValue::Decimal { scale, value } if with_nested => {
                Self::nested(&[&[0, b'D', scale], &value.to_be_bytes()[..]].concat())
            }
            RawValue::Array(_) | RawValue::Table(_) | RawValue::Decimal { .. } | RawValue::Void => {
                Self::Present
            }
        }
    }

    fn sized(octet: u8, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        Self::nested(&[&[0, octet], &length[..], bytes].concat())
    }

    /// The value of a table's only field, in the encoding that [`encode_nested`] gives a binding's: in key order. One
    /// nested deeper than an argument can be is equal to none.
    fn nested(field: &[u8]) -> Self {
        decode_table(field).map_or(Self::Present, |table| {
            Self::Nested(Cow::Owned(encode_table(&table)))
        })
    }

    /// A number that never changes for equal values.
    pub(crate) fn stable_hash(&self) -> u64 {
        match self {
            Self::Integer(value) => stable_hash::hash_bytes(2, &value.to_be_bytes()),
            Self::Float(bits) => stable_hash::hash_bytes(3, &bits.to_be_bytes()),
            Self::Boolean(value) => stable_hash::hash_bytes(4, &[u8::from(*value)]),
            Self::Bytes(bytes) => stable_hash::hash_bytes(1, bytes),
            Self::Nested(encoded) => stable_hash::hash_bytes(5, encoded),
            Self::Present => 0,
        }
    }
}

fn float_bits(value: f64) -> u64 {
    if value == 0.0 { 0 } else { value.to_bits() }
}

/// The value as the only entry of a table, so that its type is encoded with it.
fn encode_nested(value: AMQPValue) -> Vec<u8> {
    let mut table = FieldTable::default();
    table.insert("".into(), value);
    encode_table(&table)
}
