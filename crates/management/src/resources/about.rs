//! What the broker says of itself and of whoever asks, and what RabbitMQ's pages and tools ask for at their start.

use axum::routing::{get, post, put};
use serde_json::{Value, json};

use crate::api::Table;
use crate::door::Administrator;
use crate::http::answer::{Answer, Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::view;

/// rabbitmq: what can be turned on, all of which is so here; RabbitMQ's names of 3.13
const FEATURE_FLAGS: &[(&str, &str)] = &[
    (
        "classic_mirrored_queue_version",
        "Support setting version for classic mirrored queues",
    ),
    (
        "classic_queue_type_delivery_support",
        "Bug fix for classic queue deliveries using mixed versions",
    ),
    (
        "direct_exchange_routing_v2",
        "v2 direct exchange routing implementation",
    ),
    (
        "drop_unroutable_metric",
        "Count unroutable publishes to be dropped in stats",
    ),
    (
        "empty_basic_get_metric",
        "Count AMQP `basic.get` on empty queues in stats",
    ),
    ("feature_flags_v2", "Feature flags subsystem V2"),
    (
        "implicit_default_bindings",
        "Default bindings are now implicit, instead of being stored in the database",
    ),
    (
        "listener_records_in_ets",
        "Store listener records in ETS instead of Mnesia",
    ),
    ("maintenance_mode_status", "Maintenance mode status"),
    ("message_containers", "Message containers"),
    ("quorum_queue", "Support queues of type `quorum`"),
    (
        "restart_streams",
        "Support for restarting streams with optional preferred next leader argument",
    ),
    ("stream_filtering", "Support for stream filtering"),
    ("stream_queue", "Support queues of type `stream`"),
    (
        "stream_sac_coordinator_unblock_group",
        "Bug fix to unblock a group of consumers in a super stream partition",
    ),
    (
        "stream_single_active_consumer",
        "Single active consumer for streams",
    ),
    (
        "stream_update_config_command",
        "A new internal command that is used to update streams as part of a policy",
    ),
    (
        "tracking_records_in_ets",
        "Store tracking records in ETS instead of Mnesia",
    ),
    (
        "user_limits",
        "Configure connection and channel limits for a user",
    ),
    (
        "virtual_host_metadata",
        "Virtual host metadata (description, tags, etc)",
    ),
];

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/whoami", get(whoami))
        .route("/api/version", get(version))
        .route("/api/extensions", get(extensions))
        .route("/api/auth", get(auth))
        .route("/api/auth/hash_password/{password}", get(hash_password))
        .route("/api/login", post(login))
        .route("/api/feature-flags", get(feature_flags))
        .route("/api/feature-flags/{name}/enable", put(enable))
        .route("/api/deprecated-features", get(nothing))
        .route("/api/deprecated-features/used", get(nothing))
}

async fn whoami(ask: Ask) -> Reply {
    let user = &ask.caller.user;
    let shown = json!({"name": user.name, "tags": user.tags});
    Ok(json_of(&ask.query.columns().cut(shown)))
}

async fn version(ask: Ask) -> Reply {
    Ok(json_of(&Value::from(ask.api.view.names().version)))
}

/// rabbitmq: its page loads these, one of each plugin
async fn extensions(_ask: Ask) -> Reply {
    Ok(json_of(&json!([{"javascript": "dispatcher.js"}])))
}

/// How to log in, which has to be known before that: by name and password alone.
async fn auth() -> Answer {
    json_of(
        &json!({"oauth_enabled": false, "enable_uaa": false, "uaa_client_id": "", "uaa_location": ""}),
    )
}

async fn hash_password(ask: Ask<Administrator>) -> Reply {
    let hash = view::hash_password(ask.name("password").as_bytes());
    let hash = hash.map_err(Refusal::Unavailable)?;
    Ok(json_of(&json!({"ok": hash})))
}

/// Whoever gets as far as this has said who it is, in the header that each request has.
async fn login(_ask: Ask) -> Reply {
    Ok(json_of(&Value::from("ok")))
}

async fn feature_flags(_ask: Ask) -> Reply {
    let flags = FEATURE_FLAGS.iter().map(|(name, description)| {
        json!({
            "name": name,
            "desc": description,
            "doc_url": "",
            "state": "enabled",
            "stability": "required",
            "provided_by": "rabbit",
        })
    });
    Ok(json_of(&flags.collect()))
}

async fn enable(ask: Ask<Administrator>, _fields: Fields) -> Reply {
    let name = ask.name("name");
    if name == "all" || FEATURE_FLAGS.iter().any(|(known, _)| *known == name) {
        return Ok(no_content());
    }
    Err(Refusal::bad("unsupported"))
}

async fn nothing(_ask: Ask) -> Reply {
    Ok(json_of(&json!([])))
}
