//! Users.

use axum::routing::{get, post};
use serde_json::{Value, json};

use super::change;
use crate::api::Table;
use crate::door::Administrator;
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::{User, View};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/users", get(users))
        .route("/api/users/without-permissions", get(without_permissions))
        .route("/api/users/bulk-delete", post(delete_many))
        .route("/api/users/{user}", get(user).put(set).delete(delete))
}

async fn users(ask: Ask<Administrator>) -> Reply {
    list(&ask, ask.api.view.users())
}

async fn without_permissions(ask: Ask<Administrator>) -> Reply {
    let view = &ask.api.view;
    let permitted = view.permissions();
    let mut users = view.users();
    users.retain(|user| {
        permitted
            .iter()
            .all(|permitted| permitted.user != user.name)
    });
    list(&ask, users)
}

fn list(ask: &Ask<Administrator>, mut users: Vec<User>) -> Reply {
    users.sort_by(|one, other| one.name.cmp(&other.name));
    let columns = ask.query.columns();
    let shown = users.iter().map(|user| columns.cut(show(user)));
    Ok(json_of(&shown.collect()))
}

async fn user(ask: Ask<Administrator>) -> Reply {
    let user = find(&ask.api.view, ask.name("user"))?;
    Ok(json_of(&ask.query.columns().cut(show(&user))))
}

fn find(view: &View, name: &str) -> Result<User, Refusal> {
    view.user(name).ok_or(Refusal::NotFound)
}

fn show(user: &User) -> Value {
    json!({
        "name": user.name,
        "password_hash": user.password_hash,
        "hashing_algorithm": user.hashing_algorithm,
        "tags": user.tags,
        "limits": user.limits,
    })
}

async fn set(ask: Ask<Administrator>, fields: Fields) -> Reply {
    let before = ask.api.view.user(ask.name("user"));
    let tags = fields.get("tags").or(fields.get("administrator"));
    let mut user = json!({
        "name": ask.name("user"),
        "tags": tags.ok_or_else(|| Refusal::bad("tags_not_present"))?,
        "limits": before.as_ref().map(|before| before.limits).unwrap_or_default(),
    });
    for name in ["password", "password_hash", "hashing_algorithm"] {
        if let Some(value) = fields.get(name) {
            user[name] = value.clone();
        }
    }
    change::import(&ask.api, &json!({"users": [user]})).await?;
    Ok(change::set(before.is_some()))
}

async fn delete(ask: Ask<Administrator>) -> Reply {
    let view = &ask.api.view;
    change::taken(view, view.delete_user(ask.name("user"))).await
}

/// All of them, or none.
async fn delete_many(ask: Ask<Administrator>, fields: Fields) -> Reply {
    let names = fields.get("users").and_then(Value::as_array);
    let names = names.ok_or_else(|| Refusal::bad("[{key_missing,users}]"))?;
    let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
    let names = names.ok_or_else(|| Refusal::bad("users must be a list of names"))?;
    let view = &ask.api.view;
    for name in &names {
        if view.user(name).is_none() {
            return Err(Refusal::bad(format!("no_such_user {name}")));
        }
    }
    let points = names.iter().filter_map(|name| view.delete_user(name));
    if let Some(latest) = points.max() {
        change::durable(view, latest).await?;
    }
    Ok(no_content())
}
