//! The audit log: one line for each administrative change, whether it was done or refused.

use std::net::SocketAddr;

use axum::extract::Request;
use axum::http::{Method, StatusCode};

/// The target of these lines: the log never leaves one out.
const TARGET: &str = "audit";
/// What is asked for with POST and changes nothing that an administrator sets: messages are taken and published, and
/// somebody logs in.
const NO_CHANGE: [&str; 3] = ["/get", "/publish", "/login"];

/// A request that would change something.
pub(crate) struct Change {
    user: String,
    from: SocketAddr,
    method: Method,
    path: String,
    /// The words of `X-Reason`.
    reason: Option<String>,
}

impl Change {
    /// None for what changes nothing.
    pub(crate) fn of<B>(
        request: &Request<B>,
        from: SocketAddr,
        user: impl FnOnce() -> Option<String>,
    ) -> Option<Self> {
        let method = request.method();
        let changes = matches!(*method, Method::PUT | Method::POST | Method::DELETE);
        let path = request.uri().path();
        if !changes || NO_CHANGE.iter().any(|end| path.ends_with(end)) {
            return None;
        }
        let reason = request.headers().get("x-reason");
        let reason = reason.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
        Some(Self {
            user: user().unwrap_or_default(),
            from,
            method: method.clone(),
            path: path.to_owned(),
            reason,
        })
    }

    /// It was answered with this.
    pub(crate) fn tell(self, status: StatusCode) {
        let done = status.is_success();
        let Self {
            user,
            from,
            method,
            path,
            reason,
        } = self;
        tracing::info!(target: TARGET, user, %from, %method, path, reason, done, status = status.as_u16(), "administration");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let told = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(());
            Change::of(&request.unwrap(), from, || None).is_some()
        };
        assert!(told("PUT", "/api/users/x") && told("DELETE", "/api/queues/%2F/q/contents"));
        assert!(told("POST", "/api/definitions"));
        assert!(!told("GET", "/api/users/x") && !told("OPTIONS", "/api/users"));
        assert!(
            !told("POST", "/api/queues/%2F/q/get") && !told("POST", "/api/exchanges/%2F/x/publish")
        );
    }
}
