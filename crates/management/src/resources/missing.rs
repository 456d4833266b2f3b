//! What RabbitMQ's management plugin has and Leveret has not (yet): recognised, and said to be missing, so that nobody
//! takes it for a misspelt path.

use std::sync::Arc;

use axum::extract::MatchedPath;
use axum::routing::{MethodRouter, delete, get, post, put};

use crate::api::{Api, Table};
use crate::http::answer::Refusal;
use crate::http::ask::{Ask, Reply};

/// Paths below `/api`, and their methods.
const MISSING: &[(&str, &str)] = &[
    ("config/effective", "GET"),
    ("reset", "DELETE"),
    ("reset/{node}", "DELETE"),
    ("users/{user}/queues", "GET"),
];

pub(super) fn table() -> Table {
    let entries = MISSING.iter();
    entries.fold(Table::new(), |table, (path, methods)| {
        table.route(&format!("/api/{path}"), missing(methods))
    })
}

fn missing(methods: &str) -> MethodRouter<Arc<Api>> {
    let methods = methods.split(' ');
    methods.fold(MethodRouter::new(), |router, method| {
        router.merge(match method {
            "POST" => post(say),
            "PUT" => put(say),
            "DELETE" => delete(say),
            _ => get(say),
        })
    })
}

async fn say(path: MatchedPath, _ask: Ask) -> Reply {
    Err(Refusal::NotImplemented(format!(
        "Leveret has no {} of this method yet",
        path.as_str()
    )))
}
