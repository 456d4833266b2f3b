//! Why a definition is refused.

use leveret_codec::ReplyCode;
use leveret_message::error::{ConnectionError, Failure};

/// A definition that a start could not read back. It is refused, and nothing is changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the definition of {what} cannot be stored: {reason}")]
pub struct DefinitionError {
    /// What it is of.
    pub(super) what: String,
    /// What is in the way.
    pub(super) reason: String,
}

/// rabbitmq: what goes wrong inside is told so
impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Failure {
        ConnectionError::new(ReplyCode::InternalError, error).into()
    }
}
