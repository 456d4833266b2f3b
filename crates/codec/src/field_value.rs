//! One field value as it lies in the bytes, with its type as RabbitMQ understands the type octet.
//!
//! Reading one does not allocate. Tables and arrays that hold values are walked in `field_table`.

use amq_protocol::types::AMQPValue;

use crate::input::Input;
use crate::raw_table::{RawArray, RawTable, TableError};

/// A field value, borrowed from the bytes of its table.
///
/// The type octets are RabbitMQ's, which differ from the specification's: `s` is a signed 16-bit
/// integer, `l` and `L` both are signed 64-bit integers, `x` is a byte array. `U` is taken as `s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RawValue<'a> {
    /// `t`
    Boolean(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s` and `U`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` and `L`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// How many decimal places `value` has.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`: text or any other bytes.
    LongString(&'a [u8]),
    /// `A`
    Array(RawArray<'a>),
    /// `T`: seconds since the Unix epoch.
    Timestamp(u64),
    /// `F`
    Table(RawTable<'a>),
    /// `x`
    Bytes(&'a [u8]),
    /// `V`
    Void,
}

impl<'a> RawValue<'a> {
    /// Takes a type octet and its value off `input`. A table's or array's inside is not looked at.
    #[inline]
    pub(crate) fn read(input: &mut Input<'a>) -> Result<RawValue<'a>, TableError> {
        let octet = input.u8().ok_or(TableError::Truncated)?;
        RawValue::read_typed(octet, input)
            .ok_or(TableError::Truncated)?
            .ok_or(TableError::UnknownType(octet))
    }

    /// None: too few bytes. Some(None): no type has this octet.
    #[inline]
    fn read_typed(octet: u8, input: &mut Input<'a>) -> Option<Option<RawValue<'a>>> {
        Some(Some(match octet {
            b't' => RawValue::Boolean(input.u8()? != 0),
            b'b' => RawValue::I8(input.array().map(i8::from_be_bytes)?),
            b'B' => RawValue::U8(input.u8()?),
            b's' | b'U' => RawValue::I16(input.array().map(i16::from_be_bytes)?),
            b'u' => RawValue::U16(input.u16()?),
            b'I' => RawValue::I32(input.array().map(i32::from_be_bytes)?),
            b'i' => RawValue::U32(input.u32()?),
            b'l' | b'L' => RawValue::I64(input.array().map(i64::from_be_bytes)?),
            b'f' => RawValue::F32(input.array().map(f32::from_be_bytes)?),
            b'd' => RawValue::F64(input.array().map(f64::from_be_bytes)?),
            b'D' => RawValue::Decimal {
                scale: input.u8()?,
                value: input.u32()?,
            },
            b'S' => RawValue::LongString(input.long()?),
            b'A' => RawValue::Array(RawArray::from_encoded(input.long()?)),
            b'T' => RawValue::Timestamp(input.u64()?),
            b'F' => RawValue::Table(RawTable::from_encoded(input.long()?)),
            b'x' => RawValue::Bytes(input.long()?),
            b'V' => RawValue::Void,
            _ => return Some(None),
        }))
    }

    /// Steps over a type octet and its value; answers with the inside of a table or array.
    #[inline]
    pub(crate) fn skip(input: &mut Input<'a>) -> Result<Skipped<'a>, TableError> {
        let octet = input.u8().ok_or(TableError::Truncated)?;
        let size = match octet {
            b'S' | b'x' => {
                return input
                    .long()
                    .map(|_| Skipped::Leaf)
                    .ok_or(TableError::Truncated);
            }
            b'F' => {
                return input
                    .long()
                    .map(Skipped::Table)
                    .ok_or(TableError::Truncated);
            }
            b'A' => {
                return input
                    .long()
                    .map(Skipped::Array)
                    .ok_or(TableError::Truncated);
            }
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            _ => return Err(TableError::UnknownType(octet)),
        };
        input
            .take(size)
            .map(|_| Skipped::Leaf)
            .ok_or(TableError::Truncated)
    }

    /// The number, where the type is one of the integers (timestamps and booleans are none).
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            RawValue::I8(value) => Some(value.into()),
            RawValue::U8(value) => Some(value.into()),
            RawValue::I16(value) => Some(value.into()),
            RawValue::U16(value) => Some(value.into()),
            RawValue::I32(value) => Some(value.into()),
            RawValue::U32(value) => Some(value.into()),
            RawValue::I64(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes of a long string or a byte array.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
            RawValue::LongString(bytes) | RawValue::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// RabbitMQ's name of the type, as its error texts have it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            RawValue::Boolean(_) => "bool",
            RawValue::I8(_) => "byte",
            RawValue::U8(_) => "unsignedbyte",
            RawValue::I16(_) => "short",
            RawValue::U16(_) => "unsignedshort",
            RawValue::I32(_) => "signedint",
            RawValue::U32(_) => "unsignedint",
            RawValue::I64(_) => "long",
            RawValue::F32(_) => "float",
            RawValue::F64(_) => "double",
            RawValue::Decimal { .. } => "decimal",
            RawValue::LongString(_) => "longstr",
            RawValue::Array(_) => "array",
            RawValue::Timestamp(_) => "timestamp",
            RawValue::Table(_) => "table",
            RawValue::Bytes(_) => "binary",
            RawValue::Void => "void",
        }
    }
}

/// What was stepped over.
pub(crate) enum Skipped<'a> {
    /// A value without values inside.
    Leaf,
    /// A table with this inside.
    Table(&'a [u8]),
    /// An array with this inside.
    Array(&'a [u8]),
}

/// RabbitMQ's name of an owned value's type; see [`RawValue::type_name`].
#[must_use]
pub fn value_type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

/// An owned value's number, where its type is one of the integers; see [`RawValue::as_integer`].
#[must_use]
pub fn value_as_integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(value) => Some(value.into()),
        AMQPValue::ShortShortUInt(value) => Some(value.into()),
        AMQPValue::ShortInt(value) => Some(value.into()),
        AMQPValue::ShortUInt(value) => Some(value.into()),
        AMQPValue::LongInt(value) => Some(value.into()),
        AMQPValue::LongUInt(value) => Some(value.into()),
        AMQPValue::LongLongInt(value) => Some(value),
        _ => None,
    }
}
