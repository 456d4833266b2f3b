//! What exists, what goes with what, and the rules of binding.

use leveret_codec::FieldTable;
use leveret_routing::{
    BindError, Binding, Cleared, Destination, Exchange, ExchangeKind, QueueId, Removed, Route,
    RouteInput, Topology,
};

use crate::support::{
    NOWHERE, by_key, exchange, ids, table, text, to_exchange, to_queue, with_queues,
};

fn names(topology: &Topology) -> Vec<&str> {
    topology
        .exchanges()
        .map(|exchange| exchange.name.as_str())
        .collect()
}

#[test]
fn seven_exchanges_are_there_from_the_start() {
    let topology = Topology::new();
    let expected = [
        ("", "direct"),
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
        ("amq.rabbitmq.trace", "topic"),
    ];
    let actual: Vec<_> = topology
        .exchanges()
        .map(|one| (one.name.as_str(), one.kind.name()))
        .collect();
    assert_eq!(actual, expected);
    assert!(
        topology
            .exchanges()
            .all(|one| one.durable && !one.auto_delete)
    );
    assert!(topology.exchange("amq.rabbitmq.trace").unwrap().internal);
}

#[test]
fn the_default_exchange_leads_to_queues_by_name() {
    let mut topology = with_queues(2);
    assert_eq!(by_key(&topology, "", "q1"), [1]);
    assert_eq!(by_key(&topology, "", "zz"), NOWHERE);
    assert!(
        topology.remove_queue("q1", QueueId(7)).is_empty(),
        "another id"
    );
    assert!(
        topology.remove_queue("q1", QueueId(1)).is_empty(),
        "no binding was made"
    );
    assert_eq!(by_key(&topology, "", "q1"), NOWHERE);
    assert_eq!(topology.queues().collect::<Vec<_>>(), [("q0", QueueId(0))]);
    assert!(topology.delete_exchange("").is_empty(), "it stays");
    topology.add_queue("q1", QueueId(5));
    assert_eq!(by_key(&topology, "", "q1"), [5]);
}

#[test]
fn an_unknown_exchange_empties_the_route() {
    let topology = with_queues(1);
    let mut route = Route::new();
    assert!(topology.route("", &RouteInput::new(b"q0"), &mut route));
    assert!(route.cacheable);
    assert!(!topology.route("zz", &RouteInput::new(b"q0"), &mut route));
    assert!(route.queues.is_empty() && !route.cacheable);
}

#[test]
fn a_binding_is_source_destination_key_and_arguments() {
    let mut topology = with_queues(1);
    let one = to_queue("amq.direct", 0, "k");
    let other = Binding {
        arguments: table(&[("a", text("b"))]),
        ..one.clone()
    };
    assert_eq!(topology.bind(one.clone()), Ok(true));
    assert_eq!(topology.bind(one.clone()), Ok(false));
    assert_eq!(topology.bind(other.clone()), Ok(true));
    assert_eq!(by_key(&topology, "amq.direct", "k"), [0]);
    assert_eq!(topology.bindings().count(), 2);
    assert_eq!(topology.unbind(&one).bindings, std::slice::from_ref(&one));
    assert!(topology.unbind(&one).is_empty());
    assert_eq!(
        by_key(&topology, "amq.direct", "k"),
        [0],
        "the other still leads there"
    );
    topology.unbind(&other);
    assert_eq!(by_key(&topology, "amq.direct", "k"), NOWHERE);
}

#[test]
fn bindings_are_listed_from_both_ends() {
    let mut topology = with_queues(2);
    topology.declare_exchange(exchange("e", ExchangeKind::Fanout));
    for binding in [
        to_queue("e", 0, "x"),
        to_queue("e", 1, "y"),
        to_queue("amq.direct", 1, "z"),
        to_exchange("amq.direct", "e", "w"),
    ] {
        topology.bind(binding).unwrap();
    }
    let keys = |bindings: &mut dyn Iterator<Item = &Binding>| {
        let mut keys: Vec<_> = bindings
            .map(|one| String::from_utf8_lossy(&one.routing_key).into_owned())
            .collect();
        keys.sort_unstable();
        keys.concat()
    };
    assert_eq!(keys(&mut topology.bindings()), "wxyz");
    assert_eq!(keys(&mut topology.bindings_of_source("e")), "xy");
    assert_eq!(keys(&mut topology.bindings_of_source("zz")), "");
    let queue = Destination::Queue(QueueId(1));
    assert_eq!(keys(&mut topology.bindings_of_destination(&queue)), "yz");
    let named = Destination::Exchange("e".to_owned());
    assert_eq!(keys(&mut topology.bindings_of_destination(&named)), "w");
    assert!(topology.exchange_in_use("e") && !topology.exchange_in_use("amq.topic"));
}

#[test]
fn ends_must_exist_and_not_be_the_default_exchange() {
    let mut topology = with_queues(1);
    for (binding, error) in [
        (
            to_queue("zz", 0, ""),
            BindError::NoExchange("zz".to_owned()),
        ),
        (
            to_queue("amq.direct", 9, ""),
            BindError::NoQueue(QueueId(9)),
        ),
        (
            to_exchange("amq.direct", "zz", ""),
            BindError::NoExchange("zz".to_owned()),
        ),
        (to_queue("", 0, "k"), BindError::DefaultExchange),
        (
            to_exchange("amq.direct", "", "k"),
            BindError::DefaultExchange,
        ),
    ] {
        assert_eq!(topology.bind(binding), Err(error));
    }
    assert_eq!(topology.bindings().count(), 0);
}

#[test]
fn declaring_twice_changes_nothing() {
    let mut topology = Topology::new();
    assert!(topology.declare_exchange(exchange("e", ExchangeKind::Topic)));
    assert!(!topology.declare_exchange(exchange("e", ExchangeKind::Direct)));
    assert_eq!(topology.exchange("e").unwrap().kind, ExchangeKind::Topic);
}

#[test]
fn auto_delete_goes_with_the_last_binding_from_it_along_a_chain() {
    let mut topology = with_queues(1);
    for name in ["a", "b", "c"] {
        let auto_delete = Exchange {
            auto_delete: true,
            ..exchange(name, ExchangeKind::Fanout)
        };
        topology.declare_exchange(auto_delete);
    }
    topology.bind(to_exchange("a", "b", "")).unwrap();
    topology.bind(to_exchange("b", "c", "")).unwrap();
    assert_eq!(names(&topology).len(), 10, "never bound as source: stays");
    topology.bind(to_queue("c", 0, "")).unwrap();
    assert_eq!(by_key(&topology, "a", ""), [0]);
    let removed = topology.remove_queue("q0", QueueId(0));
    assert_eq!(removed.bindings.len(), 3);
    let gone: Vec<_> = removed
        .exchanges
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(gone, ["c", "b", "a"]);
    assert_eq!(names(&topology).len(), 7);
}

/// An exchange that goes with its last binding.
fn auto_delete(name: &str) -> Exchange {
    Exchange {
        auto_delete: true,
        ..exchange(name, ExchangeKind::Fanout)
    }
}

/// What went, a slice at a time, until all is cleared away.
fn clear(topology: &mut Topology, most: usize) -> Vec<Removed> {
    let mut all = Vec::new();
    while topology.has_leaving() {
        all.push(topology.clear_away(most));
    }
    all
}

#[test]
fn what_is_deleted_and_has_very_many_bindings_is_not_found_from_the_first_moment_on() {
    const MANY: usize = 2000;
    let mut topology = with_queues(2);
    topology.declare_exchange(exchange("e", ExchangeKind::Topic));
    for number in 0..MANY {
        let key = number.to_string();
        topology.bind(to_queue("e", 0, &key)).unwrap();
        topology.bind(to_exchange("amq.topic", "e", &key)).unwrap();
        topology.bind(to_queue("amq.direct", 0, &key)).unwrap();
    }
    topology.bind(to_queue("e", 1, "1")).unwrap();
    let first = topology.delete_exchange("e");
    assert!(first.bindings.len() < MANY && first.cleared.is_empty());
    let names: Vec<&str> = first.exchanges.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["e"]);
    assert!(topology.is_leaving("e") && topology.exchange("e").is_none());
    assert!(topology.exchange_even_leaving("e").is_some());
    assert!(topology.exchanges().all(|it| it.name != "e"));
    assert_eq!(by_key(&topology, "amq.topic", "1"), NOWHERE);
    assert!(topology.bind(to_queue("e", 1, "new")).is_err());
    assert!(!topology.declare_exchange(exchange("e", ExchangeKind::Topic)));
    assert!(topology.delete_exchange("e").is_empty());

    let removed = topology.remove_queue("q0", QueueId(0));
    assert!(topology.queues().all(|(name, _)| name != "q0"));
    assert!(topology.bind(to_queue("amq.topic", 0, "new")).is_err());
    assert!(topology.remove_queue("q0", QueueId(0)).is_empty());
    let slices = clear(&mut topology, 100);
    assert!(slices.iter().all(|it| it.bindings.len() <= 100));
    let total = first.bindings.len() + removed.bindings.len();
    let later: usize = slices.iter().map(|it| it.bindings.len()).sum();
    assert_eq!(total + later, 3 * MANY + 1);
    let cleared: Vec<&Cleared> = slices.iter().flat_map(|it| &it.cleared).collect();
    assert!(matches!(
        cleared[..],
        [Cleared::Queue(QueueId(0)), Cleared::Exchange(_)]
    ));
    assert_eq!(topology.bindings().count(), 0);
    assert!(topology.declare_exchange(exchange("e", ExchangeKind::Topic)));
}

#[test]
fn what_goes_along_goes_in_slices_too() {
    const MANY: usize = 2000;
    let name = |number: usize| format!("x{number}");
    // A chain, and as many that lead to one queue.
    for is_chain in [true, false] {
        let mut topology = with_queues(1);
        for number in 0..MANY {
            topology.declare_exchange(auto_delete(&name(number)));
            let binding = match number {
                0 => to_queue("x0", 0, ""),
                _ if is_chain => to_exchange(&name(number), &name(number - 1), ""),
                _ => to_queue(&name(number), 0, ""),
            };
            topology.bind(binding).unwrap();
        }
        let first = topology.remove_queue("q0", QueueId(0));
        assert!(first.bindings.len() < MANY, "{is_chain}");
        let slices = clear(&mut topology, 100);
        assert!(slices.iter().all(|it| it.exchanges.len() <= 101));
        let later: usize = slices.iter().map(|it| it.exchanges.len()).sum();
        assert_eq!(first.exchanges.len() + later, MANY, "{is_chain}");
        assert_eq!(topology.exchanges().count(), 7, "{is_chain}");
    }
}

#[test]
fn being_a_destination_does_not_keep_or_end_an_auto_delete_exchange() {
    let mut topology = with_queues(1);
    let auto_delete = Exchange {
        auto_delete: true,
        ..exchange("a", ExchangeKind::Fanout)
    };
    topology.declare_exchange(auto_delete);
    topology.bind(to_exchange("amq.fanout", "a", "")).unwrap();
    assert!(
        topology
            .unbind(&to_exchange("amq.fanout", "a", ""))
            .exchanges
            .is_empty()
    );
    topology.bind(to_exchange("amq.fanout", "a", "")).unwrap();
    topology.bind(to_queue("a", 0, "")).unwrap();
    let removed = topology.unbind(&to_queue("a", 0, ""));
    assert_eq!((removed.bindings.len(), removed.exchanges.len()), (2, 1));
}

#[test]
fn deleting_an_exchange_takes_its_bindings_and_reuses_its_place_safely() {
    let mut topology = with_queues(2);
    topology.declare_exchange(exchange("e", ExchangeKind::Fanout));
    topology.bind(to_exchange("amq.fanout", "e", "")).unwrap();
    topology.bind(to_exchange("e", "e", "")).unwrap();
    topology.bind(to_queue("e", 0, "")).unwrap();
    let removed = topology.delete_exchange("e");
    assert_eq!((removed.bindings.len(), removed.exchanges.len()), (3, 1));
    assert!(topology.delete_exchange("e").is_empty());
    topology.declare_exchange(exchange("f", ExchangeKind::Fanout));
    topology.bind(to_queue("f", 1, "")).unwrap();
    assert_eq!(by_key(&topology, "amq.fanout", ""), NOWHERE);
    assert_eq!(by_key(&topology, "f", ""), [1]);
}

#[test]
fn alternates_take_what_one_exchange_routes_nowhere() {
    let mut topology = with_queues(2);
    topology.declare_exchange(Exchange {
        alternate: Some("amq.fanout".to_owned()),
        arguments: FieldTable::default(),
        ..exchange("e", ExchangeKind::Direct)
    });
    topology.bind(to_queue("amq.fanout", 0, "")).unwrap();
    topology.bind(to_queue("e", 1, "k")).unwrap();
    assert_eq!(by_key(&topology, "e", "k"), [1]);
    assert_eq!(by_key(&topology, "e", "zz"), [0]);
    assert!(topology.set_alternate("e", Some("not there".to_owned())));
    assert_eq!(by_key(&topology, "e", "zz"), NOWHERE);
    assert!(topology.set_alternate("e", Some("e".to_owned())));
    assert_eq!(by_key(&topology, "e", "zz"), NOWHERE, "a cycle ends");
    assert!(!topology.set_alternate("zz", None));
}

#[test]
fn big_fanouts_are_deduplicated() {
    let mut topology = with_queues(1000);
    topology.declare_exchange(exchange("e", ExchangeKind::Fanout));
    topology.bind(to_exchange("e", "amq.fanout", "")).unwrap();
    for queue in 0..1000 {
        topology.bind(to_queue("e", queue, "")).unwrap();
        topology.bind(to_queue("amq.fanout", queue, "")).unwrap();
    }
    let mut route = Route::new();
    for _ in 0..2 {
        topology.route("e", &RouteInput::default(), &mut route);
        assert_eq!(ids(&route), (0..1000).collect::<Vec<_>>());
    }
}
