//! A key of policies: its names, which queue types take it, and how its value is checked and read.

use leveret_message::arguments::parse_age_ms;
use serde_json::Value as Json;

use super::kinds::Kinds;
use super::value::{DeliveryLimit, Merge, Value};

/// A key of policies.
pub(crate) struct Key {
    /// Most have one.
    pub(crate) names: &'static [&'static str],
    /// The queue types that take it; a policy with it does not apply to others.
    pub(crate) kinds: Kinds,
    pub(crate) form: KeyForm,
    /// What the value is called in an error.
    pub(crate) what: &'static str,
    /// Which counts of a policy's and an operator policy's; None: operator policies do not take it.
    pub(crate) operator: Option<Merge>,
}

/// The form of a key's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyForm {
    Text,
    Count,
    Positive,
    /// A whole number of either sign; a negative one stands for no limit.
    Limit,
    OneOf(&'static [&'static str]),
    Age,
    Flag,
    /// Of no use here; accepted whatever it is.
    Anything,
}

impl KeyForm {
    /// What a value says; None: it is not of this form.
    pub(crate) fn read(self, value: &Json) -> Option<Value> {
        let text = value.as_str();
        let limit = || {
            let limit = value.as_i64().or(value.as_u64().map(|_| i64::MAX))?;
            Some(Value::Limit(DeliveryLimit::new(limit)))
        };
        match self {
            KeyForm::Text => text.map(|text| Value::Text(text.to_owned())),
            KeyForm::Count => value.as_u64().map(Value::Number),
            KeyForm::Positive => value.as_u64().filter(|it| *it > 0).map(Value::Number),
            KeyForm::Limit => limit(),
            KeyForm::OneOf(words) => text
                .filter(|text| words.contains(text))
                .map(|text| Value::Text(text.to_owned())),
            KeyForm::Age => text.and_then(parse_age_ms).map(Value::Number),
            KeyForm::Flag => value.as_bool().map(Value::Flag),
            KeyForm::Anything => Some(limit().unwrap_or(Value::Other)),
        }
    }
}
