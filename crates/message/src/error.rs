//! What goes wrong for a client: the reply code and text it will see, and how much it damages.
//!
//! A [`ChannelError`] closes a channel and cannot close a connection by accident; a
//! [`ConnectionError`] closes the connection. Codes and texts are RabbitMQ's and are fixed in this
//! file alone (sources: the access-control and channels guides, and replies observed on the wire).

use std::fmt::Display;

use leveret_codec::{ChannelNumber, DeliveryTag, Frame, MethodError, ReplyCode, describe_frame};

/// An error that closes the channel it happened on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChannelError {
    /// The reply code of `channel.close`.
    pub code: ReplyCode,
    /// The reply text of `channel.close`.
    pub text: String,
}

/// An error that closes the whole connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionError {
    /// The reply code of `connection.close`.
    pub code: ReplyCode,
    /// The reply text of `connection.close`.
    pub text: String,
    /// Which method `connection.close` names.
    pub cause: Cause,
}

/// The method that a close names as its cause, by class and method.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Cause {
    /// That of the frame the error came of; content belongs to the publish it was announced by.
    #[default]
    Frame,
    /// The publish whose content was to come.
    Content,
    /// None: class and method are 0.
    Nothing,
}

/// Either scope of damage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// Closes the channel.
    Channel(ChannelError),
    /// Closes the connection.
    Connection(ConnectionError),
    /// Closes the socket without a word, as RabbitMQ does for what it cannot even name; the log is told why, unless it
    /// has been already.
    Abort(Option<String>),
}

/// A definition that a start could not read back. It is refused, and nothing is changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the definition of {what} cannot be stored: {reason}")]
pub struct DefinitionError {
    /// What it is of.
    pub what: String,
    /// What is in the way.
    pub reason: String,
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Failure {
        Failure::Channel(error)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Failure {
        Failure::Connection(error)
    }
}

/// rabbitmq: what goes wrong inside is told so
impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Failure {
        ConnectionError::new(ReplyCode::InternalError, error).into()
    }
}

impl Failure {
    /// The reply text, where there is one.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Failure::Channel(error) => &error.text,
            Failure::Connection(error) => &error.text,
            Failure::Abort(_) => "refused",
        }
    }
}

/// Reply texts are short strings: at most 255 bytes on the wire, cut at a character, with dots for the rest.
fn short(text: String) -> String {
    const DOTS: &str = "...";
    if text.len() <= 255 {
        return text;
    }
    let mut end = 255 - DOTS.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kept = text.get(..end).unwrap_or_default();
    format!("{kept}{DOTS}")
}

impl ChannelError {
    fn new(code: ReplyCode, text: impl Display) -> ChannelError {
        ChannelError {
            code,
            text: short(format!("{} - {text}", code.name())),
        }
    }

    /// 404 for a queue.
    #[must_use]
    pub fn no_queue(queue: &str, vhost: &str) -> ChannelError {
        ChannelError::new(
            ReplyCode::NotFound,
            format_args!("no queue '{queue}' in vhost '{vhost}'"),
        )
    }

    /// 404 for an exchange.
    #[must_use]
    pub fn no_exchange(exchange: &str, vhost: &str) -> ChannelError {
        ChannelError::new(
            ReplyCode::NotFound,
            format_args!("no exchange '{exchange}' in vhost '{vhost}'"),
        )
    }

    /// 404 when an empty queue name has nothing to stand for.
    #[must_use]
    pub fn no_previous_queue() -> ChannelError {
        ChannelError::new(ReplyCode::NotFound, "no previously declared queue")
    }

    /// 405 for another connection's exclusive queue.
    #[must_use]
    pub fn locked(queue: &str, vhost: &str) -> ChannelError {
        ChannelError::new(
            ReplyCode::ResourceLocked,
            format_args!(
                "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
                 declared on another connection or the exclusive property value does not match that of the original \
                 declaration."
            ),
        )
    }

    /// 403 with any text.
    #[must_use]
    pub fn refused(text: impl Display) -> ChannelError {
        ChannelError::new(ReplyCode::AccessRefused, text)
    }

    /// 403 when the user's permissions do not cover a resource.
    #[must_use]
    pub fn no_permission(
        permission: &str,
        kind: &str,
        name: &str,
        vhost: &str,
        user: &str,
    ) -> ChannelError {
        ChannelError::refused(format_args!(
            "{permission} access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'"
        ))
    }

    /// 403 when the user's topic permission on an exchange does not cover a key.
    #[must_use]
    pub fn no_topic_permission(
        permission: &str,
        key: &str,
        exchange: &str,
        vhost: &str,
        user: &str,
    ) -> ChannelError {
        ChannelError::refused(format_args!(
            "{permission} access to topic '{key}' in exchange topic '{exchange}' in vhost '{vhost}' refused for user '{user}'"
        ))
    }

    /// 406 for a transaction of which a queue's limit refused a part.
    #[must_use]
    pub fn partial_transaction() -> ChannelError {
        ChannelError::precondition("partial tx completion")
    }

    /// 403 for everything that may not be done to the default exchange.
    #[must_use]
    pub fn default_exchange() -> ChannelError {
        ChannelError::refused("operation not permitted on the default exchange")
    }

    /// 403 for a second consumer where one is exclusive.
    #[must_use]
    pub fn exclusive_use(queue: &str, vhost: &str) -> ChannelError {
        ChannelError::refused(format_args!(
            "queue '{queue}' in vhost '{vhost}' in exclusive use"
        ))
    }

    /// 405 for a `basic.get` past the active consumer of a quorum queue.
    #[must_use]
    pub fn single_active(queue: &str, vhost: &str) -> ChannelError {
        ChannelError::new(
            ReplyCode::ResourceLocked,
            format_args!(
                "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not \
                 supported by quorum queues with single active consumer"
            ),
        )
    }

    /// 403 for deleting what the broker declares itself.
    #[must_use]
    pub fn system_exchange(exchange: &str, vhost: &str) -> ChannelError {
        ChannelError::refused(format_args!(
            "deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed"
        ))
    }

    /// 406 for a type of queue, by its module, that needs a name of its client's.
    #[must_use]
    pub fn server_named(module: &str) -> ChannelError {
        ChannelError::precondition(format_args!(
            "Cannot declare a server-named queue for type {module}"
        ))
    }

    /// 406 for an argument that names something but is no string.
    #[must_use]
    pub fn invalid_type(type_name: &str, argument: &str, resource: impl Display) -> ChannelError {
        ChannelError::precondition(format_args!(
            "invalid type '{type_name}' for arg '{argument}' in {resource}"
        ))
    }

    /// 403 for names that only the broker may use.
    #[must_use]
    pub fn reserved_name(kind: &str, name: &str) -> ChannelError {
        ChannelError::refused(format_args!(
            "{kind} name '{name}' contains reserved prefix 'amq.*'"
        ))
    }

    /// 406 with any text.
    #[must_use]
    pub fn precondition(text: impl Display) -> ChannelError {
        ChannelError::new(ReplyCode::PreconditionFailed, text)
    }

    /// 406 for a delivery tag that is not unacknowledged on the channel.
    #[must_use]
    pub fn unknown_delivery_tag(tag: DeliveryTag) -> ChannelError {
        ChannelError::precondition(format_args!("unknown delivery tag {tag}"))
    }

    /// 406 for a delivery that stayed unacknowledged for too long.
    #[must_use]
    pub fn consumer_timed_out(channel: ChannelNumber, timeout_ms: u64) -> ChannelError {
        ChannelError::precondition(format_args!(
            "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. \
             This timeout value can be configured, see consumers doc guide to learn more"
        ))
    }

    /// 406 for an `x-` argument whose value is wrong.
    #[must_use]
    pub fn invalid_argument(
        argument: &str,
        queue: &str,
        vhost: &str,
        why: impl Display,
    ) -> ChannelError {
        ChannelError::precondition(format_args!(
            "invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}': {why}"
        ))
    }

    /// 406 for an `x-` argument that this type of queue does not take.
    #[must_use]
    pub fn unsupported_argument(
        argument: &str,
        queue: &str,
        vhost: &str,
        kind: &str,
    ) -> ChannelError {
        ChannelError::precondition(format_args!(
            "invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {kind}"
        ))
    }

    /// 406 for a queue beyond the virtual host's limit.
    #[must_use]
    pub fn queue_limit(queue: &str, vhost: &str, limit: u64) -> ChannelError {
        ChannelError::precondition(format_args!(
            "cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"
        ))
    }

    /// 540 for what is not there yet, where the rest of the connection can go on.
    #[must_use]
    pub fn not_implemented(what: impl Display) -> ChannelError {
        ChannelError::new(ReplyCode::NotImplemented, what)
    }
}

impl ConnectionError {
    /// Any code with any text.
    #[must_use]
    pub fn new(code: ReplyCode, text: impl Display) -> ConnectionError {
        ConnectionError {
            code,
            text: short(format!("{} - {text}", code.name())),
            cause: Cause::Frame,
        }
    }

    /// The same, of the publish that waits for its content.
    #[must_use]
    pub fn of_content(self) -> ConnectionError {
        let cause = Cause::Content;
        ConnectionError { cause, ..self }
    }

    /// The same, of no method.
    #[must_use]
    pub fn of_nothing(self) -> ConnectionError {
        let cause = Cause::Nothing;
        ConnectionError { cause, ..self }
    }

    /// 530.
    #[must_use]
    pub fn not_allowed(text: impl Display) -> ConnectionError {
        ConnectionError::new(ReplyCode::NotAllowed, text)
    }

    /// 530 for a connection beyond the virtual host's limit.
    #[must_use]
    pub fn vhost_connection_limit(vhost: &str, user: &str, limit: u64) -> ConnectionError {
        ConnectionError::not_allowed(format_args!(
            "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
        ))
    }

    /// 530 for a connection beyond the user's limit.
    #[must_use]
    pub fn user_connection_limit(user: &str, limit: u64) -> ConnectionError {
        ConnectionError::not_allowed(format_args!(
            "connection refused for user '{user}': user connection limit ({limit}) is reached"
        ))
    }

    /// 530 for a channel beyond the user's limit.
    #[must_use]
    pub fn user_channel_limit(user: &str, limit: u64) -> ConnectionError {
        ConnectionError::not_allowed(format_args!(
            "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
        ))
        .of_nothing()
    }

    /// 530 for a channel beyond what was agreed on.
    #[must_use]
    pub fn channel_max(opened: usize, channel_max: u16) -> ConnectionError {
        ConnectionError::not_allowed(format_args!(
            "number of channels opened ({opened}) has reached the negotiated channel_max ({channel_max})"
        ))
        .of_nothing()
    }

    /// 505 for a frame that has no business where it came.
    #[must_use]
    pub fn frame_out_of_place(frame: &Frame<'_>) -> ConnectionError {
        ConnectionError::unexpected_frame(describe_frame(frame)).of_nothing()
    }

    /// 540.
    #[must_use]
    pub fn not_implemented(text: impl Display) -> ConnectionError {
        ConnectionError::new(ReplyCode::NotImplemented, text)
    }

    /// 503.
    #[must_use]
    pub fn command_invalid(text: impl Display) -> ConnectionError {
        ConnectionError::new(ReplyCode::CommandInvalid, text)
    }

    /// 504.
    #[must_use]
    pub fn channel_error(text: impl Display) -> ConnectionError {
        ConnectionError::new(ReplyCode::ChannelError, text)
    }

    /// 505.
    #[must_use]
    pub fn unexpected_frame(text: impl Display) -> ConnectionError {
        ConnectionError::new(ReplyCode::UnexpectedFrame, text)
    }

    /// 501 for a method that cannot be decoded; 541 where RabbitMQ's own decoder fails.
    #[must_use]
    pub fn undecodable(error: &MethodError) -> ConnectionError {
        match error {
            MethodError::NotFinite => ConnectionError::new(ReplyCode::InternalError, error),
            other => ConnectionError::frame_error(other),
        }
    }

    /// 501.
    #[must_use]
    pub fn frame_error(text: impl Display) -> ConnectionError {
        ConnectionError::new(ReplyCode::FrameError, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_in_dots_at_a_character() {
        let long = ChannelError::no_queue(&"é".repeat(200), "/").text;
        assert!(
            (253..=255).contains(&long.len()) && long.ends_with("éé..."),
            "{long}"
        );
        let fits = ChannelError::precondition("x".repeat(255 - 22)).text;
        assert!(fits.len() == 255 && fits.ends_with('x'), "{fits}");
    }
}
