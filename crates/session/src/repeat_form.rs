//! The publish before, to which the next may be alike.

use leveret_codec::{ChannelNumber, FRAME_OVERHEAD, PublishPattern};
use leveret_message::{Message, MessageForm};

use super::link::Link;
use super::patience::Patience;

/// The form of a publish that others may have, too.
pub(super) struct Form {
    pub(super) pattern: PublishPattern,
    pub(super) message: MessageForm,
}

/// What is known of the publishes to come.
#[derive(Default)]
pub(super) struct Repeat {
    pub(super) form: Option<Box<Form>>,
    pub(super) patience: Patience,
}

impl Repeat {
    /// `message` went where the one before it went, and nothing stands in the way of others like it.
    #[inline]
    pub(super) fn consider(
        &mut self,
        link: &Link,
        channel: ChannelNumber,
        message: &Message,
        mandatory: bool,
    ) {
        if self.patience.tries() {
            self.keep(link, channel, message, mandatory);
        }
    }

    #[cold]
    pub(super) fn keep(
        &mut self,
        link: &Link,
        channel: ChannelNumber,
        message: &Message,
        mandatory: bool,
    ) {
        let message = MessageForm::of(message);
        let frame_max = match link.frame_max as usize {
            0 => usize::MAX,
            max => max.saturating_sub(FRAME_OVERHEAD),
        };
        // What is to be written ahead goes the usual way.
        let ahead_min = link.broker.services.write_ahead_bytes_min;
        let bytes_max = (link.broker.config().message_bytes_max).min(ahead_min.saturating_sub(1));
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let body_max = u32::try_from(frame_max.min(bytes_max)).unwrap_or(u32::MAX);
        let properties = message.properties();
        let pattern =
            PublishPattern::new(channel, message.names(), mandatory, properties, body_max);
        self.form = Some(Box::new(Form { pattern, message }));
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        *self = Repeat::default();
    }
}
