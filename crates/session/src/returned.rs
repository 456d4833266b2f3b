//! Messages that go back to their publisher.

use leveret_codec::{ChannelNumber, ReplyCode, write_return};
use leveret_message::Message;

use super::link::Link;

/// `basic.return` for a mandatory message that no queue wants.
pub(super) fn return_message(link: &mut Link, channel: ChannelNumber, message: &Message) {
    let code = ReplyCode::NoRoute;
    write_return(
        link.output.buffer(),
        channel,
        code.number(),
        code.name(),
        message.names(),
    );
    link.output.write_content(channel, link.frame_max, message);
}
