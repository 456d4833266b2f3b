//! A publish that waits for its bytes to be on the disk.

use leveret_broker::vhost::Targets;
use leveret_codec::ChannelNumber;
use leveret_message::Message;
use leveret_store_api::WriteAhead;

use super::body_memory::BodyMemory;

/// A publish that waits for its bytes to be written.
pub(super) struct LargePublish {
    pub(super) ahead: WriteAhead,
    pub(super) channel: ChannelNumber,
    pub(super) message: Message,
    pub(super) targets: Targets,
    pub(super) _memory: Option<BodyMemory>,
}
