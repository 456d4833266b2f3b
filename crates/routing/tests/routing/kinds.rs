//! The kinds beyond AMQP's four.

use std::collections::BTreeSet;

use leveret_routing::{BindError, Exchange, ExchangeKind, Route, RouteInput, Topology};

use crate::support::{
    NOWHERE, UNROUTED, by_key, exchange, ids, routed, table, text, to_exchange, to_queue,
    with_alternate, with_queues,
};

fn with_exchange(kind: ExchangeKind, queues: u64) -> Topology {
    let mut topology = with_queues(queues);
    topology.declare_exchange(exchange("e", kind));
    topology
}

#[test]
fn random_reaches_every_queue_one_at_a_time() {
    for kind in [ExchangeKind::Random, ExchangeKind::LocalRandom] {
        let mut topology = with_exchange(kind, 4);
        assert_eq!(by_key(&topology, "e", "k"), NOWHERE);
        for queue in 0..4 {
            topology.bind(to_queue("e", queue, "")).unwrap();
        }
        let mut reached = BTreeSet::new();
        for random in 0..100 {
            let input = RouteInput {
                random,
                ..RouteInput::new(b"k")
            };
            let queues = routed(&topology, "e", &input);
            assert_eq!(queues.len(), 1);
            reached.extend(queues);
        }
        assert_eq!(reached.len(), 4);
    }
}

#[test]
fn local_random_takes_queues_with_empty_keys_only() {
    let mut topology = with_exchange(ExchangeKind::LocalRandom, 1);
    let error = topology.bind(to_queue("e", 0, "k")).unwrap_err();
    assert_eq!(error.to_string(), "Non empty binding 'k' key not permitted");
    let error = topology
        .bind(to_exchange("e", "amq.fanout", ""))
        .unwrap_err();
    assert_eq!(error, BindError::QueuesOnly);
}

#[test]
fn modulus_hash_keeps_keys_where_they_are() {
    let mut topology = with_exchange(ExchangeKind::ModulusHash, 4);
    for queue in 0..4 {
        topology.bind(to_queue("e", queue, "")).unwrap();
    }
    let mut other = with_exchange(ExchangeKind::ModulusHash, 4);
    for queue in (0..4).rev() {
        other.bind(to_queue("e", queue, "")).unwrap();
    }
    let mut reached = BTreeSet::new();
    for key in 0..100 {
        let key = key.to_string();
        let queues = by_key(&topology, "e", &key);
        assert_eq!(
            queues,
            by_key(&other, "e", &key),
            "whatever the order of binding"
        );
        assert_eq!(queues.len(), 1);
        reached.extend(queues);
    }
    assert_eq!(reached.len(), 4);
}

#[test]
fn delayed_exchanges_route_as_their_delayed_type_where_the_broker_lets_pass() {
    let mut topology = with_queues(1);
    topology.declare_exchange(Exchange {
        arguments: table(&[("x-delayed-type", text("topic"))]),
        alternate: Some("amq.fanout".to_owned()),
        ..exchange("e", ExchangeKind::DelayedMessage)
    });
    topology.bind(to_queue("e", 0, "a.*")).unwrap();
    topology
        .bind(to_exchange("amq.direct", "e", "a.b"))
        .unwrap();
    assert_eq!(
        topology.exchange("e").unwrap().kind.name(),
        "x-delayed-message"
    );
    assert_eq!(by_key(&topology, "e", "a.b"), [0]);
    assert_eq!(by_key(&topology, "e", "b.a"), NOWHERE);

    let mut route = Route::new();
    let mut seen = Vec::new();
    let input = RouteInput::new(b"a.b");
    topology.route_past("amq.direct", &input, &mut route, &mut |exchange| {
        seen.push(exchange.name.clone());
        false
    });
    assert_eq!(seen, ["e"], "also when reached through another exchange");
    assert_eq!(ids(&route), NOWHERE);
    assert!(!route.cacheable);
}

#[test]
fn deduplication_and_recent_history_match_as_fanout() {
    for kind in [
        ExchangeKind::MessageDeduplication,
        ExchangeKind::RecentHistory,
    ] {
        let mut topology = with_exchange(kind, 2);
        topology.bind(to_queue("e", 0, "x")).unwrap();
        topology.bind(to_queue("e", 1, "y")).unwrap();
        assert_eq!(by_key(&topology, "e", "zz"), [0, 1]);
    }
}

#[test]
fn only_exchange_and_key_make_an_answer_cacheable() {
    for kind in ExchangeKind::all() {
        let topology = with_exchange(kind, 0);
        let mut route = Route::new();
        topology.route("e", &RouteInput::new(b"k"), &mut route);
        let expected = matches!(
            kind,
            ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic
        );
        assert_eq!(route.cacheable, expected, "{kind:?}");
    }
}

#[test]
fn what_matches_anything_goes_to_no_alternate() {
    for kind in [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
        ExchangeKind::ConsistentHash,
        ExchangeKind::Random,
        ExchangeKind::LocalRandom,
        ExchangeKind::ModulusHash,
    ] {
        // A weight where that is asked for.
        let key = match kind {
            ExchangeKind::LocalRandom => "",
            _ => "1",
        };
        let mut topology = with_alternate(kind, 1);
        assert_eq!(by_key(&topology, "e", key), [UNROUTED], "{kind:?}");
        topology.bind(to_queue("e", 0, key)).unwrap();
        assert_eq!(by_key(&topology, "e", key), [0], "{kind:?}");
        topology.unbind(&to_queue("e", 0, key));
        assert_eq!(by_key(&topology, "e", key), [UNROUTED], "{kind:?}");
        if kind == ExchangeKind::LocalRandom {
            continue;
        }
        // By way of another exchange.
        topology.bind(to_queue("amq.direct", 0, key)).unwrap();
        topology.bind(to_exchange("e", "amq.direct", key)).unwrap();
        assert_eq!(by_key(&topology, "e", key), [0], "{kind:?}");
    }
}
