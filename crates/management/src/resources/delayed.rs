//! The messages that an `x-delayed-message` exchange holds back: listed, and cancelled one by one. Leveret's own.

use std::sync::Arc;

use axum::routing::{delete, get};
use serde_json::{Value, json};

use super::change::durable;
use crate::api::Table;
use crate::door;
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Reply};
use crate::http::query::Query;
use crate::http::table;
use crate::view::{Access, Cancelled, CommitPoint, DelayedId, Timestamp, View};

pub(super) fn table() -> Table {
    const MESSAGES: &str = "/api/exchanges/{vhost}/{exchange}/delayed";
    const MESSAGE: &str = "/api/exchanges/{vhost}/{exchange}/delayed/{id}";
    Table::new()
        .route(MESSAGES, get(messages))
        .route(MESSAGE, delete(message))
}

async fn messages(ask: Ask) -> Reply {
    may(&ask, Access::Read)?;
    let part = Part::parse(&ask.query)?;
    let desk = ask.api.desk.clone();
    let shown = desk.work(move || {
        let (vhost, exchange) = (ask.name("vhost"), ask.exchange());
        list(&ask.api.view, vhost, exchange, part)
    });
    Ok(json_of(&shown.await??))
}

/// Cancels a message; answers when that is durable.
async fn message(ask: Ask) -> Reply {
    // As for deleting the exchange, which takes all of them.
    may(&ask, Access::Configure)?;
    // What is no number is no message's.
    let id = ask.name("id").parse().map_err(|_| Refusal::NotFound)?;
    let api = Arc::clone(&ask.api);
    let point = api.desk.work(move || cancel(&ask, id)).await??;
    durable(&api.view, point).await?;
    Ok(no_content())
}

fn may(ask: &Ask, access: Access) -> Result<(), Refusal> {
    let user = &ask.caller.user;
    door::check_exchange(
        &ask.api.view,
        user,
        ask.name("vhost"),
        access,
        ask.exchange(),
    )
}

/// A message as it is listed.
struct Seen {
    routing_key: Value,
    body_bytes: u64,
}

/// Which part of the list is wanted.
#[derive(Clone, Copy, Debug)]
struct Part {
    limit: usize,
    after: Option<DelayedId>,
}

impl Part {
    fn parse(query: &Query) -> Result<Self, Refusal> {
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
fn place(text: &str) -> Option<DelayedId> {
    let (due, sequence) = text.split_once('-')?;
    Some(DelayedId {
        due: Timestamp(due.parse().ok()?),
        sequence: sequence.parse().ok()?,
    })
}

fn name(place: &DelayedId) -> String {
    format!("{}-{}", place.due.0, place.sequence)
}

/// The list. Blocks on files.
fn list(view: &View, vhost: &str, exchange: &str, part: Part) -> Result<Value, Refusal> {
    let now = view.now();
    let page = view.delayed_messages(vhost, exchange, part.after, part.limit, |message| Seen {
        routing_key: table::text(message.exchange_and_key().1),
        body_bytes: message.body_bytes(),
    });
    let (page, count) = page.ok_or_else(|| not_delayed(view, vhost, exchange))?;
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
fn not_delayed(view: &View, vhost: &str, exchange: &str) -> Refusal {
    if view.has_exchange(vhost, exchange) {
        Refusal::Gone(format!(
            "exchange '{exchange}' in vhost '{vhost}' is not of type x-delayed-message"
        ))
    } else {
        Refusal::NotFound
    }
}

fn cancel(ask: &Ask, id: u64) -> Result<CommitPoint, Refusal> {
    let view = &ask.api.view;
    let (vhost, exchange) = (ask.name("vhost"), ask.exchange());
    let user = &ask.caller.user.name;
    tracing::info!(vhost, exchange, id, user, "cancelling a delayed message");
    match view.cancel_delayed(vhost, exchange, id) {
        Cancelled::Staged(point) => Ok(point),
        Cancelled::Unknown => Err(Refusal::Gone(format!(
            "no delayed message {id} in exchange '{exchange}' in vhost '{vhost}' (any more)"
        ))),
        Cancelled::NotDelayed => Err(not_delayed(view, vhost, exchange)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back() {
        let there = DelayedId {
            due: Timestamp(1_700_000_000_000),
            sequence: 42,
        };
        assert_eq!(place(&name(&there)), Some(there));
        for wrong in ["", "-", "1", "1-", "x-1", "1-2-3"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
