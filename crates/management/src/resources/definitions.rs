//! Definitions: all that is durable but messages, out and in, in RabbitMQ's form.

use axum::routing::get;
use serde_json::{Value, json};

use super::{change, vhosts};
use crate::api::{Api, Table};
use crate::door::Administrator;
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Reply};
use crate::http::table;
use crate::http::upload::Uploaded;
use crate::view::{Ends, PolicyKind, VhostLimits, VhostView};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/definitions", get(all).post(import))
        .route("/api/all-configuration", get(all).post(import))
        .route("/api/definitions/{vhost}", get(of_vhost).post(import_vhost))
}

async fn all(ask: Ask<Administrator>) -> Reply {
    let api = std::sync::Arc::clone(&ask.api);
    let shown = ask.api.desk.work(move || {
        let mut shown = head(&api);
        for (name, part) in house(&api).into_iter().chain(contents(&api, None)) {
            shown[name] = part;
        }
        shown
    });
    Ok(json_of(&shown.await?))
}

async fn of_vhost(ask: Ask<Administrator>) -> Reply {
    let vhost = ask
        .api
        .view
        .vhost(ask.name("vhost"))
        .ok_or(Refusal::NotFound)?;
    let api = std::sync::Arc::clone(&ask.api);
    let shown = ask.api.desk.work(move || {
        let mut shown = head(&api);
        for (name, mut part) in contents(&api, Some(vhost)) {
            // rabbitmq: what is exported of one can be imported into another
            for item in part.as_array_mut().into_iter().flatten() {
                item.as_object_mut().map(|item| item.remove("vhost"));
            }
            shown[name] = part;
        }
        shown
    });
    Ok(json_of(&shown.await?))
}

fn head(api: &Api) -> Value {
    let names = api.view.names();
    json!({
        "rabbit_version": names.version,
        "rabbitmq_version": names.version,
        "product_name": "Leveret",
        "product_version": env!("CARGO_PKG_VERSION"),
    })
}

/// What concerns more than one virtual host.
fn house(api: &Api) -> [(&'static str, Value); 5] {
    let view = &api.view;
    let users = view.users();
    let users = users.iter().map(|user| {
        json!({
            "name": user.name,
            "password_hash": user.password_hash,
            "hashing_algorithm": user.hashing_algorithm,
            "tags": user.tags,
            "limits": user.limits,
        })
    });
    let vhosts = view.all_vhosts();
    let vhosts = vhosts.iter().map(|vhost| {
        let metadata = vhosts::metadata(vhost);
        let mut shown = json!({"name": vhost.name(), "metadata": metadata});
        for field in ["description", "tags", "default_queue_type"] {
            if let Some(value) = metadata.get(field) {
                shown[field] = value.clone();
            }
        }
        shown
    });
    let permissions = view.permissions();
    let permissions = permissions.iter().map(|it| {
        json!({
            "user": it.user,
            "vhost": it.vhost,
            "configure": it.permission.configure,
            "write": it.permission.write,
            "read": it.permission.read,
        })
    });
    let topics = view.topic_permissions();
    let topics = topics.iter().map(|it| {
        json!({
            "user": it.user,
            "vhost": it.vhost,
            "exchange": it.permission.exchange,
            "write": it.permission.write,
            "read": it.permission.read,
        })
    });
    let global = view.parameters();
    let global = global.iter().filter(|it| it.vhost.is_none());
    let global = global.map(|it| json!({"name": it.name, "value": it.value}));
    [
        ("users", users.collect()),
        ("vhosts", vhosts.collect()),
        ("permissions", permissions.collect()),
        ("topic_permissions", topics.collect()),
        ("global_parameters", global.collect()),
    ]
}

/// What is in one virtual host, or in all.
fn contents(api: &Api, only: Option<VhostView>) -> [(&'static str, Value); 5] {
    let view = &api.view;
    let vhosts = only.map_or_else(|| view.all_vhosts(), |only| vec![only]);
    let is_wanted = |name: &str| vhosts.iter().any(|vhost| vhost.name() == name);
    let mut parameters: Vec<Value> = Vec::new();
    for it in view.parameters() {
        if let Some(vhost) = it.vhost.filter(|vhost| is_wanted(vhost)) {
            parameters.push(json!({
                "vhost": vhost,
                "component": it.component,
                "name": it.name,
                "value": it.value,
            }));
        }
    }
    for it in view.policies(PolicyKind::Operator) {
        if is_wanted(&it.vhost) {
            parameters.push(json!({
                "vhost": it.vhost,
                "component": PolicyKind::Operator.component(),
                "name": it.name,
                "value": {
                    "pattern": it.pattern,
                    "apply-to": it.apply_to,
                    "definition": it.definition,
                    "priority": it.priority,
                },
            }));
        }
    }
    for vhost in &vhosts {
        let limits = view.vhost_limits(vhost.name());
        if limits != VhostLimits::default() {
            parameters.push(json!({
                "vhost": vhost.name(),
                "component": "vhost-limits",
                "name": "limits",
                "value": limits,
            }));
        }
    }
    let mut policies = view.policies(PolicyKind::User);
    policies.retain(|policy| is_wanted(&policy.vhost));
    let policies = policies.iter().map(|it| {
        json!({
            "vhost": it.vhost,
            "name": it.name,
            "pattern": it.pattern,
            "apply-to": it.apply_to,
            "definition": it.definition,
            "priority": it.priority,
        })
    });
    [
        ("parameters", Value::Array(parameters)),
        ("policies", policies.collect()),
        ("queues", vhosts.iter().flat_map(queues).collect()),
        (
            "exchanges",
            vhosts.iter().flat_map(|it| exchanges(api, it)).collect(),
        ),
        ("bindings", vhosts.iter().flat_map(bindings).collect()),
    ]
}

/// rabbitmq: but for those that belong to one connection
fn queues(vhost: &VhostView) -> Vec<Value> {
    let mut queues: Vec<_> = vhost.queues().collect();
    queues.retain(|queue| queue.identity().exclusive.is_none());
    queues.sort_by(|one, other| one.name().cmp(other.name()));
    let show = |queue: &crate::view::QueueView| {
        let identity = queue.identity();
        json!({
            "name": identity.name,
            "vhost": vhost.name(),
            "durable": identity.durable,
            "auto_delete": identity.auto_delete,
            "arguments": table::table(&identity.arguments),
        })
    };
    queues.iter().map(show).collect()
}

/// rabbitmq: but for its own
fn exchanges(api: &Api, vhost: &VhostView) -> Vec<Value> {
    let mut names = vhost.exchange_names();
    names.retain(|name| !name.is_empty() && !name.starts_with("amq."));
    names.sort();
    let show = |name: &String| {
        let exchange = api.view.exchange(vhost, name)?.exchange;
        Some(json!({
            "name": exchange.name,
            "vhost": vhost.name(),
            "type": exchange.kind.name(),
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": table::table(&exchange.arguments),
        }))
    };
    names.iter().filter_map(show).collect()
}

/// Those that were made, between what is exported too.
fn bindings(vhost: &VhostView) -> Vec<Value> {
    let mut made = vhost.bindings(Ends::All);
    made.retain(|binding| {
        let is_own = !binding.to_exchange
            && vhost
                .queue(&binding.destination)
                .is_some_and(|queue| queue.identity().exclusive.is_some());
        !binding.source.is_empty() && !is_own
    });
    made.sort_by(|one, other| {
        (&one.source, &one.destination, &one.routing_key).cmp(&(
            &other.source,
            &other.destination,
            &other.routing_key,
        ))
    });
    let show = |binding: &crate::view::BindingFacts| {
        json!({
            "source": binding.source,
            "vhost": vhost.name(),
            "destination": binding.destination,
            "destination_type": if binding.to_exchange { "exchange" } else { "queue" },
            "routing_key": table::text(&binding.routing_key),
            "arguments": table::table(&binding.arguments),
        })
    };
    made.iter().map(show).collect()
}

async fn import(ask: Ask<Administrator>, Uploaded(body): Uploaded) -> Reply {
    change::import_text(&ask.api, body).await?;
    Ok(no_content())
}

/// Everything in the body goes into the virtual host that the path names, whatever it says.
async fn import_vhost(ask: Ask<Administrator>, Uploaded(body): Uploaded) -> Reply {
    let name = ask.name("vhost");
    if !ask.api.view.has_vhost(name) {
        return Err(Refusal::NotFound);
    }
    let text = if body.trim_ascii().is_empty() {
        &b"{}"[..]
    } else {
        &body
    };
    let Ok(Value::Object(given)) = serde_json::from_slice(text) else {
        return Err(Refusal::bad("not_json"));
    };
    let mut definitions = json!({});
    for part in ["parameters", "policies", "queues", "exchanges", "bindings"] {
        let Some(mut items) = given.get(part).cloned() else {
            continue;
        };
        for item in items.as_array_mut().into_iter().flatten() {
            if item.is_object() {
                item["vhost"] = Value::from(name);
            }
        }
        definitions[part] = items;
    }
    change::import(&ask.api, &definitions).await?;
    Ok(no_content())
}
