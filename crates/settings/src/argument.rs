//! An argument of `queue.declare`: its name, which queue types take it, and how its value is checked and read.

use std::ops::RangeInclusive;
use std::sync::Arc;

use leveret_codec::{
    AMQPValue, FieldTable, value_as_integer as integer, value_type_name as type_name,
};
use leveret_message::arguments::{MILLISECONDS_MAX, argument, expect_integer, parse_age_ms, text};
use leveret_queue::queue::kind::QueueKind;

use super::kinds::Kinds;
use super::names::DEAD_LETTER_EXCHANGE;
use super::value::{DeliveryLimit, Value};

/// An argument of `queue.declare`.
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    /// The queue types that take it; others refuse it.
    pub(crate) kinds: Kinds,
    pub(crate) form: Form,
    /// What is looked at once everything else is found good.
    pub(crate) bounds: Option<Bounds>,
}

/// rabbitmq: some bounds are checked apart, and have texts of their own.
pub(crate) struct Bounds {
    range: RangeInclusive<i64>,
    refusal: &'static str,
}

/// The form of an argument's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    NonNegative,
    Positive,
    /// Of a classic queue on disk.
    Version,
    /// A negative one stands for no limit.
    Limit,
    Milliseconds {
        zero: bool,
    },
    Priority,
    Text,
    /// Of no use without a dead-letter exchange.
    DeadLetterKey,
    /// One of the words; else the complaint.
    OneOf(&'static [&'static str], &'static str),
    Flag,
    Mode,
    Type,
    Age,
    Delays,
}

/// How often a message may be retried; the store keeps the number in an octet.
const RETRIES_MAX: usize = 255;

pub(super) const fn argument_row(name: &'static str, kinds: Kinds, form: Form) -> Argument {
    Argument {
        name,
        kinds,
        form,
        bounds: None,
    }
}

impl Argument {
    pub(super) const fn within(
        self,
        range: RangeInclusive<i64>,
        refusal: &'static str,
    ) -> Argument {
        let bounds = Some(Bounds { range, refusal });
        Argument { bounds, ..self }
    }

    /// What a table of arguments says.
    pub(crate) fn read(&self, arguments: &FieldTable) -> Option<Value> {
        argument(arguments, self.name).and_then(|value| self.form.read(value))
    }
}

impl Bounds {
    /// The complaint, if the value is a number beyond them.
    pub(crate) fn refusal(&self, value: &AMQPValue) -> Option<&'static str> {
        let beyond = integer(value).is_some_and(|number| !self.range.contains(&number));
        beyond.then_some(self.refusal)
    }
}

impl Form {
    /// `arguments` are those that the value is among.
    ///
    /// # Errors
    /// The text that follows the argument's name in RabbitMQ's 406.
    pub(crate) fn check(self, value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
        match self {
            Form::NonNegative => match expect_integer(value)? {
                n if n < 0 => Err(format!("{{value_negative,{n}}}")),
                _ => Ok(()),
            },
            Form::Positive => match expect_integer(value)? {
                n if n < 0 => Err(format!("{{value_negative,{n}}}")),
                0 => Err("{value_zero,0}".to_owned()),
                _ => Ok(()),
            },
            Form::Version => match expect_integer(value)? {
                n if n < 0 => Err(format!("{{value_negative,{n}}}")),
                1 | 2 => Ok(()),
                n => Err(format!("\"unsupported queue version '{n}'\"")),
            },
            Form::Limit => expect_integer(value).map(|_| ()),
            Form::Milliseconds { zero } => match expect_integer(value)? {
                n if n < 0 => Err(format!("{{value_negative,{n}}}")),
                0 if !zero => Err("{value_zero,0}".to_owned()),
                n if n > MILLISECONDS_MAX => Err(format!("{{value_too_large,{n}}}")),
                _ => Ok(()),
            },
            Form::Priority => match expect_integer(value)? {
                n if n < 0 => Err(format!("{{value_negative,{n}}}")),
                n if n > 255 => Err(format!("{{max_value_exceeded,{n}}}")),
                _ => Ok(()),
            },
            Form::Text => expect_text(value).map(|_| ()),
            Form::DeadLetterKey => match expect_text(value)? {
                _ if argument(arguments, DEAD_LETTER_EXCHANGE).is_some() => Ok(()),
                _ => Err("routing_key_but_no_dlx_defined".to_owned()),
            },
            Form::Age => match parse_age_ms(&expect_text(value)?) {
                Some(_) => Ok(()),
                None => Err("invalid_max_age".to_owned()),
            },
            Form::OneOf(allowed, complaint) => match expect_text(value)? {
                text if allowed.contains(&text.as_str()) => Ok(()),
                _ => Err(complaint.to_owned()),
            },
            Form::Delays => match value {
                AMQPValue::FieldArray(delays) => check_delays(delays.as_slice()),
                other => Err(unacceptable(other)),
            },
            Form::Flag => match value {
                AMQPValue::Boolean(_) => Ok(()),
                other => Err(unacceptable(other)),
            },
            Form::Mode => match expect_text(value)? {
                mode if mode == "default" || mode == "lazy" => Ok(()),
                mode => Err(format!("\"unsupported queue mode '{mode}'\"")),
            },
            Form::Type => match expect_text(value)? {
                kind if QueueKind::of_argument(&kind).is_some() => Ok(()),
                kind => Err(format!("\"unsupported queue type '{kind}'\"")),
            },
        }
    }

    /// What a value says that was accepted before.
    pub(crate) fn read(self, value: &AMQPValue) -> Option<Value> {
        match self {
            Form::NonNegative
            | Form::Positive
            | Form::Version
            | Form::Milliseconds { .. }
            | Form::Priority => number(value).map(Value::Number),
            Form::Limit => integer(value).map(DeliveryLimit::new).map(Value::Limit),
            Form::Text | Form::DeadLetterKey | Form::OneOf(..) | Form::Mode | Form::Type => {
                text(value).map(Value::Text)
            }
            Form::Age => text(value)
                .as_deref()
                .and_then(parse_age_ms)
                .map(Value::Number),
            Form::Flag => match value {
                AMQPValue::Boolean(flag) => Some(Value::Flag(*flag)),
                _ => None,
            },
            Form::Delays => match value {
                AMQPValue::FieldArray(delays) => {
                    let delays = delays.as_slice().iter().filter_map(number);
                    Some(Value::Numbers(delays.collect::<Arc<[u64]>>()))
                }
                _ => None,
            },
        }
    }
}

fn number(value: &AMQPValue) -> Option<u64> {
    integer(value).and_then(|number| u64::try_from(number).ok())
}

fn expect_text(value: &AMQPValue) -> Result<String, String> {
    text(value).ok_or_else(|| unacceptable(value))
}

fn unacceptable(value: &AMQPValue) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value))
}

fn check_delays(delays: &[AMQPValue]) -> Result<(), String> {
    if !(1..=RETRIES_MAX).contains(&delays.len()) {
        return Err(format!("\"expected 1 to {RETRIES_MAX} delays\""));
    }
    let each = Form::Milliseconds { zero: true };
    delays
        .iter()
        .try_for_each(|delay| each.check(delay, &FieldTable::default()))
}
