//! Policies, of users and of operators.

use axum::routing::get;
use serde_json::{Value, json};

use super::change;
use crate::api::Table;
use crate::door::{self, Administrator, Level, Policymaker};
use crate::http::answer::{Refusal, json_of};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::{PolicyKind, PolicySpec};

pub(super) fn table() -> Table {
    const USERS: PolicyKind = PolicyKind::User;
    const OPERATORS: PolicyKind = PolicyKind::Operator;
    Table::new()
        .route("/api/policies", get(async |ask| list(ask, USERS)))
        .route("/api/policies/{vhost}", get(async |ask| list(ask, USERS)))
        .route(
            "/api/policies/{vhost}/{name}",
            get(async |ask: Ask<Policymaker>| one(&ask, USERS))
                .put(async |ask: Ask<Policymaker>, fields| set(ask, fields, USERS).await)
                .delete(async |ask: Ask<Policymaker>| delete(ask, USERS).await),
        )
        .route(
            "/api/operator-policies",
            get(async |ask| list(ask, OPERATORS)),
        )
        .route(
            "/api/operator-policies/{vhost}",
            get(async |ask| list(ask, OPERATORS)),
        )
        .route(
            "/api/operator-policies/{vhost}/{name}",
            get(async |ask: Ask<Policymaker>| one(&ask, OPERATORS))
                .put(async |ask: Ask<Administrator>, fields| set(ask, fields, OPERATORS).await)
                .delete(async |ask: Ask<Administrator>| delete(ask, OPERATORS).await),
        )
}

fn show(policy: &PolicySpec) -> Value {
    json!({
        "vhost": policy.vhost,
        "name": policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": policy.definition,
        "priority": policy.priority,
    })
}

/// Those of the virtual host that the path names, or of all that the caller may see.
fn list(ask: Ask<Policymaker>, kind: PolicyKind) -> Reply {
    let view = &ask.api.view;
    let mut found = view.policies(kind);
    match ask.vhost() {
        Some(vhost) if !view.has_vhost(vhost) => return Err(Refusal::NotFound),
        Some(vhost) => found.retain(|policy| policy.vhost == vhost),
        None => {
            let user = &ask.caller.user;
            found.retain(|policy| door::check_vhost(view, user, &policy.vhost).is_ok());
        }
    }
    found.sort_by(|one, other| (&one.vhost, &one.name).cmp(&(&other.vhost, &other.name)));
    let columns = ask.query.columns();
    let shown = found.iter().map(|policy| columns.cut(show(policy)));
    Ok(json_of(&shown.collect()))
}

fn find<L: Level>(ask: &Ask<L>, kind: PolicyKind) -> Option<PolicySpec> {
    let (vhost, name) = (ask.name("vhost"), ask.name("name"));
    let mut policies = ask.api.view.policies(kind).into_iter();
    policies.find(|policy| policy.vhost == vhost && policy.name == name)
}

fn one(ask: &Ask<Policymaker>, kind: PolicyKind) -> Reply {
    let policy = find(ask, kind).ok_or(Refusal::NotFound)?;
    Ok(json_of(&ask.query.columns().cut(show(&policy))))
}

async fn set<L: Level>(ask: Ask<L>, fields: Fields, kind: PolicyKind) -> Reply {
    let (vhost, name) = (ask.name("vhost"), ask.name("name"));
    if !ask.api.view.has_vhost(vhost) {
        return Err(Refusal::NotFound);
    }
    fields.require(&["pattern", "definition"])?;
    let was_there = find(&ask, kind).is_some();
    let mut policy = json!({
        "pattern": fields.get("pattern"),
        "definition": fields.get("definition"),
        "priority": fields.get("priority").cloned().unwrap_or(Value::from(0)),
        "apply-to": fields.get("apply-to").cloned().unwrap_or(Value::from("all")),
    });
    let definitions = match kind {
        PolicyKind::User => {
            policy["vhost"] = Value::from(vhost);
            policy["name"] = Value::from(name);
            json!({"policies": [policy]})
        }
        PolicyKind::Operator => json!({"parameters": [{
            "vhost": vhost,
            "component": kind.component(),
            "name": name,
            "value": policy,
        }]}),
    };
    change::import(&ask.api, &definitions).await?;
    Ok(change::set(was_there))
}

async fn delete<L: Level>(ask: Ask<L>, kind: PolicyKind) -> Reply {
    let found = find(&ask, kind).ok_or(Refusal::NotFound)?;
    let api = std::sync::Arc::clone(&ask.api);
    let point = api
        .desk
        .work(move || ask.api.view.delete_policy(kind, &found))
        .await?;
    change::taken(&api.view, Some(point)).await
}
