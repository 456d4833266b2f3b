//! A place in a JSON document: a value and the way to it, so that every complaint says where.

use std::fmt::Display;

use leveret_codec::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use serde_json::{Map, Value};

use super::ImportError;

/// The longest name AMQP can carry, bytes.
const NAME_BYTES_MAX: usize = 255;

/// One value and where it stands, as in `queues[3].arguments`.
pub(super) struct Node<'a> {
    value: &'a Value,
    place: String,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Node<'a> {
        Node {
            value,
            place: String::new(),
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// A complaint about this value.
    pub(super) fn error(&self, message: impl Display) -> ImportError {
        let place = if self.place.is_empty() {
            "the document"
        } else {
            &self.place
        };
        ImportError {
            place: place.to_owned(),
            message: message.to_string(),
        }
    }

    pub(super) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(Vec::is_empty)
    }

    fn expected(&self, what: &str) -> ImportError {
        let got = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) | Value::Number(_) => self.value.to_string(),
            Value::String(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        self.error(format_args!("expected {what}, got {got}"))
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, ImportError> {
        self.value
            .as_object()
            .ok_or_else(|| self.expected("an object"))
    }

    /// A field that may be missing; null counts as missing.
    pub(super) fn field(&self, name: &str) -> Result<Option<Node<'a>>, ImportError> {
        let value = self.object()?.get(name).filter(|value| !value.is_null());
        let dot = if self.place.is_empty() { "" } else { "." };
        Ok(value.map(|value| Node {
            value,
            place: format!("{}{dot}{name}", self.place),
        }))
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &str) -> Result<Node<'a>, ImportError> {
        self.field(name)?
            .ok_or_else(|| self.error(format_args!("\"{name}\" is missing")))
    }

    /// The members of a list field; none where it is missing.
    pub(super) fn list(&self, name: &str) -> Result<Vec<Node<'a>>, ImportError> {
        match self.field(name)? {
            Some(list) => list.members(),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn members(&self) -> Result<Vec<Node<'a>>, ImportError> {
        let members = self
            .value
            .as_array()
            .ok_or_else(|| self.expected("a list"))?;
        let nodes = members.iter().enumerate().map(|(index, value)| Node {
            value,
            place: format!("{}[{index}]", self.place),
        });
        Ok(nodes.collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, ImportError> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    /// The name of something AMQP can name.
    pub(super) fn name(&self) -> Result<String, ImportError> {
        let name = self.text()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(self.error(format_args!(
                "a name may have {NAME_BYTES_MAX} bytes, this one has {}",
                name.len()
            )));
        }
        Ok(name.to_owned())
    }

    pub(super) fn integer(&self) -> Result<i64, ImportError> {
        self.value
            .as_i64()
            .ok_or_else(|| self.expected("a whole number"))
    }

    pub(super) fn text_or(&self, name: &str, default: &str) -> Result<String, ImportError> {
        match self.field(name)? {
            Some(field) => field.text().map(str::to_owned),
            None => Ok(default.to_owned()),
        }
    }

    pub(super) fn flag(&self) -> Result<bool, ImportError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.expected("true or false"))
    }

    pub(super) fn flag_or(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        match self.field(name)? {
            Some(field) => field.flag(),
            None => Ok(default),
        }
    }

    /// A limit: a missing or negative one is none.
    pub(super) fn limit(&self, name: &str) -> Result<Option<u64>, ImportError> {
        match self.field(name)? {
            Some(field) => Ok(u64::try_from(field.integer()?).ok()),
            None => Ok(None),
        }
    }

    /// A field with `x-` arguments. rabbitmq: an empty list stands for no arguments.
    pub(super) fn arguments(&self) -> Result<FieldTable, ImportError> {
        let Some(field) = self.field("arguments")? else {
            return Ok(FieldTable::default());
        };
        if field.is_empty_list() {
            return Ok(FieldTable::default());
        }
        field.table(DEPTH_MAX)
    }

    fn table(&self, depth: usize) -> Result<FieldTable, ImportError> {
        let mut table = FieldTable::default();
        for name in self.object()?.keys() {
            if name.len() > NAME_BYTES_MAX {
                return Err(self.error("the name of an argument is too long"));
            }
            let value = match self.field(name)? {
                Some(field) => field.amqp_value(depth)?,
                None => AMQPValue::Void,
            };
            table.insert(ShortString::from(name.as_str()), value);
        }
        Ok(table)
    }

    /// As RabbitMQ makes AMQP values of JSON.
    fn amqp_value(&self, depth: usize) -> Result<AMQPValue, ImportError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(self.error("nested too deep"));
        };
        Ok(match self.value {
            Value::Null => AMQPValue::Void,
            Value::Bool(flag) => AMQPValue::Boolean(*flag),
            Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => AMQPValue::LongLongInt(whole),
                (None, Some(fraction)) => AMQPValue::Double(fraction),
                (None, None) => return Err(self.error("this number is too large")),
            },
            Value::Array(_) => {
                let members = self.members()?;
                let values: Result<Vec<_>, _> =
                    members.iter().map(|node| node.amqp_value(depth)).collect();
                AMQPValue::FieldArray(FieldArray::from(values?))
            }
            Value::Object(_) => AMQPValue::FieldTable(self.table(depth)?),
        })
    }
}

/// How deep arguments may be nested; the codec allows twice as much.
const DEPTH_MAX: usize = 32;
