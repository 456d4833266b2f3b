//! Where a consumer of a stream begins and what it leaves out: `x-stream-offset`, `x-stream-filter`
//! and `x-stream-match-unfiltered`, parsed once into typed values.

use leveret_codec::{AMQPValue, FieldTable, RawValue, value_as_integer, value_type_name};
use leveret_message::arguments::{argument, parse_age_ms};
use leveret_message::{Message, Timestamp};

/// `x-stream-offset`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StreamOffset {
    /// The oldest message there is.
    First,
    /// The newest message there is.
    Last,
    /// What is published from now on.
    #[default]
    Next,
    /// This offset, or the nearest there is.
    Number(u64),
    /// The first message published at this time or later.
    Time(Timestamp),
}

/// What `basic.consume` says about reading from a stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamRead {
    /// Where to begin.
    pub offset: StreamOffset,
    /// What to leave out.
    pub filter: Option<StreamFilter>,
}

/// `x-stream-filter` and `x-stream-match-unfiltered`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamFilter {
    /// Messages whose `x-stream-filter-value` is one of these.
    pub values: Vec<Vec<u8>>,
    /// Messages without a filter value as well.
    pub match_unfiltered: bool,
}

impl StreamRead {
    /// Reads the arguments of `basic.consume`.
    ///
    /// # Errors
    /// What RabbitMQ says is wrong with `x-stream-offset`.
    pub fn parse(arguments: &FieldTable, now: Timestamp) -> Result<StreamRead, String> {
        let offset = match argument(arguments, "x-stream-offset") {
            None => StreamOffset::default(),
            Some(value) => parse_offset(value, now).ok_or_else(|| complaint(value))?,
        };
        Ok(StreamRead {
            offset,
            filter: parse_filter(arguments),
        })
    }
}

fn parse_offset(value: &AMQPValue, now: Timestamp) -> Option<StreamOffset> {
    match value {
        AMQPValue::LongString(text) => match text.as_bytes() {
            b"first" => Some(StreamOffset::First),
            b"last" => Some(StreamOffset::Last),
            b"next" => Some(StreamOffset::Next),
            interval => {
                let age = parse_age_ms(std::str::from_utf8(interval).ok()?)?;
                Some(StreamOffset::Time(Timestamp(now.0.saturating_sub(age))))
            }
        },
        AMQPValue::Timestamp(seconds) => {
            Some(StreamOffset::Time(Timestamp(seconds.saturating_mul(1000))))
        }
        other => {
            let number = value_as_integer(other)?;
            Some(StreamOffset::Number(u64::try_from(number).unwrap_or(0)))
        }
    }
}

/// rabbitmq: the value as an Erlang term.
fn complaint(value: &AMQPValue) -> String {
    let kind = value_type_name(value);
    match value {
        AMQPValue::LongString(text) => format!(
            "{{invalid_stream_offset_arg,{{{kind},<<\"{}\">>}}}}",
            String::from_utf8_lossy(text.as_bytes()).escape_default()
        ),
        AMQPValue::Boolean(flag) => format!("{{invalid_stream_offset_arg,{{{kind},{flag}}}}}"),
        _ => format!("{{invalid_stream_offset_arg,{kind}}}"),
    }
}

fn parse_filter(arguments: &FieldTable) -> Option<StreamFilter> {
    let values = match argument(arguments, "x-stream-filter")? {
        AMQPValue::LongString(value) => vec![value.as_bytes().to_vec()],
        // rabbitmq: what is not a string in the array is passed over
        AMQPValue::FieldArray(array) => array
            .as_slice()
            .iter()
            .filter_map(|value| match value {
                AMQPValue::LongString(value) => Some(value.as_bytes().to_vec()),
                _ => None,
            })
            .collect(),
        _ => return None,
    };
    let match_unfiltered = matches!(
        argument(arguments, "x-stream-match-unfiltered"),
        Some(AMQPValue::Boolean(true))
    );
    Some(StreamFilter {
        values,
        match_unfiltered,
    })
}

impl StreamFilter {
    /// Whether a consumer with this filter gets the message.
    pub(crate) fn lets_through(&self, message: &Message) -> bool {
        let header = message.has_headers().then(|| message.decode_header().ok());
        let value = header
            .flatten()
            .and_then(|header| header.properties.headers)
            .and_then(|headers| headers.get(b"x-stream-filter-value"));
        match value {
            Some(RawValue::LongString(value)) => {
                self.values.iter().any(|wanted| wanted.as_slice() == value)
            }
            _ => self.match_unfiltered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn offset(value: AMQPValue) -> Result<StreamOffset, String> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), value);
        StreamRead::parse(&arguments, NOW).map(|read| read.offset)
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn every_form_of_offset_is_understood() {
        assert_eq!(offset(text("first")), Ok(StreamOffset::First));
        assert_eq!(offset(text("last")), Ok(StreamOffset::Last));
        assert_eq!(offset(text("next")), Ok(StreamOffset::Next));
        assert_eq!(
            offset(AMQPValue::LongLongInt(5)),
            Ok(StreamOffset::Number(5))
        );
        assert_eq!(
            offset(AMQPValue::LongInt(-5)),
            Ok(StreamOffset::Number(0)),
            "clamped to the start"
        );
        assert_eq!(
            offset(AMQPValue::Timestamp(7)),
            Ok(StreamOffset::Time(Timestamp(7000)))
        );
        assert_eq!(
            offset(text("2h")),
            Ok(StreamOffset::Time(Timestamp(NOW.0 - 7_200_000)))
        );
        assert_eq!(
            StreamRead::parse(&FieldTable::default(), NOW).map(|read| read.offset),
            Ok(StreamOffset::Next)
        );
    }

    #[test]
    fn other_offsets_are_refused_as_erlang_terms() {
        assert_eq!(
            offset(text("3")),
            Err("{invalid_stream_offset_arg,{longstr,<<\"3\">>}}".to_owned())
        );
        assert_eq!(
            offset(AMQPValue::Boolean(true)),
            Err("{invalid_stream_offset_arg,{bool,true}}".to_owned())
        );
    }

    #[test]
    fn ages_have_a_number_and_a_unit() {
        let day = 86_400_000;
        let cases = [
            ("1Y", Some(365 * day)),
            ("2M", Some(60 * day)),
            ("7D", Some(7 * day)),
            ("1h", Some(3_600_000)),
            ("10m", Some(600_000)),
            ("1s", Some(1000)),
            ("0s", None),
            ("s", None),
            ("", None),
            ("+1s", None),
            ("1", None),
            ("1d", None),
            ("1 s", None),
        ];
        for (age, expected) in cases {
            assert_eq!(parse_age_ms(age), expected, "{age}");
        }
    }
}
