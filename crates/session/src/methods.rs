//! Methods of an open connection, each to where it is carried out, and what becomes of a channel that fails.
//!
//! Publishes and settlements are only gathered; before any other method they are flushed. What a method does is
//! decided in the module of its class.

use std::sync::Arc;

use leveret_broker::roll::ChannelFacts;
use leveret_codec::protocol::{
    AMQPClass, access as access_wire, basic as basic_wire, channel as wire,
    connection as connection_wire,
};
use leveret_codec::{
    ChannelNumber, Frame, FrameKind, Method, MethodError, decode_method, shorten, write_method,
};
use leveret_message::Timestamp;
use leveret_message::error::{ChannelError, ConnectionError, Failure};

use super::channel::Channel;
use super::connection::Connection;
use super::job::Afterwards;
use super::link::Link;
use super::work;

impl Connection {
    /// Handles one frame. `behind` is what follows it in the read buffer; answers how much of that
    /// was used as well (a whole publish is taken in one go).
    pub(super) fn handle_frame(
        &mut self,
        link: &mut Link,
        frame: Frame<'_>,
        behind: &[u8],
        now: Timestamp,
    ) -> Result<usize, Failure> {
        match frame.kind {
            FrameKind::Method => {}
            FrameKind::Heartbeat if frame.channel == ChannelNumber::CONNECTION => return Ok(0),
            FrameKind::Heartbeat => {
                return Err(ConnectionError::frame_out_of_place(&frame).into());
            }
            FrameKind::Header | FrameKind::Body if frame.channel == ChannelNumber::CONNECTION => {
                return Err(ConnectionError::frame_out_of_place(&frame).into());
            }
            FrameKind::Header => {
                return self
                    .content_header(link, frame.channel, frame.payload, now)
                    .map(|()| 0);
            }
            FrameKind::Body => {
                return self
                    .content_body(link, frame.channel, frame.payload, now)
                    .map(|()| 0);
            }
        }
        let method = match decode_method(frame.payload) {
            Ok(method) => method,
            Err(error @ (MethodError::UnknownClass(_) | MethodError::UnknownMethod { .. })) => {
                return Err(Failure::Abort(Some(error.to_string())));
            }
            Err(error) => return Err(ConnectionError::undecodable(&error).into()),
        };
        if frame.channel == ChannelNumber::CONNECTION {
            return self.connection_method(link, &method, now).map(|()| 0);
        }
        match self.channels.get(frame.channel) {
            Some(channel) if channel.closing => {
                return self
                    .closing_method(link, frame.channel, &method)
                    .map(|()| 0);
            }
            Some(channel) => {
                if let Some(assembly) = &channel.assembly {
                    return Err(assembly.interrupted().into());
                }
            }
            None => return self.open_channel(link, frame.channel, &method).map(|()| 0),
        }
        match method {
            Method::Publish(publish) => {
                self.publish_method(link, frame.channel, &publish, behind, now)
            }
            Method::Ack {
                delivery_tag,
                multiple,
            } => self
                .ack(link, frame.channel, delivery_tag, multiple)
                .map(|()| 0),
            Method::Nack {
                delivery_tag,
                multiple,
                requeue,
            } => self
                .nack(link, frame.channel, delivery_tag, multiple, requeue)
                .map(|()| 0),
            Method::Reject {
                delivery_tag,
                requeue,
            } => self
                .nack(link, frame.channel, delivery_tag, false, requeue)
                .map(|()| 0),
            Method::Qos {
                prefetch_size,
                prefetch_count,
                global,
            } => {
                self.flush(link, now);
                self.qos(
                    link,
                    frame.channel,
                    prefetch_size,
                    prefetch_count,
                    global,
                    now,
                )
                .map(|()| 0)
            }
            Method::Control(class) => {
                link.work.add(match *class {
                    AMQPClass::Basic(basic_wire::AMQPMethod::Get(_)) => work::GET,
                    _ => work::METHOD,
                });
                self.flush(link, now);
                self.control_method(link, frame.channel, *class, now)
                    .map(|()| 0)
            }
        }
    }

    fn connection_method(
        &mut self,
        link: &mut Link,
        method: &Method<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method.control() {
            Some(AMQPClass::Connection(connection_wire::AMQPMethod::Close(close))) => {
                self.flush(link, now);
                self.close_requested = Some(close.clone());
                Ok(())
            }
            Some(AMQPClass::Connection(connection_wire::AMQPMethod::UpdateSecret(_))) => {
                // The new secret matters to token logins only; a password was checked once at the start.
                tracing::debug!(user = self.login.user, mechanism = ?self.login.mechanism, "secret updated");
                link.send(
                    ChannelNumber::CONNECTION,
                    &AMQPClass::Connection(connection_wire::AMQPMethod::UpdateSecretOk(
                        connection_wire::UpdateSecretOk {},
                    )),
                );
                Ok(())
            }
            _ => Err(ConnectionError::channel_error(
                "unexpected method in connection state running",
            )
            .into()),
        }
    }

    /// The first method on a channel number must open it.
    fn open_channel(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: &Method<'_>,
    ) -> Result<(), Failure> {
        let method = match method.control() {
            Some(AMQPClass::Channel(method)) => Some(method),
            _ => None,
        };
        if self.channels.is_just_closed(number)
            && !matches!(method, Some(wire::AMQPMethod::Open(_)))
        {
            Self::skip_while_closing(link, number, method);
            return Ok(());
        }
        let Some(method) = method else {
            return Err(ConnectionError::channel_error("expected 'channel.open'").into());
        };
        match method {
            // rabbitmq: channels are counted, whatever their numbers
            wire::AMQPMethod::Open(_) if self.channels.len() >= usize::from(link.channel_max) => {
                Err(ConnectionError::channel_max(self.channels.len(), link.channel_max).into())
            }
            wire::AMQPMethod::Open(_) => {
                link.work.add(work::METHOD);
                let permit = self.permits.channel(&link.broker, &self.login.user)?;
                let serial = self.channels.next_serial();
                let facts = Arc::new(ChannelFacts::new(number, serial, link.now));
                self.facts.open_channel(&facts);
                self.channels.open(Channel::new(facts, permit));
                self.tell_channel(link, number, serial);
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::OpenOk(wire::OpenOk {})),
                );
                Ok(())
            }
            _ => Err(ConnectionError::channel_error("expected 'channel.open'").into()),
        }
    }

    /// rabbitmq: what a client had sent behind its `channel.close` before that was answered is passed over, another
    /// close is answered too
    fn skip_while_closing(
        link: &mut Link,
        number: ChannelNumber,
        method: Option<&wire::AMQPMethod>,
    ) {
        if let Some(wire::AMQPMethod::Close(_)) = method {
            let ok = wire::AMQPMethod::CloseOk(wire::CloseOk {});
            link.send(number, &AMQPClass::Channel(ok));
        }
    }

    /// On a channel that was closed by us only the answer counts.
    fn closing_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: &Method<'_>,
    ) -> Result<(), Failure> {
        match method.control() {
            Some(AMQPClass::Channel(wire::AMQPMethod::CloseOk(_))) => {
                self.channels.remove(number);
            }
            // rabbitmq: a close that crossed ours is answered; ours still waits for its answer
            Some(AMQPClass::Channel(wire::AMQPMethod::Close(_))) => {
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::CloseOk(wire::CloseOk {})),
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn control_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        class: AMQPClass,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match class {
            AMQPClass::Basic(method) => self.basic_method(link, number, method, now),
            AMQPClass::Channel(method) => self.channel_method(link, number, &method, now),
            AMQPClass::Exchange(method) => self.exchange_method(link, number, method),
            AMQPClass::Queue(method) => self.queue_method(link, number, method, now),
            AMQPClass::Tx(method) => self.tx_method(link, number, &method, now),
            AMQPClass::Confirm(method) => self.confirm_method(link, number, &method),
            // rabbitmq: whoever asks has access, as clients of AMQP 0-8 do; the ticket means nothing
            AMQPClass::Access(access_wire::AMQPMethod::Request(_)) => {
                let ok = access_wire::AMQPMethod::RequestOk(access_wire::RequestOk {});
                link.send(number, &AMQPClass::Access(ok));
                Ok(())
            }
            AMQPClass::Access(access_wire::AMQPMethod::RequestOk(_)) | AMQPClass::Connection(_) => {
                Err(ConnectionError::command_invalid("unimplemented method").into())
            }
        }
    }

    fn channel_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: &wire::AMQPMethod,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method {
            wire::AMQPMethod::Open(_) => {
                Err(ConnectionError::channel_error("second 'channel.open' seen").into())
            }
            wire::AMQPMethod::Flow(flow) if flow.active => {
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::FlowOk(wire::FlowOk { active: true })),
                );
                Ok(())
            }
            wire::AMQPMethod::Flow(_) => {
                Err(ConnectionError::not_implemented("active=false").into())
            }
            wire::AMQPMethod::Close(_) => {
                self.channels.add_closed(number);
                let ok = AMQPClass::Channel(wire::AMQPMethod::CloseOk(wire::CloseOk {}));
                self.close_channel(link, number, Afterwards::Gone, encoded(number, &ok), now);
                Ok(())
            }
            wire::AMQPMethod::OpenOk(_)
            | wire::AMQPMethod::FlowOk(_)
            | wire::AMQPMethod::CloseOk(_) => {
                Err(ConnectionError::command_invalid("unimplemented method").into())
            }
        }
    }

    /// The channel that frames on it were checked to have.
    pub(super) fn channel(&mut self, number: ChannelNumber) -> Result<&mut Channel, Failure> {
        self.channels
            .get_mut(number)
            .ok_or_else(|| ConnectionError::channel_error("expected 'channel.open'").into())
    }

    /// Closes one channel for an error.
    pub(super) fn fail_channel(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        error: &ChannelError,
        ids: (u16, u16),
        now: Timestamp,
    ) {
        // What was gathered before the error still counts.
        self.flush(link, now);
        self.log_channel_error(link, number, error);
        let close = wire::Close {
            reply_code: error.code.number(),
            reply_text: shorten(&error.text),
            class_id: ids.0,
            method_id: ids.1,
        };
        let close = encoded(number, &AMQPClass::Channel(wire::AMQPMethod::Close(close)));
        self.close_channel(link, number, Afterwards::AwaitsCloseOk, close, now);
    }
}

/// A method frame that is sent later.
pub(super) fn encoded(channel: ChannelNumber, method: &AMQPClass) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_method(&mut bytes, channel, method);
    bytes
}
