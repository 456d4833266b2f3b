//! Why a definition is refused.

/// A definition that a start could not read back. It is refused, and nothing is changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the definition of {what} cannot be stored: {reason}")]
pub struct DefinitionError {
    /// What it is of.
    pub(super) what: String,
    /// What is in the way.
    pub(super) reason: String,
}
