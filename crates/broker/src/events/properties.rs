//! An event's properties as RabbitMQ's plugin puts them into headers: numbers are 64 bits, names are
//! text, and a table of arguments is an array of fields as Erlang prints them.

use std::fmt::Write;
use std::net::IpAddr;

use leveret_codec::{AMQPValue, FieldArray, FieldTable, value_as_integer, value_type_name};
use serde_json::{Map, Value};

/// Properties by name.
#[derive(Debug, Default)]
pub(super) struct Properties(FieldTable);

impl Properties {
    pub(super) fn into_table(self) -> FieldTable {
        self.0
    }

    pub(super) fn with(mut self, name: &str, value: AMQPValue) -> Properties {
        self.0.insert(name.into(), value);
        self
    }

    pub(super) fn text(self, name: &str, value: impl AsRef<[u8]>) -> Properties {
        self.with(name, text(value.as_ref()))
    }

    pub(super) fn number(self, name: &str, value: u64) -> Properties {
        self.with(name, number(value))
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Properties {
        self.with(name, AMQPValue::Boolean(value))
    }

    /// Names in a list.
    pub(super) fn texts<T: AsRef<[u8]>>(
        self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Properties {
        let values = values.into_iter().map(|value| text(value.as_ref()));
        self.with(name, array(values.collect()))
    }

    /// A table of arguments.
    pub(super) fn arguments(self, name: &str, table: &FieldTable) -> Properties {
        let fields = table.inner().iter();
        let fields = fields.map(|(key, value)| field(key.as_str().as_bytes(), value));
        self.texts(name, fields)
    }

    /// An IP address as the tuple it is in Erlang.
    pub(super) fn address(self, name: &str, address: IpAddr) -> Properties {
        let parts: Vec<String> = match address {
            IpAddr::V4(address) => address.octets().iter().map(u8::to_string).collect(),
            IpAddr::V6(address) => address.segments().iter().map(u16::to_string).collect(),
        };
        self.text(name, format!("{{{}}}", parts.join(",")))
    }

    /// Something of a definition.
    pub(super) fn json(self, name: &str, value: &Value) -> Properties {
        let value = from_json(value);
        self.with(name, value)
    }

    /// The entries of an object.
    pub(super) fn entries(self, object: &Map<String, Value>) -> Properties {
        object
            .iter()
            .fold(self, |all, (name, value)| all.json(name, value))
    }

    /// Who did it.
    pub(super) fn by(self, user: &str) -> Properties {
        self.text("user_who_performed_action", user)
    }
}

fn text(value: &[u8]) -> AMQPValue {
    AMQPValue::LongString(value.to_vec().into())
}

fn number(value: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}

fn array(values: Vec<AMQPValue>) -> AMQPValue {
    AMQPValue::FieldArray(FieldArray::from(values))
}

/// rabbitmq: an object becomes a table, an empty one an empty array
fn from_json(value: &Value) -> AMQPValue {
    match value {
        Value::Null => text(b"null"),
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(value) => match value.as_i64() {
            Some(value) => AMQPValue::LongLongInt(value),
            None => AMQPValue::Double(value.as_f64().unwrap_or_default()),
        },
        Value::String(value) => text(value.as_bytes()),
        Value::Array(values) => array(values.iter().map(from_json).collect()),
        Value::Object(entries) if entries.is_empty() => array(Vec::new()),
        Value::Object(entries) => {
            AMQPValue::FieldTable(Properties::default().entries(entries).into_table())
        }
    }
}

/// `{<<"name">>,type,value}`
fn field(name: &[u8], value: &AMQPValue) -> String {
    let mut out = String::from("{");
    binary(name, &mut out);
    out.push(',');
    typed(value, &mut out);
    out.push('}');
    out
}

fn typed(value: &AMQPValue, out: &mut String) {
    out.push_str(value_type_name(value));
    out.push(',');
    printed(value, out);
}

fn printed(value: &AMQPValue, out: &mut String) {
    match value {
        AMQPValue::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        AMQPValue::Float(value) => push(out, format_args!("{value:?}")),
        AMQPValue::Double(value) => push(out, format_args!("{value:?}")),
        AMQPValue::DecimalValue(value) => {
            push(out, format_args!("{{{},{}}}", value.scale, value.value));
        }
        AMQPValue::ShortString(value) => binary(value.as_str().as_bytes(), out),
        AMQPValue::LongString(value) => binary(value.as_bytes(), out),
        AMQPValue::ByteArray(value) => binary(value.as_slice(), out),
        AMQPValue::FieldArray(values) => list(out, values.as_slice(), |value, out| {
            out.push('{');
            typed(value, out);
            out.push('}');
        }),
        AMQPValue::FieldTable(table) => list(out, table.inner(), |(name, value), out| {
            out.push_str(&field(name.as_str().as_bytes(), value));
        }),
        AMQPValue::Timestamp(value) => push(out, format_args!("{value}")),
        AMQPValue::Void => out.push_str("undefined"),
        integer => push(
            out,
            format_args!("{}", value_as_integer(integer).unwrap_or_default()),
        ),
    }
}

fn list<T>(out: &mut String, values: impl IntoIterator<Item = T>, print: impl Fn(T, &mut String)) {
    out.push('[');
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        print(value, out);
    }
    out.push(']');
}

/// `<<"text">>`, or the bytes where they are not plain text.
fn binary(bytes: &[u8], out: &mut String) {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.is_empty() {
        out.push_str("<<>>");
    } else if bytes.iter().all(plain) {
        push(
            out,
            format_args!("<<\"{}\">>", String::from_utf8_lossy(bytes)),
        );
    } else {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        push(out, format_args!("<<{}>>", numbers.join(",")));
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    #[test]
    fn arguments_are_printed_as_erlang_prints_them() {
        let inner = AMQPValue::FieldTable(table(&[("yes", AMQPValue::Boolean(true))]));
        for (value, expected) in [
            (text(b"v"), "{<<\"k\">>,longstr,<<\"v\">>}"),
            (text(b""), "{<<\"k\">>,longstr,<<>>}"),
            (text(b"a\n"), "{<<\"k\">>,longstr,<<97,10>>}"),
            (AMQPValue::LongInt(-5), "{<<\"k\">>,signedint,-5}"),
            (AMQPValue::Double(1.0), "{<<\"k\">>,double,1.0}"),
            (AMQPValue::Void, "{<<\"k\">>,void,undefined}"),
            (inner, "{<<\"k\">>,table,[{<<\"yes\">>,bool,true}]}"),
            (
                array(vec![text(b"a"), AMQPValue::LongLongInt(1)]),
                "{<<\"k\">>,array,[{longstr,<<\"a\">>},{long,1}]}",
            ),
        ] {
            assert_eq!(field(b"k", &value), expected);
        }
    }

    #[test]
    fn definitions_are_tables_and_addresses_tuples() {
        let made = Properties::default()
            .json(
                "definition",
                &json!({"max-length": 5, "overflow": "drop-head"}),
            )
            .json("empty", &json!({}))
            .address("host", "127.0.0.1".parse().unwrap())
            .address("peer_host", "::1".parse().unwrap())
            .into_table();
        let get = |name: &str| made.inner().get(name).unwrap();
        let definition = table(&[
            ("max-length", AMQPValue::LongLongInt(5)),
            ("overflow", text(b"drop-head")),
        ]);
        assert_eq!(get("definition"), &AMQPValue::FieldTable(definition));
        assert_eq!(get("empty"), &array(Vec::new()));
        assert_eq!(get("host"), &text(b"{127,0,0,1}"));
        assert_eq!(get("peer_host"), &text(b"{0,0,0,0,0,0,0,1}"));
    }
}
