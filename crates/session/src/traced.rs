//! What is to be told of a delivery to the firehose.

use leveret_codec::ChannelNumber;
use leveret_queue::mailbox::InFlight;

use super::consumers::Consumer;
use super::queue_table::QueueNumber;

/// A delivery to be traced.
pub(super) struct Traced {
    pub(super) channel: ChannelNumber,
    pub(super) queue: QueueNumber,
    pub(super) in_flight: InFlight,
    pub(super) of_stream: bool,
}

impl Traced {
    pub(super) fn new(consumer: &Consumer, in_flight: &InFlight) -> Traced {
        Traced {
            channel: consumer.channel,
            queue: consumer.queue,
            in_flight: in_flight.clone(),
            of_stream: consumer.of_stream,
        }
    }
}
