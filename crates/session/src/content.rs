//! From a publish method, a content header and body frames to one message.
//!
//! The usual publish lies in the read buffer as a whole and is composed straight from there; one
//! that comes in pieces is assembled here first.

use leveret_codec::{
    ChannelNumber, ContentHeader, FrameKind, HeaderError, Publish, ReplyCode, read_frame,
};
use leveret_message::error::{ChannelError, ConnectionError, Failure};
use leveret_message::large_body::{BodyBuffer, NoMemory};
use leveret_message::{Body, Timestamp};
use leveret_store_api::broken::broken;

use super::assembly::{Assembly, WholePublish};
use super::connection::Connection;
use super::link::Link;

impl Connection {
    /// `basic.publish`; answers how much of `behind` was used.
    pub(super) fn publish_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        publish: &Publish<'_>,
        behind: &[u8],
        now: Timestamp,
    ) -> Result<usize, Failure> {
        if publish.immediate {
            return Err(ConnectionError::not_implemented("immediate=true").into());
        }
        self.publishing.begin();
        link.blocked = self.publishing.is_blocked();
        let mut header = ContentHeader::default();
        if let Some((body, used)) = whole_content(link, number, &mut header, behind)? {
            let whole = WholePublish {
                names: publish.names,
                mandatory: publish.mandatory,
                header: &header,
                body: Body::Borrowed(body),
                behind: behind.get(used..).unwrap_or_default(),
            };
            self.take_publish(link, number, whole, None, now)?;
            return Ok(used);
        }
        let assembly = Assembly {
            names: publish.names.into(),
            mandatory: publish.mandatory,
            header: None,
            body_size: 0,
            body: BodyBuffer::new(0),
            memory: None,
        };
        self.channel(number)?.assembly = Some(Box::new(assembly));
        Ok(0)
    }

    /// Behind a `channel.close` it is passed over.
    fn content_of_no_channel(&self, number: ChannelNumber) -> Result<(), Failure> {
        if self.channels.is_just_closed(number) {
            return Ok(());
        }
        Err(not_a_method())
    }

    /// A content header frame.
    pub(super) fn content_header(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(number) else {
            return self.content_of_no_channel(number);
        };
        if channel.closing {
            return Ok(());
        }
        let Some(assembly) = channel.assembly.as_mut() else {
            return Err(not_a_method());
        };
        if assembly.header.is_some() {
            return Err(assembly.interrupted().into());
        }
        let mut header = ContentHeader::default();
        read_content_header(&mut header, payload)?;
        if let Err(error) = check_size(&header, link.broker.config().message_bytes_max) {
            channel.assembly = None;
            return Err(error);
        }
        assembly.header = Some(payload.into());
        assembly.body_size = usize::try_from(header.body_size).unwrap_or(usize::MAX);
        assembly.body = BodyBuffer::new(assembly.body_size);
        if assembly.body_size == 0 {
            return self.finish_assembly(link, number, now);
        }
        Ok(())
    }

    /// A content body frame.
    pub(super) fn content_body(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(number) else {
            return self.content_of_no_channel(number);
        };
        if channel.closing {
            return Ok(());
        }
        let Some(assembly) = channel.assembly.as_mut() else {
            return Err(not_a_method());
        };
        if assembly.header.is_none() {
            return Err(assembly.interrupted().into());
        }
        if assembly.body.len() + payload.len() > assembly.body_size {
            return Err(ConnectionError::frame_error(
                "content body frame exceeds remaining content size",
            )
            .into());
        }
        assembly.body.extend(payload).map_err(|NoMemory| {
            let text = format_args!("no memory for a body of {} bytes", assembly.body_size);
            ConnectionError::new(ReplyCode::ResourceError, text)
        })?;
        if let Some(memory) = &mut assembly.memory {
            memory.touch(now);
        }
        if assembly.body.len() == assembly.body_size {
            return self.finish_assembly(link, number, now);
        }
        Ok(())
    }

    fn finish_assembly(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(assembly) = self.channel(number)?.assembly.take() else {
            broken(&"what is assembled is nothing");
            return Ok(());
        };
        let Assembly {
            names,
            mandatory,
            header,
            body,
            memory,
            ..
        } = *assembly;
        let payload = header.unwrap_or_default();
        let mut header = ContentHeader::default();
        read_content_header(&mut header, &payload)?;
        let whole = WholePublish {
            names: &names,
            mandatory,
            header: &header,
            body: Body::Owned(body.into_bytes()),
            behind: &[],
        };
        self.take_publish(link, number, whole, memory, now)
    }
}

/// The header, read into `header`, and the body, if both follow in the read buffer, the body in at
/// most one frame; and how much of the buffer they are.
#[inline]
fn whole_content<'a>(
    link: &Link,
    number: ChannelNumber,
    header: &mut ContentHeader<'a>,
    behind: &'a [u8],
) -> Result<Option<(&'a [u8], usize)>, Failure> {
    let Ok(Some(frame)) = read_frame(behind, link.frame_max) else {
        return Ok(None);
    };
    if frame.kind != FrameKind::Header || frame.channel != number {
        return Ok(None);
    }
    read_content_header(header, frame.payload)?;
    check_size(header, link.broker.config().message_bytes_max)?;
    let used = frame.wire_length();
    if header.body_size == 0 {
        return Ok(Some((&[], used)));
    }
    let rest = behind.get(used..).unwrap_or_default();
    let Ok(Some(frame)) = read_frame(rest, link.frame_max) else {
        return Ok(None);
    };
    if frame.kind != FrameKind::Body
        || frame.channel != number
        || frame.payload.len() as u64 != header.body_size
    {
        return Ok(None);
    }
    Ok(Some((frame.payload, used + frame.wire_length())))
}

fn not_a_method() -> Failure {
    ConnectionError::unexpected_frame("expected method frame, got non method frame instead")
        .of_nothing()
        .into()
}

#[inline]
fn read_content_header<'a>(
    header: &mut ContentHeader<'a>,
    payload: &'a [u8],
) -> Result<(), Failure> {
    header.read(payload).map_err(|error| undecodable(&error))
}

#[cold]
fn undecodable(error: &HeaderError) -> Failure {
    ConnectionError::new(error.reply_code(), error).into()
}

#[inline]
fn check_size(header: &ContentHeader<'_>, bytes_max: u64) -> Result<(), Failure> {
    match header.body_size {
        size if size <= bytes_max => Ok(()),
        size => Err(too_large(size, bytes_max)),
    }
}

#[cold]
fn too_large(size: u64, bytes_max: u64) -> Failure {
    let text = format_args!("message size {size} is larger than configured max size {bytes_max}");
    ChannelError::precondition(text).into()
}
