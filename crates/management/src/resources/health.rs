//! Whether all is well, as probes and load balancers ask it: 200 if so, 503 with a reason if not.

use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

use crate::api::Table;
use crate::http::answer::{Answer, Refusal, json_of};
use crate::http::ask::{Ask, Reply};

pub(super) fn table() -> Table {
    const CHECKS: &str = "/api/health/checks";
    let at = |check: &str| format!("{CHECKS}/{check}");
    let leaders = |which: &str| at(&format!("quorum-queues-without-elected-leaders/{which}"));
    Table::new()
        .route("/api/aliveness-test/{vhost}", get(aliveness))
        .route("/api/healthchecks/node", get(node))
        .route("/api/healthchecks/node/{node}", get(node))
        .route(&at("alarms"), get(alarms))
        .route(&at("local-alarms"), get(alarms))
        .route(&at("is-in-service"), get(well))
        .route(&at("ready-to-serve-clients"), get(well))
        .route(&at("virtual-hosts"), get(well))
        .route(&at("below-node-connection-limit"), get(well))
        .route(&at("metadata-store/initialized"), get(well))
        .route(&at("metadata-store/initialized/with-data"), get(well))
        .route(&at("reached-target-cluster-size"), get(well))
        .route(&at("node-is-mirror-sync-critical"), get(alone))
        .route(&at("node-is-quorum-critical"), get(alone))
        .route(&leaders("all-vhosts"), get(well))
        .route(&leaders("all-vhosts/pattern/{pattern}"), get(well))
        .route(&leaders("vhost/{vhost}"), get(of_vhost))
        .route(&leaders("vhost/{vhost}/pattern/{pattern}"), get(of_vhost))
        .route(&at("port-listener/{port}"), get(port))
        .route(&at("protocol-listener/{protocol}"), get(protocol))
        .route(
            &at("certificate-expiration/{within}/{unit}"),
            get(certificates),
        )
}

fn ok() -> Answer {
    json_of(&json!({"status": "ok"}))
}

fn failed(said: Value) -> Answer {
    let mut answer = json_of(&said);
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// What holds wherever the broker answers at all: it is one node, and has read all it has before it listens.
async fn well(_ask: Ask) -> Reply {
    Ok(ok())
}

/// rabbitmq: without others nobody is critical
async fn alone(_ask: Ask) -> Reply {
    Ok(json_of(
        &json!({"status": "ok", "reason": "single node cluster"}),
    ))
}

async fn of_vhost(ask: Ask) -> Reply {
    if ask.api.view.has_vhost(ask.name("vhost")) {
        Ok(ok())
    } else {
        Err(Refusal::NotFound)
    }
}

/// Whether publishers are held up in a virtual host that the caller may see. rabbitmq: exactly this text is looked for
async fn aliveness(ask: Ask) -> Reply {
    if !ask.api.view.has_vhost(ask.name("vhost")) {
        return Err(Refusal::NotFound);
    }
    node(ask).await
}

async fn node(ask: Ask) -> Reply {
    Ok(match ask.api.view.alarm() {
        None => ok(),
        Some(reason) => failed(json!({"status": "failed", "reason": reason})),
    })
}

async fn alarms(ask: Ask) -> Reply {
    let Some(reason) = ask.api.view.alarm() else {
        return Ok(ok());
    };
    let node = ask.api.view.names().cluster;
    Ok(failed(json!({
        "status": "failed",
        "reason": format!("There are alarms in effect: publishers are blocked, {reason}"),
        "alarms": [{"node": node, "resource": reason}],
    })))
}

async fn port(ask: Ask) -> Reply {
    let wanted: Result<u16, _> = ask.name("port").parse();
    let wanted = wanted.map_err(|_| Refusal::bad("Invalid port"))?;
    let ports = ask.api.listeners.iter().map(|it| it.address.port());
    let ports: Vec<u16> = ports.collect();
    Ok(if ports.contains(&wanted) {
        json_of(&json!({"status": "ok", "port": wanted}))
    } else {
        failed(json!({
            "status": "failed",
            "reason": "No active listener",
            "missing": wanted,
            "ports": ports,
        }))
    })
}

async fn protocol(ask: Ask) -> Reply {
    // rabbitmq: AMQP goes by any of its names
    let wanted = match ask.name("protocol") {
        "amqp091" | "amqp0.9.1" => "amqp",
        other => other,
    };
    let mut protocols: Vec<&str> = ask.api.listeners.iter().map(|it| it.protocol).collect();
    protocols.dedup();
    Ok(if protocols.contains(&wanted) {
        json_of(&json!({"status": "ok", "protocol": wanted}))
    } else {
        failed(json!({
            "status": "failed",
            "reason": "No active listener",
            "missing": wanted,
            "protocols": protocols,
        }))
    })
}

/// There are no certificates that could expire.
async fn certificates(ask: Ask) -> Reply {
    if !["days", "weeks", "months", "years"].contains(&ask.name("unit")) {
        return Err(Refusal::bad(
            "Time unit not recognised. Supported units: days, weeks, months, years.",
        ));
    }
    if ask.name("within").parse::<u32>().is_err() {
        return Err(Refusal::bad("Invalid expiration period"));
    }
    Ok(ok())
}
