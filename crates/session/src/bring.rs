//! A binding that brings a history, and what its client is told.

use leveret_broker::bringing::Bringing;
use leveret_codec::ChannelNumber;
use leveret_codec::protocol::AMQPClass;

/// A binding with a history, on its way.
pub(super) struct BringingHistory {
    pub(super) channel: ChannelNumber,
    pub(super) nowait: bool,
    pub(super) ok: AMQPClass,
    pub(super) bringing: Box<Bringing>,
}
