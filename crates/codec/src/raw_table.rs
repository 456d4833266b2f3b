//! Field tables and arrays as bytes, and what may be wrong with them. What is in them is `field_value`'s, how to walk
//! them `field_table`'s.

use std::fmt;

use thiserror::Error;

/// How many tables and arrays may be inside each other in an owned table, the outermost included.
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
    /// More than [`TABLE_DEPTH_MAX`] tables and arrays are inside each other where an owned table was asked for.
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
#[derive(Clone, Copy, Default, PartialEq)]
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
}

impl fmt::Debug for RawArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawArray({} bytes)", self.0.len())
    }
}
