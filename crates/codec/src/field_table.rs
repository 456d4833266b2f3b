//! Field tables and arrays, walked and checked in place.
//!
//! A hostile table may nest as deep as a frame is long. It is checked, and carried, however deep it is; but owned
//! tables, in `owned_table`, are no deeper than [`TABLE_DEPTH_MAX`], because whatever handles them recurses.

use crate::field_value::{RawValue, Skipped};
use crate::input::Input;
use crate::raw_table::{RawArray, RawTable, TABLE_DEPTH_MAX, TableError};

impl<'a> RawTable<'a> {
    /// The fields in their order, names as bytes. Ends after the first error.
    #[must_use]
    pub const fn iter(&self) -> RawTableIter<'a> {
        RawTableIter(Input(self.as_encoded()))
    }

    /// The first field with this name. None too where the bytes before it are malformed.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<RawValue<'a>> {
        self.iter()
            .map_while(Result::ok)
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// Checks every length and type, values inside values included, however deep.
    ///
    /// # Errors
    /// The table is malformed.
    pub fn check(&self) -> Result<(), TableError> {
        check_table(self.as_encoded(), RECURSION_MAX, check_deep)
    }

    /// [`Self::check`] for what becomes an owned table.
    ///
    /// # Errors
    /// The table is malformed, or nested deeper than [`TABLE_DEPTH_MAX`].
    pub fn check_to_own(&self) -> Result<(), TableError> {
        check_table(self.as_encoded(), TABLE_DEPTH_MAX, |_| {
            Err(TableError::TooDeep)
        })
    }

    /// Appends the bytes of the fields whose names are wanted to `out`. Ends before the first malformed field.
    pub fn copy_fields(&self, out: &mut Vec<u8>, mut is_wanted: impl FnMut(&[u8]) -> bool) {
        let mut from = 0;
        let mut fields = self.iter();
        while let Some(Ok((name, _))) = fields.next() {
            let until = self.as_encoded().len() - fields.rest().len();
            if is_wanted(name) {
                out.extend_from_slice(self.as_encoded().get(from..until).unwrap_or_default());
            }
            from = until;
        }
    }

    /// Whether no floating point number in it, at any depth, is NaN or infinite. For a table that was
    /// checked: what is malformed or too deep is not looked at.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        let mut fields = self.iter().map_while(Result::ok);
        fields.all(|(_, value)| is_finite(value, TABLE_DEPTH_MAX))
    }
}

impl<'a> IntoIterator for RawTable<'a> {
    type Item = Result<(&'a [u8], RawValue<'a>), TableError>;
    type IntoIter = RawTableIter<'a>;

    fn into_iter(self) -> RawTableIter<'a> {
        self.iter()
    }
}

impl<'a> RawArray<'a> {
    /// The values in their order. Ends after the first error.
    #[must_use]
    pub const fn iter(&self) -> RawArrayIter<'a> {
        RawArrayIter(Input(self.as_encoded()))
    }
}

impl<'a> IntoIterator for RawArray<'a> {
    type Item = Result<RawValue<'a>, TableError>;
    type IntoIter = RawArrayIter<'a>;

    fn into_iter(self) -> RawArrayIter<'a> {
        self.iter()
    }
}

/// The fields of a [`RawTable`].
#[derive(Clone, Debug)]
pub struct RawTableIter<'a>(Input<'a>);

impl<'a> RawTableIter<'a> {
    /// The bytes of the fields that have not been handed out yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.0.0
    }
}

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

fn is_finite(value: RawValue<'_>, depth_left: usize) -> bool {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return true;
    };
    match value {
        RawValue::F32(number) => number.is_finite(),
        RawValue::F64(number) => number.is_finite(),
        RawValue::Table(table) => {
            let mut fields = table.iter().map_while(Result::ok);
            fields.all(|(_, value)| is_finite(value, depth_left))
        }
        RawValue::Array(array) => {
            let mut values = array.iter().map_while(Result::ok);
            values.all(|value| is_finite(value, depth_left))
        }
        _ => true,
    }
}

/// How deep [`RawTable::check`] recurses; what is deeper is rare and checked with a stack on the heap.
const RECURSION_MAX: usize = 16;

/// Checks `depth_left` levels and leaves those below to `deeper`.
fn check_table(
    bytes: &[u8],
    depth_left: usize,
    deeper: impl Fn(Skipped<'_>) -> Result<(), TableError> + Copy,
) -> Result<(), TableError> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return deeper(Skipped::Table(bytes));
    };
    let mut input = Input(bytes);
    while !input.is_empty() {
        input.short().ok_or(TableError::Truncated)?;
        check_value(&mut input, depth_left, deeper)?;
    }
    Ok(())
}

fn check_array(
    bytes: &[u8],
    depth_left: usize,
    deeper: impl Fn(Skipped<'_>) -> Result<(), TableError> + Copy,
) -> Result<(), TableError> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return deeper(Skipped::Array(bytes));
    };
    let mut input = Input(bytes);
    while !input.is_empty() {
        check_value(&mut input, depth_left, deeper)?;
    }
    Ok(())
}

#[inline]
fn check_value(
    input: &mut Input<'_>,
    depth_left: usize,
    deeper: impl Fn(Skipped<'_>) -> Result<(), TableError> + Copy,
) -> Result<(), TableError> {
    match RawValue::skip(input)? {
        Skipped::Leaf => Ok(()),
        Skipped::Table(inside) => check_table(inside, depth_left, deeper),
        Skipped::Array(inside) => check_array(inside, depth_left, deeper),
    }
}

/// Checks the inside of a table or an array without recursion.
#[cold]
fn check_deep(outermost: Skipped<'_>) -> Result<(), TableError> {
    let mut unchecked = vec![outermost];
    while let Some(inside) = unchecked.pop() {
        let (bytes, is_table) = match inside {
            Skipped::Leaf => continue,
            Skipped::Table(bytes) => (bytes, true),
            Skipped::Array(bytes) => (bytes, false),
        };
        let mut input = Input(bytes);
        while !input.is_empty() {
            if is_table {
                input.short().ok_or(TableError::Truncated)?;
            }
            match RawValue::skip(&mut input)? {
                Skipped::Leaf => {}
                nested => unchecked.push(nested),
            }
        }
    }
    Ok(())
}
