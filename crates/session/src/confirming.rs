//! `confirm.select`, and confirms on their way to the client.

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
        number: u16,
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
            PublishMode::Plain => channel.mode = PublishMode::Confirm(Confirms::default()),
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

    /// Writes the confirms of everything that is durable by now.
    pub(super) fn release_confirms(&mut self, link: &mut Link) {
        if self.confirming.is_empty() {
            return;
        }
        let durable = self.vhost.services.store.durable_point();
        let channels = &mut self.channels;
        self.confirming.retain(|number| {
            match channels.get_mut(*number).map(|channel| &mut channel.mode) {
                Some(PublishMode::Confirm(confirms)) => {
                    !confirms.release(durable, *number, link.output.buffer())
                }
                _ => false,
            }
        });
    }
}
