//! `x-recent-history`: matches as `fanout`; that it remembers messages is the broker's doing.

use leveret_codec::{AMQPValue, FieldTable, value_as_integer};

use crate::arguments::argument;
use crate::erlang_text;
use crate::exchange_error::ExchangeError;
use crate::fanout::FANOUT;
use crate::matcher::ExchangeType;

pub(crate) static RECENT_HISTORY: ExchangeType = ExchangeType {
    name: "x-recent-history",
    is_stateful: true,
    check: |arguments| length(arguments).map(drop),
    matcher: FANOUT.matcher,
};

const LENGTH: &str = "x-recent-history-length";
/// What is remembered without that argument.
const LENGTH_DEFAULT: usize = 20;

/// How many messages are remembered.
pub(crate) fn length(arguments: &FieldTable) -> Result<usize, ExchangeError> {
    let Some(length) = argument(arguments, LENGTH) else {
        return Ok(LENGTH_DEFAULT);
    };
    // rabbitmq: unsigned numbers do not count
    let signed = !matches!(
        length,
        AMQPValue::ShortShortUInt(_) | AMQPValue::ShortUInt(_) | AMQPValue::LongUInt(_)
    );
    value_as_integer(length)
        .filter(|length| signed && *length > 0)
        .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
        .ok_or_else(|| ExchangeError::HistoryLength(erlang_text::printed(length)))
}

#[cfg(test)]
mod tests {
    use leveret_codec::LongString;

    use super::*;

    #[test]
    fn a_history_is_20_long_or_as_long_as_is_said() {
        assert_eq!(length(&FieldTable::default()), Ok(20));
        let with = |value: AMQPValue| {
            let mut arguments = FieldTable::default();
            arguments.insert(LENGTH.into(), value);
            (RECENT_HISTORY.check)(&arguments).map_err(|error| error.to_string())?;
            length(&arguments).map_err(|error| error.to_string())
        };
        assert_eq!(with(AMQPValue::LongLongInt(3)), Ok(3));
        assert_eq!(with(AMQPValue::ShortShortInt(1)), Ok(1));
        let refused = |value: &str| {
            Err(format!(
                "Invalid argument {value}, 'x-recent-history-length' must be a positive integer"
            ))
        };
        assert_eq!(with(AMQPValue::LongInt(0)), refused("0"));
        assert_eq!(with(AMQPValue::LongInt(-5)), refused("-5"));
        assert_eq!(with(AMQPValue::LongUInt(5)), refused("5"));
        assert_eq!(with(AMQPValue::Boolean(true)), refused("true"));
        let text = AMQPValue::LongString(LongString::from("5"));
        assert_eq!(with(text), refused("<<\"5\">>"));
    }
}
