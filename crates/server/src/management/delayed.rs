//! The messages that an `x-delayed-message` exchange holds back: listed, and cancelled one by one. Leveret's own.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use leveret_broker::message::Message;
use leveret_broker::{Broker, DelayedPlace, Timestamp};
use leveret_store_api::CommitPoint;
use serde_json::{Value, json};

use super::answer::Refusal;
use super::fields;
use super::query::Query;

/// How long a cancellation may take to be durable before the client is told that it is not yet.
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// A message as it is listed.
struct Seen {
    routing_key: Value,
    body_bytes: u64,
}

/// Which part of the list is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    limit: usize,
    after: Option<DelayedPlace>,
}

impl Part {
    pub(super) fn parse(query: &Query) -> Result<Self, Refusal> {
        let wrong = || Refusal::bad("after must be what 'next' of an earlier answer said");
        let after = query.get("after").filter(|after| !after.is_empty());
        let after = after
            .map(|text| place(text).ok_or_else(wrong))
            .transpose()?;
        let limit = query.limit()?;
        Ok(Self { limit, after })
    }
}

/// Reads what [`name`] wrote.
fn place(text: &str) -> Option<DelayedPlace> {
    let (due, sequence) = text.split_once('-')?;
    Some(DelayedPlace {
        due: Timestamp(due.parse().ok()?),
        sequence: sequence.parse().ok()?,
    })
}

fn name(place: &DelayedPlace) -> String {
    format!("{}-{}", place.due.0, place.sequence)
}

/// The list. Blocks on files.
pub(super) fn list(
    broker: &Broker,
    vhost: &str,
    exchange: &str,
    part: Part,
    now: Timestamp,
) -> Result<Value, Refusal> {
    let gone = |_| not_delayed(broker, vhost, exchange);
    let seen = |message: &Message| Seen {
        routing_key: fields::text(message.exchange_and_key().1),
        body_bytes: message.body_bytes(),
    };
    let page = broker.delayed_messages(vhost, exchange, part.after, part.limit, seen);
    let page = page.map_err(gone)?;
    let count = broker.delayed_count(vhost, exchange).map_err(gone)?;
    let next = page.messages.last().filter(|_| page.more);
    let shown = page.messages.iter().map(|message| {
        let seen = message.seen.as_ref();
        json!({
            "id": message.place.sequence,
            "due_at": message.place.due.0,
            "delay_left_ms": message.place.due.0.saturating_sub(now.0),
            "routing_key": seen.map(|seen| &seen.routing_key),
            "body_bytes": seen.map(|seen| seen.body_bytes),
        })
    });
    Ok(json!({
        "count": count,
        "messages": shown.collect::<Vec<_>>(),
        "next": next.map(|message| name(&message.place)),
    }))
}

/// Why there are no delayed messages.
fn not_delayed(broker: &Broker, vhost: &str, exchange: &str) -> Refusal {
    let there = broker
        .vhost(vhost)
        .and_then(|vhost| vhost.exchange(exchange));
    match there {
        Some(_) => Refusal::Gone(format!(
            "exchange '{exchange}' in vhost '{vhost}' is not of type x-delayed-message"
        )),
        None => Refusal::NotFound,
    }
}

/// Cancels a message; answers when that is durable. Looks at each message held.
pub(super) fn cancel(
    broker: &Broker,
    vhost: &str,
    exchange: &str,
    id: u64,
) -> Result<CommitPoint, Refusal> {
    match broker.cancel_delayed(vhost, exchange, id) {
        Ok(Some(point)) => Ok(point),
        Ok(None) => Err(Refusal::Gone(format!(
            "no delayed message {id} in exchange '{exchange}' in vhost '{vhost}' (any more)"
        ))),
        Err(_) => Err(not_delayed(broker, vhost, exchange)),
    }
}

/// Waits until everything up to `point` is on stable storage.
pub(super) async fn durable(broker: &Broker, point: CommitPoint) -> Result<(), Refusal> {
    let durable = poll_fn(|task| {
        if broker.wake_when_durable(point, task.waker()) {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    let waited = tokio::time::timeout(DURABLE_WITHIN, durable).await;
    waited.map_err(|_| {
        Refusal::Unavailable(
            "done, but not on stable storage yet: the disk is full or very slow".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back() {
        let there = DelayedPlace {
            due: Timestamp(1_700_000_000_000),
            sequence: 42,
        };
        assert_eq!(place(&name(&there)), Some(there));
        for wrong in ["", "-", "1", "1-", "x-1", "1-2-3"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
