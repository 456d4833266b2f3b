//! Answers and refusals: status, headers, JSON. The texts are RabbitMQ's where it has one.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::view::Refused;

/// What a request is answered with.
pub(crate) type Answer = Response<Body>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// rabbitmq: the realm of its management plugin, which clients may look for
const REALM: HeaderValue = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// No name and password, or wrong ones.
    Unauthenticated,
    /// This user may not.
    NotAuthorised(String),
    /// A change by a browser that does not say that it is the page.
    Elsewhere,
    /// There is no such thing.
    NotFound,
    /// There is no such thing, and more can be said.
    Gone(String),
    /// The request makes no sense: RabbitMQ's name for the mistake, and what is wrong.
    Bad(&'static str, String),
    /// The thing is not in a state in which this may be done.
    Precondition(String),
    /// The resource does not have this method.
    MethodNotAllowed,
    /// RabbitMQ has it, Leveret has not.
    NotImplemented(String),
    /// Too many logins from there have failed.
    TooManyLogins,
    /// The request takes too long to come.
    Timeout,
    /// It takes too long.
    Unavailable(String),
}

impl Refusal {
    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::Bad("bad_request", reason.into())
    }

    /// The answer could not be built: a panic, which is logged.
    pub(crate) fn broken() -> Self {
        Self::Unavailable("the answer could not be built".to_owned())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Said { code: 404, text } => Self::Gone(text),
            // rabbitmq: what is refused for want of a permission
            Refused::Said { code: 403, text } => Self::NotAuthorised(text),
            Refused::Said { text, .. } => Self::bad(text),
            Refused::Name(name) => Self::bad(format!(
                "a name of {} bytes; at most 255 are possible",
                name.len()
            )),
            Refused::Late => Self::Unavailable(
                "the broker has not answered in time: the disk is full or very slow".to_owned(),
            ),
        }
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
            Refusal::Elsewhere => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "a change by cookie needs the header x-leveret",
            ),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "Object Not Found", "Not Found"),
            Refusal::Gone(reason) => (StatusCode::NOT_FOUND, "not_found", reason.as_str()),
            Refusal::Bad(error, reason) => (StatusCode::BAD_REQUEST, *error, reason.as_str()),
            Refusal::Precondition(reason) => (
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                reason.as_str(),
            ),
            Refusal::MethodNotAllowed => (
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
            Refusal::Timeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "the request did not come in time",
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
            _ => {}
        }
        answer
    }
}

/// 200 with a value.
pub(crate) fn json_of(value: &Value) -> Answer {
    with_body(Body::from(value.to_string()))
}

/// 200 with a body of JSON.
pub(crate) fn with_body(body: Body) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// 204.
pub(crate) fn no_content() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// Nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}
