//! Limits of virtual hosts and of users.

use axum::routing::{get, put};
use serde_json::{Value, json};

use super::change;
use crate::api::Table;
use crate::door::Administrator;
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::{UserLimits, VhostLimits};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/vhost-limits", get(of_vhosts))
        .route("/api/vhost-limits/{vhost}", get(of_vhosts))
        .route(
            "/api/vhost-limits/{vhost}/{name}",
            put(limit_vhost).delete(free_vhost),
        )
        .route("/api/user-limits", get(of_users))
        .route("/api/user-limits/{user}", get(of_users))
        .route(
            "/api/user-limits/{user}/{name}",
            put(limit_user).delete(free_user),
        )
}

async fn of_vhosts(ask: Ask) -> Reply {
    let view = &ask.api.view;
    let mut vhosts = match ask.vhost() {
        Some(name) => vec![view.vhost(name).ok_or(Refusal::NotFound)?],
        None => view.vhosts_of(&ask.caller.user),
    };
    vhosts.sort_by(|one, other| one.name().cmp(other.name()));
    let limits = vhosts
        .iter()
        .map(|vhost| (vhost.name(), view.vhost_limits(vhost.name())));
    let limits = limits.filter(|(_, limits)| *limits != VhostLimits::default());
    let shown = limits.map(|(name, limits)| json!({"vhost": name, "value": limits}));
    Ok(json_of(&shown.collect()))
}

async fn of_users(ask: Ask<Administrator>) -> Reply {
    let view = &ask.api.view;
    let mut users = match ask.name("user") {
        "" => view.users(),
        name => vec![view.user(name).ok_or(Refusal::NotFound)?],
    };
    users.sort_by(|one, other| one.name.cmp(&other.name));
    let limited = users
        .iter()
        .filter(|user| user.limits != UserLimits::default());
    let shown = limited.map(|user| json!({"user": user.name, "value": user.limits}));
    Ok(json_of(&shown.collect()))
}

/// The limit that is to be set. rabbitmq: a negative one is none
fn value(fields: &Fields) -> Result<Option<u64>, Refusal> {
    fields.require(&["value"])?;
    match fields.get("value").and_then(Value::as_i64) {
        Some(value) => Ok(u64::try_from(value).ok()),
        None => Err(Refusal::bad("value must be a whole number")),
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::bad(format!(
        "Validation failed\n\nUnrecognised terms [\"{name}\"] in limits\n"
    ))
}

async fn limit_vhost(ask: Ask<Administrator>, fields: Fields) -> Reply {
    change_vhost(&ask, value(&fields)?).await
}

async fn free_vhost(ask: Ask<Administrator>) -> Reply {
    change_vhost(&ask, None).await
}

async fn change_vhost(ask: &Ask<Administrator>, to: Option<u64>) -> Reply {
    let (view, vhost) = (&ask.api.view, ask.name("vhost"));
    if !view.has_vhost(vhost) {
        return Err(Refusal::NotFound);
    }
    let mut limits = view.vhost_limits(vhost);
    match ask.name("name") {
        "max-connections" => limits.max_connections = to,
        "max-queues" => limits.max_queues = to,
        other => return Err(unknown(other)),
    }
    let point = view.set_vhost_limits(vhost, limits).map_err(Refusal::bad)?;
    change::durable(view, point).await?;
    Ok(no_content())
}

async fn limit_user(ask: Ask<Administrator>, fields: Fields) -> Reply {
    change_user(&ask, value(&fields)?).await
}

async fn free_user(ask: Ask<Administrator>) -> Reply {
    change_user(&ask, None).await
}

async fn change_user(ask: &Ask<Administrator>, to: Option<u64>) -> Reply {
    let (view, name) = (&ask.api.view, ask.name("user"));
    let mut limits = view.user(name).ok_or(Refusal::NotFound)?.limits;
    match ask.name("name") {
        "max-connections" => limits.max_connections = to,
        "max-channels" => limits.max_channels = to,
        other => return Err(unknown(other)),
    }
    let point = view.set_user_limits(name, limits).map_err(Refusal::bad)?;
    change::durable(view, point).await?;
    Ok(no_content())
}
