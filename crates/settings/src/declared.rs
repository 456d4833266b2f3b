//! The arguments of `queue.declare`, checked once. The wording of every refusal is RabbitMQ's (queues guide; replies
//! observed on the wire). Unknown arguments are ignored.

use leveret_codec::{
    AMQPValue, FieldTable, value_as_integer as integer, value_type_name as type_name,
};
use leveret_message::arguments::{argument, text};
use leveret_message::error::ChannelError;
use leveret_queue::queue::kind::QueueKind;

use super::argument::{Argument, Form};
use super::names::{CONSUMER_TIMEOUT, DEAD_LETTER_EXCHANGE, QUEUE_TYPE};
use super::table::SETTINGS;

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

/// All arguments there are, in the order in which they are checked.
pub(super) fn known() -> impl Iterator<Item = &'static Argument> {
    SETTINGS
        .iter()
        .filter_map(|setting| setting.argument.as_ref())
}

/// The type `x-queue-type` names; classic where it names none.
#[must_use]
pub fn kind(arguments: &FieldTable) -> QueueKind {
    argument(arguments, QUEUE_TYPE)
        .and_then(text)
        .and_then(|name| QueueKind::of_argument(&name))
        .unwrap_or_default()
}

/// `x-consumer-timeout` of a consumer, milliseconds.
///
/// # Errors
/// The text that follows the argument's name in the 406.
pub fn consumer_timeout_ms(arguments: &FieldTable) -> Result<Option<u64>, String> {
    let Some(value) = argument(arguments, CONSUMER_TIMEOUT) else {
        return Ok(None);
    };
    Form::NonNegative.check(value, arguments)?;
    Ok(integer(value).and_then(|timeout| u64::try_from(timeout).ok()))
}

/// A declaration whose arguments are checked.
struct Declared<'a> {
    arguments: &'a FieldTable,
    kind: QueueKind,
    queue: &'a str,
    vhost: &'a str,
}

/// Checks the arguments of `queue.declare`, and whether the type they name may have its properties.
///
/// # Errors
/// 406 with RabbitMQ's text.
pub fn check(
    arguments: &FieldTable,
    properties: DeclaredProperties,
    queue: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
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
    if let Some(value) = argument(arguments, QUEUE_TYPE) {
        let wrong = |why| ChannelError::invalid_argument(QUEUE_TYPE, queue, vhost, why);
        Form::Type.check(value, arguments).map_err(wrong)?;
    }
    let declared = Declared {
        arguments,
        kind: kind(arguments),
        queue,
        vhost,
    };
    declared.check_values()?;
    declared.check_supported()?;
    declared.check_properties(properties)?;
    declared.check_bounds()
}

impl<'a> Declared<'a> {
    /// The arguments that this type of queue takes (or does not), where they are given.
    fn given(&self, taken: bool) -> impl Iterator<Item = (&'static Argument, &'a AMQPValue)> {
        let (arguments, kind) = (self.arguments, self.kind);
        known()
            .filter(move |it| it.kinds.have(kind) == taken)
            .filter_map(|it| Some((it, argument(arguments, it.name)?)))
    }

    fn check_values(&self) -> Result<(), ChannelError> {
        for (known, value) in self.given(true) {
            let check = known.form.check(value, self.arguments);
            check.map_err(|why| {
                ChannelError::invalid_argument(known.name, self.queue, self.vhost, why)
            })?;
        }
        Ok(())
    }

    fn check_supported(&self) -> Result<(), ChannelError> {
        match self.given(false).next() {
            Some((known, _)) => Err(ChannelError::unsupported_argument(
                known.name,
                self.queue,
                self.vhost,
                self.kind.module(),
            )),
            None => Ok(()),
        }
    }

    fn check_properties(&self, properties: DeclaredProperties) -> Result<(), ChannelError> {
        if self.kind == QueueKind::Classic {
            return Ok(());
        }
        let refused = [
            (properties.auto_delete, "auto-delete"),
            (properties.exclusive, "exclusive-owner"),
            (!properties.durable, "non-durable"),
        ];
        match refused.iter().find(|(refused, _)| *refused) {
            Some((_, property)) => Err(ChannelError::precondition(format_args!(
                "invalid property '{property}' for queue '{}' in vhost '{}'",
                self.queue, self.vhost
            ))),
            None => Ok(()),
        }
    }

    fn check_bounds(&self) -> Result<(), ChannelError> {
        let refusal = |(known, value): (&Argument, _)| known.bounds.as_ref()?.refusal(value);
        match self.given(true).find_map(refusal) {
            Some(refusal) => Err(ChannelError::precondition(refusal)),
            None => Ok(()),
        }
    }
}
