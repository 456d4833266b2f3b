//! From a path and a method to whoever answers: the table of all resources, and what is the same for each of them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use tower::util::ServiceExt;
use tower_http::normalize_path::NormalizePath;

use crate::api::{Api, Table};
use crate::door;
use crate::http::answer::{Answer, Refusal, empty};
use crate::http::ask::BODY_BYTES_MAX;
use crate::http::audit::Change;
use crate::http::path::is_well_encoded;
use crate::metrics;
use crate::page::{live, logins};
use crate::resources;

/// The order in which RabbitMQ lists what can be done with a resource.
const METHODS: [Method; 6] = [
    Method::HEAD,
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
];

/// The whole table.
pub(crate) struct Routes {
    api: Arc<Api>,
    router: NormalizePath<Router>,
    /// Whether the page is served.
    has_page: bool,
}

impl Routes {
    pub(crate) fn new(api: &Arc<Api>) -> Self {
        Self::of(resources::all().merge(metrics::table()), api, true)
    }

    /// Metrics for anybody, and nothing else.
    pub(crate) fn of_metrics(api: &Arc<Api>) -> Self {
        Self::of(metrics::open_table(), api, false)
    }

    fn of(table: Table, api: &Arc<Api>, has_page: bool) -> Self {
        let router = table
            .fallback(async || Refusal::NotFound)
            .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(api));
        // A slash at the end names nothing more.
        Self {
            api: Arc::clone(api),
            router: NormalizePath::trim_trailing_slash(router),
            has_page,
        }
    }

    /// Answers one request. What it does not read of the body stays unread: hyper closes the connection then.
    pub(crate) async fn answer(&self, request: Request<Incoming>, from: SocketAddr) -> Answer {
        let is_well_encoded = is_well_encoded(request.uri().path())
            && request.uri().query().is_none_or(is_well_encoded);
        if !is_well_encoded {
            return Refusal::bad("the path or query is not percent-encoded").into();
        }
        let user = || door::claimed_name(&self.api, request.method(), request.headers());
        let change = Change::of(&request, from, user);
        let asks_for_methods = request.method() == Method::OPTIONS;
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(door::From(from));
        let from_page = request.headers().contains_key(logins::OWN_HEADER);
        let router = self.router.clone();
        let mut answer = if self.has_page && request.uri().path() == live::PATH {
            live::answer(&self.api, router, request)
        } else {
            let Ok(answer) = router.oneshot(request).await;
            answer
        };
        if from_page {
            // The browser would ask for the password by itself.
            answer.headers_mut().remove(WWW_AUTHENTICATE);
        }
        if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
            let methods = methods(answer.headers());
            if asks_for_methods {
                answer = empty(StatusCode::OK);
            }
            answer.headers_mut().insert(ALLOW, methods);
        }
        if let Some(change) = change {
            change.tell(answer.status());
        }
        answer
    }
}

/// What can be done with a resource, from what the router says.
fn methods(headers: &HeaderMap) -> HeaderValue {
    let told = headers.get(ALLOW).and_then(|methods| methods.to_str().ok());
    let told: Vec<&str> = told.unwrap_or_default().split(',').map(str::trim).collect();
    let there = METHODS.iter().map(Method::as_str);
    let there = there.filter(|method| *method == "OPTIONS" || told.contains(method));
    let there: Vec<&str> = there.collect();
    HeaderValue::from_str(&there.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}
