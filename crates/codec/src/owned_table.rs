//! Field tables between bytes and `amq-protocol`'s owned types.
//!
//! For arguments and for headers that the broker changes; what only reads a table walks it in place,
//! see `field_table`.

use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};

use crate::field_value::RawValue;
use crate::names::write_short;
use crate::raw_table::{RawArray, RawTable, TABLE_DEPTH_MAX, TableError};
use crate::reply_code::shorten;

/// The table that `bytes` (without the 32-bit length) encode. Of fields with one name the last one
/// stays.
///
/// # Errors
/// The bytes are malformed, nested too deep, or a name is not UTF-8.
pub fn decode_table(bytes: &[u8]) -> Result<FieldTable, TableError> {
    let mut copier = Copier::default();
    let table = copier.table(RawTable::from_encoded(bytes), TABLE_DEPTH_MAX);
    copier.finish(table)
}

impl RawValue<'_> {
    /// An owned copy; None where a table or array in it is malformed, nested too deep, or has a
    /// name that is not UTF-8.
    #[must_use]
    pub fn to_value(&self) -> Option<AMQPValue> {
        let mut copier = Copier::default();
        let value = copier.value(*self, TABLE_DEPTH_MAX);
        copier.finish(value).ok()
    }
}

impl RawTable<'_> {
    /// An owned copy of what can be read: it ends at the first malformed field, names that are not
    /// UTF-8 are escaped, and tables nested too deep are empty. For a copy that is exact or an error,
    /// see [`crate::decode_table`].
    #[must_use]
    pub fn to_table(&self) -> FieldTable {
        Copier::default().table(*self, TABLE_DEPTH_MAX)
    }
}

/// The bytes of `table`, without the 32-bit length.
#[must_use]
pub fn encode_table(table: &FieldTable) -> Vec<u8> {
    let mut out = Vec::new();
    write_fields(&mut out, table);
    out
}

/// Appends a field to the bytes of a table.
pub fn write_field(out: &mut Vec<u8>, name: &str, value: &AMQPValue) {
    write_short(out, name.as_bytes());
    write_value(out, value);
}

/// Appends a field to the bytes of a table whose value is a table, however deep that is.
pub fn write_table_field(out: &mut Vec<u8>, name: &str, table: RawTable<'_>) {
    write_short(out, name.as_bytes());
    write_long(out, b'F', table.as_encoded());
}

/// Copies all that can be copied and remembers the first thing that was wrong.
#[derive(Default)]
struct Copier {
    error: Option<TableError>,
}

impl Copier {
    fn finish<T>(self, copied: T) -> Result<T, TableError> {
        self.error.map_or(Ok(copied), Err)
    }

    fn note(&mut self, error: TableError) {
        self.error.get_or_insert(error);
    }

    fn table(&mut self, raw: RawTable<'_>, depth_left: usize) -> FieldTable {
        let mut table = FieldTable::default();
        let Some(depth_left) = depth_left.checked_sub(1) else {
            self.note(TableError::TooDeep);
            return table;
        };
        for field in raw {
            match field {
                Ok((name, value)) => {
                    table.insert(self.name(name), self.value(value, depth_left));
                }
                Err(error) => self.note(error),
            }
        }
        table
    }

    fn array(&mut self, raw: RawArray<'_>, depth_left: usize) -> FieldArray {
        let mut array = FieldArray::default();
        let Some(depth_left) = depth_left.checked_sub(1) else {
            self.note(TableError::TooDeep);
            return array;
        };
        for value in raw {
            match value {
                Ok(value) => array.push(self.value(value, depth_left)),
                Err(error) => self.note(error),
            }
        }
        array
    }

    fn value(&mut self, raw: RawValue<'_>, depth_left: usize) -> AMQPValue {
        match raw {
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
            RawValue::Array(array) => AMQPValue::FieldArray(self.array(array, depth_left)),
            RawValue::Timestamp(seconds) => AMQPValue::Timestamp(seconds),
            RawValue::Table(table) => AMQPValue::FieldTable(self.table(table, depth_left)),
            RawValue::Bytes(bytes) => AMQPValue::ByteArray(bytes.into()),
            RawValue::Void => AMQPValue::Void,
        }
    }

    fn name(&mut self, name: &[u8]) -> ShortString {
        match str::from_utf8(name) {
            Ok(name) => shorten(name),
            Err(_) => {
                self.note(TableError::NotUtf8);
                shorten(&name.escape_ascii().to_string())
            }
        }
    }
}

fn write_fields(out: &mut Vec<u8>, table: &FieldTable) {
    for (name, value) in table {
        write_field(out, name.as_str(), value);
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
