//! What an exchange is: its kind, its flags, and which of its arguments decide how it matches.

use leveret_codec::{AMQPValue, FieldTable, value_as_integer};

use crate::erlang_text;

/// An exchange as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Its name; `""` is the default exchange.
    pub name: String,
    /// Its type.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when the last binding with it as source goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// The arguments it was declared with.
    pub arguments: FieldTable,
    /// The exchange that takes what this one routes nowhere, by argument or policy.
    pub alternate: Option<String>,
}

/// The type of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Everything matches.
    Fanout,
    /// Binding keys are patterns of words.
    Topic,
    /// Binding arguments are patterns of headers.
    Headers,
    /// One queue by consistent hashing; binding keys are weights.
    ConsistentHash,
    /// One queue by chance.
    Random,
    /// As [`Self::Random`]; in RabbitMQ among the queues of one node.
    LocalRandom,
    /// One queue by the routing key's hash modulo the number of queues.
    ModulusHash,
    /// As [`Self::Fanout`]; the broker keeps the last messages for those who bind later.
    RecentHistory,
    /// As the kind in `x-delayed-type`; the broker holds messages with `x-delay` back.
    DelayedMessage,
    /// As [`Self::Fanout`]; the broker drops duplicates.
    MessageDeduplication,
}

/// Why an exchange's arguments cannot be matched by. `Display` is the text of RabbitMQ's plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// `x-delayed-type` is missing or no type that can be delayed.
    #[error("Invalid argument, 'x-delayed-type' must be an existing exchange type")]
    DelayedType,
    /// `hash-property` names a property that is not hashed.
    #[error("Unsupported property: {0}")]
    HashProperty(String),
    /// Both `hash-header` and `hash-property` are given.
    #[error("hash-header and hash-property are mutually exclusive")]
    HashArguments,
    /// `hash-header` or `hash-property` is not a string.
    #[error("Invalid argument, '{0}' must be a string")]
    HashArgumentType(&'static str),
    /// `x-recent-history-length` is no number above zero.
    #[error("Invalid argument {0}, 'x-recent-history-length' must be a positive integer")]
    HistoryLength(String),
}

/// Every kind with its name on the wire.
const NAMES: [(ExchangeKind, &str); 11] = [
    (ExchangeKind::Direct, "direct"),
    (ExchangeKind::Fanout, "fanout"),
    (ExchangeKind::Topic, "topic"),
    (ExchangeKind::Headers, "headers"),
    (ExchangeKind::ConsistentHash, "x-consistent-hash"),
    (ExchangeKind::Random, "x-random"),
    (ExchangeKind::LocalRandom, "x-local-random"),
    (ExchangeKind::ModulusHash, "x-modulus-hash"),
    (ExchangeKind::RecentHistory, "x-recent-history"),
    (ExchangeKind::DelayedMessage, "x-delayed-message"),
    (
        ExchangeKind::MessageDeduplication,
        "x-message-deduplication",
    ),
];

impl ExchangeKind {
    /// All kinds, in the order in which a management page would list them.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| *kind)
    }

    /// The kind that clients call `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| *kind)
    }

    /// What clients call all there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(_, name)| *name)
    }

    /// What clients call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, name)| *name)
    }

    /// Whether the broker must see each message that comes by: to hold it back, remember it or drop
    /// it. See [`Topology::route_past`](crate::Topology::route_past).
    #[must_use]
    pub fn is_attended(self) -> bool {
        matches!(
            self,
            Self::RecentHistory | Self::DelayedMessage | Self::MessageDeduplication
        )
    }
}

/// What an `x-recent-history` exchange remembers without `x-recent-history-length`.
const HISTORY_LENGTH: usize = 20;

/// The argument by which an exchange of any kind drops duplicates.
const DEDUPLICATING: &str = "x-dedup-window-ms";

impl Exchange {
    /// Whether the broker must see each message that comes by, for the exchange's kind or for its
    /// arguments.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        self.kind.is_attended() || argument(&self.arguments, DEDUPLICATING).is_some()
    }

    /// Checks the arguments that decide how it matches. An exchange that fails should not be declared;
    /// one that is declared all the same matches as `direct` where `x-delayed-type` is at fault, and
    /// hashes the routing key where a hash argument is.
    ///
    /// # Errors
    /// The first argument at fault.
    pub fn check(&self) -> Result<(), ExchangeError> {
        match self.delayed_kind()? {
            ExchangeKind::ConsistentHash => HashOn::parse(&self.arguments).map(drop),
            ExchangeKind::RecentHistory => self.history_length().map(drop),
            _ => Ok(()),
        }
    }

    /// How many messages an `x-recent-history` exchange remembers.
    ///
    /// # Errors
    /// `x-recent-history-length` is no number above zero.
    pub fn history_length(&self) -> Result<usize, ExchangeError> {
        let Some(length) = argument(&self.arguments, "x-recent-history-length") else {
            return Ok(HISTORY_LENGTH);
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

    /// The kind whose rules decide which bindings match: `x-delayed-type` for `x-delayed-message`, and
    /// `fanout` for `x-recent-history` and `x-message-deduplication`.
    #[must_use]
    pub fn matching_kind(&self) -> ExchangeKind {
        match self.delayed_kind().unwrap_or(ExchangeKind::Direct) {
            ExchangeKind::RecentHistory | ExchangeKind::MessageDeduplication => {
                ExchangeKind::Fanout
            }
            kind => kind,
        }
    }

    fn delayed_kind(&self) -> Result<ExchangeKind, ExchangeError> {
        if self.kind != ExchangeKind::DelayedMessage {
            return Ok(self.kind);
        }
        // One thing at a time: the broker attends to an exchange for one reason.
        argument(&self.arguments, "x-delayed-type")
            .and_then(text)
            .and_then(ExchangeKind::parse)
            .filter(|kind| !kind.is_attended())
            .ok_or(ExchangeError::DelayedType)
    }
}

/// What a consistent hash exchange hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashOn {
    RoutingKey,
    Header(Box<[u8]>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    pub(crate) fn parse(arguments: &FieldTable) -> Result<Self, ExchangeError> {
        let header = argument(arguments, "hash-header");
        let property = argument(arguments, "hash-property");
        match (header, property) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => text(header)
                .map(|name| Self::Header(name.as_bytes().into()))
                .ok_or(ExchangeError::HashArgumentType("hash-header")),
            (None, Some(property)) => {
                match text(property).ok_or(ExchangeError::HashArgumentType("hash-property"))? {
                    "message_id" => Ok(Self::MessageId),
                    "correlation_id" => Ok(Self::CorrelationId),
                    "timestamp" => Ok(Self::Timestamp),
                    other => Err(ExchangeError::HashProperty(other.to_owned())),
                }
            }
            (Some(_), Some(_)) => Err(ExchangeError::HashArguments),
        }
    }
}

/// The argument `name`.
pub(crate) fn argument<'a>(arguments: &'a FieldTable, name: &str) -> Option<&'a AMQPValue> {
    arguments.inner().get(name)
}

/// A string value's text; None for other types and for bytes that are no UTF-8.
pub(crate) fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPValue, FieldTable, LongString};

    use super::{Exchange, ExchangeError, ExchangeKind};

    fn exchange(kind: ExchangeKind, arguments: &[(&str, &str)]) -> Exchange {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert(
                (*name).into(),
                AMQPValue::LongString(LongString::from(*value)),
            );
        }
        Exchange {
            name: "x".to_owned(),
            kind,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: table,
            alternate: None,
        }
    }

    #[test]
    fn names_are_read_back() {
        for kind in ExchangeKind::all() {
            assert_eq!(ExchangeKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(ExchangeKind::parse("zz"), None);
    }

    #[test]
    fn a_delayed_exchange_matches_as_its_delayed_type() {
        let delayed = |kind| exchange(ExchangeKind::DelayedMessage, &[("x-delayed-type", kind)]);
        assert_eq!(delayed("topic").matching_kind(), ExchangeKind::Topic);
        assert_eq!(delayed("topic").check(), Ok(()));
        for wrong in ["zz", "x-delayed-message"] {
            assert_eq!(delayed(wrong).check(), Err(ExchangeError::DelayedType));
            assert_eq!(delayed(wrong).matching_kind(), ExchangeKind::Direct);
        }
        let without = exchange(ExchangeKind::DelayedMessage, &[]);
        assert_eq!(without.check(), Err(ExchangeError::DelayedType));
    }

    #[test]
    fn a_history_is_20_long_or_as_long_as_is_said() {
        let plain = exchange(ExchangeKind::RecentHistory, &[]);
        assert_eq!(plain.history_length(), Ok(20));
        let with = |length: AMQPValue| {
            let mut exchange = exchange(ExchangeKind::RecentHistory, &[]);
            let name = "x-recent-history-length".into();
            exchange.arguments.insert(name, length);
            exchange.check().map_err(|error| error.to_string())?;
            exchange.history_length().map_err(|error| error.to_string())
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

    #[test]
    fn hash_arguments_exclude_each_other() {
        let hash = |arguments| exchange(ExchangeKind::ConsistentHash, arguments).check();
        assert_eq!(hash(&[("hash-header", "h")]), Ok(()));
        assert_eq!(hash(&[("hash-property", "message_id")]), Ok(()));
        assert_eq!(
            hash(&[("hash-property", "zz")]),
            Err(ExchangeError::HashProperty("zz".to_owned()))
        );
        assert_eq!(
            hash(&[("hash-property", "timestamp"), ("hash-header", "h")]),
            Err(ExchangeError::HashArguments)
        );
    }
}
