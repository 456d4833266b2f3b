//! `confirm.select`.

use leveret_codec::ChannelNumber;
use leveret_codec::protocol::{AMQPClass, confirm as wire};
use leveret_message::error::{ChannelError, ConnectionError, Failure};

use super::channel::PublishMode;
use super::confirms::Confirms;
use super::connection::Connection;
use super::link::Link;

impl Connection {
    pub(super) fn confirm_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: &wire::AMQPMethod,
    ) -> Result<(), Failure> {
        let wire::AMQPMethod::Select(select) = method else {
            return Err(ConnectionError::command_invalid("unimplemented method").into());
        };
        let channel = self.channel(number)?;
        match channel.mode {
            PublishMode::Transaction(_) => {
                return Err(
                    ChannelError::precondition("cannot switch from tx to confirm mode").into(),
                );
            }
            PublishMode::Plain => {
                channel.mode = PublishMode::Confirm(Confirms::default());
                channel.facts.begin_to_confirm();
            }
            PublishMode::Confirm(_) => {}
        }
        if !select.nowait {
            link.send(
                number,
                &AMQPClass::Confirm(wire::AMQPMethod::SelectOk(wire::SelectOk {})),
            );
        }
        Ok(())
    }
}
