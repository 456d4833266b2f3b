//! From a publish method, a content header and body frames to one message.
//!
//! The usual publish lies in the read buffer as a whole and is composed straight from there; one
//! that comes in pieces is assembled here first.

use bytes::Bytes;
use leveret_codec::{ContentHeader, FrameKind, Publish, decode_header, read_frame};

use super::Link;
use super::connection::Connection;
use crate::error::{ChannelError, ConnectionError, Failure};
use crate::message::Body;
use crate::time::Timestamp;

/// Body bytes reserved at once; the rest of an announced size is believed when it comes.
const BODY_RESERVE_MAX: usize = 1 << 20;

/// A publish of which not everything is here yet.
#[derive(Debug)]
pub(super) struct Assembly {
    names: Box<[u8]>,
    mandatory: bool,
    header: Option<Box<[u8]>>,
    body_size: usize,
    body: Vec<u8>,
}

/// A publish with all its parts.
pub(super) struct WholePublish<'a> {
    pub(super) names: &'a [u8],
    pub(super) mandatory: bool,
    pub(super) header: ContentHeader<'a>,
    pub(super) body: Body<'a>,
}

impl Connection {
    /// `basic.publish`; answers how much of `behind` was used.
    pub(super) fn publish_method(
        &mut self,
        link: &mut Link,
        number: u16,
        publish: &Publish<'_>,
        behind: &[u8],
        now: Timestamp,
    ) -> Result<usize, Failure> {
        if publish.immediate {
            return Err(ConnectionError::not_implemented("immediate=true").into());
        }
        if !self.publishes {
            self.note_publisher(link);
        }
        if let Some((whole, used)) = self.whole_publish(link, number, publish, behind)? {
            self.take_publish(link, number, whole, now)?;
            return Ok(used);
        }
        let assembly = Assembly {
            names: publish.names.into(),
            mandatory: publish.mandatory,
            header: None,
            body_size: 0,
            body: Vec::new(),
        };
        self.channel(number)?.assembly = Some(Box::new(assembly));
        Ok(0)
    }

    /// The publish, if header and body follow in the read buffer, the body in at most one frame.
    fn whole_publish<'a>(
        &self,
        link: &Link,
        number: u16,
        publish: &Publish<'a>,
        behind: &'a [u8],
    ) -> Result<Option<(WholePublish<'a>, usize)>, Failure> {
        let Ok(Some(frame)) = read_frame(behind, link.frame_max) else {
            return Ok(None);
        };
        if frame.kind != FrameKind::Header || frame.channel != number {
            return Ok(None);
        }
        let header = decode_content_header(frame.payload)?;
        check_size(&header, link.broker.config.message_bytes_max)?;
        let mut used = frame.wire_length();
        let mut body: &[u8] = &[];
        if header.body_size > 0 {
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
            body = frame.payload;
            used += frame.wire_length();
        }
        let whole = WholePublish {
            names: publish.names,
            mandatory: publish.mandatory,
            header,
            body: Body::Borrowed(body),
        };
        Ok(Some((whole, used)))
    }

    /// A content header frame.
    pub(super) fn content_header(
        &mut self,
        link: &mut Link,
        number: u16,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Err(not_a_method());
        };
        if channel.closing {
            return Ok(());
        }
        let Some(assembly) = channel.assembly.as_mut() else {
            return Err(not_a_method());
        };
        if assembly.header.is_some() {
            return Err(ConnectionError::unexpected_frame(
                "expected content body, got non content body frame instead",
            )
            .into());
        }
        let header = decode_content_header(payload)?;
        if let Err(error) = check_size(&header, link.broker.config.message_bytes_max) {
            channel.assembly = None;
            return Err(error);
        }
        assembly.header = Some(payload.into());
        assembly.body_size = usize::try_from(header.body_size).unwrap_or(usize::MAX);
        assembly
            .body
            .reserve_exact(assembly.body_size.min(BODY_RESERVE_MAX));
        if assembly.body_size == 0 {
            return self.finish_assembly(link, number, now);
        }
        Ok(())
    }

    /// A content body frame.
    pub(super) fn content_body(
        &mut self,
        link: &mut Link,
        number: u16,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Err(not_a_method());
        };
        if channel.closing {
            return Ok(());
        }
        let Some(assembly) = channel.assembly.as_mut() else {
            return Err(not_a_method());
        };
        if assembly.header.is_none() {
            return Err(ConnectionError::unexpected_frame(
                "expected content header for class 60, got non content header frame instead",
            )
            .into());
        }
        if assembly.body.len() + payload.len() > assembly.body_size {
            return Err(ConnectionError::frame_error(format_args!(
                "content body of {} bytes where {} were announced",
                assembly.body.len() + payload.len(),
                assembly.body_size
            ))
            .into());
        }
        assembly.body.extend_from_slice(payload);
        if assembly.body.len() == assembly.body_size {
            return self.finish_assembly(link, number, now);
        }
        Ok(())
    }

    fn finish_assembly(
        &mut self,
        link: &mut Link,
        number: u16,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(assembly) = self.channel(number)?.assembly.take() else {
            return Ok(());
        };
        let Assembly {
            names,
            mandatory,
            header,
            body,
            ..
        } = *assembly;
        let header = header.unwrap_or_default();
        let whole = WholePublish {
            names: &names,
            mandatory,
            header: decode_content_header(&header)?,
            body: Body::Owned(Bytes::from(body)),
        };
        self.take_publish(link, number, whole, now)
    }
}

fn not_a_method() -> Failure {
    ConnectionError::unexpected_frame("expected method frame, got non method frame instead").into()
}

fn decode_content_header(payload: &[u8]) -> Result<ContentHeader<'_>, Failure> {
    decode_header(payload).map_err(|error| ConnectionError::new(error.reply_code(), error).into())
}

fn check_size(header: &ContentHeader<'_>, bytes_max: u64) -> Result<(), Failure> {
    if header.body_size <= bytes_max {
        return Ok(());
    }
    Err(ChannelError::precondition(format_args!(
        "message size {} is larger than configured max size {bytes_max}",
        header.body_size
    ))
    .into())
}
