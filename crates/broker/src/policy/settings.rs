//! A policy's definition: which keys exist, who may set them, which queue types take them, and their
//! values, typed.

use serde_json::{Map, Value};

use super::{PolicyError, PolicyKind};
use crate::arguments::parse_age_ms;
use crate::deduplication::Rules;
use crate::excerpt::excerpt;
use crate::queue::kind::{Overflow, QueueKind};

/// How often a message may come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryLimit {
    /// As often as it does.
    Unlimited,
    /// So many times.
    Times(u32),
}

impl DeliveryLimit {
    /// rabbitmq: a negative number stands for no limit
    #[must_use]
    pub fn new(limit: i64) -> DeliveryLimit {
        match u32::try_from(limit) {
            Ok(times) => DeliveryLimit::Times(times),
            Err(_) if limit < 0 => DeliveryLimit::Unlimited,
            Err(_) => DeliveryLimit::Times(u32::MAX),
        }
    }

    /// rabbitmq: of two limits the lower one counts, and any limit before none
    #[must_use]
    pub fn stricter(self, other: DeliveryLimit) -> DeliveryLimit {
        match (self, other) {
            (DeliveryLimit::Times(a), DeliveryLimit::Times(b)) => DeliveryLimit::Times(a.min(b)),
            (DeliveryLimit::Unlimited, other) => other,
            (limit, DeliveryLimit::Unlimited) => limit,
        }
    }

    /// The number, if there is a limit.
    #[must_use]
    pub fn times(self) -> Option<u32> {
        match self {
            DeliveryLimit::Times(times) => Some(times),
            DeliveryLimit::Unlimited => None,
        }
    }
}

/// What policies set, where they do. Keys that mean nothing on one node are checked and left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PolicySettings {
    /// `message-ttl`
    pub message_ttl_ms: Option<u64>,
    /// `expires`
    pub expires_ms: Option<u64>,
    /// `max-length`
    pub max_length: Option<u64>,
    /// `max-length-bytes`
    pub max_length_bytes: Option<u64>,
    /// `overflow`
    pub overflow: Option<Overflow>,
    /// `dead-letter-exchange`
    pub dead_letter_exchange: Option<String>,
    /// `dead-letter-routing-key`
    pub dead_letter_routing_key: Option<String>,
    /// `delivery-limit`
    pub delivery_limit: Option<DeliveryLimit>,
    /// `consumer-timeout`
    pub consumer_timeout_ms: Option<u64>,
    /// `max-age`
    pub max_age_ms: Option<u64>,
    /// `stream-max-segment-size-bytes`
    pub stream_segment_bytes: Option<u64>,
    /// `alternate-exchange`
    pub alternate_exchange: Option<String>,
    /// `x-dedup-window-ms`
    pub deduplication: Rules,
    /// `x-message-deduplication`
    pub unique: bool,
}

impl PolicySettings {
    /// These settings under an operator's.
    #[must_use]
    pub(crate) fn limited_by(self, operator: &PolicySettings) -> PolicySettings {
        PolicySettings {
            message_ttl_ms: lower(self.message_ttl_ms, operator.message_ttl_ms),
            expires_ms: lower(self.expires_ms, operator.expires_ms),
            max_length: lower(self.max_length, operator.max_length),
            max_length_bytes: lower(self.max_length_bytes, operator.max_length_bytes),
            consumer_timeout_ms: lower(self.consumer_timeout_ms, operator.consumer_timeout_ms),
            delivery_limit: stricter(self.delivery_limit, operator.delivery_limit),
            overflow: operator.overflow.or(self.overflow),
            ..self
        }
    }
}

/// The lower of two limits, either of which may be absent.
pub(crate) fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The stricter of two delivery limits, either of which may be absent.
pub(crate) fn stricter(
    one: Option<DeliveryLimit>,
    other: Option<DeliveryLimit>,
) -> Option<DeliveryLimit> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.stricter(other)),
        (one, other) => one.or(other),
    }
}

const CLASSIC: u8 = 1;
const QUORUM: u8 = 2;
const STREAM: u8 = 4;
const QUEUES: u8 = CLASSIC | QUORUM;
const ALL: u8 = CLASSIC | QUORUM | STREAM;

/// A queue type among others.
pub(crate) fn bit(kind: QueueKind) -> u8 {
    match kind {
        QueueKind::Classic => CLASSIC,
        QueueKind::Quorum => QUORUM,
        QueueKind::Stream => STREAM,
    }
}

/// The form of a value.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Count,
    Positive,
    /// A whole number of either sign.
    Whole,
    OneOf(&'static [&'static str]),
    Age,
    Flag,
    /// Of no use here; accepted whatever it is.
    Anything,
}

/// One key.
struct Key {
    name: &'static str,
    form: Form,
    /// What the value is called in an error.
    what: &'static str,
    /// The queue types that take it.
    kinds: u8,
    /// Whether operator policies take it.
    operator: bool,
}

const fn key(name: &'static str, form: Form, what: &'static str, kinds: u8, operator: bool) -> Key {
    Key {
        name,
        form,
        what,
        kinds,
        operator,
    }
}

const OVERFLOWS: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
const LOCATORS: &[&str] = &["client-local", "balanced", "random", "least-leaders"];
const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];

/// Every key RabbitMQ knows, and those of deduplication: the plugin's bears the name of the argument, and so
/// may that of windows. Of those that place queues on the nodes of a cluster, mirror or federate them, only
/// the form is checked.
#[rustfmt::skip]
const KEYS: &[Key] = &[
    key("alternate-exchange", Form::Text, "alternate exchange name", ALL, false),
    key("consumer-timeout", Form::Count, "consumer timeout", ALL, true),
    key("dead-letter-exchange", Form::Text, "dead letter exchange name", QUEUES, false),
    key("dead-letter-routing-key", Form::Text, "dead letter routing key", QUEUES, false),
    key("dead-letter-strategy", Form::OneOf(STRATEGIES), "dead letter strategy", QUORUM, false),
    key("dedup-window-ms", Form::Positive, "deduplication window", QUEUES, false),
    key("delivery-limit", Form::Whole, "delivery limit", QUORUM, true),
    key("expires", Form::Positive, "queue expiry", QUEUES, true),
    key("federation-upstream", Form::Text, "federation upstream name", ALL, false),
    key("federation-upstream-pattern", Form::Text, "federation upstream pattern", ALL, false),
    key("federation-upstream-set", Form::Text, "federation upstream set name", ALL, false),
    key("ha-mode", Form::Anything, "ha-mode", CLASSIC, true),
    key("ha-params", Form::Anything, "ha-params", CLASSIC, true),
    key("ha-promote-on-failure", Form::Anything, "ha-promote-on-failure", CLASSIC, true),
    key("ha-promote-on-shutdown", Form::Anything, "ha-promote-on-shutdown", CLASSIC, true),
    key("ha-sync-batch-size", Form::Anything, "ha-sync-batch-size", CLASSIC, true),
    key("ha-sync-mode", Form::Anything, "ha-sync-mode", CLASSIC, true),
    key("initial-cluster-size", Form::Count, "cluster size", STREAM, false),
    key("max-age", Form::Age, "max age", STREAM, false),
    key("max-in-memory-bytes", Form::Count, "maximum memory in bytes", QUEUES, true),
    key("max-in-memory-length", Form::Count, "maximum memory in bytes", QUEUES, true),
    key("max-length", Form::Count, "maximum length", QUEUES, true),
    key("max-length-bytes", Form::Count, "maximum length in bytes", ALL, true),
    key("message-ttl", Form::Count, "message TTL", QUEUES, true),
    key("overflow", Form::OneOf(OVERFLOWS), "overflow value", QUEUES, true),
    key("queue-leader-locator", Form::OneOf(LOCATORS), "queue leader locator value", ALL, false),
    key("queue-master-locator", Form::Text, "queue-master-locator", CLASSIC, false),
    key("queue-mode", Form::OneOf(&["default", "lazy"]), "queue-mode value", CLASSIC, false),
    key("queue-version", Form::Count, "queue version", ALL, true),
    key("stream-filter-size-bytes", Form::Count, "filter size", STREAM, false),
    key("stream-max-segment-size-bytes", Form::Count, "segment size", STREAM, false),
    key("target-group-size", Form::Positive, "target group size", QUORUM, true),
    key("x-dedup-window-ms", Form::Positive, "deduplication window", QUEUES, false),
    key("x-message-deduplication", Form::Flag, "flag", QUEUES, false),
];

/// Reads a definition; also answers which queue types some key is not for.
pub(crate) fn parse(
    kind: PolicyKind,
    definition: &Map<String, Value>,
) -> Result<(PolicySettings, u8), PolicyError> {
    if definition.is_empty() {
        return Err(PolicyError::Empty);
    }
    let mut settings = PolicySettings::default();
    let mut unsupported = 0;
    let mut unknown = Vec::new();
    for (name, value) in definition {
        let known = KEYS.iter().find(|key| key.name == name);
        match known.filter(|key| kind == PolicyKind::User || key.operator) {
            None => unknown.push(format!("{{<<\"{}\">>,{}}}", excerpt(name), show(value))),
            Some(key) => {
                check(key, value)?;
                set(&mut settings, name, value);
                unsupported |= ALL & !key.kinds;
            }
        }
    }
    if unknown.is_empty() {
        Ok((settings, unsupported))
    } else {
        Err(PolicyError::Keys(
            excerpt(&format!("[{}]", unknown.join(","))).into_owned(),
        ))
    }
}

fn check(key: &Key, value: &Value) -> Result<(), PolicyError> {
    let text = value.as_str();
    let good = match key.form {
        Form::Text => text.is_some(),
        Form::Count => value.is_u64(),
        Form::Positive => value.as_u64().is_some_and(|number| number > 0),
        Form::Whole => value.is_i64() || value.is_u64(),
        Form::OneOf(values) => text.is_some_and(|text| values.contains(&text)),
        Form::Age => text.and_then(parse_age_ms).is_some(),
        Form::Flag if value.is_boolean() => true,
        Form::Flag => {
            return Err(PolicyError::Flag {
                key: key.name,
                value: show(value),
            });
        }
        Form::Anything => true,
    };
    if good {
        return Ok(());
    }
    Err(PolicyError::Value {
        value: show(value),
        what: key.what,
    })
}

fn set(settings: &mut PolicySettings, name: &str, value: &Value) {
    let count = value.as_u64();
    let text = || value.as_str().map(str::to_owned);
    match name {
        "message-ttl" => settings.message_ttl_ms = count,
        "expires" => settings.expires_ms = count,
        "max-length" => settings.max_length = count,
        "max-length-bytes" => settings.max_length_bytes = count,
        "consumer-timeout" => settings.consumer_timeout_ms = count,
        "stream-max-segment-size-bytes" => settings.stream_segment_bytes = count,
        "overflow" => settings.overflow = value.as_str().and_then(Overflow::parse),
        "dead-letter-exchange" => settings.dead_letter_exchange = text(),
        "dead-letter-routing-key" => settings.dead_letter_routing_key = text(),
        "alternate-exchange" => settings.alternate_exchange = text(),
        "dedup-window-ms" | "x-dedup-window-ms" => settings.deduplication.window_ms = count,
        "x-message-deduplication" => settings.unique = value.as_bool().unwrap_or_default(),
        "delivery-limit" => {
            let limit = value.as_i64().unwrap_or(i64::MAX);
            settings.delivery_limit = Some(DeliveryLimit::new(limit));
        }
        "max-age" => settings.max_age_ms = value.as_str().and_then(parse_age_ms),
        _ => {}
    }
}

/// A value as RabbitMQ's errors show it.
fn show(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("<<\"{}\">>", excerpt(text)),
        None => excerpt(&value.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(kind: PolicyKind, definition: &Value) -> Result<(PolicySettings, u8), String> {
        let definition = definition.as_object().unwrap();
        parse(kind, definition).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_become_settings() {
        let (settings, unsupported) = parsed(
            PolicyKind::User,
            &json!({"message-ttl": 0, "overflow": "reject-publish", "delivery-limit": -1, "alternate-exchange": "x"}),
        )
        .unwrap();
        let expected = PolicySettings {
            message_ttl_ms: Some(0),
            overflow: Some(Overflow::RejectPublish),
            delivery_limit: Some(DeliveryLimit::Unlimited),
            alternate_exchange: Some("x".to_owned()),
            ..PolicySettings::default()
        };
        assert_eq!(settings, expected);
        assert_eq!(unsupported, CLASSIC | STREAM);
    }

    #[test]
    fn refusals_are_worded_as_rabbitmqs() {
        let user = PolicyKind::User;
        let cases = [
            (user, json!({}), "no policy provided"),
            (
                user,
                json!({"message-ttl": -1}),
                "-1 is not a valid message TTL",
            ),
            (
                user,
                json!({"max-length": "a"}),
                "<<\"a\">> is not a valid maximum length",
            ),
            (user, json!({"expires": 0}), "0 is not a valid queue expiry"),
            (
                user,
                json!({"overflow": "x"}),
                "<<\"x\">> is not a valid overflow value",
            ),
            (
                user,
                json!({"delivery-limit": 1.5}),
                "1.5 is not a valid delivery limit",
            ),
            (
                user,
                json!({"max-age": "1x"}),
                "<<\"1x\">> is not a valid max age",
            ),
            (
                user,
                json!({"x-message-deduplication": "yes"}),
                "'x-message-deduplication' must be a boolean, got <<\"yes\">>",
            ),
            (
                user,
                json!({"foo": 1}),
                "[{<<\"foo\">>,1}] are not recognised policy settings",
            ),
            (
                PolicyKind::Operator,
                json!({"alternate-exchange": "x"}),
                "[{<<\"alternate-exchange\">>,<<\"x\">>}] are not recognised policy settings",
            ),
        ];
        for (kind, definition, expected) in cases {
            assert_eq!(
                parsed(kind, &definition),
                Err(expected.to_owned()),
                "{definition}"
            );
        }
    }

    #[test]
    fn refusals_do_not_repeat_what_is_long() {
        let long = "x".repeat(500_000);
        let keys: Map<String, Value> = (0..9_999).map(|n| (n.to_string(), json!(n))).collect();
        for definition in [
            json!({"max-length": long}),
            json!({"max-length": [long]}),
            json!({"x-message-deduplication": long}),
            json!({"foo": long}),
            json!({long: 1}),
            Value::Object(keys),
        ] {
            let refusal = parsed(PolicyKind::User, &definition).unwrap_err();
            assert!(refusal.len() < 1_000, "{}", refusal.len());
            assert!(refusal.contains('…'), "{refusal}");
        }
    }

    #[test]
    fn an_operator_lowers_and_never_raises() {
        let settings = |definition: Value| parsed(PolicyKind::User, &definition).unwrap().0;
        let merged = settings(json!({"max-length": 10, "expires": 5, "delivery-limit": -1, "overflow": "drop-head"}))
            .limited_by(&settings(
                json!({"max-length": 20, "expires": 4, "delivery-limit": 3, "max-length-bytes": 7, "overflow": "reject-publish"}),
            ));
        assert_eq!(merged.max_length, Some(10));
        assert_eq!(merged.expires_ms, Some(4));
        assert_eq!(merged.max_length_bytes, Some(7));
        assert_eq!(merged.delivery_limit, Some(DeliveryLimit::Times(3)));
        assert_eq!(merged.overflow, Some(Overflow::RejectPublish));
    }
}
