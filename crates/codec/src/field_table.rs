//! Field tables and arrays: walked in place, decoded into and encoded from `amq-protocol`'s types.
//!
//! Owns the limit on nesting. A hostile table may nest as deep as a frame is long; nothing here, and
//! no parser behind it, goes deeper than [`TABLE_DEPTH_MAX`].

use std::fmt;

use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use thiserror::Error;

use crate::field_value::RawValue;
use crate::input::Input;
use crate::names::write_short;

/// How many tables and arrays may be inside each other, the outermost included.
pub const TABLE_DEPTH_MAX: usize = 64;

/// What is wrong with a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// A name or value reaches over the end of its table.
    #[error("field table is cut short")]
    Truncated,
    /// No field type has this octet.
    #[error("field table has a value of unknown type {0}")]
    UnknownType(u8),
    /// More than [`TABLE_DEPTH_MAX`] tables and arrays are inside each other.
    #[error("field table is nested deeper than {TABLE_DEPTH_MAX}")]
    TooDeep,
    /// A field's name is not UTF-8 where an owned table was asked for.
    #[error("field table has a name that is not UTF-8")]
    NotUtf8,
}

/// A field table as it lies in the bytes of a frame, without its length.
///
/// Its bytes are not necessarily well-formed; whoever walks it meets an error where they are not.
/// The header tables of [`crate::decode_header`] are checked.
#[derive(Clone, Copy, PartialEq)]
pub struct RawTable<'a>(&'a [u8]);

impl<'a> RawTable<'a> {
    /// The table that these bytes (without the 32-bit length) encode. Checks nothing.
    #[must_use]
    pub const fn from_encoded(bytes: &'a [u8]) -> RawTable<'a> {
        RawTable(bytes)
    }

    /// The bytes, without the 32-bit length.
    #[must_use]
    pub const fn as_encoded(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no field.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields in their order, names as bytes. Ends after the first error.
    #[must_use]
    pub const fn iter(&self) -> RawTableIter<'a> {
        RawTableIter(Input(self.0))
    }

    /// The first field with this name. None too where the bytes before it are malformed.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<RawValue<'a>> {
        self.iter()
            .map_while(Result::ok)
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// Checks every length, type and the depth, values inside values included.
    ///
    /// # Errors
    /// The table is malformed.
    pub fn check(&self) -> Result<(), TableError> {
        check_table(*self, TABLE_DEPTH_MAX)
    }

    /// An owned copy of what can be read: it ends at the first malformed field, names that are not
    /// UTF-8 have their wrong bytes replaced, and tables nested too deep are empty. For a copy that
    /// is exact or an error, see [`decode_table`].
    #[must_use]
    pub fn to_table(&self) -> FieldTable {
        owned_table(*self, TABLE_DEPTH_MAX, Names::Lossy).0
    }
}

impl<'a> IntoIterator for RawTable<'a> {
    type Item = Result<(&'a [u8], RawValue<'a>), TableError>;
    type IntoIter = RawTableIter<'a>;

    fn into_iter(self) -> RawTableIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for RawTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTable({} bytes)", self.0.len())
    }
}

/// A field array as it lies in the bytes of a frame, without its length; see [`RawTable`].
#[derive(Clone, Copy, PartialEq)]
pub struct RawArray<'a>(&'a [u8]);

impl<'a> RawArray<'a> {
    /// The array that these bytes (without the 32-bit length) encode. Checks nothing.
    #[must_use]
    pub const fn from_encoded(bytes: &'a [u8]) -> RawArray<'a> {
        RawArray(bytes)
    }

    /// The bytes, without the 32-bit length.
    #[must_use]
    pub const fn as_encoded(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in their order. Ends after the first error.
    #[must_use]
    pub const fn iter(&self) -> RawArrayIter<'a> {
        RawArrayIter(Input(self.0))
    }
}

impl<'a> IntoIterator for RawArray<'a> {
    type Item = Result<RawValue<'a>, TableError>;
    type IntoIter = RawArrayIter<'a>;

    fn into_iter(self) -> RawArrayIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for RawArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawArray({} bytes)", self.0.len())
    }
}

/// The fields of a [`RawTable`].
#[derive(Clone, Debug)]
pub struct RawTableIter<'a>(Input<'a>);

impl<'a> Iterator for RawTableIter<'a> {
    type Item = Result<(&'a [u8], RawValue<'a>), TableError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = read_field(&mut self.0);
        if field.is_err() {
            self.0 = Input(&[]);
        }
        Some(field)
    }
}

#[inline]
fn read_field<'a>(input: &mut Input<'a>) -> Result<(&'a [u8], RawValue<'a>), TableError> {
    let name = input.short().ok_or(TableError::Truncated)?;
    Ok((name, RawValue::read(input)?))
}

/// The values of a [`RawArray`].
#[derive(Clone, Debug)]
pub struct RawArrayIter<'a>(Input<'a>);

impl<'a> Iterator for RawArrayIter<'a> {
    type Item = Result<RawValue<'a>, TableError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let value = RawValue::read(&mut self.0);
        if value.is_err() {
            self.0 = Input(&[]);
        }
        Some(value)
    }
}

/// The table that `bytes` (without the 32-bit length) encode. Of fields with one name the last one
/// stays.
///
/// # Errors
/// The bytes are malformed, nested too deep, or a name is not UTF-8.
pub fn decode_table(bytes: &[u8]) -> Result<FieldTable, TableError> {
    match owned_table(RawTable(bytes), TABLE_DEPTH_MAX, Names::Utf8) {
        (table, None) => Ok(table),
        (_, Some(error)) => Err(error),
    }
}

/// The bytes of `table`, without the 32-bit length.
#[must_use]
pub fn encode_table(table: &FieldTable) -> Vec<u8> {
    let mut out = Vec::new();
    write_fields(&mut out, table);
    out
}

fn check_table(table: RawTable<'_>, depth_left: usize) -> Result<(), TableError> {
    let depth_left = depth_left.checked_sub(1).ok_or(TableError::TooDeep)?;
    table
        .iter()
        .try_for_each(|field| check_value(field?.1, depth_left))
}

fn check_value(value: RawValue<'_>, depth_left: usize) -> Result<(), TableError> {
    match value {
        RawValue::Table(table) => check_table(table, depth_left),
        RawValue::Array(array) => {
            let depth_left = depth_left.checked_sub(1).ok_or(TableError::TooDeep)?;
            array
                .iter()
                .try_for_each(|value| check_value(value?, depth_left))
        }
        _ => Ok(()),
    }
}

/// What to do with field names that are not UTF-8.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Utf8,
    Lossy,
}

/// What could be read, and what ended the reading where it was not the end of the bytes.
type Partial<T> = (T, Option<TableError>);

fn owned_table(raw: RawTable<'_>, depth_left: usize, names: Names) -> Partial<FieldTable> {
    let mut table = FieldTable::default();
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return (table, Some(TableError::TooDeep));
    };
    for field in raw {
        let (name, value, error) = match field {
            Ok((name, value)) => match owned_name(name, names) {
                Ok(name) => {
                    let (value, error) = owned_value(value, depth_left, names);
                    (name, value, error)
                }
                Err(error) => return (table, Some(error)),
            },
            Err(error) => return (table, Some(error)),
        };
        table.insert(name, value);
        if error.is_some() && names == Names::Utf8 {
            return (table, error);
        }
    }
    (table, None)
}

fn owned_array(raw: RawArray<'_>, depth_left: usize, names: Names) -> Partial<FieldArray> {
    let mut array = FieldArray::default();
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return (array, Some(TableError::TooDeep));
    };
    for value in raw {
        let (value, error) = match value {
            Ok(value) => owned_value(value, depth_left, names),
            Err(error) => return (array, Some(error)),
        };
        array.push(value);
        if error.is_some() && names == Names::Utf8 {
            return (array, error);
        }
    }
    (array, None)
}

fn owned_value(raw: RawValue<'_>, depth_left: usize, names: Names) -> Partial<AMQPValue> {
    let value = match raw {
        RawValue::Boolean(value) => AMQPValue::Boolean(value),
        RawValue::I8(value) => AMQPValue::ShortShortInt(value),
        RawValue::U8(value) => AMQPValue::ShortShortUInt(value),
        RawValue::I16(value) => AMQPValue::ShortInt(value),
        RawValue::U16(value) => AMQPValue::ShortUInt(value),
        RawValue::I32(value) => AMQPValue::LongInt(value),
        RawValue::U32(value) => AMQPValue::LongUInt(value),
        RawValue::I64(value) => AMQPValue::LongLongInt(value),
        RawValue::F32(value) => AMQPValue::Float(value),
        RawValue::F64(value) => AMQPValue::Double(value),
        RawValue::Decimal { scale, value } => {
            AMQPValue::DecimalValue(DecimalValue { scale, value })
        }
        RawValue::LongString(bytes) => AMQPValue::LongString(bytes.into()),
        RawValue::Timestamp(seconds) => AMQPValue::Timestamp(seconds),
        RawValue::Bytes(bytes) => AMQPValue::ByteArray(bytes.into()),
        RawValue::Void => AMQPValue::Void,
        RawValue::Array(array) => {
            let (array, error) = owned_array(array, depth_left, names);
            return (AMQPValue::FieldArray(array), error);
        }
        RawValue::Table(table) => {
            let (table, error) = owned_table(table, depth_left, names);
            return (AMQPValue::FieldTable(table), error);
        }
    };
    (value, None)
}

/// The exact owned copy of `raw`.
///
/// # Errors
/// As [`decode_table`].
pub(crate) fn to_exact_value(raw: RawValue<'_>) -> Result<AMQPValue, TableError> {
    match owned_value(raw, TABLE_DEPTH_MAX, Names::Utf8) {
        (value, None) => Ok(value),
        (_, Some(error)) => Err(error),
    }
}

fn owned_name(name: &[u8], names: Names) -> Result<ShortString, TableError> {
    let text = match (str::from_utf8(name), names) {
        (Ok(text), _) => text.to_owned(),
        (Err(_), Names::Lossy) => name.escape_ascii().to_string(),
        (Err(_), Names::Utf8) => return Err(TableError::NotUtf8),
    };
    Ok(crate::reply_code::shorten(&text))
}

pub(crate) fn write_fields(out: &mut Vec<u8>, table: &FieldTable) {
    for (name, value) in table {
        write_short(out, name.as_str().as_bytes());
        write_value(out, value);
    }
}

fn write_value(out: &mut Vec<u8>, value: &AMQPValue) {
    match value {
        AMQPValue::Boolean(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
        AMQPValue::ShortShortInt(value) => write_number(out, b'b', value.to_be_bytes()),
        AMQPValue::ShortShortUInt(value) => write_number(out, b'B', value.to_be_bytes()),
        AMQPValue::ShortInt(value) => write_number(out, b's', value.to_be_bytes()),
        AMQPValue::ShortUInt(value) => write_number(out, b'u', value.to_be_bytes()),
        AMQPValue::LongInt(value) => write_number(out, b'I', value.to_be_bytes()),
        AMQPValue::LongUInt(value) => write_number(out, b'i', value.to_be_bytes()),
        AMQPValue::LongLongInt(value) => write_number(out, b'l', value.to_be_bytes()),
        AMQPValue::Float(value) => write_number(out, b'f', value.to_be_bytes()),
        AMQPValue::Double(value) => write_number(out, b'd', value.to_be_bytes()),
        AMQPValue::DecimalValue(decimal) => {
            write_number(out, b'D', decimal.scale.to_be_bytes());
            out.extend_from_slice(&decimal.value.to_be_bytes());
        }
        // rabbitmq: has no short string among the field types.
        AMQPValue::ShortString(text) => write_long(out, b'S', text.as_str().as_bytes()),
        AMQPValue::LongString(bytes) => write_long(out, b'S', bytes.as_bytes()),
        AMQPValue::ByteArray(bytes) => write_long(out, b'x', bytes.as_slice()),
        AMQPValue::Timestamp(seconds) => write_number(out, b'T', seconds.to_be_bytes()),
        AMQPValue::Void => out.push(b'V'),
        AMQPValue::FieldArray(array) => write_nested(out, b'A', |out| {
            array
                .as_slice()
                .iter()
                .for_each(|value| write_value(out, value));
        }),
        AMQPValue::FieldTable(table) => write_nested(out, b'F', |out| write_fields(out, table)),
    }
}

fn write_number<const N: usize>(out: &mut Vec<u8>, octet: u8, value: [u8; N]) {
    out.push(octet);
    out.extend_from_slice(&value);
}

fn write_long(out: &mut Vec<u8>, octet: u8, bytes: &[u8]) {
    write_nested(out, octet, |out| out.extend_from_slice(bytes));
}

/// Writes a type octet, then what `inside` writes with its length before it.
fn write_nested(out: &mut Vec<u8>, octet: u8, inside: impl FnOnce(&mut Vec<u8>)) {
    out.push(octet);
    write_with_length(out, inside);
}

/// Writes what `inside` writes with its length before it as 32 bits.
pub(crate) fn write_with_length(out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    inside(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
