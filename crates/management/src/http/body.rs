//! A body whose parts are built while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// The parts as they come. One that is missing at the end cannot be told from an end by HTTP/1.1 alone, but the JSON is
/// then cut off.
#[derive(Debug)]
pub(super) struct Parts(pub(super) mpsc::Receiver<Bytes>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(task)
            .map(|part| part.map(|bytes| Ok(Frame::data(bytes))))
    }
}
