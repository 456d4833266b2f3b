//! Answers and refusals: status, headers, JSON. The texts are RabbitMQ's where it has one.

use bytes::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::AnswerBody;

/// What a request is answered with.
pub(super) type Answer = Response<AnswerBody>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// rabbitmq: the realm of its management plugin, which clients may look for
const REALM: HeaderValue = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// No name and password, or wrong ones.
    Unauthenticated,
    /// This user may not.
    NotAuthorised(String),
    /// There is no such thing.
    NotFound,
    /// There is no such thing, and more can be said.
    Gone(String),
    /// The request makes no sense: RabbitMQ's name for the mistake, and what is wrong.
    Bad(&'static str, String),
    /// The resource has these methods only.
    MethodNotAllowed(&'static str),
    /// RabbitMQ has it, Leveret has not.
    NotImplemented(String),
    /// Too many logins from there have failed.
    TooManyLogins,
    /// It takes too long.
    Unavailable(String),
}

impl Refusal {
    pub(super) fn bad(reason: impl Into<String>) -> Self {
        Self::Bad("bad_request", reason.into())
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        let (status, error, reason) = match &refusal {
            Refusal::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "not_authorized", "Not_Authorized")
            }
            // rabbitmq: 401, where HTTP would have 403
            Refusal::NotAuthorised(reason) => {
                (StatusCode::UNAUTHORIZED, "not_authorised", reason.as_str())
            }
            Refusal::NotFound => (StatusCode::NOT_FOUND, "Object Not Found", "Not Found"),
            Refusal::Gone(reason) => (StatusCode::NOT_FOUND, "not_found", reason.as_str()),
            Refusal::Bad(error, reason) => (StatusCode::BAD_REQUEST, *error, reason.as_str()),
            Refusal::MethodNotAllowed(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method Not Allowed",
            ),
            Refusal::NotImplemented(reason) => (
                StatusCode::NOT_IMPLEMENTED,
                "not_implemented",
                reason.as_str(),
            ),
            Refusal::TooManyLogins => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many failed logins from this address; try again later",
            ),
            Refusal::Unavailable(reason) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                reason.as_str(),
            ),
        };
        let mut answer = json_of(&json!({"error": error, "reason": reason}));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        match refusal {
            Refusal::Unauthenticated => drop(headers.insert(WWW_AUTHENTICATE, REALM)),
            Refusal::TooManyLogins => {
                drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5")));
            }
            Refusal::MethodNotAllowed(methods) => {
                drop(headers.insert(ALLOW, HeaderValue::from_static(methods)));
            }
            _ => {}
        }
        answer
    }
}

/// 200 with a value.
pub(super) fn json_of(value: &Value) -> Answer {
    with_body(AnswerBody::Whole(Some(Bytes::from(value.to_string()))))
}

/// 200 with a body of JSON.
pub(super) fn with_body(body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// 204.
pub(super) fn no_content() -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(None));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
