//! A message whose frames have not all come.

use leveret_codec::ContentHeader;
use leveret_message::Body;
use leveret_message::error::ConnectionError;
use leveret_message::large_body::BodyBuffer;

use super::body_memory::BodyMemory;

/// A publish of which not everything is here yet.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) names: Box<[u8]>,
    pub(super) mandatory: bool,
    pub(super) header: Option<Box<[u8]>>,
    pub(super) body_size: usize,
    pub(super) body: BodyBuffer,
    /// What it takes; asked for when its size is announced.
    pub(super) memory: Option<BodyMemory>,
}

impl Assembly {
    /// What is wrong with any other frame on the channel while content is to come.
    pub(super) fn interrupted(&self) -> ConnectionError {
        let expected = match self.header {
            None => "expected content header for class 60, got non content header frame instead",
            Some(_) => "expected content body, got non content body frame instead",
        };
        ConnectionError::unexpected_frame(expected).of_content()
    }
}

/// A publish with all its parts.
pub(super) struct WholePublish<'a> {
    pub(super) names: &'a [u8],
    pub(super) mandatory: bool,
    pub(super) header: &'a ContentHeader<'a>,
    pub(super) body: Body<'a>,
    /// What was read after it.
    pub(super) behind: &'a [u8],
}
