//! How everything is, as the page shows it: the broker in numbers, what needs attention, and the queues with their
//! states. Leveret's own.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{exchanges, queues};
use crate::api::{Api, Table};
use crate::http::answer::{Refusal, json_of, no_content};
use crate::http::ask::{Ask, Fields, Reply};
use crate::http::query::Page;
use crate::view::{Access, QueueKind, Timestamp, User};
use crate::watch::filter::Filter;
use crate::watch::state::State;
use crate::watch::{Seeing, Seen, Trouble, Until};

pub(super) fn table() -> Table {
    Table::new()
        .route("/api/leveret/overview", get(overview))
        .route("/api/leveret/queues", get(list))
        .route("/api/leveret/queues/{vhost}/{queue}", get(queue))
        .route("/api/leveret/routes/{vhost}/{exchange}", post(would_go))
        .route("/api/leveret/attention/mute", post(mute))
        .route("/api/leveret/attention/unmute", post(unmute))
}

/// How everything is; kept for the next second while pages are open.
fn look(api: &Api) -> Arc<Seeing> {
    api.watch.look(&api.view, !api.streams.are_none())
}

async fn overview(ask: Ask) -> Reply {
    let desk = ask.api.desk.clone();
    let shown = desk.work(move || {
        let seeing = look(&ask.api);
        show_overview(&ask.api, &seeing, &ask.caller.user)
    });
    Ok(json_of(&shown.await?))
}

fn show_overview(api: &Api, seeing: &Seeing, user: &User) -> Value {
    let view = &api.view;
    let queues: Vec<&Seen> = seeing.queues_of(view, user).collect();
    let sum = |of: fn(&Seen) -> u64| queues.iter().map(|seen| of(seen)).sum::<u64>();
    let rate = |of: fn(&Seen) -> f64| queues.iter().map(|seen| of(seen)).sum::<f64>();
    let count = |is: fn(&Seen) -> bool| queues.iter().filter(|seen| is(seen)).count();
    let vhosts = view.vhosts_of(user);
    let exchanges: usize = vhosts.iter().map(|it| it.exchange_names().len()).sum();
    let slowest = |of: fn(&Seen) -> u64| {
        let slowest = queues.iter().max_by_key(|seen| of(seen));
        slowest.filter(|seen| of(seen) > 0)
    };
    let in_queue = slowest(|seen| seen.time_in_queue.p99_ms);
    let to_ack = slowest(|seen| seen.time_to_ack.p99_ms);
    let (attention, muted) = attention(api, seeing, &queues, user);
    let names = view.names();
    let mut shown = json!({
        "node": names.cluster,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": seeing.figures.uptime_ms / 60_000 * 60_000,
        "vhosts": vhosts.iter().map(|it| it.name()).collect::<Vec<_>>(),
        "queues": queues.len(),
        "streams": count(|seen| seen.queue.kind() == QueueKind::Stream),
        "exchanges": exchanges,
        "consumers": sum(|seen| u64::from(seen.counts.consumers)),
        "ready": sum(ready),
        "unacknowledged": sum(|seen| seen.counts.unacknowledged),
        "waiting": sum(|seen| seen.counts.waiting),
        "bytes": sum(|seen| seen.bytes),
        "dead_letters": sum(|seen| if seen.is_grave { seen.counts.ready } else { 0 }),
        "in": shown_rate(rate(|seen| seen.rates.published)),
        "out": shown_rate(rate(|seen| seen.rates.delivered)),
        "acknowledged": shown_rate(rate(|seen| seen.rates.acknowledged)),
        "redelivered": shown_rate(rate(|seen| seen.rates.redelivered)),
        "growth": shown_rate(rate(growth)),
        "time_in_queue": in_queue.map(|it| slow(it, it.time_in_queue.p50_ms, it.time_in_queue.p99_ms)),
        "time_to_ack": to_ack.map(|it| slow(it, it.time_to_ack.p50_ms, it.time_to_ack.p99_ms)),
        "attention": attention,
        "muted": muted,
        "over": over(seeing, &vhosts.iter().map(|it| it.name()).collect::<Vec<_>>()),
    });
    if user.is_monitor() {
        let figures = &seeing.figures;
        shown["connections"] = Value::from(view.connection_count());
        shown["channels"] = Value::from(view.channel_count());
        shown["memory_used"] = Value::from(figures.memory_used >> 17 << 17);
        shown["memory_total"] = Value::from(figures.memory_total);
        shown["processors"] = Value::from(figures.processors);
        shown["descriptors_used"] = Value::from(figures.descriptors_used);
        shown["descriptors_total"] = Value::from(figures.descriptors_total);
        shown["sockets_total"] = Value::from(figures.sockets_total);
        shown["disk_free"] = Value::from(figures.disk.map(|disk| disk.free >> 20 << 20));
        shown["disk_limit"] = Value::from(figures.disk.map(|disk| disk.reserve));
        let listeners = api.listeners.iter();
        shown["listeners"] = listeners
            .map(|it| json!({"protocol": it.protocol, "address": it.address.to_string()}))
            .collect();
    }
    shown
}

fn ready(seen: &Seen) -> u64 {
    match seen.queue.kind() {
        // What a stream keeps waits for nobody.
        QueueKind::Stream => 0,
        _ => seen.counts.ready,
    }
}

fn growth(seen: &Seen) -> f64 {
    match seen.queue.kind() {
        QueueKind::Stream => 0.0,
        _ => seen.rates.arrival - seen.rates.service,
    }
}

/// Three digits that count; what is less than one in 20 s is nothing.
fn shown_rate(rate: f64) -> Value {
    if rate.abs() < 0.05 {
        return Value::from(0);
    }
    let step = 10_f64.powf(2.0 - rate.abs().log10().floor()).min(10.0);
    Value::from((rate * step).round() / step)
}

fn slow(seen: &Seen, p50_ms: u64, p99_ms: u64) -> Value {
    json!({
        "vhost": seen.queue.vhost(),
        "queue": seen.queue.name(),
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
    })
}

fn over(seeing: &Seeing, vhosts: &[&str]) -> Option<Value> {
    let over = seeing.over.as_ref();
    let over = over.filter(|over| vhosts.contains(&over.vhost.as_str()))?;
    Some(json!({
        "vhost": over.vhost,
        "name": over.name,
        "state": over.state.name(),
        "began": over.began.0,
        "ended": over.ended.0,
    }))
}

/// What needs attention, worst first, and what is muted.
fn attention(
    api: &Api,
    seeing: &Seeing,
    queues: &[&Seen],
    user: &User,
) -> (Vec<Value>, Vec<Value>) {
    let troubles = seeing.troubles.iter().filter(|_| user.is_monitor());
    let mut all: Vec<(u8, f64, Value)> = troubles.map(trouble).collect();
    let states = queues.iter().filter(|seen| seen.state.needs_attention());
    all.extend(states.map(|seen| {
        let rank = if seen.state == State::NoConsumers {
            0
        } else {
            2
        };
        let number = number_of(seen);
        (rank, number, concern(seen, number))
    }));
    all.sort_by(|one, other| one.0.cmp(&other.0).then(other.1.total_cmp(&one.1)));
    let items = all.into_iter().map(|(_, number, item)| {
        let key = item["key"].as_str().unwrap_or_default();
        (api.watch.mutes.is_muted(key, number, seeing.at), item)
    });
    let (muted, shown): (Vec<_>, Vec<_>) = items.partition(|(is_muted, _)| *is_muted);
    let values = |items: Vec<(bool, Value)>| items.into_iter().map(|(_, item)| item).collect();
    (values(shown), values(muted))
}

/// What makes it worse as it becomes more.
fn number_of(seen: &Seen) -> f64 {
    match seen.state {
        State::Stuck => seen.counts.unacknowledged as f64,
        State::DeadLetters => seen.deaths as f64,
        _ => seen.counts.ready as f64,
    }
}

fn concern(seen: &Seen, number: f64) -> Value {
    let (vhost, name) = (seen.queue.vhost(), seen.queue.name());
    json!({
        "key": format!("{} {vhost} {name}", seen.state.name()),
        "kind": seen.state.name(),
        "vhost": vhost,
        "name": name,
        "since": seen.since.map(|since| since.0),
        "number": number,
        "ready": seen.counts.ready,
        "unacknowledged": seen.counts.unacknowledged,
        "consumers": seen.counts.consumers,
        "deaths": seen.deaths,
        "in": shown_rate(seen.rates.published),
        "out": shown_rate(seen.rates.delivered),
    })
}

fn trouble(trouble: &Trouble) -> (u8, f64, Value) {
    match trouble {
        Trouble::Blocked(reason) => (
            0,
            f64::INFINITY,
            json!({"key": "blocked", "kind": "blocked", "reason": reason}),
        ),
        Trouble::Disk {
            full_in_hours,
            free,
            reserve,
        } => (
            1,
            -(*free as f64),
            json!({
                "key": "disk",
                "kind": "disk",
                "full_in_hours": full_in_hours.map(|hours| (hours * 10.0).round() / 10.0),
                "free": free >> 20 << 20,
                "limit": reserve,
            }),
        ),
        Trouble::Descriptors { used, total } => (
            2,
            *used as f64,
            json!({"key": "descriptors", "kind": "descriptors", "used": used, "total": total}),
        ),
    }
}

async fn mute(ask: Ask, fields: Fields) -> Reply {
    fields.require(&["key", "until"])?;
    let key = fields.text("key")?.unwrap_or_default().to_owned();
    let now = ask.api.view.now();
    let until = match fields.text("until")? {
        Some("1h") => Until::Time(now + 3_600_000),
        Some("1d") => Until::Time(now + 86_400_000),
        Some("worse") => {
            let number = fields.get("number").and_then(Value::as_f64);
            Until::Worse(number.unwrap_or_default())
        }
        _ => return Err(Refusal::bad("until is 1h, 1d or worse")),
    };
    ask.api.watch.mutes.mute(key, until);
    Ok(no_content())
}

async fn unmute(ask: Ask, fields: Fields) -> Reply {
    let key = fields.text("key")?.unwrap_or_default();
    if ask.api.watch.mutes.unmute(key) {
        Ok(no_content())
    } else {
        Err(Refusal::NotFound)
    }
}

async fn queue(ask: Ask) -> Reply {
    let id = queues::find(&ask)?.id();
    let (vhost, name) = (ask.name("vhost"), ask.name("queue"));
    let user = &ask.caller.user;
    let may = |access| ask.api.view.may_with_queue(vhost, user, access, name);
    let may = json!({
        "configure": may(Access::Configure),
        "write": may(Access::Write),
        "read": may(Access::Read),
    });
    let api = Arc::clone(&ask.api);
    let shown = ask.api.desk.work(move || {
        let seeing = look(&api);
        let seen = seeing.queues.iter().find(|seen| seen.queue.id() == id);
        seen.map(|seen| row(seen, seeing.at))
    });
    let mut shown = shown.await?.ok_or(Refusal::NotFound)?;
    shown["may"] = may;
    Ok(json_of(&shown))
}

/// Where a message would go that is published to an exchange; none is.
async fn would_go(ask: Ask, fields: Fields) -> Reply {
    let vhost = ask.api.view.vhost(ask.name("vhost"));
    let vhost = vhost.ok_or(Refusal::NotFound)?;
    let key = fields.text("routing_key")?.unwrap_or_default();
    let headers = fields.table("headers")?;
    let queues = vhost.would_go(ask.exchange(), key, &headers);
    let queues = queues.ok_or(Refusal::NotFound)?;
    Ok(json_of(&json!({"queues": queues})))
}

async fn list(ask: Ask) -> Reply {
    let query = &ask.query;
    let filter = Filter::parse(query.get("filter").unwrap_or_default())?;
    let order = Sort::parse(query.get("sort").unwrap_or("state"))?;
    let reverse = query.flag("sort_reverse");
    let page = query.list()?.page.unwrap_or(Page {
        number: 1,
        size: 100,
    });
    let vhost = query.get("vhost").filter(|vhost| !vhost.is_empty());
    let vhost = vhost.map(str::to_owned);
    // Refuses one that is not there.
    if let Some(vhost) = &vhost {
        ask.api.view.vhost(vhost).ok_or(Refusal::NotFound)?;
    } else {
        exchanges::vhosts(&ask)?;
    }
    let desk = ask.api.desk.clone();
    let shown = desk.work(move || {
        let seeing = look(&ask.api);
        let queues = seeing.queues_of(&ask.api.view, &ask.caller.user);
        let all: Vec<&Seen> = queues
            .filter(|seen| vhost.as_ref().is_none_or(|name| name == seen.queue.vhost()))
            .collect();
        let counts = counts(&all);
        let total = all.len();
        let mut wanted: Vec<&Seen> = all.into_iter().filter(|seen| filter.takes(seen)).collect();
        wanted.sort_by(|one, other| order.compare(one, other, reverse));
        let filtered = wanted.len();
        let begin = (page.number - 1).saturating_mul(page.size);
        let items = wanted.into_iter().skip(begin).take(page.size);
        json!({
            "items": items.map(|seen| row(seen, seeing.at)).collect::<Vec<_>>(),
            "page": page.number,
            "page_size": page.size,
            "filtered_count": filtered,
            "total_count": total,
            "counts": counts,
        })
    });
    Ok(json_of(&shown.await?))
}

/// How many there are of each state, and of those that are shown apart.
fn counts(all: &[&Seen]) -> Value {
    let count = |is: &dyn Fn(&Seen) -> bool| all.iter().filter(|seen| is(seen)).count();
    let states = State::ALL.iter().map(|state| {
        let count = count(&|seen| seen.state == *state);
        (state.name().to_owned(), Value::from(count))
    });
    let mut counts: serde_json::Map<String, Value> = states.collect();
    let attention = count(&|seen| seen.state.needs_attention());
    counts.insert("attention".to_owned(), Value::from(attention));
    let streams = count(&|seen| seen.queue.kind() == QueueKind::Stream);
    counts.insert("streams".to_owned(), Value::from(streams));
    Value::Object(counts)
}

/// What a list is in the order of.
#[derive(Clone, Copy)]
enum Sort {
    State,
    Name,
    Ready,
    Unacknowledged,
    In,
    Out,
    EmptyIn,
    Consumers,
}

impl Sort {
    fn parse(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "state" => Self::State,
            "name" => Self::Name,
            "ready" => Self::Ready,
            "unacknowledged" => Self::Unacknowledged,
            "in" => Self::In,
            "out" => Self::Out,
            "empty_in" => Self::EmptyIn,
            "consumers" => Self::Consumers,
            other => return Err(Refusal::bad(format!("queues are not sorted by '{other}'"))),
        })
    }

    /// By what is asked for, then by virtual host and name. The worst state and the largest number come first.
    fn compare(self, one: &Seen, other: &Seen, reverse: bool) -> Ordering {
        let by = match self {
            Self::State => one.state.cmp(&other.state),
            Self::Name => Ordering::Equal,
            Self::Ready => other.counts.ready.cmp(&one.counts.ready),
            Self::Unacknowledged => other.counts.unacknowledged.cmp(&one.counts.unacknowledged),
            Self::In => other.rates.published.total_cmp(&one.rates.published),
            Self::Out => other.rates.delivered.total_cmp(&one.rates.delivered),
            Self::EmptyIn => {
                let never = |seen: &Seen| seen.empty_in.unwrap_or(f64::INFINITY);
                never(other).total_cmp(&never(one))
            }
            Self::Consumers => other.counts.consumers.cmp(&one.counts.consumers),
        };
        let place = |seen: &Seen| (seen.queue.name().to_owned(), seen.queue.vhost().to_owned());
        let names = || place(one).cmp(&place(other));
        match self {
            Self::Name if reverse => names().reverse(),
            _ if reverse => by.reverse().then_with(names),
            _ => by.then_with(names),
        }
    }
}

fn row(seen: &Seen, now: Timestamp) -> Value {
    let queue = &seen.queue;
    // What changes by itself is not said: a row is the same while nothing happens in its queue.
    let is_stream = queue.kind() == QueueKind::Stream;
    let is_silent = seen.rates.published < 0.05 && seen.rates.delivered < 0.05;
    let ends = seen
        .empty_in
        .filter(|_| !(is_stream || is_silent && seen.counts.ready > 0));
    json!({
        "name": queue.name(),
        "vhost": queue.vhost(),
        "type": queue.kind().name(),
        "state": seen.state.name(),
        "since": seen.since.map(|since| since.0.min(now.0)),
        "ready": seen.counts.ready,
        "unacknowledged": seen.counts.unacknowledged,
        "waiting": seen.counts.waiting,
        "bytes": seen.bytes,
        "consumers": seen.counts.consumers,
        "in": shown_rate(seen.rates.published),
        "out": shown_rate(seen.rates.delivered),
        "growth": shown_rate(seen.rates.arrival - seen.rates.service),
        "empty_in": ends.map(shown_rate),
        "deaths": seen.deaths,
    })
}
