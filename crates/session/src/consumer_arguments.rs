//! What `basic.consume` asks for in its arguments, checked against the type of the queue.

use leveret_broker::handle::QueueHandle;
use leveret_codec::FieldTable;
use leveret_message::Timestamp;
use leveret_message::arguments::{argument, expect_integer};
use leveret_message::error::ChannelError;
use leveret_queue::queue::kind::QueueKind;
use leveret_queue::stream::StreamRead;
use leveret_settings::declared::consumer_timeout_ms;
use leveret_settings::names::CONSUMER_TIMEOUT;

const PRIORITY: &str = "x-priority";
const OFFSET: &str = "x-stream-offset";
const OF_STREAMS: [&str; 3] = [OFFSET, "x-stream-filter", "x-stream-match-unfiltered"];

/// The arguments of a consumer.
#[derive(Debug, Default)]
pub(super) struct ConsumerArguments {
    /// `x-priority`; those beyond 32 bits count as the nearest.
    pub(super) priority: i32,
    /// `x-consumer-timeout`.
    pub(super) timeout_ms: Option<u64>,
    /// `x-stream-offset` and the filter.
    pub(super) read: StreamRead,
}

impl ConsumerArguments {
    /// # Errors
    /// 406 with RabbitMQ's text: a wrong value, or one that this type of queue does not take.
    pub(super) fn parse(
        arguments: &FieldTable,
        queue: &QueueHandle,
        now: Timestamp,
    ) -> Result<ConsumerArguments, ChannelError> {
        let identity = queue.identity();
        let (name, vhost) = (identity.name.as_str(), &identity.vhost);
        let wrong = |argument: &'static str| {
            move |why: String| ChannelError::invalid_argument(argument, name, vhost, why)
        };
        let of_stream = queue.kind() == QueueKind::Stream;
        let mut parsed = ConsumerArguments {
            timeout_ms: consumer_timeout_ms(arguments).map_err(wrong(CONSUMER_TIMEOUT))?,
            ..ConsumerArguments::default()
        };
        if of_stream {
            parsed.read = StreamRead::parse(arguments, now).map_err(wrong(OFFSET))?;
        } else if let Some(value) = argument(arguments, PRIORITY) {
            let priority = expect_integer(value).map_err(wrong(PRIORITY))?;
            let bound = if priority < 0 { i32::MIN } else { i32::MAX };
            parsed.priority = i32::try_from(priority).unwrap_or(bound);
        }
        let refused: &[&str] = if of_stream { &[PRIORITY] } else { &OF_STREAMS };
        let is_given = |name: &&&str| argument(arguments, name).is_some();
        match refused.iter().find(is_given) {
            Some(argument) => Err(ChannelError::unsupported_argument(
                argument,
                name,
                vhost,
                queue.kind().module(),
            )),
            None => Ok(parsed),
        }
    }
}
