//! Short ways to say what the tests say often.

use leveret_codec::{AMQPValue, FieldTable, LongString};
use leveret_routing::{
    Binding, Destination, Exchange, ExchangeKind, QueueId, Route, RouteInput, Topology,
};

/// No queue at all.
pub(crate) const NOWHERE: [u64; 0] = [];

pub(crate) fn exchange(name: &str, kind: ExchangeKind) -> Exchange {
    Exchange {
        name: name.to_owned(),
        kind,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
        alternate: None,
    }
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

pub(crate) fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

pub(crate) fn binding(source: &str, destination: Destination, key: &str) -> Binding {
    Binding {
        source: source.to_owned(),
        destination,
        routing_key: key.as_bytes().to_vec(),
        arguments: FieldTable::default(),
    }
}

pub(crate) fn to_queue(source: &str, queue: u64, key: &str) -> Binding {
    binding(source, Destination::Queue(QueueId(queue)), key)
}

pub(crate) fn to_exchange(source: &str, destination: &str, key: &str) -> Binding {
    binding(source, Destination::Exchange(destination.to_owned()), key)
}

/// A topology with queues `q0`, `q1`, ... of ids 0, 1, ...
pub(crate) fn with_queues(count: u64) -> Topology {
    let mut topology = Topology::new();
    for id in 0..count {
        topology.add_queue(&format!("q{id}"), QueueId(id));
    }
    topology
}

/// The ids of the queues that `input` reaches, sorted; each once or the test fails.
pub(crate) fn routed(topology: &Topology, exchange: &str, input: &RouteInput<'_>) -> Vec<u64> {
    let mut route = Route::new();
    assert!(
        topology.route(exchange, input, &mut route),
        "no exchange {exchange}"
    );
    ids(&route)
}

pub(crate) fn ids(route: &Route) -> Vec<u64> {
    let mut ids: Vec<u64> = route.queues.iter().map(|queue| queue.0).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "a queue twice");
    ids
}

/// As [`routed`], for a message with nothing but a key.
pub(crate) fn by_key(topology: &Topology, exchange: &str, key: &str) -> Vec<u64> {
    routed(topology, exchange, &RouteInput::new(key.as_bytes()))
}

/// The queue to which an alternate exchange leads in [`with_alternate`].
pub(crate) const UNROUTED: u64 = 99;

/// A topology with queues `q0`, `q1`, ... and an exchange `e` of this kind; what it does not route goes to the
/// queue [`UNROUTED`].
pub(crate) fn with_alternate(kind: ExchangeKind, count: u64) -> Topology {
    let mut topology = with_queues(count);
    topology.add_queue("unrouted", QueueId(UNROUTED));
    let bound = topology.bind(to_queue("amq.fanout", UNROUTED, ""));
    assert_eq!(bound, Ok(true), "fanout takes every key");
    topology.declare_exchange(Exchange {
        alternate: Some("amq.fanout".to_owned()),
        ..exchange("e", kind)
    });
    topology
}

/// What an exchange of [`with_alternate`] makes of a message that matches these bindings.
pub(crate) fn or_unrouted(mut matched: Vec<u64>) -> Vec<u64> {
    if matched.is_empty() {
        matched.push(UNROUTED);
    }
    matched
}
