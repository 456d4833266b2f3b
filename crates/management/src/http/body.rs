//! A body whose parts are built while it is sent, so that neither its memory nor the work on it at a stretch grows with
//! what there is.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::answer::Refusal;
use super::desk::Desk;

/// About the size of a part.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// What parts come from.
pub(crate) trait Source: Send + 'static {
    /// The next one.
    fn piece(&mut self) -> Bytes;

    /// Whether that was the last.
    fn is_done(&self) -> bool;
}

/// The parts of `source`, each built on the desk when the one before is on its way, until nobody wants more.
pub(crate) async fn built<S: Source>(desk: &Desk, source: S) -> Result<Body, Refusal> {
    let (source, piece) = next(desk, source).await?;
    if source.is_done() {
        return Ok(Body::from(piece));
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(send(desk.clone(), source, piece, sender));
    Ok(Body::new(Parts(receiver)))
}

async fn next<S: Source>(desk: &Desk, mut source: S) -> Result<(S, Bytes), Refusal> {
    let built = desk.work(move || {
        let piece = source.piece();
        (source, piece)
    });
    built.await
}

async fn send<S: Source>(
    desk: Desk,
    mut source: S,
    mut piece: Bytes,
    sender: mpsc::Sender<Result<Bytes, CutOff>>,
) {
    loop {
        let last = source.is_done();
        if sender.send(Ok(piece)).await.is_err() || last {
            return;
        }
        match next(&desk, source).await {
            Ok(built) => (source, piece) = built,
            Err(_) => {
                let _ = sender.send(Err(CutOff)).await;
                return;
            }
        }
    }
}

/// A part could not be built. The connection is closed in the middle of the body, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("a part of the answer could not be built")]
pub(crate) struct CutOff;

/// The parts as they come.
#[derive(Debug)]
pub(crate) struct Parts(pub(crate) mpsc::Receiver<Result<Bytes, CutOff>>);

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.0
            .poll_recv(task)
            .map(|part| part.map(|part| part.map(Frame::data)))
    }
}
