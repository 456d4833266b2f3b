//! What may be wrong with a content header and the properties in it.

use thiserror::Error;

use crate::raw_table::TableError;
use crate::reply_code::ReplyCode;

/// What is wrong with a content header. Ends the connection, with [`HeaderError::reply_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Not of class basic.
    #[error("expected content header for class 60, got one for class {0} instead")]
    WrongClass(u16),
    /// The weight, which the specification has at 0, is not.
    #[error("expected content header for class 60, got non content header frame instead")]
    Weight(u16),
    /// A property reaches over the end of the header.
    #[error("content header is cut short")]
    Truncated,
    /// A flag that no property of class basic has, in this word of flags.
    #[error("content header has unknown property flags {0:#06x}")]
    UnknownProperty(u16),
    /// Bytes follow the last property.
    #[error("content header is longer than its properties")]
    Trailing,
    /// A string property is not UTF-8 where owned properties were asked for.
    #[error("content header has a string that is not UTF-8")]
    NotUtf8,
    /// The header table is malformed.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl HeaderError {
    /// 505 UNEXPECTED_FRAME where the frame is out of place, 501 FRAME_ERROR where it is malformed.
    #[must_use]
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            HeaderError::WrongClass(_) | HeaderError::Weight(_) => ReplyCode::UnexpectedFrame,
            _ => ReplyCode::FrameError,
        }
    }
}
