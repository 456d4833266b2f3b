//! Queues as JSON, with RabbitMQ's names for what RabbitMQ has too.

use std::sync::Arc;

use leveret_broker::Timestamp;
use leveret_broker::queue::counts::QueueCounts;
use leveret_broker::queue::handle::QueueHandle;
use leveret_broker::queue::kind::QueueKind;
use leveret_broker::queue::statistics::QueueStatistics;
use leveret_broker::vhost::VirtualHost;
use serde_json::{Value, json};

use super::fields;
use super::list::Item;

/// One queue.
pub(super) struct QueueItem {
    pub(super) vhost: Arc<VirtualHost>,
    pub(super) queue: QueueHandle,
    /// The node it is on.
    pub(super) node: Arc<str>,
    /// The time at which its rates are asked for.
    pub(super) now: Timestamp,
}

/// The queues of these virtual hosts.
pub(super) fn of(vhosts: &[Arc<VirtualHost>], node: &Arc<str>, now: Timestamp) -> Vec<QueueItem> {
    let of_one = |vhost: &Arc<VirtualHost>| {
        let vhost = Arc::clone(vhost);
        let queues = vhost.queue_handles().into_iter();
        queues.map(move |queue| QueueItem {
            vhost: Arc::clone(&vhost),
            queue,
            node: Arc::clone(node),
            now,
        })
    };
    vhosts.iter().flat_map(of_one).collect()
}

impl Item for QueueItem {
    fn place(&self) -> (&str, &str) {
        (self.vhost.name(), self.queue.name())
    }

    fn show(&self) -> Option<Value> {
        if self.queue.is_deleted() {
            return None;
        }
        let identity = self.queue.identity();
        let policies = self.vhost.policies_of_queue(&self.queue);
        let statistics = self.queue.statistics(self.now);
        let counts = &statistics.counts;
        let duplicates = self.queue.deduplication_counts();
        let mut shown = json!({
            "name": identity.name,
            "vhost": *identity.vhost,
            "type": self.queue.kind().name(),
            "durable": identity.durable,
            "auto_delete": identity.auto_delete,
            "exclusive": identity.exclusive.is_some(),
            "arguments": fields::table(&identity.arguments),
            "policy": policies.policy,
            "operator_policy": policies.operator_policy,
            "effective_policy_definition": policies.definition,
            "state": "running",
            "node": *self.node,
            "consumers": counts.consumers,
            "messages": messages(counts),
            "messages_ready": counts.ready,
            "messages_unacknowledged": counts.unacknowledged,
            "message_bytes": statistics.ready_bytes + statistics.unacknowledged_bytes,
            "message_bytes_ready": statistics.ready_bytes,
            "message_bytes_unacknowledged": statistics.unacknowledged_bytes,
            "memory": statistics.memory_bytes,
            "message_stats": message_stats(&statistics),
            "leveret": {
                "messages_waiting": counts.waiting,
                "totals": statistics.totals,
                "rates": statistics.rates,
                "forecast": statistics.forecast,
                "time_in_queue": statistics.time_in_queue,
                "time_to_ack": statistics.time_to_ack,
                "deduplication": duplicates.as_ref().map(fields::deduplication),
            },
        });
        // rabbitmq: quorum queues alone count deliveries
        if self.queue.kind() == QueueKind::Quorum {
            let limit = self.queue.options().delivery_limit;
            shown["delivery_limit"] = limit.map_or_else(|| Value::from("unlimited"), Value::from);
        }
        Some(shown)
    }
}

/// All messages of a queue; those that wait for their next delivery (`x-retry-delays`) are among them.
pub(super) fn messages(counts: &QueueCounts) -> u64 {
    counts.ready + counts.unacknowledged + counts.waiting
}

/// Totals and rates under RabbitMQ's names.
fn message_stats(statistics: &QueueStatistics) -> Value {
    let (totals, rates) = (&statistics.totals, &statistics.rates);
    json!({
        "publish": totals.published,
        "publish_details": {"rate": rates.published},
        "deliver": totals.delivered,
        "deliver_no_ack": totals.delivered_no_ack,
        "get": totals.got,
        "get_no_ack": totals.got_no_ack,
        "get_empty": totals.got_empty,
        "deliver_get": totals.all_delivered(),
        "deliver_get_details": {"rate": rates.delivered},
        "redeliver": totals.redelivered,
        "redeliver_details": {"rate": rates.redelivered},
        "ack": totals.acknowledged,
        "ack_details": {"rate": rates.acknowledged},
    })
}
