//! A publish past exchanges that keep something.

use leveret_broker::exchange::{Incoming, Passage};
use leveret_codec::ChannelNumber;
use leveret_deduplication::{Look, Number};
use leveret_message::Message;

use super::confirms::PublishTag;

/// A publish that is looked at one by one.
pub(super) struct StatefulPublish {
    /// It has its BCC header still.
    pub(super) message: Message,
    pub(super) mandatory: bool,
    /// It has queues to go to, were it not for what exchanges on its way do.
    pub(super) routable: bool,
    /// What its producer says.
    pub(super) number: Option<Number>,
}

/// One that goes on in slices.
pub(super) struct PassingOn {
    pub(super) channel: ChannelNumber,
    /// The tag to be confirmed.
    pub(super) tag: Option<PublishTag>,
    pub(super) is_returned: bool,
    /// See [`StatefulPublish::routable`].
    pub(super) is_routable: bool,
    pub(super) passage: Box<Passage>,
}

impl StatefulPublish {
    /// It goes back to its publisher, unless it was published before.
    pub(super) fn is_returned(&self) -> bool {
        self.mandatory && !self.routable
    }

    /// Its way from its exchange. `strict`: a number that leaves out others is refused.
    pub(super) fn incoming<'a>(
        &'a self,
        exchange: &'a str,
        random: u64,
        strict: bool,
    ) -> Incoming<'a> {
        Incoming {
            exchange,
            resumes: false,
            returned: self.is_returned(),
            look: self
                .number
                .map_or(Look::Published, |number| Look::Numbered { number, strict }),
            message: &self.message,
            random,
            barred: &[],
        }
    }
}
