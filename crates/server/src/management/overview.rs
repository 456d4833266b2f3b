//! The broker as a whole.

use leveret_broker::users::User;
use serde_json::{Value, json};

use super::{Management, queues};

/// `/api/overview`. Numbers of messages, queues and exchanges are those that the user may see.
pub(super) fn show(management: &Management, user: &User) -> Value {
    let broker = &management.shared.broker;
    let config = broker.config();
    let mut vhosts = broker.vhosts();
    if !user.is_monitor() {
        vhosts.retain(|vhost| broker.may_enter(vhost.name(), &user.name));
    }
    let (mut queue_count, mut consumers, mut exchanges) = (0, 0, 0);
    let (mut messages, mut ready, mut unacknowledged) = (0, 0, 0);
    for vhost in &vhosts {
        exchanges += vhost.exchange_names().len();
        for queue in vhost.queue_handles() {
            let counts = queue.counts();
            queue_count += 1;
            consumers += u64::from(counts.consumers);
            messages += queues::messages(&counts);
            ready += counts.ready;
            unacknowledged += counts.unacknowledged;
        }
    }
    let mut shown = json!({
        "product_name": "Leveret",
        "product_version": env!("CARGO_PKG_VERSION"),
        "rabbitmq_version": config.version,
        "management_version": config.version,
        "cluster_name": config.cluster_name,
        "node": config.cluster_name,
        "disable_stats": false,
        "enable_queue_totals": false,
        "queue_totals": {
            "messages": messages,
            "messages_ready": ready,
            "messages_unacknowledged": unacknowledged,
        },
        "object_totals": {
            "queues": queue_count,
            "exchanges": exchanges,
            "consumers": consumers,
        },
    });
    // rabbitmq: connections and what is listened on are for monitors
    if user.is_monitor() {
        shown["object_totals"]["connections"] = Value::from(broker.connection_count());
        shown["object_totals"]["channels"] = Value::from(broker.channel_count());
        let listeners = management.listeners.iter();
        shown["listeners"] = listeners
            .map(|listener| {
                json!({
                    "protocol": listener.protocol,
                    "ip_address": listener.address.ip(),
                    "port": listener.address.port(),
                })
            })
            .collect();
    }
    shown
}
