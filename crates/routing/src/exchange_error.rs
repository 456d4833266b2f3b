//! Why an exchange is none.

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
