//! Values as Erlang prints them, for error texts that clients read.

use std::fmt::{self, Display, Formatter, Write};

use leveret_codec::{AMQPValue, value_as_integer};

/// A binary as `~tp` prints it: `<<"zz">>`, or `<<0,255>>` where it is not printable text.
pub(crate) struct Binary<'a>(pub(crate) &'a [u8]);

impl Display for Binary<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok("") => out.write_str("<<>>"),
            Ok(text) if text.chars().all(is_printable) => quoted(text, out),
            _ => numbers(self.0, out),
        }
    }
}

fn is_printable(character: char) -> bool {
    !character.is_control() || matches!(character, '\n' | '\r' | '\t')
}

fn quoted(text: &str, out: &mut Formatter<'_>) -> fmt::Result {
    out.write_str("<<\"")?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            other => out.write_char(other)?,
        }
    }
    out.write_str(if text.is_ascii() { "\">>" } else { "\"/utf8>>" })
}

fn numbers(bytes: &[u8], out: &mut Formatter<'_>) -> fmt::Result {
    out.write_str("<<")?;
    for (position, byte) in bytes.iter().enumerate() {
        let separator = if position == 0 { "" } else { "," };
        write!(out, "{separator}{byte}")?;
    }
    out.write_str(">>")
}

/// A field value as `~tp` prints it; what is inside arrays and tables is left out.
pub(crate) fn printed(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::Float(value) => format!("{value:?}"),
        AMQPValue::Double(value) => format!("{value:?}"),
        AMQPValue::DecimalValue(value) => format!("{{{},{}}}", value.scale, value.value),
        AMQPValue::ShortString(value) => Binary(value.as_str().as_bytes()).to_string(),
        AMQPValue::LongString(value) => Binary(value.as_bytes()).to_string(),
        AMQPValue::ByteArray(value) => Binary(value.as_slice()).to_string(),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => "[...]".to_owned(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Void => "undefined".to_owned(),
        integer => value_as_integer(integer).unwrap_or_default().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Binary;

    #[test]
    fn binaries_print_as_erlang_prints_them() {
        for (bytes, expected) in [
            (&b"zz"[..], "<<\"zz\">>"),
            (b"", "<<>>"),
            (b"a\"b", "<<\"a\\\"b\">>"),
            (b"\x00\xff", "<<0,255>>"),
            ("\u{17e}".as_bytes(), "<<\"\u{17e}\"/utf8>>"),
        ] {
            assert_eq!(Binary(bytes).to_string(), expected);
        }
    }
}
