//! What a tab of the page is told while it is shown, as one stream of events. It names addresses of this API, each with
//! the seconds between two looks; what is there is sent when it is another than before. Nothing runs for a tab that is
//! closed.
//!
//! ```text
//!   GET /api/leveret/live?1=/api/leveret/overview&5=/api/nodes
//!
//!   event: 0
//!   data: {"status":200,"body":{...}}
//! ```

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tower::util::ServiceExt;
use tower_http::normalize_path::NormalizePath;

use super::logins::OWN_HEADER;
use crate::api::Api;
use crate::door;
use crate::http::answer::{Answer, Refusal};
use crate::http::body::{CutOff, Parts};
use crate::http::query::Query;

/// Where it is.
pub(crate) const PATH: &str = "/api/leveret/live";
/// Addresses of one stream.
const ADDRESSES_MAX: usize = 8;
/// The longest time between two looks, seconds.
const EVERY_MAX: u64 = 60;
/// What is larger is not for a stream.
const BODY_BYTES_MAX: usize = 4 << 20;
/// After so long without news the stream says that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// An address that is looked at again and again.
#[derive(Debug)]
struct Watched {
    uri: Uri,
    every: Duration,
    due: Instant,
    /// Of what was sent last.
    hash: Option<u64>,
}

/// Answers with a stream, for as long as somebody reads it.
pub(crate) fn answer(api: &Arc<Api>, router: NormalizePath<Router>, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    if let Err(refusal) = door::enter(api, &parts) {
        return refusal.into();
    }
    let Some(from) = parts.extensions.get::<door::From>().copied() else {
        return Refusal::Unauthenticated.into();
    };
    let watched = match Query::of(&parts.uri).and_then(|query| watched(&query)) {
        Ok(watched) => watched,
        Err(refusal) => return refusal.into(),
    };
    let Some(place) = api.streams.take() else {
        return Refusal::Unavailable("too many pages are open".to_owned()).into();
    };
    let (sender, receiver) = mpsc::channel(1);
    let api = Arc::clone(api);
    tokio::spawn(async move {
        tell(router, &parts.headers, from, watched, sender).await;
        drop(place);
        if api.streams.are_none() {
            api.watch.rest();
        }
    });
    let mut answer = Answer::new(Body::new(Parts(receiver)));
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn watched(query: &Query) -> Result<Vec<Watched>, Refusal> {
    let now = Instant::now();
    let addresses = query.pairs().map(|(every, address)| {
        let every = every.parse().ok().filter(|it| (1..=EVERY_MAX).contains(it));
        let uri = address.parse::<Uri>().ok().filter(|uri| {
            uri.authority().is_none() && uri.path().starts_with("/api/") && uri.path() != PATH
        });
        let (Some(every), Some(uri)) = (every, uri) else {
            return Err(Refusal::bad(format!(
                "'{address}' is no address of this API to be looked at every 1 to {EVERY_MAX} seconds"
            )));
        };
        Ok(Watched {
            uri,
            every: Duration::from_secs(every),
            due: now,
            hash: None,
        })
    });
    let addresses: Vec<Watched> = addresses.collect::<Result<_, _>>()?;
    if (1..=ADDRESSES_MAX).contains(&addresses.len()) {
        Ok(addresses)
    } else {
        Err(Refusal::bad(format!(
            "a stream is about 1 to {ADDRESSES_MAX} addresses"
        )))
    }
}

/// Looks and tells until nobody listens.
async fn tell(
    router: NormalizePath<Router>,
    headers: &HeaderMap,
    from: door::From,
    mut watched: Vec<Watched>,
    sender: mpsc::Sender<Result<Bytes, CutOff>>,
) {
    let mut told = Instant::now();
    loop {
        for (number, it) in watched.iter_mut().enumerate() {
            if it.due > Instant::now() {
                continue;
            }
            let (status, body) = look(&router, headers, from, &it.uri).await;
            it.due = Instant::now() + it.every;
            let hash = hash(status, &body);
            if it.hash == Some(hash) {
                continue;
            }
            it.hash = Some(hash);
            if sender.send(Ok(event(number, status, &body))).await.is_err() {
                return;
            }
            told = Instant::now();
        }
        let due = watched.iter().map(|it| it.due).min();
        let due = due.unwrap_or(told).min(told + SILENCE_MAX);
        tokio::select! {
            () = sender.closed() => return,
            () = sleep_until(due) => {}
        }
        if told + SILENCE_MAX <= Instant::now() {
            if sender.send(Ok(Bytes::from_static(b":\n\n"))).await.is_err() {
                return;
            }
            told = Instant::now();
        }
    }
}

async fn look(
    router: &NormalizePath<Router>,
    headers: &HeaderMap,
    from: door::From,
    uri: &Uri,
) -> (StatusCode, Bytes) {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri.clone();
    for name in [AUTHORIZATION, COOKIE, HOST] {
        if let Some(value) = headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let own = HeaderValue::from_static("live");
    request.headers_mut().insert(OWN_HEADER, own);
    request.extensions_mut().insert(from);
    let Ok(answer) = router.clone().oneshot(request).await;
    let (parts, body) = answer.into_parts();
    match to_bytes(body, BODY_BYTES_MAX).await {
        Ok(body) => (parts.status, body),
        Err(_) => (StatusCode::PAYLOAD_TOO_LARGE, Bytes::new()),
    }
}

fn hash(status: StatusCode, body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    (status.as_u16(), body).hash(&mut hasher);
    hasher.finish()
}

/// JSON has no line breaks where it is not made to be read, so a body is one line.
fn event(number: usize, status: StatusCode, body: &Bytes) -> Bytes {
    let is_line = !body.is_empty() && !body.contains(&b'\n');
    let body = if is_line { body.as_ref() } else { b"null" };
    let head = format!(
        "event: {number}\ndata: {{\"status\":{},\"body\":",
        status.as_u16()
    );
    let parts = [head.as_bytes(), body, b"}\n\n"];
    Bytes::from(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Vec<Watched>, Refusal> {
        watched(&Query::of(&format!("/?{query}").parse().unwrap()).unwrap())
    }

    #[test]
    fn addresses_are_of_this_api() {
        let seen = of("1=/api/leveret/overview&5=/api/queues/%252F%3Fpage%3D1").unwrap();
        assert_eq!(seen[1].uri, "/api/queues/%2F?page=1");
        assert_eq!(seen[1].every, Duration::from_secs(5));
        for wrong in [
            "",
            "0=/api/nodes",
            "61=/api/nodes",
            "x=/api/nodes",
            "1=/",
            "1=http://example.com/api/nodes",
            "1=//example.com/api/nodes",
            "1=/api/leveret/live",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(of(&["1=/api/nodes"; 9].join("&")).is_err());
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let said = event(2, StatusCode::OK, &Bytes::from_static(b"[1]"));
        assert_eq!(said, "event: 2\ndata: {\"status\":200,\"body\":[1]}\n\n");
        let said = event(0, StatusCode::NOT_FOUND, &Bytes::new());
        assert_eq!(said, "event: 0\ndata: {\"status\":404,\"body\":null}\n\n");
    }
}
