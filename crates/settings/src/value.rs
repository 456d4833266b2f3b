//! What an argument or a policy says, and which of two counts.

use std::cmp::Ordering;
use std::sync::Arc;

/// What an argument or a policy says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A number, time or size.
    Number(u64),
    /// How often a message may come back.
    Limit(DeliveryLimit),
    /// A name, or one word out of several.
    Text(String),
    /// On or off.
    Flag(bool),
    /// Times in order.
    Numbers(Arc<[u64]>),
    /// Whatever it is, nobody wants to know.
    Other,
}

impl Value {
    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// None also where there is no limit.
    pub(crate) fn limit(&self) -> Option<u32> {
        match self {
            Value::Limit(DeliveryLimit::Times(times)) => Some(*times),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        *self == Value::Flag(true)
    }

    /// None of what is no list.
    pub(crate) fn numbers(&self) -> Arc<[u64]> {
        match self {
            Value::Numbers(numbers) => Arc::clone(numbers),
            _ => Arc::default(),
        }
    }
}

/// How often a message may come back. The lower ones come first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DeliveryLimit {
    /// So many times.
    Times(u32),
    /// As often as it does.
    Unlimited,
}

impl DeliveryLimit {
    /// rabbitmq: a negative number stands for no limit
    pub(crate) fn new(limit: i64) -> DeliveryLimit {
        match u32::try_from(limit) {
            Ok(times) => DeliveryLimit::Times(times),
            Err(_) if limit < 0 => DeliveryLimit::Unlimited,
            Err(_) => DeliveryLimit::Times(u32::MAX),
        }
    }
}

/// Which of two counts that say something about the same: an argument and a policy, or a policy and an operator's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Merge {
    /// The lower of two limits.
    Lower,
    /// The first: the argument, the policy.
    First,
    /// The second: the policy, the operator's policy.
    Second,
    /// The one that is on.
    On,
}

impl Merge {
    /// Whether the first counts, where both are given.
    pub(crate) fn takes_first(self, first: &Value, second: &Value) -> bool {
        match self {
            Merge::Lower => lower(first, second) == Some(Ordering::Less),
            Merge::First => true,
            Merge::Second => false,
            Merge::On => first.is_on(),
        }
    }

    /// What counts, if anything is given.
    pub(crate) fn choose(self, first: Option<Value>, second: Option<&Value>) -> Option<Value> {
        match (first, second) {
            (Some(first), Some(second)) if self.takes_first(&first, second) => Some(first),
            (_, Some(second)) => Some(second.clone()),
            (first, None) => first,
        }
    }
}

/// None: what is no limit is not lower.
fn lower(first: &Value, second: &Value) -> Option<Ordering> {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => Some(first.cmp(second)),
        (Value::Limit(first), Value::Limit(second)) => Some(first.cmp(second)),
        _ => None,
    }
}
