//! What users may do in virtual hosts, and with which topics.

use axum::routing::{delete, get};
use serde_json::{Value, json};

use super::change;
use crate::api::Table;
use crate::door::Administrator;
use crate::http::answer::{Refusal, json_of};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::{Permitted, PermittedTopics};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/permissions", get(all))
        .route(
            "/api/permissions/{vhost}/{user}",
            get(one).put(set).delete(take),
        )
        .route("/api/vhosts/{vhost}/permissions", get(all))
        .route("/api/users/{user}/permissions", get(all))
        .route("/api/topic-permissions", get(all_topics))
        .route(
            "/api/topic-permissions/{vhost}/{user}",
            get(topics).put(set_topics).delete(take_topics),
        )
        .route(
            "/api/topic-permissions/{vhost}/{user}/{exchange}",
            delete(take_topics),
        )
        .route("/api/vhosts/{vhost}/topic-permissions", get(all_topics))
        .route("/api/users/{user}/topic-permissions", get(all_topics))
}

/// Refuses a path with a virtual host or user that is not there.
fn check_names(ask: &Ask<Administrator>) -> Result<(), Refusal> {
    let view = &ask.api.view;
    let (vhost, user) = (ask.vhost(), ask.name("user"));
    let is_there = vhost.is_none_or(|vhost| view.has_vhost(vhost))
        && (user.is_empty() || view.user(user).is_some());
    if is_there {
        Ok(())
    } else {
        Err(Refusal::NotFound)
    }
}

/// rabbitmq: what cannot be set for want of either is a bad request
fn check_ends(ask: &Ask<Administrator>) -> Result<(), Refusal> {
    check_names(ask).map_err(|_| Refusal::bad("vhost_or_user_not_found"))
}

/// Whether something of this virtual host and user is asked for.
fn wanted(ask: &Ask<Administrator>, vhost: &str, user: &str) -> bool {
    ask.vhost().is_none_or(|it| it == vhost) && [user, ""].contains(&ask.name("user"))
}

fn show(it: &Permitted) -> Value {
    json!({
        "user": it.user,
        "vhost": it.vhost,
        "configure": it.permission.configure,
        "write": it.permission.write,
        "read": it.permission.read,
    })
}

fn found(ask: &Ask<Administrator>) -> Result<Vec<Permitted>, Refusal> {
    check_names(ask)?;
    let mut all = ask.api.view.permissions();
    all.retain(|it| wanted(ask, &it.vhost, &it.user));
    Ok(all)
}

async fn all(ask: Ask<Administrator>) -> Reply {
    let (found, columns) = (found(&ask)?, ask.query.columns());
    Ok(json_of(
        &found.iter().map(|it| columns.cut(show(it))).collect(),
    ))
}

async fn one(ask: Ask<Administrator>) -> Reply {
    let found = found(&ask)?;
    let shown = show(found.first().ok_or(Refusal::NotFound)?);
    Ok(json_of(&ask.query.columns().cut(shown)))
}

async fn set(ask: Ask<Administrator>, fields: Fields) -> Reply {
    check_ends(&ask)?;
    fields.require(&["configure", "write", "read"])?;
    let was_there = !found(&ask)?.is_empty();
    let permission = json!({
        "vhost": ask.name("vhost"),
        "user": ask.name("user"),
        "configure": fields.get("configure"),
        "write": fields.get("write"),
        "read": fields.get("read"),
    });
    change::import(&ask.api, &json!({"permissions": [permission]})).await?;
    Ok(change::set(was_there))
}

async fn take(ask: Ask<Administrator>) -> Reply {
    let view = &ask.api.view;
    change::taken(view, view.forbid(ask.name("vhost"), ask.name("user"))).await
}

fn show_topics(it: &PermittedTopics) -> Value {
    json!({
        "user": it.user,
        "vhost": it.vhost,
        "exchange": it.permission.exchange,
        "write": it.permission.write,
        "read": it.permission.read,
    })
}

fn found_topics(ask: &Ask<Administrator>) -> Result<Vec<PermittedTopics>, Refusal> {
    check_names(ask)?;
    let mut all = ask.api.view.topic_permissions();
    all.retain(|it| wanted(ask, &it.vhost, &it.user));
    Ok(all)
}

async fn all_topics(ask: Ask<Administrator>) -> Reply {
    let (found, columns) = (found_topics(&ask)?, ask.query.columns());
    Ok(json_of(
        &found
            .iter()
            .map(|it| columns.cut(show_topics(it)))
            .collect(),
    ))
}

/// rabbitmq: a list, of one for each exchange
async fn topics(ask: Ask<Administrator>) -> Reply {
    let found = found_topics(&ask)?;
    if found.is_empty() {
        return Err(Refusal::NotFound);
    }
    Ok(json_of(&found.iter().map(show_topics).collect()))
}

async fn set_topics(ask: Ask<Administrator>, fields: Fields) -> Reply {
    check_ends(&ask)?;
    fields.require(&["exchange", "write", "read"])?;
    let exchange = fields.text("exchange")?.unwrap_or_default();
    let there = found_topics(&ask)?;
    let was_there = there.iter().any(|it| it.permission.exchange == exchange);
    let permission = json!({
        "vhost": ask.name("vhost"),
        "user": ask.name("user"),
        "exchange": exchange,
        "write": fields.get("write"),
        "read": fields.get("read"),
    });
    change::import(&ask.api, &json!({"topic_permissions": [permission]})).await?;
    Ok(change::set(was_there))
}

/// Those on one exchange, or all.
async fn take_topics(ask: Ask<Administrator>) -> Reply {
    let found = found_topics(&ask)?;
    let only = Some(ask.exchange()).filter(|_| !ask.name("exchange").is_empty());
    let view = &ask.api.view;
    let taken = found
        .iter()
        .filter(|it| only.is_none_or(|only| it.permission.exchange == only));
    let points =
        taken.filter_map(|it| view.forbid_topics(&it.vhost, &it.user, &it.permission.exchange));
    change::taken(view, points.max()).await
}
