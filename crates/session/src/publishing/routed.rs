//! The second step of a publish: the message as its queues will have it, and where it goes.

use leveret_broker::vhost::Targets;
use leveret_codec::{ContentHeader, decode_header};
use leveret_message::error::ChannelError;
use leveret_message::error::Failure;
use leveret_message::marks::Marks;
use leveret_message::{Body, Message};

use super::Publishing;
use super::checked::Checked;
use super::sender::{Rewritten, Sender};
use super::way::Way;
use crate::assembly::WholePublish;

/// A message and its way.
pub(crate) struct Routed<'a> {
    pub(crate) message: Message,
    pub(super) way: Way,
    pub(crate) names: &'a [u8],
    /// As it came.
    pub(crate) header: &'a ContentHeader<'a>,
    pub(super) mandatory: bool,
    /// Its header is not the one that came.
    pub(super) rewritten: bool,
}

impl Routed<'_> {
    /// Whether exchanges on its way, or its producer's number, decide what becomes of it.
    pub(crate) fn is_stateful(&self) -> bool {
        matches!(self.way, Way::Stateful(_))
    }
}

impl Publishing {
    /// Composes the message.
    ///
    /// # Errors
    /// 406 for headers that cannot be read.
    #[inline]
    pub(crate) fn route<'a>(
        &mut self,
        checked: Checked<'a>,
        sender: &Sender<'_>,
    ) -> Result<Routed<'a>, Failure> {
        let Checked { whole, way } = checked;
        let WholePublish {
            names,
            mandatory,
            header,
            body,
            ..
        } = whole;
        // What exchanges may keep is routed later, and needs its BCC header for that.
        let keep_blind = matches!(way, Way::Stateful(_));
        let rewritten = Sender::must_rewrite(header, keep_blind);
        let message = if rewritten {
            self.compose_rewritten(names, header, body, sender, keep_blind)?
        } else {
            Message::compose(&mut self.batch.scratch, names, header, body)
        };
        Ok(Routed {
            message,
            way,
            names,
            header,
            mandatory,
            rewritten,
        })
    }

    #[cold]
    fn compose_rewritten(
        &mut self,
        names: &[u8],
        header: &ContentHeader<'_>,
        body: Body<'_>,
        sender: &Sender<'_>,
        keep_blind: bool,
    ) -> Result<Message, Failure> {
        let Rewritten { payload, blind } = sender.rewritten_header(header, keep_blind)?;
        let header = decode_header(&payload).map_err(ChannelError::precondition)?;
        let marks = Marks::blind(&blind);
        let scratch = &mut self.batch.scratch;
        Ok(Message::compose_marked(
            scratch, names, marks, &header, body,
        ))
    }

    /// The queues that a routed publish goes to.
    pub(crate) fn targets_of(&self, routed: &Routed<'_>) -> Targets {
        self.targets(&routed.way)
    }
}
