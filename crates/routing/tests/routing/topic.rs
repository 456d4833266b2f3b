//! Topic exchanges: RabbitMQ's examples, and agreement with a matcher that tries every binding.

use leveret_routing::{ExchangeKind, Route, RouteInput};
use proptest::prelude::*;

use crate::support::{
    NOWHERE, UNROUTED, by_key, ids, or_unrouted, to_queue, with_alternate, with_queues,
};

#[test]
fn words_star_and_hash_match_as_in_rabbitmq() {
    for (pattern, matching, other) in [
        ("a.b", &["a.b"][..], &["a", "a.b.c", "", "a.b."][..]),
        ("*", &["a", "*"], &["", "a.b", ".", "a."]),
        ("#", &["", "a", "a.b", ".", "..."], &[]),
        ("a.*", &["a.b", "a."], &["a", "a.b.c"]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["", "b.a", "ab"]),
        ("#.a", &["a", "b.a", ".a", "a.a"], &["", "a.b"]),
        ("*.#", &["a", "a.b"], &[""]),
        ("#.*", &["a", "a.b"], &[""]),
        ("#.#", &["", "a", "a.b"], &[]),
        ("#.*.#", &["a", "a.b.c"], &[""]),
        ("a..b", &["a..b"], &["a.b", "a.c.b"]),
        ("a.*.b", &["a..b", "a.c.b"], &["a.b"]),
        (".", &["."], &["", "..", "a."]),
        ("", &[""], &["a", "."]),
        (
            "#.a.#.b.#",
            &["a.b", "x.a.y.b.z", "a.a.b.b"],
            &["b.a", "a", "b"],
        ),
    ] {
        let mut topology = with_alternate(ExchangeKind::Topic, 1);
        topology.bind(to_queue("e", 0, pattern)).unwrap();
        for key in matching {
            assert_eq!(
                by_key(&topology, "e", key),
                [0],
                "{pattern:?} matches {key:?}"
            );
        }
        for key in other {
            assert_eq!(
                by_key(&topology, "e", key),
                [UNROUTED],
                "{pattern:?} but not {key:?}"
            );
        }
    }
}

#[test]
fn patterns_that_explode_in_backtracking_are_matched_at_once() {
    let mut topology = with_queues(1);
    let pattern = "#.a.".repeat(40) + "#.b";
    topology.bind(to_queue("amq.topic", 0, &pattern)).unwrap();
    let key = "a.".repeat(120) + "c";
    assert_eq!(by_key(&topology, "amq.topic", &key), NOWHERE);
}

#[test]
fn more_keys_match_too_and_are_not_cacheable() {
    let mut topology = with_queues(3);
    for (queue, pattern) in [(0, "a.*"), (1, "b.*"), (2, "#.z")] {
        topology
            .bind(to_queue("amq.topic", queue, pattern))
            .unwrap();
    }
    let mut route = Route::new();
    let input = RouteInput {
        more_keys: &[b"b.z", b"c"],
        ..RouteInput::new(b"a.z")
    };
    topology.route("amq.topic", &input, &mut route);
    assert_eq!(ids(&route), [0, 1, 2]);
    assert!(!route.cacheable);
    topology.route("amq.topic", &RouteInput::new(b"a.z"), &mut route);
    assert_eq!(ids(&route), [0, 2]);
    assert!(route.cacheable);
}

fn reference_words(key: &str) -> Vec<&str> {
    if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    }
}

fn reference_matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        (["#", rest @ ..], key) => {
            (0..=key.len()).any(|skipped| reference_matches(rest, &key[skipped..]))
        }
        (["*", rest @ ..], [_, key @ ..]) => reference_matches(rest, key),
        ([word, rest @ ..], [first, key @ ..]) => word == first && reference_matches(rest, key),
        _ => false,
    }
}

fn words(alphabet: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(alphabet), 0..6).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn agrees_with_trying_every_binding(
        steps in prop::collection::vec(
            (any::<bool>(), words(&["a", "b", "", "*", "#", "#"]), 0..6_u64), 1..60),
        keys in prop::collection::vec(words(&["a", "b", "", "c", "#"]), 1..8),
    ) {
        let mut topology = with_alternate(ExchangeKind::Topic, 6);
        let mut bound: Vec<(String, u64)> = Vec::new();
        for (is_bind, pattern, queue) in steps {
            let known = bound.iter().position(|one| *one == (pattern.clone(), queue));
            if is_bind {
                let is_new = topology.bind(to_queue("e", queue, &pattern)).unwrap();
                prop_assert_eq!(is_new, known.is_none());
                if is_new {
                    bound.push((pattern, queue));
                }
            } else if let Some(known) = known {
                bound.remove(known);
                topology.unbind(&to_queue("e", queue, &pattern));
            } else if !bound.is_empty() {
                let (pattern, queue) = bound.swap_remove(usize::try_from(queue).unwrap() % bound.len());
                topology.unbind(&to_queue("e", queue, &pattern));
            }
            for key in &keys {
                let mut expected: Vec<u64> = bound.iter()
                    .filter(|(pattern, _)| {
                        reference_matches(&reference_words(pattern), &reference_words(key))
                    })
                    .map(|(_, queue)| *queue)
                    .collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(by_key(&topology, "e", key), or_unrouted(expected));
            }
        }
    }
}
