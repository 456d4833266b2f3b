//! Runtime parameters: those that mean nothing here are kept and shown, and global ones are set.

use axum::routing::get;
use serde_json::{Value, json};

use super::change;
use crate::api::Table;
use crate::door::{self, Policymaker};
use crate::http::answer::{Refusal, json_of};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view::Parameter;

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/parameters", get(list))
        .route("/api/parameters/{component}", get(list))
        .route("/api/parameters/{component}/{vhost}", get(list))
        .route(
            "/api/parameters/{component}/{vhost}/{name}",
            get(one).put(set).delete(delete),
        )
        .route("/api/global-parameters", get(list_global))
        .route(
            "/api/global-parameters/{name}",
            get(one_global).put(set_global).delete(delete_global),
        )
}

fn show(it: &Parameter) -> Value {
    match &it.vhost {
        Some(vhost) => json!({
            "vhost": vhost,
            "component": it.component,
            "name": it.name,
            "value": it.value,
        }),
        None => json!({"name": it.name, "value": it.value}),
    }
}

/// Those of virtual hosts that are asked for and that the caller may see.
fn found(ask: &Ask<Policymaker>) -> Vec<Parameter> {
    let view = &ask.api.view;
    let (component, name) = (ask.name("component"), ask.name("name"));
    let wanted = |it: &Parameter| {
        it.vhost.as_ref().is_some_and(|vhost| {
            let may_see = door::check_vhost(view, &ask.caller.user, vhost).is_ok();
            may_see && ask.vhost().is_none_or(|wanted| wanted == vhost)
        }) && [it.component.as_str(), ""].contains(&component)
            && [it.name.as_str(), ""].contains(&name)
    };
    let mut all = view.parameters();
    all.retain(wanted);
    all
}

async fn list(ask: Ask<Policymaker>) -> Reply {
    if ask
        .vhost()
        .is_some_and(|vhost| !ask.api.view.has_vhost(vhost))
    {
        return Err(Refusal::NotFound);
    }
    let columns = ask.query.columns();
    let shown = found(&ask).iter().map(|it| columns.cut(show(it))).collect();
    Ok(json_of(&shown))
}

async fn one(ask: Ask<Policymaker>) -> Reply {
    let found = found(&ask);
    Ok(json_of(&show(found.first().ok_or(Refusal::NotFound)?)))
}

/// There is nothing here that would heed one.
async fn set(ask: Ask<Policymaker>, fields: Fields) -> Reply {
    if !ask.api.view.has_vhost(ask.name("vhost")) {
        return Err(Refusal::NotFound);
    }
    fields.require(&["value"])?;
    let component = ask.name("component");
    let hint = match component {
        "shovel" => ": there are no shovels here",
        "federation" | "federation-upstream" | "federation-upstream-set" => {
            ": there is no federation here"
        }
        "policy" | "operator_policy" => ": set it by /api/policies or /api/operator-policies",
        "vhost-limits" => ": set them by /api/vhost-limits",
        _ => "",
    };
    // rabbitmq: the text up to there
    Err(Refusal::bad(format!(
        "Validation failed\n\ncomponent {component} not found\n{hint}"
    )))
}

async fn delete(ask: Ask<Policymaker>) -> Reply {
    let found = found(&ask);
    let it = found.first().ok_or(Refusal::NotFound)?;
    let view = &ask.api.view;
    change::taken(
        view,
        view.delete_parameter(it.vhost.as_deref(), &it.component, &it.name),
    )
    .await
}

fn global(ask: &Ask<Policymaker>) -> Vec<Parameter> {
    let mut all = ask.api.view.parameters();
    let name = ask.name("name");
    all.retain(|it| it.vhost.is_none() && [it.name.as_str(), ""].contains(&name));
    all
}

async fn list_global(ask: Ask<Policymaker>) -> Reply {
    Ok(json_of(&global(&ask).iter().map(show).collect()))
}

async fn one_global(ask: Ask<Policymaker>) -> Reply {
    let found = global(&ask);
    Ok(json_of(&show(found.first().ok_or(Refusal::NotFound)?)))
}

async fn set_global(ask: Ask<Policymaker>, fields: Fields) -> Reply {
    fields.require(&["value"])?;
    let was_there = !global(&ask).is_empty();
    let parameter = json!({"name": ask.name("name"), "value": fields.get("value")});
    change::import(&ask.api, &json!({"global_parameters": [parameter]})).await?;
    Ok(change::set(was_there))
}

async fn delete_global(ask: Ask<Policymaker>) -> Reply {
    let view = &ask.api.view;
    change::taken(view, view.delete_parameter(None, "", ask.name("name"))).await
}
