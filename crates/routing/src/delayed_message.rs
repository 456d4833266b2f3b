//! `x-delayed-message`: matches as the type in `x-delayed-type`; that it holds messages back is the broker's doing.

use leveret_codec::FieldTable;

use crate::arguments::{argument, text};
use crate::exchange_error::ExchangeError;
use crate::kind::ExchangeKind;
use crate::matcher::ExchangeType;

pub(crate) static DELAYED_MESSAGE: ExchangeType = ExchangeType {
    name: "x-delayed-message",
    is_stateful: true,
    check: |arguments| (delayed_kind(arguments)?.row().check)(arguments),
    matcher: |arguments| {
        let kind = delayed_kind(arguments).unwrap_or(ExchangeKind::Direct);
        (kind.row().matcher)(arguments)
    },
};

/// The kind that its bindings match as.
fn delayed_kind(arguments: &FieldTable) -> Result<ExchangeKind, ExchangeError> {
    // One thing at a time: an exchange is stateful for one reason.
    argument(arguments, "x-delayed-type")
        .and_then(text)
        .and_then(ExchangeKind::parse)
        .filter(|kind| !kind.is_stateful())
        .ok_or(ExchangeError::DelayedType)
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPValue, LongString};

    use super::*;

    #[test]
    fn a_delayed_exchange_matches_as_its_delayed_type() {
        let delayed = |kind: &str| {
            let mut arguments = FieldTable::default();
            let kind = AMQPValue::LongString(LongString::from(kind));
            arguments.insert("x-delayed-type".into(), kind);
            arguments
        };
        for kind in [ExchangeKind::Fanout, ExchangeKind::Topic] {
            let arguments = delayed(kind.name());
            assert_eq!((DELAYED_MESSAGE.check)(&arguments), Ok(()));
            assert_eq!(delayed_kind(&arguments), Ok(kind));
        }
        for wrong in [
            delayed("zz"),
            delayed("x-delayed-message"),
            FieldTable::default(),
        ] {
            let error = ExchangeError::DelayedType;
            assert_eq!((DELAYED_MESSAGE.check)(&wrong), Err(error));
            let matcher = format!("{:?}", (DELAYED_MESSAGE.matcher)(&wrong));
            assert!(matcher.starts_with("DirectIndex"), "{matcher}");
        }
    }
}
