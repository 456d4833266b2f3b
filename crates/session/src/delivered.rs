//! Telling the store how far a queue's deliveries have come, before they leave: after a kill it says which
//! messages were delivered before. Once for each batch out of a queue, and only where it has come further.

use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::VirtualHost;
use leveret_queue::mailbox::{Delivery, InFlight};
use leveret_store_api::{LogId, Sequence};

/// A level is a number of 8 bits.
const LEVELS_MAX: usize = 256;

/// Records those of the first `deliveries` that are out of one queue, before they are written; answers how many
/// they are. Messages come in the order of their sequences when they come for the first time, but for those that
/// went back unseen.
pub(super) fn record_delivered_run(
    vhost: &VirtualHost,
    queue: &QueueHandle,
    deliveries: &[Delivery],
    is_of_queue: impl FnMut(&&Delivery) -> bool,
) -> usize {
    let logs = queue.level_logs();
    if logs.is_empty() {
        return 0;
    }
    let length = deliveries.iter().take_while(is_of_queue).count();
    let run = deliveries.get(..length).unwrap_or_default();
    let first_ones = run.iter().map(|it| &it.in_flight).filter(|it| is_first(it));
    if logs.len() > 1 {
        record_levels(vhost, logs, first_ones);
    } else if let Some(last) = first_ones.max_by_key(|it| it.sequence) {
        record(vhost, queue, last);
    }
    length
}

fn record_levels<'a>(
    vhost: &VirtualHost,
    logs: &[LogId],
    first_ones: impl Iterator<Item = &'a InFlight>,
) {
    let mut below = [Sequence(0); LEVELS_MAX];
    for in_flight in first_ones {
        let below = &mut below[usize::from(in_flight.level)];
        *below = (*below).max(Sequence(in_flight.sequence.0 + 1));
    }
    for (log, below) in logs.iter().zip(below) {
        if below > Sequence(0) {
            vhost.services.store.record_delivered(*log, below);
        }
    }
}

/// Records a delivery: the last of those that are about to leave.
pub(super) fn record_delivered_one(vhost: &VirtualHost, queue: &QueueHandle, in_flight: &InFlight) {
    if is_first(in_flight) {
        record(vhost, queue, in_flight);
    }
}

fn is_first(in_flight: &InFlight) -> bool {
    in_flight.stored && !in_flight.redelivered
}

fn record(vhost: &VirtualHost, queue: &QueueHandle, last: &InFlight) {
    if let Some(log) = queue.level_logs().get(usize::from(last.level)) {
        let below = Sequence(last.sequence.0 + 1);
        vhost.services.store.record_delivered(*log, below);
    }
}
