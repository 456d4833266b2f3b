//! `x-consistent-hash`: weights, steadiness, and what is hashed.

use std::collections::BTreeSet;

use leveret_codec::{AMQPValue, RawTable, encode_table};
use leveret_routing::{Exchange, ExchangeKind, RouteInput, Topology};

use crate::support::{by_key, exchange, routed, table, text, to_queue, with_queues};

const KEYS: u32 = 10_000;

fn hashing(arguments: &[(&str, &str)], weights: &[&str]) -> Topology {
    let mut topology = with_queues(20);
    let arguments: Vec<_> = arguments
        .iter()
        .map(|(name, value)| (*name, text(value)))
        .collect();
    topology.declare_exchange(Exchange {
        arguments: table(&arguments),
        ..exchange("e", ExchangeKind::ConsistentHash)
    });
    for (queue, weight) in (0..).zip(weights) {
        topology.bind(to_queue("e", queue, weight)).unwrap();
    }
    topology
}

fn owners(topology: &Topology) -> Vec<u64> {
    (0..KEYS)
        .map(|key| {
            let owners = by_key(topology, "e", &format!("key-{key}"));
            assert_eq!(owners.len(), 1);
            owners[0]
        })
        .collect()
}

#[test]
fn weights_are_shares() {
    let owners = owners(&hashing(&[], &["1", "2", "3", "4"]));
    for queue in 0..4 {
        let share = owners.iter().filter(|owner| **owner == queue).count();
        let expected = KEYS as usize / 10 * (usize::try_from(queue).unwrap() + 1);
        assert!(
            share.abs_diff(expected) < 200,
            "queue {queue} has {share} of {expected}"
        );
    }
}

#[test]
fn equal_weights_share_equally() {
    let owners = owners(&hashing(&[], &["1"; 10]));
    for queue in 0..10 {
        let share = owners.iter().filter(|owner| **owner == queue).count();
        assert!(share.abs_diff(1000) < 150, "queue {queue} has {share}");
    }
}

#[test]
fn only_the_keys_of_the_new_or_leaving_queue_move() {
    let mut topology = hashing(&[], &["10", "10", "10", "5"]);
    let before = owners(&topology);
    topology.bind(to_queue("e", 4, "7")).unwrap();
    let with_fifth = owners(&topology);
    let moved: Vec<_> = before
        .iter()
        .zip(&with_fifth)
        .filter(|(one, two)| one != two)
        .collect();
    assert!(moved.iter().all(|(_, now)| **now == 4));
    assert!(
        moved.len().abs_diff(KEYS as usize * 7 / 42) < 250,
        "{} moved",
        moved.len()
    );
    topology.unbind(&to_queue("e", 4, "7"));
    assert_eq!(owners(&topology), before);
}

#[test]
fn the_order_of_binding_does_not_matter() {
    let mut other = hashing(&[], &[]);
    for (queue, weight) in [(2, "3"), (0, "1"), (1, "3")] {
        other.bind(to_queue("e", queue, weight)).unwrap();
    }
    assert_eq!(owners(&other), owners(&hashing(&[], &["1", "3", "3"])));
}

#[test]
fn keys_have_their_owners_for_ever() {
    let topology = hashing(&[], &["1", "1", "2"]);
    let owners: Vec<u64> = [
        "", "a", "b", "c", "d", "e", "f", "g", "h", "order.1", "order.2", "order.3",
    ]
    .iter()
    .map(|key| by_key(&topology, "e", key)[0])
    .collect();
    assert_eq!(owners, [2, 2, 2, 0, 0, 1, 2, 0, 2, 2, 2, 2]);
}

#[test]
fn of_two_bindings_of_one_queue_the_first_counts() {
    let mut topology = hashing(&[], &["1", "1"]);
    let before = owners(&topology);
    topology.bind(to_queue("e", 1, "100")).unwrap();
    assert_eq!(owners(&topology), before);
    topology.unbind(&to_queue("e", 1, "1"));
    assert_eq!(owners(&topology), owners(&hashing(&[], &["1", "100"])));
    topology.unbind(&to_queue("e", 1, "100"));
    assert_eq!(owners(&topology), vec![0; KEYS as usize]);
}

#[test]
fn weights_are_positive_integers() {
    let mut topology = hashing(&[], &[]);
    for (weight, error) in [
        ("", "The binding key must be an integer: <<>>"),
        ("abc", "The binding key must be an integer: <<\"abc\">>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
        ("0", "The binding key must be greater than 0"),
        ("-3", "The binding key must be greater than 0"),
    ] {
        assert_eq!(
            topology
                .bind(to_queue("e", 0, weight))
                .unwrap_err()
                .to_string(),
            error
        );
    }
    assert_eq!(topology.bindings().count(), 0);
    let huge = "9".repeat(200);
    assert_eq!(
        topology.bind(to_queue("e", 0, &huge)),
        Ok(true),
        "no memory for a weight"
    );
}

#[test]
fn a_header_or_a_property_may_decide_instead_of_the_key() {
    let spread = |owner: &mut dyn FnMut(u64) -> u64| {
        let reached: BTreeSet<u64> = (0..100).map(owner).collect();
        reached.len()
    };
    let weights = ["1", "1", "1", "1"];
    let by_id = hashing(&[("hash-property", "message_id")], &weights);
    let mut one = |number: u64| {
        let id = number.to_string();
        let input = RouteInput {
            message_id: Some(id.as_bytes()),
            ..RouteInput::new(b"same")
        };
        routed(&by_id, "e", &input)[0]
    };
    assert_eq!(spread(&mut one), 4);
    let by_time = hashing(&[("hash-property", "timestamp")], &weights);
    let mut one = |number| {
        let input = RouteInput {
            timestamp: Some(number),
            ..RouteInput::new(b"same")
        };
        routed(&by_time, "e", &input)[0]
    };
    assert_eq!(spread(&mut one), 4);
    let by_header = hashing(&[("hash-header", "h")], &weights);
    let mut one = |number: u64| {
        let value = AMQPValue::LongLongInt(i64::try_from(number).unwrap());
        let encoded = encode_table(&table(&[("h", value)]));
        let headers = Some(RawTable::from_encoded(&encoded));
        routed(
            &by_header,
            "e",
            &RouteInput {
                headers,
                ..RouteInput::new(b"same")
            },
        )[0]
    };
    assert_eq!(spread(&mut one), 4);
    let mut without = |number: u64| by_key(&by_header, "e", &number.to_string())[0];
    assert_eq!(spread(&mut without), 1, "without the header all go one way");
}
