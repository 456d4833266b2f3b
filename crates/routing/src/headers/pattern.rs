//! A headers binding's arguments, parsed once.

use leveret_codec::{AMQPValue, FieldTable, value_type_name};

use super::message::Headers;
use super::value::{Value, ValueRef};
use crate::arguments::argument;
use crate::binding::BindError;
use crate::erlang_text;

/// What a binding asks of a message's headers. Bindings with equal patterns share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    pub(crate) mode: Mode,
    /// In key order, which is the table's.
    pub(crate) pairs: Vec<Pair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    All,
    Any,
}

/// One header and the value it should have; None asks for its presence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) key: Box<[u8]>,
    pub(crate) expected: Option<Value>,
}

impl Pattern {
    pub(crate) fn parse(arguments: &FieldTable) -> Result<Self, BindError> {
        let (mode, with_x) = match argument(arguments, "x-match").map(string) {
            None => (Mode::All, false),
            Some(Ok(b"all")) => (Mode::All, false),
            Some(Ok(b"any")) => (Mode::Any, false),
            Some(Ok(b"all-with-x")) => (Mode::All, true),
            Some(Ok(b"any-with-x")) => (Mode::Any, true),
            Some(Ok(other)) => {
                return Err(BindError::InvalidMatch {
                    value: other.to_vec(),
                });
            }
            Some(Err(other)) => {
                let (type_name, value) = (value_type_name(other), erlang_text::printed(other));
                return Err(BindError::InvalidMatchType { type_name, value });
            }
        };
        let is_asked = |key: &str| key != "x-match" && (with_x || !key.starts_with("x-"));
        let pairs = arguments
            .into_iter()
            .filter(|(key, _)| is_asked(key.as_str()))
            .map(|(key, value)| Pair {
                key: key.as_str().as_bytes().into(),
                expected: Value::of_argument(value),
            })
            .collect();
        Ok(Self { mode, pairs })
    }

    /// Whether it is enough that one of its pairs holds.
    pub(super) fn is_fulfilled_by_one(&self) -> bool {
        self.mode == Mode::Any || self.pairs.len() == 1
    }

    /// Whether it expects a value of a compound type.
    pub(crate) fn is_nested(&self) -> bool {
        self.pairs
            .iter()
            .any(|pair| matches!(pair.expected, Some(Value::Nested(_))))
    }

    /// Whether all pairs hold: the whole of an `all` pattern.
    pub(super) fn holds(&self, headers: &Headers<'_>) -> bool {
        self.pairs.iter().all(|pair| {
            headers
                .get(&pair.key)
                .is_some_and(|actual| pair.accepts(actual))
        })
    }
}

impl Pair {
    fn accepts(&self, actual: &ValueRef<'_>) -> bool {
        self.expected
            .as_ref()
            .is_none_or(|expected| expected.as_ref() == *actual)
    }
}

fn string(value: &AMQPValue) -> Result<&[u8], &AMQPValue> {
    match value {
        AMQPValue::LongString(text) => Ok(text.as_bytes()),
        AMQPValue::ShortString(text) => Ok(text.as_str().as_bytes()),
        other => Err(other),
    }
}
