//! The files of the page, which lie compressed in the binary and go out as they are.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use crate::api::Table;
use crate::http::answer::{Answer, empty};

/// A file of the page.
struct Asset {
    /// Its path below the page.
    name: &'static str,
    /// Changes with what is in it.
    tag: &'static str,
    /// Bytes before they were compressed.
    #[cfg_attr(not(test), expect(dead_code, reason = "what a test adds up"))]
    size: usize,
    gzip: &'static [u8],
    /// The same as it is, of the first file alone: who looks whether the page is there may unpack nothing.
    plain: &'static [u8],
}

static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What stands at `/`.
const INDEX: &str = "index.html";

/// Everything is of this origin; nothing stands in the markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What each answer with a part of the page says.
const ALWAYS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (VARY, "accept-encoding"),
    // Asked for again each time, answered by the tag: an update of the broker is an update of the page.
    (CACHE_CONTROL, "no-cache"),
    (CONTENT_ENCODING, "gzip"),
];

pub(crate) fn table() -> Table {
    let page = Router::new().route("/", get(async |request: Request| answer(INDEX, &request)));
    ASSETS.iter().fold(page, |table, asset| {
        let path = format!("/{}", asset.name);
        table.route(
            &path,
            get(async |request: Request| answer(asset.name, &request)),
        )
    })
}

fn answer(name: &str, request: &Request) -> Answer {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return empty(StatusCode::NOT_FOUND);
    };
    let headers = request.headers();
    if is_known(headers, asset.tag) {
        let mut answer = empty(StatusCode::NOT_MODIFIED);
        let tag = HeaderValue::from_static(asset.tag);
        answer.headers_mut().insert(ETAG, tag);
        return answer;
    }
    let is_packed = takes_gzip(headers);
    if !is_packed && asset.plain.is_empty() {
        let mut answer = empty(StatusCode::NOT_ACCEPTABLE);
        *answer.body_mut() = Body::from("the page is sent with content-encoding gzip alone\n");
        return answer;
    }
    let body = if is_packed { asset.gzip } else { asset.plain };
    let mut answer = Answer::new(Body::from(Bytes::from_static(body)));
    let headers = answer.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !is_packed {
        headers.remove(CONTENT_ENCODING);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(asset.name)));
    headers.insert(ETAG, HeaderValue::from_static(asset.tag));
    answer
}

/// Whether the client has what the tag stands for.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(IF_NONE_MATCH).and_then(|it| it.to_str().ok());
    let mut known = known.into_iter().flat_map(|tags| tags.split(','));
    known.any(|it| it.trim().trim_start_matches("W/") == tag)
}

/// RFC 9110: who says nothing takes everything.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let Some(told) = headers.get(ACCEPT_ENCODING) else {
        return true;
    };
    let mut codings = told.to_str().unwrap_or_default().split(',').map(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches("q=");
        (
            name.trim(),
            !matches!(weight, "0" | "0.0" | "0.00" | "0.000"),
        )
    });
    codings.any(|(name, is_taken)| is_taken && matches!(name, "gzip" | "x-gzip" | "*"))
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        _ => "image/svg+xml",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(header: HeaderName, value: &'static str) -> Request {
        Request::builder()
            .header(header, value)
            .body(Body::empty())
            .unwrap()
    }

    #[test]
    fn the_page_is_small() {
        let size: usize = ASSETS.iter().map(|asset| asset.size).sum();
        let sent: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(sent < 150_000, "{sent} bytes are sent");
        assert!(size < 300_000, "{size} bytes are run");
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        let first = answer(INDEX, &request(ACCEPT_ENCODING, "gzip, br"));
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[ETAG].to_str().unwrap();
        let tag: &'static str = Box::leak(format!("\"x\", W/{tag}").into_boxed_str());
        let again = answer(INDEX, &request(IF_NONE_MATCH, tag));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn it_goes_to_whoever_can_unpack_it() {
        let takes = |value| takes_gzip(request(ACCEPT_ENCODING, value).headers());
        for yes in ["gzip", "br, gzip;q=0.5", "*", "x-gzip"] {
            assert!(takes(yes), "{yes}");
        }
        for no in ["identity", "br", "gzip;q=0", ""] {
            assert!(!takes(no), "{no}");
        }
        assert!(takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn the_first_file_is_there_for_everybody() {
        let plain = answer(INDEX, &request(ACCEPT_ENCODING, "identity"));
        assert_eq!(plain.status(), StatusCode::OK);
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        let other = answer("page.css", &request(ACCEPT_ENCODING, "identity"));
        assert_eq!(other.status(), StatusCode::NOT_ACCEPTABLE);
    }

    #[test]
    fn nothing_is_inline_or_from_elsewhere() {
        for directive in POLICY.split("; ").skip(1) {
            assert!(
                directive.ends_with("'self'") || directive.ends_with("'none'"),
                "{directive}"
            );
        }
    }
}
