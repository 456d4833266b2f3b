//! One HTTP connection: hyper over a stream, within bounds of time and size.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::Answer;
use super::guests::{Answered, Guest};
use super::patience::Patient;
use crate::api::Api;
use crate::door;
use crate::routes::Routes;

/// How long a request's head may take to come, and how long a connection may wait for its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Most header lines of a request.
const HEADERS_MAX: usize = 64;
/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// After this time a connection is closed once its request is answered …
const LIFETIME: Duration = Duration::from_secs(600);
/// … and after this time more in any case.
const GRACE: Duration = Duration::from_secs(60);

/// Serves one stream until it is closed, or until the guest has to go.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    api: &Api,
    routes: &Routes,
    stream: S,
    remote: SocketAddr,
    guest: Guest,
) {
    let guest = &guest;
    let answer = service_fn(|request: Request<Incoming>| async move {
        // Who is held up counts as silent meanwhile, and gives way.
        let held = door::hold(&api.view, request.headers(), remote.ip()).await;
        let asking = guest.ask();
        let answer = match held {
            Ok(()) => routes.answer(request, remote).await,
            Err(refusal) => Answer::from(refusal),
        };
        Ok::<_, Infallible>(answer.map(|body| Answered {
            body,
            _asking: asking,
        }))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Who has asked and says no more still gets its answer.
        .half_close(true)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, guest.taking())), answer);
    let mut connection = pin!(connection);
    let served = async {
        match tokio::time::timeout(LIFETIME, connection.as_mut()).await {
            Ok(served) => served,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                let last = tokio::time::timeout(GRACE, connection).await;
                last.unwrap_or(Ok(()))
            }
        }
    };
    let served = tokio::select! {
        served = served => served,
        () = guest.sent_away() => return,
    };
    match served {
        Err(error) if error.is_parse() => {
            tracing::warn!(peer = %remote, %error, "what a client sent to the management port is no HTTP");
        }
        Err(error) => tracing::debug!(peer = %remote, %error, "a management connection ended"),
        Ok(()) => {}
    }
}
