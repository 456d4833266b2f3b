//! What is told of queues: RabbitMQ's families, and ours beside them. A row each: the group by which
//! `/metrics/detailed?family=` asks for it, its name, type, help and value. Names, types and help are RabbitMQ's where it
//! has the family.

use super::text::{Text, Type};
use crate::view::{QueueSum, Reasons, Times, Timestamp};

/// A family with a value of each queue.
pub(super) struct Family {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) of: Type,
    pub(super) help: &'static str,
    pub(super) values: Values,
}

/// What of a queue a family shows.
#[derive(Clone, Copy)]
pub(super) enum Values {
    /// One number.
    One(fn(&QueueSum) -> u64),
    /// How long ago something was.
    Age(fn(&QueueSum) -> Option<Timestamp>),
    /// A number for each reason for which messages end.
    Reasons(fn(&QueueSum) -> &Reasons),
    /// How often which time was seen.
    Times(fn(&QueueSum) -> &Times),
}

/// By which families are asked for.
pub(super) const COARSE: &str = "queue_coarse_metrics";
pub(super) const CONSUMERS: &str = "queue_consumer_count";
pub(super) const QUEUE: &str = "queue_metrics";
const DELIVERY: &str = "queue_delivery_metrics";
const OURS: &str = "leveret_queue_metrics";
const OUR_TIMES: &str = "leveret_queue_times";

const fn gauge(
    group: &'static str,
    name: &'static str,
    value: fn(&QueueSum) -> u64,
    help: &'static str,
) -> Family {
    Family {
        group,
        name,
        of: Type::Gauge,
        help,
        values: Values::One(value),
    }
}

const fn counter(
    group: &'static str,
    name: &'static str,
    value: fn(&QueueSum) -> u64,
    help: &'static str,
) -> Family {
    Family {
        group,
        name,
        of: Type::Counter,
        help,
        values: Values::One(value),
    }
}

const fn other(
    group: &'static str,
    name: &'static str,
    of: Type,
    values: Values,
    help: &'static str,
) -> Family {
    Family {
        group,
        name,
        of,
        help,
        values,
    }
}

/// RabbitMQ's.
pub(super) static RABBITMQ: [Family; 21] = [
    gauge(
        COARSE,
        "queue_messages_ready",
        |it| it.ready,
        "Messages ready to be delivered to consumers",
    ),
    gauge(
        COARSE,
        "queue_messages_unacked",
        |it| it.unacknowledged,
        "Messages delivered to consumers but not yet acknowledged",
    ),
    gauge(
        COARSE,
        "queue_messages",
        messages,
        "Sum of ready and unacknowledged messages - total queue depth",
    ),
    gauge(
        CONSUMERS,
        "queue_consumers",
        |it| it.consumers,
        "Consumers on a queue",
    ),
    gauge(
        QUEUE,
        "queue_consumers",
        |it| it.consumers,
        "Consumers on a queue",
    ),
    gauge(
        QUEUE,
        "queue_process_memory_bytes",
        |it| it.memory_bytes,
        "Memory in bytes used by the Erlang queue process",
    ),
    gauge(
        QUEUE,
        "queue_messages_ram",
        |it| messages(it).saturating_sub(it.paged),
        "Ready and unacknowledged messages stored in memory",
    ),
    gauge(
        QUEUE,
        "queue_messages_ram_bytes",
        |it| bytes(it).saturating_sub(it.paged_bytes),
        "Size of ready and unacknowledged messages stored in memory",
    ),
    gauge(
        QUEUE,
        "queue_messages_ready_ram",
        |it| it.ready.saturating_sub(it.paged),
        "Ready messages stored in memory",
    ),
    gauge(
        QUEUE,
        "queue_messages_bytes",
        bytes,
        "Size in bytes of ready and unacknowledged messages",
    ),
    gauge(
        QUEUE,
        "queue_messages_ready_bytes",
        |it| it.ready_bytes,
        "Size in bytes of ready messages",
    ),
    gauge(
        QUEUE,
        "queue_messages_unacked_bytes",
        |it| it.unacknowledged_bytes,
        "Size in bytes of all unacknowledged messages",
    ),
    gauge(
        QUEUE,
        "queue_messages_paged_out",
        |it| it.paged,
        "Messages paged out to disk",
    ),
    gauge(
        QUEUE,
        "queue_messages_paged_out_bytes",
        |it| it.paged_bytes,
        "Size in bytes of messages paged out to disk",
    ),
    counter(
        DELIVERY,
        "queue_get_ack_total",
        |it| it.totals.got,
        "Total number of messages fetched from a queue with basic.get in manual acknowledgement mode",
    ),
    counter(
        DELIVERY,
        "queue_get_total",
        |it| it.totals.got_no_ack,
        "Total number of messages fetched from a queue with basic.get in automatic acknowledgement mode",
    ),
    counter(
        DELIVERY,
        "queue_messages_delivered_ack_total",
        |it| it.totals.delivered,
        "Total number of messages delivered from a queue to consumers in manual acknowledgement mode",
    ),
    counter(
        DELIVERY,
        "queue_messages_delivered_total",
        |it| it.totals.delivered_no_ack,
        "Total number of messages delivered from a queue to consumers in automatic acknowledgement mode",
    ),
    counter(
        DELIVERY,
        "queue_messages_redelivered_total",
        |it| it.totals.redelivered,
        "Total number of messages redelivered from a queue to consumers",
    ),
    counter(
        DELIVERY,
        "queue_messages_acked_total",
        |it| it.totals.acknowledged,
        "Total number of messages acknowledged by consumers on a queue",
    ),
    counter(
        DELIVERY,
        "queue_get_empty_total",
        |it| it.totals.got_empty,
        "Total number of times basic.get operations fetched no message on a queue",
    ),
];

/// Ours.
pub(super) static LEVERET: [Family; 12] = [
    counter(
        OURS,
        "queue_messages_published_total",
        |it| it.totals.published,
        "Messages that entered a queue",
    ),
    counter(
        OURS,
        "queue_messages_refused_total",
        |it| it.totals.refused,
        "Messages that a full queue refused",
    ),
    counter(
        OURS,
        "queue_messages_requeued_total",
        |it| it.totals.requeued,
        "Deliveries that came back to a queue",
    ),
    counter(
        OURS,
        "queue_messages_purged_total",
        |it| it.totals.purged,
        "Messages removed by queue.purge",
    ),
    counter(
        OURS,
        "queue_duplicates_total",
        |it| it.duplicates,
        "Messages not taken, for they had been published to a queue before",
    ),
    counter(
        OURS,
        "queue_gaps_total",
        |it| it.gaps,
        "Messages before which their producer had left out numbers",
    ),
    gauge(
        OURS,
        "queue_messages_waiting",
        |it| it.waiting,
        "Messages that wait for their next delivery (x-retry-delays)",
    ),
    other(
        OURS,
        "queue_messages_dead_lettered_total",
        Type::Counter,
        Values::Reasons(|it| &it.totals.dead_lettered),
        "Messages that went to a dead-letter exchange",
    ),
    other(
        OURS,
        "queue_messages_discarded_total",
        Type::Counter,
        Values::Reasons(|it| &it.totals.discarded),
        "Messages that ended without a dead-letter exchange",
    ),
    other(
        OURS,
        "queue_oldest_message_age_seconds",
        Type::Gauge,
        Values::Age(|it| it.oldest),
        "How long the oldest message has waited that was not delivered yet",
    ),
    other(
        OUR_TIMES,
        "queue_time_in_queue_seconds",
        Type::Histogram,
        Values::Times(|it| &it.time_in_queue),
        "From a message's arrival to its first delivery",
    ),
    other(
        OUR_TIMES,
        "queue_time_to_ack_seconds",
        Type::Histogram,
        Values::Times(|it| &it.time_to_ack),
        "From a delivery to its acknowledgement",
    ),
];

fn messages(sum: &QueueSum) -> u64 {
    // rabbitmq: what waits for its next delivery is a quorum queue's to deliver, and counted as ready; here it is neither
    sum.ready + sum.unacknowledged
}

fn bytes(sum: &QueueSum) -> u64 {
    sum.ready_bytes + sum.unacknowledged_bytes
}

impl Family {
    /// Whether it takes many lines of each queue, so that it is shown of each to who asks for it by name alone.
    pub(super) fn is_long(&self) -> bool {
        matches!(self.values, Values::Times(_))
    }

    /// What it shows of a queue, or of many together.
    pub(super) fn show(
        &self,
        text: &mut Text,
        labels: &[(&str, &str)],
        sum: &QueueSum,
        now: Timestamp,
    ) {
        match self.values {
            Values::One(value) => text.sample(labels, value(sum)),
            Values::Age(since) => {
                if let Some(since) = since(sum) {
                    text.sample(labels, (now - since) as f64 / 1000.0);
                }
            }
            Values::Reasons(reasons) => {
                let mut labels = labels.to_vec();
                for (reason, count) in by_name(reasons(sum)) {
                    labels.push(("reason", reason));
                    text.sample(&labels, count);
                    labels.pop();
                }
            }
            Values::Times(times) => {
                let times = times(sum);
                text.histogram(labels, times.below(), times.count(), times.sum_seconds());
            }
        }
    }
}

/// With the names that `x-death` has for them, and what it has none for.
pub(super) fn by_name(reasons: &Reasons) -> [(&'static str, u64); 5] {
    [
        ("rejected", reasons.rejected),
        ("expired", reasons.expired),
        ("maxlen", reasons.maxlen),
        ("delivery_limit", reasons.delivery_limit),
        ("damaged", reasons.damaged),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_explained() {
        let documentation = include_str!("../../../../docs/METRICS.md");
        for family in &LEVERET {
            let name = format!("`leveret_{}`", family.name);
            assert!(
                documentation.contains(&name),
                "docs/METRICS.md does not have {name}"
            );
            assert!(documentation.contains(&format!("| `{}` |", family.group)));
        }
    }

    #[test]
    fn counters_are_named_as_such() {
        for family in RABBITMQ.iter().chain(&LEVERET) {
            let is_counter = family.of == Type::Counter;
            assert_eq!(
                family.name.ends_with("_total"),
                is_counter,
                "{}",
                family.name
            );
        }
    }
}
