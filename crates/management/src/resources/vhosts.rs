//! Virtual hosts.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{change, queues};
use crate::api::Table;
use crate::door::Administrator;
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::http::desk::Desk;
use crate::view::{Stays, VhostRemoval, VhostView, View};

/// How long nothing is done where connections are to go first.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/vhosts", get(vhosts))
        .route("/api/vhosts/{vhost}", get(vhost).put(set).delete(delete))
        .route(
            "/api/vhosts/{vhost}/deletion/protection",
            post(protect).delete(unprotect),
        )
        .route("/api/vhosts/{vhost}/start/{node}", post(start))
}

async fn vhosts(ask: Ask) -> Reply {
    let mut vhosts = ask.api.view.vhosts_of(&ask.caller.user);
    vhosts.sort_by(|one, other| one.name().cmp(other.name()));
    let (node, columns) = (node(&ask), ask.query.columns());
    let shown = ask.api.desk.work(move || {
        let shown = vhosts.iter().map(|vhost| columns.cut(show(vhost, &node)));
        shown.collect::<Value>()
    });
    Ok(json_of(&shown.await?))
}

async fn vhost(ask: Ask) -> Reply {
    let vhost = ask
        .api
        .view
        .vhost(ask.name("vhost"))
        .ok_or(Refusal::NotFound)?;
    let (node, columns) = (node(&ask), ask.query.columns());
    let shown = ask.api.desk.work(move || columns.cut(show(&vhost, &node)));
    Ok(json_of(&shown.await?))
}

fn node(ask: &Ask) -> String {
    ask.api.view.names().cluster.to_owned()
}

fn show(vhost: &VhostView, node: &str) -> Value {
    let (mut messages, mut ready, mut unacknowledged) = (0, 0, 0);
    for queue in vhost.queues() {
        let counts = queue.counts();
        messages += queues::total(&counts);
        ready += counts.ready;
        unacknowledged += counts.unacknowledged;
    }
    // rabbitmq: a text where there is none
    let kind = vhost
        .default_queue_type()
        .map_or("undefined", |kind| kind.name());
    let metadata = metadata(vhost);
    json!({
        "name": vhost.name(),
        "description": metadata["description"],
        "tags": metadata["tags"],
        "protected_from_deletion": metadata["protected_from_deletion"],
        "metadata": metadata,
        "default_queue_type": kind,
        "tracing": vhost.is_traced(),
        "cluster_state": {node: "running"},
        "messages": messages,
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
    })
}

/// What is said of a virtual host, as definitions have it.
pub(super) fn metadata(vhost: &VhostView) -> Value {
    let metadata = vhost.metadata();
    let mut shown = json!({
        "description": metadata.description,
        "tags": metadata.tags,
        "protected_from_deletion": metadata.protected_from_deletion,
    });
    if let Some(kind) = metadata.default_queue_type {
        shown["default_queue_type"] = Value::from(kind.name());
    }
    shown
}

async fn protect(ask: Ask<Administrator>) -> Reply {
    set_protected(&ask, true).await
}

async fn unprotect(ask: Ask<Administrator>) -> Reply {
    set_protected(&ask, false).await
}

async fn set_protected(ask: &Ask<Administrator>, protected: bool) -> Reply {
    let (view, name) = (ask.api.view.clone(), ask.name("vhost").to_owned());
    let changed = ask
        .api
        .desk
        .work(move || view.protect_vhost(&name, protected));
    let changed = changed.await?.map_err(Refusal::bad)?;
    change::taken(&ask.api.view, changed).await
}

/// Nobody finds it from one moment to the next; it is answered when nothing is left. Whether somebody waits for that or not,
/// it is done.
async fn delete(ask: Ask<Administrator>) -> Reply {
    let (view, name) = (ask.api.view.clone(), ask.name("vhost").to_owned());
    let begun = ask.api.desk.work(move || view.begin_to_delete_vhost(&name));
    let removal = begun.await?.map_err(|stays| match stays {
        Stays::Unknown => Refusal::NotFound,
        Stays::Protected => Refusal::Precondition("vhost is protected from deletion".to_owned()),
        Stays::Otherwise(text) => Refusal::bad(text),
    })?;
    let (view, desk) = (ask.api.view.clone(), ask.api.desk.clone());
    let done = tokio::spawn(finish(view, desk, removal));
    done.await.map_err(|_| Refusal::broken())??;
    Ok(no_content())
}

/// Goes on until all of a virtual host is gone.
async fn finish(view: View, desk: Desk, removal: VhostRemoval) -> Result<(), Refusal> {
    // What is left could not be undone.
    change::durable(&view, removal.decided).await?;
    let removal = Arc::new(removal);
    loop {
        let (deleting, held) = (view.clone(), Arc::clone(&removal));
        let step = desk.work(move || deleting.go_on_deleting_vhost(&held));
        match step.await? {
            Some(point) => return change::durable(&view, point).await,
            None if removal.has_connections() => tokio::time::sleep(PAUSE).await,
            None => {}
        }
    }
}

async fn set(ask: Ask<Administrator>, fields: Fields) -> Reply {
    let name = ask.name("vhost");
    let was_there = ask.api.view.has_vhost(name);
    let mut vhost = json!({"name": name});
    if fields.get("tracing").is_some() {
        vhost["tracing"] = Value::from(fields.flag("tracing")?);
    }
    for (field, meant) in [
        ("default_queue_type", "default_queue_type"),
        ("defaultqueuetype", "default_queue_type"),
        ("description", "description"),
        ("tags", "tags"),
        ("protected_from_deletion", "protected_from_deletion"),
        ("metadata", "metadata"),
    ] {
        if let Some(value) = fields.get(field) {
            vhost[meant] = value.clone();
        }
    }
    let mut definitions = json!({"vhosts": [vhost]});
    if !was_there {
        // rabbitmq: whoever makes one may use it
        definitions["permissions"] = json!([{
            "vhost": name,
            "user": ask.caller.user.name,
            "configure": ".*",
            "write": ".*",
            "read": ".*",
        }]);
    }
    change::import(&ask.api, &definitions).await?;
    Ok(change::set(was_there))
}

/// It runs already.
async fn start(ask: Ask<Administrator>, _fields: Fields) -> Reply {
    let view = &ask.api.view;
    let is_there = view.has_vhost(ask.name("vhost")) && ask.name("node") == view.names().cluster;
    if is_there {
        Ok(change::set(true))
    } else {
        Err(Refusal::NotFound)
    }
}
