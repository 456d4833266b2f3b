//! One message for very many queues, on its way into them.

use leveret_codec::ChannelNumber;
use leveret_message::Message;
use leveret_routing::QueueId;
use leveret_store_api::CommitPoint;

use super::confirms::PublishTag;
use super::pressure::Pressure;

/// A message on its way into very many queues.
pub(super) struct Spreading {
    pub(super) channel: ChannelNumber,
    /// The tag to be confirmed.
    pub(super) tag: Option<PublishTag>,
    pub(super) message: Message,
    pub(super) queues: std::vec::IntoIter<QueueId>,
    pub(super) point: CommitPoint,
    pub(super) refused: bool,
    pub(super) pressure: Pressure,
}
