//! Bodies of answers: a whole one, or one whose parts are built while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// What is sent after the head.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// All of it; None once it is sent.
    Whole(Option<Bytes>),
    /// Its parts as they come. A part that is missing at the end cannot be told from an end by HTTP/1.1 alone, but the
    /// JSON is then cut off.
    Parts(mpsc::Receiver<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = match &mut *self {
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take()),
            AnswerBody::Parts(parts) => parts.poll_recv(task),
        };
        part.map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            AnswerBody::Whole(None) => SizeHint::with_exact(0),
            AnswerBody::Parts(_) => SizeHint::default(),
        }
    }
}
