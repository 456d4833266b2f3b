//! The `x-delay` header: how long a message waits in an `x-delayed-message` exchange.

use leveret_codec::{AMQPValue, RawTable, RawValue, write_field};

const HEADER: &str = "x-delay";

/// The longest delay; a longer one counts as none, as in RabbitMQ's plugin.
const DELAY_MAX_MS: i64 = 0xFFFF_FFFF;

/// How long a message with these headers waits, in milliseconds; None: not at all.
///
/// rabbitmq: whole numbers of every type count, and so do digits in a string and the whole part of a
/// floating point number; what is not above zero, too long or of another type is no delay.
pub(crate) fn delay_ms(headers: Option<RawTable<'_>>) -> Option<u64> {
    number(headers?.get(HEADER.as_bytes())?)
        .filter(|delay| (1..=DELAY_MAX_MS).contains(delay))
        .and_then(|delay| u64::try_from(delay).ok())
}

fn number(value: RawValue<'_>) -> Option<i64> {
    match value {
        RawValue::LongString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        RawValue::F32(number) => Some(whole(f64::from(number))),
        RawValue::F64(number) => Some(whole(number)),
        other => other.as_integer(),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the part behind the point is meant to go, and numbers out of range become the largest"
)]
fn whole(number: f64) -> i64 {
    number as i64
}

/// Copies the headers into `fields`, with the delay turned into its negative: the message is not delayed again further
/// on, and whoever gets it can tell that it was.
pub(crate) fn negate(headers: RawTable<'_>, delay_ms: u64, fields: &mut Vec<u8>) {
    let negative = i64::try_from(delay_ms).map_or(i64::MIN, |delay| -delay);
    let value = match i32::try_from(negative) {
        Ok(negative) => AMQPValue::LongInt(negative),
        Err(_) => AMQPValue::LongLongInt(negative),
    };
    headers.copy_fields(fields, |name| name != HEADER.as_bytes());
    write_field(fields, HEADER, &value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_codec::{FieldTable, encode_table};

    fn delay_of(value: AMQPValue) -> Option<u64> {
        let mut table = FieldTable::default();
        table.insert(HEADER.into(), value);
        delay_ms(Some(RawTable::from_encoded(&encode_table(&table))))
    }

    #[test]
    fn numbers_of_every_type_are_delays() {
        assert_eq!(delay_of(AMQPValue::LongInt(500)), Some(500));
        assert_eq!(
            delay_of(AMQPValue::LongLongInt(0xFFFF_FFFF)),
            Some(0xFFFF_FFFF)
        );
        assert_eq!(delay_of(AMQPValue::LongString("70".into())), Some(70));
        assert_eq!(delay_of(AMQPValue::Double(1.9)), Some(1));
    }

    #[test]
    fn what_is_no_time_to_wait_is_no_delay() {
        assert_eq!(delay_ms(None), None);
        for value in [
            AMQPValue::LongInt(0),
            AMQPValue::LongInt(-500),
            AMQPValue::LongLongInt(0x1_0000_0000),
            AMQPValue::LongString("soon".into()),
            AMQPValue::Boolean(true),
            AMQPValue::Double(f64::NAN),
        ] {
            assert_eq!(delay_of(value), None);
        }
    }

    #[test]
    fn a_negated_delay_is_no_delay_any_more() {
        let mut table = FieldTable::default();
        table.insert(HEADER.into(), AMQPValue::LongInt(500));
        table.insert("y".into(), AMQPValue::Void);
        let encoded = encode_table(&table);
        let negated = |delay_ms| {
            let mut fields = Vec::new();
            negate(RawTable::from_encoded(&encoded), delay_ms, &mut fields);
            RawTable::from_encoded(&fields).to_table()
        };
        let long = negated(0xFFFF_FFFF);
        assert_eq!(long.inner().len(), 2);
        assert_eq!(
            long.inner().get(HEADER),
            Some(&AMQPValue::LongLongInt(-0xFFFF_FFFF))
        );
        let short = negated(500);
        assert_eq!(short.inner().get(HEADER), Some(&AMQPValue::LongInt(-500)));
    }
}
