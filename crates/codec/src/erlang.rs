//! Byte strings and field values as RabbitMQ writes them into its error texts, that is: as Erlang terms.
//!
//! Owns that notation alone. Clients and operators search for these texts, so they are kept.

use std::fmt;

use amq_protocol::types::AMQPValue;

use crate::field_value::value_type_name;

/// How Erlang's `~w` writes a binary: always as numbers.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

/// How Erlang's `~p` writes a binary: as text where all of it is printable ASCII, else as numbers.
pub(crate) struct Pretty<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<<")?;
        for (index, octet) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{octet}")?;
        }
        f.write_str(">>")
    }
}

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || !self.0.iter().copied().all(is_printable) {
            return Numbers(self.0).fmt(f);
        }
        f.write_str("<<\"")?;
        for &octet in self.0 {
            match octet {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\t' => f.write_str("\\t")?,
                _ => write!(f, "{}", char::from(octet))?,
            }
        }
        f.write_str("\">>")
    }
}

fn is_printable(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// A field value as RabbitMQ shows it: strings as they are, all else as Erlang's `~p`, on one line.
#[must_use]
pub fn show_value(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        other => Term(other).to_string(),
    }
}

/// How Erlang's `~p` writes a field value without its type. Depth is bounded by whoever decoded the value.
struct Term<'a>(&'a AMQPValue);

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AMQPValue::Boolean(value) => value.fmt(f),
            AMQPValue::ShortShortInt(value) => value.fmt(f),
            AMQPValue::ShortShortUInt(value) => value.fmt(f),
            AMQPValue::ShortInt(value) => value.fmt(f),
            AMQPValue::ShortUInt(value) => value.fmt(f),
            AMQPValue::LongInt(value) => value.fmt(f),
            AMQPValue::LongUInt(value) => value.fmt(f),
            AMQPValue::LongLongInt(value) => value.fmt(f),
            AMQPValue::Timestamp(value) => value.fmt(f),
            AMQPValue::Float(value) => f.write_str(&float(f64::from(*value))),
            AMQPValue::Double(value) => f.write_str(&float(*value)),
            AMQPValue::DecimalValue(decimal) => {
                write!(f, "{{{},{}}}", decimal.scale, decimal.value)
            }
            AMQPValue::ShortString(text) => Pretty(text.as_str().as_bytes()).fmt(f),
            AMQPValue::LongString(text) => Pretty(text.as_bytes()).fmt(f),
            AMQPValue::ByteArray(bytes) => Pretty(bytes.as_slice()).fmt(f),
            AMQPValue::Void => f.write_str("undefined"),
            AMQPValue::FieldArray(array) => {
                let values = array.as_slice().iter();
                list(
                    f,
                    values.map(|it| format!("{{{},{}}}", value_type_name(it), Term(it))),
                )
            }
            AMQPValue::FieldTable(table) => {
                let fields = table.inner().iter();
                list(
                    f,
                    fields.map(|(name, it)| {
                        let name = Pretty(name.as_str().as_bytes());
                        format!("{{{name},{},{}}}", value_type_name(it), Term(it))
                    }),
                )
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = String>) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(f, "{separator}{item}")?;
    }
    f.write_str("]")
}

/// The shortest digits that are this number, as a decimal fraction where that is no longer than with an exponent
/// and the number is no whole one beyond 2^53 (Erlang/OTP 25).
fn float(value: f64) -> String {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if !value.is_finite() {
        return value.to_string();
    }
    let pointed = |digits: &str| {
        let point = if digits.contains('.') { "" } else { ".0" };
        format!("{digits}{point}")
    };
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let scientific = format!("{}e{exponent}", pointed(mantissa));
    let decimal = pointed(&value.to_string());
    if value.abs() < WHOLE_MAX && decimal.len() <= scientific.len() {
        decimal
    } else {
        scientific
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_bytes_are_text_and_others_numbers() {
        assert_eq!(Pretty(b"x").to_string(), "<<\"x\">>");
        assert_eq!(Pretty(b"a\"b\n").to_string(), "<<\"a\\\"b\\n\">>");
        assert_eq!(Pretty(b"").to_string(), "<<>>");
        assert_eq!(Pretty(&[0, 20]).to_string(), "<<0,20>>");
        assert_eq!(Numbers(b"x").to_string(), "<<120>>");
    }

    #[test]
    fn floats_are_as_erlang_writes_them() {
        for (value, text) in [
            (5.0, "5.0"),
            (-0.0, "-0.0"),
            (f64::from(0.1_f32), "0.10000000149011612"),
            (123_456_789.125, "123456789.125"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00001, "1.0e-5"),
            (1.5e-7, "1.5e-7"),
            (1e5, "1.0e5"),
            (1e4, "1.0e4"),
            (1000.0, "1.0e3"),
            (100.0, "100.0"),
            (1200.0, "1.2e3"),
            (1_234_560.0, "1234560.0"),
            (12_345_600.0, "1.23456e7"),
            (0.000_12, "1.2e-4"),
            (-1000.0, "-1.0e3"),
            (1e10, "1.0e10"),
            (1e22, "1.0e22"),
            (9_007_199_254_740_991.0, "9007199254740991.0"),
            (9_007_199_254_740_992.0, "9.007199254740992e15"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn values_are_shown_as_terms() {
        use amq_protocol::types::{DecimalValue, FieldArray, FieldTable};

        let decimal = AMQPValue::DecimalValue(DecimalValue {
            scale: 2,
            value: 314,
        });
        assert_eq!(show_value(&decimal), "{2,314}");
        assert_eq!(show_value(&AMQPValue::Void), "undefined");
        assert_eq!(show_value(&AMQPValue::LongString("it's".into())), "it's");
        let mut table = FieldTable::default();
        assert_eq!(show_value(&AMQPValue::FieldTable(table.clone())), "[]");
        table.insert("a".into(), AMQPValue::LongString("b".into()));
        table.insert("c".into(), AMQPValue::Boolean(true));
        let array = FieldArray::from(vec![AMQPValue::LongInt(1), AMQPValue::FieldTable(table)]);
        assert_eq!(
            show_value(&AMQPValue::FieldArray(array)),
            "[{signedint,1},{table,[{<<\"a\">>,longstr,<<\"b\">>},{<<\"c\">>,bool,true}]}]"
        );
    }
}
