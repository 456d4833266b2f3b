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
    ("aliveness-test/{vhost}", "GET"),
    ("all-configuration", "GET POST"),
    ("auth", "GET"),
    ("auth/attempts/{node}", "GET DELETE"),
    ("auth/attempts/{node}/source", "GET DELETE"),
    ("auth/hash_password/{password}", "GET"),
    ("channels", "GET"),
    ("channels/{channel}", "GET"),
    ("cluster-name", "GET PUT"),
    ("config/effective", "GET"),
    ("connections", "GET"),
    ("connections/username/{user}", "GET DELETE"),
    ("connections/{connection}", "GET DELETE"),
    ("connections/{connection}/channels", "GET"),
    ("connections/{connection}/sessions", "GET"),
    ("consumers", "GET"),
    ("consumers/{vhost}", "GET"),
    ("definitions", "GET POST"),
    ("definitions/{vhost}", "GET POST"),
    ("deprecated-features", "GET"),
    ("deprecated-features/used", "GET"),
    ("extensions", "GET"),
    ("feature-flags", "GET"),
    ("feature-flags/{name}/enable", "PUT"),
    ("federation-links", "GET"),
    ("federation-links/{vhost}", "GET"),
    ("global-parameters", "GET"),
    ("global-parameters/{name}", "GET PUT DELETE"),
    ("health/checks/alarms", "GET"),
    ("health/checks/below-node-connection-limit", "GET"),
    (
        "health/checks/certificate-expiration/{within}/{unit}",
        "GET",
    ),
    ("health/checks/is-in-service", "GET"),
    ("health/checks/local-alarms", "GET"),
    ("health/checks/metadata-store/initialized", "GET"),
    ("health/checks/metadata-store/initialized/with-data", "GET"),
    ("health/checks/node-is-mirror-sync-critical", "GET"),
    ("health/checks/node-is-quorum-critical", "GET"),
    ("health/checks/port-listener/{port}", "GET"),
    ("health/checks/protocol-listener/{protocol}", "GET"),
    (
        "health/checks/quorum-queues-without-elected-leaders/all-vhosts",
        "GET",
    ),
    (
        "health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
        "GET",
    ),
    (
        "health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}",
        "GET",
    ),
    (
        "health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
        "GET",
    ),
    ("health/checks/reached-target-cluster-size", "GET"),
    ("health/checks/ready-to-serve-clients", "GET"),
    ("health/checks/virtual-hosts", "GET"),
    ("healthchecks/node", "GET"),
    ("healthchecks/node/{node}", "GET"),
    ("login", "POST"),
    ("nodes", "GET"),
    ("nodes/{node}", "GET"),
    ("nodes/{node}/memory", "GET"),
    ("nodes/{node}/memory/ets", "GET"),
    ("nodes/{node}/memory/ets/relative", "GET"),
    ("nodes/{node}/memory/ets/{filter}", "GET"),
    ("nodes/{node}/memory/ets/{filter}/relative", "GET"),
    ("nodes/{node}/memory/relative", "GET"),
    ("operator-policies", "GET"),
    ("operator-policies/{vhost}", "GET"),
    ("operator-policies/{vhost}/{name}", "GET PUT DELETE"),
    ("parameters", "GET"),
    ("parameters/{component}", "GET"),
    ("parameters/{component}/{vhost}", "GET"),
    ("parameters/{component}/{vhost}/{name}", "GET PUT DELETE"),
    ("permissions", "GET"),
    ("permissions/{vhost}/{user}", "GET PUT DELETE"),
    ("policies", "GET"),
    ("policies/{vhost}", "GET"),
    ("policies/{vhost}/{name}", "GET PUT DELETE"),
    ("queues/detailed", "GET"),
    ("queues/quorum/replicas/on/{node}/grow", "POST"),
    ("queues/quorum/replicas/on/{node}/shrink", "DELETE"),
    ("queues/quorum/{vhost}/{queue}/replicas/add", "POST"),
    ("queues/quorum/{vhost}/{queue}/replicas/delete", "DELETE"),
    ("queues/quorum/{vhost}/{queue}/status", "GET"),
    ("queues/{vhost}/{queue}/actions", "POST"),
    ("rebalance/queues", "POST"),
    ("reset", "DELETE"),
    ("reset/{node}", "DELETE"),
    ("shovels", "GET"),
    ("shovels/{vhost}", "GET"),
    ("shovels/vhost/{vhost}/{name}", "GET DELETE"),
    ("stream/connections", "GET"),
    ("stream/connections/{vhost}", "GET"),
    ("stream/consumers", "GET"),
    ("stream/consumers/{vhost}", "GET"),
    ("stream/publishers", "GET"),
    ("stream/publishers/{vhost}", "GET"),
    ("topic-permissions", "GET"),
    ("topic-permissions/{vhost}/{user}", "GET PUT DELETE"),
    ("topic-permissions/{vhost}/{user}/{exchange}", "DELETE"),
    ("user-limits", "GET"),
    ("user-limits/{user}", "GET"),
    ("user-limits/{user}/{name}", "PUT DELETE"),
    ("users", "GET"),
    ("users/bulk-delete", "POST"),
    ("users/without-permissions", "GET"),
    ("users/{user}", "GET PUT DELETE"),
    ("users/{user}/permissions", "GET"),
    ("users/{user}/queues", "GET"),
    ("users/{user}/topic-permissions", "GET"),
    ("version", "GET"),
    ("vhost-limits", "GET"),
    ("vhost-limits/{vhost}", "GET"),
    ("vhost-limits/{vhost}/{name}", "PUT DELETE"),
    ("vhosts", "GET"),
    ("vhosts/{vhost}", "GET PUT DELETE"),
    ("vhosts/{vhost}/channels", "GET"),
    ("vhosts/{vhost}/connections", "GET"),
    ("vhosts/{vhost}/deletion/protection", "POST DELETE"),
    ("vhosts/{vhost}/permissions", "GET"),
    ("vhosts/{vhost}/start/{node}", "POST"),
    ("vhosts/{vhost}/topic-permissions", "GET"),
    ("whoami", "GET"),
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
