//! `x-` arguments of a queue, parsed once into typed options; the engine never sees a field table.
//!
//! Which arguments exist, which queue type takes which, and the wording of every refusal are
//! RabbitMQ's (queues guide; replies observed on the wire). Unknown arguments are ignored.

use std::sync::Arc;

use leveret_codec::{
    AMQPValue, FieldTable, value_as_integer as integer, value_type_name as type_name,
};

use crate::arguments::{MILLISECONDS_MAX, argument, expect_integer, parse_age_ms, text};
use crate::deduplication::{Rules, WINDOW};
use crate::error::ChannelError;
use crate::policy::DeliveryLimit;
use crate::queue::kind::{Overflow, QueueKind};

/// Everything a queue can be told by arguments and policies.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueueOptions {
    /// `x-queue-type`.
    pub kind: QueueKind,
    /// `x-message-ttl`, milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, milliseconds.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`, bytes of body.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<String>,
    /// `x-max-priority`; None: no priorities.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`: how often a message may come back.
    pub delivery_limit: Option<u32>,
    /// `x-max-age` of a stream, milliseconds.
    pub max_age_ms: Option<u64>,
    /// `x-stream-max-segment-size-bytes`.
    pub stream_segment_bytes: Option<u64>,
    /// `x-consumer-timeout`, milliseconds.
    pub consumer_timeout_ms: Option<u64>,
    /// `x-retry-delays`, milliseconds, one for each time a client puts the message back; empty: at once.
    pub retry_delays_ms: Arc<[u64]>,
    /// `x-dedup-window-ms`.
    pub deduplication: Rules,
    /// `x-message-deduplication`: no two messages with the same `x-deduplication-header` at a time.
    pub unique: bool,
}

impl QueueOptions {
    /// Whether any length limit is set.
    #[must_use]
    pub fn has_length_limit(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// Whether duplicates are looked for.
    #[must_use]
    pub(crate) fn deduplicates(&self) -> bool {
        self.deduplication.is_on() || self.unique
    }
}

/// How an argument's value is checked.
#[derive(Clone, Copy)]
enum Check {
    NonNegative,
    Positive,
    Version,
    Integer,
    Milliseconds { zero: bool },
    Priority,
    Text,
    DeadLetterKey,
    OneOf(&'static [&'static str], &'static str),
    Flag,
    Mode,
    Type,
    Age,
    Delays,
}

/// The largest segment of a stream, bytes.
const STREAM_SEGMENT_MAX: i64 = 3_000_000_000;
/// RabbitMQ's default delivery limit of quorum queues (4.0 and later).
const QUORUM_DELIVERY_LIMIT: u32 = 20;

pub(super) const CLASSIC: u8 = 1;
pub(super) const QUORUM: u8 = 2;
pub(super) const STREAM: u8 = 4;
pub(super) const QUEUES: u8 = CLASSIC | QUORUM;
pub(super) const ALL: u8 = CLASSIC | QUORUM | STREAM;

/// The names of all arguments that this type of queue takes, in the order of [`ARGUMENTS`].
pub(super) fn names(kind: QueueKind) -> impl Iterator<Item = &'static str> {
    let taken = ARGUMENTS.iter();
    taken
        .filter(move |(.., kinds)| kinds & bit(kind) != 0)
        .map(|(name, ..)| *name)
}

/// Every argument RabbitMQ knows, how it is checked, and which queue types take it. The order is that in which
/// RabbitMQ checks them: of several that are wrong the first is named.
const ARGUMENTS: &[(&str, Check, u8)] = &[
    ("x-queue-type", Check::Type, ALL),
    ("x-expires", Check::Milliseconds { zero: false }, QUEUES),
    ("x-message-ttl", Check::Milliseconds { zero: true }, QUEUES),
    (DEAD_LETTER_EXCHANGE, Check::Text, QUEUES),
    (DEAD_LETTER_KEY, Check::DeadLetterKey, QUEUES),
    (
        "x-dead-letter-strategy",
        Check::OneOf(&["at-most-once", "at-least-once"], "invalid_dlx_strategy"),
        QUORUM,
    ),
    ("x-max-length", Check::NonNegative, QUEUES),
    ("x-max-length-bytes", Check::NonNegative, ALL),
    ("x-max-in-memory-length", Check::NonNegative, QUORUM),
    ("x-max-in-memory-bytes", Check::NonNegative, QUORUM),
    ("x-max-priority", Check::Priority, CLASSIC),
    (
        "x-overflow",
        Check::OneOf(
            &["drop-head", "reject-publish", "reject-publish-dlx"],
            "invalid_overflow",
        ),
        QUEUES,
    ),
    ("x-queue-mode", Check::Mode, CLASSIC),
    ("x-queue-version", Check::Version, CLASSIC),
    (SINGLE_ACTIVE_CONSUMER, Check::Flag, ALL),
    ("x-quorum-initial-group-size", Check::Positive, QUORUM),
    ("x-quorum-target-group-size", Check::NonNegative, QUORUM),
    // A negative one stands for no limit.
    ("x-delivery-limit", Check::Integer, QUORUM),
    ("x-max-age", Check::Age, STREAM),
    (
        "x-stream-max-segment-size-bytes",
        Check::NonNegative,
        STREAM,
    ),
    ("x-stream-filter-size-bytes", Check::NonNegative, STREAM),
    ("x-initial-cluster-size", Check::Positive, STREAM),
    (
        "x-queue-leader-locator",
        Check::OneOf(
            &["client-local", "balanced", "random", "least-leaders"],
            "invalid_queue_locator_arg",
        ),
        ALL,
    ),
    ("x-queue-master-locator", Check::Text, CLASSIC),
    (CONSUMER_TIMEOUT, Check::NonNegative, ALL),
    // From here on Leveret's own.
    ("x-message-deduplication", Check::Flag, QUEUES),
    (WINDOW, Check::Milliseconds { zero: false }, QUEUES),
    (RETRY_DELAYS, Check::Delays, QUEUES),
];

/// The argument that names where dead letters go.
pub const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(super) const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";
pub(super) const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

/// The argument with the delays before each further delivery of a message.
const RETRY_DELAYS: &str = "x-retry-delays";
/// How often a message may be retried; the store keeps the number in an octet.
const RETRIES_MAX: usize = 255;

fn check_delays(delays: &[AMQPValue]) -> Result<(), String> {
    if !(1..=RETRIES_MAX).contains(&delays.len()) {
        return Err(format!("\"expected 1 to {RETRIES_MAX} delays\""));
    }
    let how = Check::Milliseconds { zero: true };
    delays
        .iter()
        .try_for_each(|delay| check(how, delay, &FieldTable::default()))
}

fn delays(value: &AMQPValue) -> Arc<[u64]> {
    let AMQPValue::FieldArray(delays) = value else {
        return Arc::default();
    };
    let delay = |value| integer(value).and_then(|delay| u64::try_from(delay).ok());
    delays.as_slice().iter().filter_map(delay).collect()
}

/// The argument of queues and consumers that bounds how long a delivery may stay unacknowledged.
pub const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";

/// `x-consumer-timeout` of a consumer, milliseconds.
///
/// # Errors
/// The text that follows the argument's name in the 406.
pub fn consumer_timeout_ms(arguments: &FieldTable) -> Result<Option<u64>, String> {
    let Some(value) = argument(arguments, CONSUMER_TIMEOUT) else {
        return Ok(None);
    };
    check(Check::NonNegative, value, arguments)?;
    Ok(integer(value).and_then(|timeout| u64::try_from(timeout).ok()))
}

/// `arguments` are those that the value is among.
fn check(check: Check, value: &AMQPValue, arguments: &FieldTable) -> Result<(), String> {
    match check {
        Check::NonNegative => match expect_integer(value)? {
            n if n < 0 => Err(format!("{{value_negative,{n}}}")),
            _ => Ok(()),
        },
        Check::Positive => match expect_integer(value)? {
            n if n < 0 => Err(format!("{{value_negative,{n}}}")),
            0 => Err("{value_zero,0}".to_owned()),
            _ => Ok(()),
        },
        Check::Version => match expect_integer(value)? {
            n if n < 0 => Err(format!("{{value_negative,{n}}}")),
            1 | 2 => Ok(()),
            n => Err(format!("\"unsupported queue version '{n}'\"")),
        },
        Check::Integer => expect_integer(value).map(|_| ()),
        Check::Milliseconds { zero } => match expect_integer(value)? {
            n if n < 0 => Err(format!("{{value_negative,{n}}}")),
            0 if !zero => Err("{value_zero,0}".to_owned()),
            n if n > MILLISECONDS_MAX => Err(format!("{{value_too_large,{n}}}")),
            _ => Ok(()),
        },
        Check::Priority => match expect_integer(value)? {
            n if n < 0 => Err(format!("{{value_negative,{n}}}")),
            n if n > 255 => Err(format!("{{max_value_exceeded,{n}}}")),
            _ => Ok(()),
        },
        Check::Text => text(value)
            .map(|_| ())
            .ok_or_else(|| format!("{{unacceptable_type,{}}}", type_name(value))),
        Check::DeadLetterKey => match text(value) {
            Some(_) if argument(arguments, DEAD_LETTER_EXCHANGE).is_some() => Ok(()),
            Some(_) => Err("routing_key_but_no_dlx_defined".to_owned()),
            None => Err(format!("{{unacceptable_type,{}}}", type_name(value))),
        },
        Check::Age => match text(value) {
            Some(age) if parse_age_ms(&age).is_some() => Ok(()),
            Some(_) => Err("invalid_max_age".to_owned()),
            None => Err(format!("{{unacceptable_type,{}}}", type_name(value))),
        },
        Check::OneOf(allowed, complaint) => match text(value) {
            Some(text) if allowed.contains(&text.as_str()) => Ok(()),
            Some(_) => Err(complaint.to_owned()),
            None => Err(format!("{{unacceptable_type,{}}}", type_name(value))),
        },
        Check::Delays => match value {
            AMQPValue::FieldArray(delays) => check_delays(delays.as_slice()),
            other => Err(format!("{{unacceptable_type,{}}}", type_name(other))),
        },
        Check::Flag => match value {
            AMQPValue::Boolean(_) => Ok(()),
            other => Err(format!("{{unacceptable_type,{}}}", type_name(other))),
        },
        Check::Mode => match text(value) {
            Some(mode) if mode == "default" || mode == "lazy" => Ok(()),
            Some(mode) => Err(format!("\"unsupported queue mode '{mode}'\"")),
            None => Err(format!("{{unacceptable_type,{}}}", type_name(value))),
        },
        Check::Type => match text(value) {
            Some(kind) if parse_kind(&kind).is_some() => Ok(()),
            Some(kind) => Err(format!("\"unsupported queue type '{kind}'\"")),
            None => Err(format!("{{unacceptable_type,{}}}", type_name(value))),
        },
    }
}

/// The type `x-queue-type` names; classic where it names none.
#[must_use]
pub fn kind(arguments: &FieldTable) -> QueueKind {
    argument(arguments, "x-queue-type")
        .and_then(text)
        .and_then(|name| parse_kind(&name))
        .unwrap_or_default()
}

/// The options that arguments ask for which were accepted before.
#[must_use]
pub fn accepted(arguments: &FieldTable) -> QueueOptions {
    options(arguments, kind(arguments))
}

fn parse_kind(name: &str) -> Option<QueueKind> {
    match name {
        "classic" => Some(QueueKind::Classic),
        "quorum" => Some(QueueKind::Quorum),
        "stream" => Some(QueueKind::Stream),
        _ => None,
    }
}

/// The properties of a declaration that some queue types refuse.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredProperties {
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to one connection.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
}

/// Parses and checks the arguments of `queue.declare`.
///
/// # Errors
/// 406 with RabbitMQ's text.
pub fn parse(
    arguments: &FieldTable,
    properties: DeclaredProperties,
    queue: &str,
    vhost: &str,
) -> Result<QueueOptions, ChannelError> {
    if let Some(value) = argument(arguments, DEAD_LETTER_EXCHANGE)
        && text(value).is_none()
    {
        let resource = format_args!("queue '{queue}' in vhost '{vhost}'");
        return Err(ChannelError::invalid_type(
            type_name(value),
            DEAD_LETTER_EXCHANGE,
            resource,
        ));
    }
    if let Some(value) = argument(arguments, "x-queue-type") {
        check(Check::Type, value, arguments)
            .map_err(|why| ChannelError::invalid_argument("x-queue-type", queue, vhost, why))?;
    }
    let kind = kind(arguments);
    check_values(arguments, kind, queue, vhost)?;
    check_supported(arguments, kind, queue, vhost)?;
    check_properties(kind, properties, queue, vhost)?;
    if kind == QueueKind::Stream {
        check_stream_sizes(arguments)?;
    }
    Ok(options(arguments, kind))
}

/// rabbitmq: these two are checked apart from the others and have texts of their own, two spaces and all.
fn check_stream_sizes(arguments: &FieldTable) -> Result<(), ChannelError> {
    let number = |name| argument(arguments, name).and_then(integer);
    if number("x-stream-max-segment-size-bytes").is_some_and(|bytes| bytes > STREAM_SEGMENT_MAX) {
        return Err(ChannelError::precondition(
            "Exceeded max value for x-stream-max-segment-size-bytes",
        ));
    }
    if number("x-stream-filter-size-bytes").is_some_and(|bytes| !(16..=255).contains(&bytes)) {
        return Err(ChannelError::precondition(
            "Invalid value for  x-stream-filter-size-bytes",
        ));
    }
    Ok(())
}

pub(super) fn bit(kind: QueueKind) -> u8 {
    match kind {
        QueueKind::Classic => CLASSIC,
        QueueKind::Quorum => QUORUM,
        QueueKind::Stream => STREAM,
    }
}

fn check_supported(
    arguments: &FieldTable,
    kind: QueueKind,
    queue: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
    for (name, _, kinds) in ARGUMENTS {
        if kinds & bit(kind) == 0 && argument(arguments, name).is_some() {
            return Err(ChannelError::unsupported_argument(
                name,
                queue,
                vhost,
                kind.module(),
            ));
        }
    }
    Ok(())
}

fn check_values(
    arguments: &FieldTable,
    kind: QueueKind,
    queue: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
    for (name, how, kinds) in ARGUMENTS {
        let Some(value) = argument(arguments, name).filter(|_| kinds & bit(kind) != 0) else {
            continue;
        };
        check(*how, value, arguments)
            .map_err(|why| ChannelError::invalid_argument(name, queue, vhost, why))?;
    }
    Ok(())
}

fn check_properties(
    kind: QueueKind,
    properties: DeclaredProperties,
    queue: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
    if kind == QueueKind::Classic {
        return Ok(());
    }
    let refused = [
        (properties.auto_delete, "auto-delete"),
        (properties.exclusive, "exclusive-owner"),
        (!properties.durable, "non-durable"),
    ];
    match refused.iter().find(|(refused, _)| *refused) {
        Some((_, property)) => Err(ChannelError::precondition(format_args!(
            "invalid property '{property}' for queue '{queue}' in vhost '{vhost}'"
        ))),
        None => Ok(()),
    }
}

fn options(arguments: &FieldTable, kind: QueueKind) -> QueueOptions {
    let number = |name: &str| {
        argument(arguments, name)
            .and_then(integer)
            .and_then(|n| u64::try_from(n).ok())
    };
    let string = |name: &str| argument(arguments, name).and_then(text);
    QueueOptions {
        kind,
        message_ttl_ms: number("x-message-ttl"),
        expires_ms: number("x-expires"),
        max_length: number("x-max-length"),
        max_length_bytes: number("x-max-length-bytes"),
        overflow: string("x-overflow")
            .and_then(|name| Overflow::parse(&name))
            .unwrap_or_default(),
        dead_letter_exchange: string(DEAD_LETTER_EXCHANGE),
        dead_letter_routing_key: string(DEAD_LETTER_KEY),
        max_priority: number("x-max-priority").and_then(|n| u8::try_from(n).ok()),
        single_active_consumer: matches!(
            argument(arguments, SINGLE_ACTIVE_CONSUMER),
            Some(AMQPValue::Boolean(true))
        ),
        delivery_limit: match argument(arguments, "x-delivery-limit").and_then(integer) {
            Some(limit) => DeliveryLimit::new(limit).times(),
            None => (kind == QueueKind::Quorum).then_some(QUORUM_DELIVERY_LIMIT),
        },
        max_age_ms: string("x-max-age").as_deref().and_then(parse_age_ms),
        stream_segment_bytes: number("x-stream-max-segment-size-bytes"),
        consumer_timeout_ms: number("x-consumer-timeout"),
        retry_delays_ms: argument(arguments, RETRY_DELAYS)
            .map(delays)
            .unwrap_or_default(),
        deduplication: Rules::parse(arguments),
        unique: matches!(
            argument(arguments, "x-message-deduplication"),
            Some(AMQPValue::Boolean(true))
        ),
    }
}
