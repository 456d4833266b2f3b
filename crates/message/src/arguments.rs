//! Values of `x-` arguments, as queues, exchanges, consumers and policies have them alike.

use leveret_codec::{
    AMQPValue, FieldTable, value_as_integer as integer, value_type_name as type_name,
};

/// The longest time that queues and messages may be given: ten years of 365 days, as in RabbitMQ.
pub const MILLISECONDS_MAX: i64 = 315_360_000_000;

/// A string of either length; anything that is not UTF-8 is shown with replacement characters.
#[must_use]
pub fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// An argument's value by name.
#[must_use]
pub fn argument<'a>(arguments: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    arguments.inner().get(name)
}

/// A whole number, or RabbitMQ's complaint.
///
/// # Errors
/// The text that follows the argument's name in the 406.
pub fn expect_integer(value: &AMQPValue) -> Result<i64, String> {
    integer(value).ok_or_else(|| format!("\"expected integer, got {}\"", type_name(value)))
}

/// `x-max-age` and intervals of `x-stream-offset`: a positive whole number and a unit out of Y, M, D,
/// h, m, s; a year has 365 days and a month 30.
#[must_use]
pub fn parse_age_ms(text: &str) -> Option<u64> {
    const SECOND: u64 = 1000;
    const DAY: u64 = 24 * 3600 * SECOND;
    let unit = match text.chars().last()? {
        'Y' => 365 * DAY,
        'M' => 30 * DAY,
        'D' => DAY,
        'h' => 3600 * SECOND,
        'm' => 60 * SECOND,
        's' => SECOND,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok().filter(|number| *number > 0)?;
    Some(number.saturating_mul(unit))
}
