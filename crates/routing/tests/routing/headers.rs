//! Headers exchanges: RabbitMQ's rules one by one, and agreement with trying every binding.

use leveret_codec::{AMQPValue, FieldTable, RawTable, encode_table};
use leveret_routing::{BindError, Binding, ExchangeKind, RouteInput, Topology};
use proptest::prelude::*;

use crate::support::{or_unrouted, routed, table, text, to_queue, with_alternate};

fn pattern(queue: u64, arguments: FieldTable) -> Binding {
    Binding {
        arguments,
        ..to_queue("e", queue, "")
    }
}

fn by_headers(topology: &Topology, headers: &FieldTable) -> Vec<u64> {
    let encoded = encode_table(headers);
    let headers = Some(RawTable::from_encoded(&encoded));
    routed(
        topology,
        "e",
        &RouteInput {
            headers,
            ..RouteInput::default()
        },
    )
}

fn matches(arguments: &[(&str, AMQPValue)], headers: &[(&str, AMQPValue)]) -> bool {
    let mut topology = with_alternate(ExchangeKind::Headers, 1);
    topology.bind(pattern(0, table(arguments))).unwrap();
    by_headers(&topology, &table(headers)) == [0]
}

#[test]
fn all_is_the_default_and_any_needs_one() {
    let both = [("a", text("1")), ("b", text("2"))];
    let any = |pairs: &[(&'static str, AMQPValue)]| [&[("x-match", text("any"))], pairs].concat();
    assert!(matches(&both, &both));
    assert!(!matches(&both, &both[..1]));
    assert!(matches(&any(&both), &both[1..]));
    assert!(!matches(&any(&both), &[("a", text("2"))]));
    assert!(
        matches(&[], &[]) && matches(&[], &both),
        "an empty all matches everything"
    );
    assert!(!matches(&any(&[]), &both), "an empty any matches nothing");
}

#[test]
fn a_message_without_headers_matches_an_empty_all() {
    let mut topology = with_alternate(ExchangeKind::Headers, 1);
    topology.bind(pattern(0, FieldTable::default())).unwrap();
    assert_eq!(routed(&topology, "e", &RouteInput::default()), [0]);
}

#[test]
fn removing_an_empty_any_leaves_the_empty_all() {
    let mut topology = with_alternate(ExchangeKind::Headers, 1);
    let any = pattern(0, table(&[("x-match", text("any"))]));
    topology.bind(any.clone()).unwrap();
    topology.bind(pattern(0, FieldTable::default())).unwrap();
    topology.unbind(&any);
    assert_eq!(by_headers(&topology, &FieldTable::default()), [0]);
}

#[test]
fn keys_with_x_count_only_with_x() {
    let headers = [("x-a", text("1"))];
    let match_by =
        |mode, value| matches(&[("x-match", text(mode)), ("x-a", text(value))], &headers);
    assert!(match_by("all", "2") && match_by("all-with-x", "1"));
    assert!(!match_by("all-with-x", "2"));
    assert!(!match_by("any", "1") && match_by("any-with-x", "1"));
    // x-match itself is never asked for.
    assert!(matches(&[("x-match", text("all-with-x"))], &[]));
}

#[test]
fn values_compare_by_what_they_say() {
    let same = |one: AMQPValue, other: AMQPValue| matches(&[("k", one)], &[("k", other)]);
    assert!(same(AMQPValue::LongInt(5), AMQPValue::LongLongInt(5)));
    assert!(same(
        AMQPValue::LongLongInt(-5),
        AMQPValue::ShortShortInt(-5)
    ));
    assert!(same(AMQPValue::Timestamp(7), AMQPValue::Timestamp(7)));
    assert!(same(AMQPValue::Float(1.5), AMQPValue::Double(1.5)));
    assert!(
        !same(AMQPValue::LongInt(1), AMQPValue::Double(1.0)),
        "as =:= in Erlang"
    );
    assert!(!same(AMQPValue::LongInt(1), text("1")));
    assert!(!same(AMQPValue::LongInt(1), AMQPValue::Boolean(true)));
    assert!(
        same(AMQPValue::Void, text("anything")),
        "void asks for presence"
    );
    assert!(same(AMQPValue::Void, AMQPValue::Void));
    assert!(!same(text("x"), AMQPValue::Void));
    let nested = |value| AMQPValue::FieldTable(table(&[("inner", text(value))]));
    assert!(same(nested("1"), nested("1")) && !same(nested("1"), nested("2")));
    assert!(same(AMQPValue::Void, nested("1")));
}

#[test]
fn a_bad_x_match_has_rabbitmqs_text() {
    let mut topology = with_alternate(ExchangeKind::Headers, 1);
    let mut refused = |value| {
        let binding = pattern(0, table(&[("x-match", value)]));
        topology.bind(binding).unwrap_err()
    };
    let error = refused(text("zz"));
    assert_eq!(
        error,
        BindError::InvalidMatch {
            value: b"zz".to_vec()
        }
    );
    assert_eq!(
        error.to_string(),
        "Invalid x-match field value <<\"zz\">>; expected all, any, all-with-x, or any-with-x"
    );
    assert_eq!(
        refused(AMQPValue::LongInt(3)).to_string(),
        "Invalid x-match field type signedint (value 3); expected longstr"
    );
    assert!(topology.bindings().all(|binding| binding.source != "e"));
}

#[test]
fn of_headers_with_one_name_the_last_counts() {
    let mut topology = with_alternate(ExchangeKind::Headers, 2);
    topology
        .bind(pattern(0, table(&[("k", text("1"))])))
        .unwrap();
    topology
        .bind(pattern(1, table(&[("k", text("2"))])))
        .unwrap();
    let one = encode_table(&table(&[("k", text("1"))]));
    let two = encode_table(&table(&[("k", text("2"))]));
    let encoded = [one, two].concat();
    let headers = Some(RawTable::from_encoded(&encoded));
    let input = RouteInput {
        headers,
        ..RouteInput::default()
    };
    assert_eq!(routed(&topology, "e", &input), [1]);
}

fn reference_same(expected: &AMQPValue, actual: &AMQPValue) -> bool {
    let integer = |value: &AMQPValue| match value {
        AMQPValue::ShortShortInt(value) => Some(i64::from(*value)),
        AMQPValue::LongInt(value) => Some(i64::from(*value)),
        AMQPValue::LongLongInt(value) => Some(*value),
        _ => None,
    };
    match (integer(expected), integer(actual)) {
        (Some(one), Some(other)) => one == other,
        _ => expected == actual,
    }
}

fn reference_matches(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = match arguments.inner().get("x-match") {
        Some(AMQPValue::LongString(mode)) => String::from_utf8_lossy(mode.as_bytes()).into_owned(),
        _ => "all".to_owned(),
    };
    let mut results = arguments
        .into_iter()
        .filter(|(key, _)| key.as_str() != "x-match")
        .filter(|(key, _)| mode.ends_with("-with-x") || !key.as_str().starts_with("x-"))
        .map(|(key, expected)| match headers.inner().get(key) {
            Some(_) if *expected == AMQPValue::Void => true,
            Some(actual) => reference_same(expected, actual),
            None => false,
        });
    if mode.starts_with("all") {
        results.all(|holds| holds)
    } else {
        results.any(|holds| holds)
    }
}

fn value() -> impl Strategy<Value = AMQPValue> {
    prop::sample::select(vec![
        AMQPValue::LongInt(1),
        AMQPValue::LongLongInt(1),
        AMQPValue::ShortShortInt(2),
        AMQPValue::Double(1.0),
        AMQPValue::Boolean(true),
        text("1"),
        text("2"),
        AMQPValue::Void,
        AMQPValue::FieldTable(table(&[("inner", text("1"))])),
    ])
}

fn headers() -> impl Strategy<Value = FieldTable> {
    let keys = prop::sample::select(vec!["a", "b", "c", "x-d"]);
    prop::collection::vec((keys, value()), 0..5).prop_map(|entries| table(&entries))
}

fn arguments() -> impl Strategy<Value = FieldTable> {
    let modes = ["all", "any", "all-with-x", "any-with-x"];
    (
        prop::option::of(prop::sample::select(modes.to_vec())),
        headers(),
    )
        .prop_map(|(mode, mut arguments)| {
            if let Some(mode) = mode {
                arguments.insert("x-match".into(), text(mode));
            }
            arguments
        })
}

proptest! {
    #[test]
    fn agrees_with_trying_every_binding(
        steps in prop::collection::vec((0..3_u8, arguments(), 0..5_u64), 1..50),
        messages in prop::collection::vec(headers(), 1..6),
    ) {
        let mut topology = with_alternate(ExchangeKind::Headers, 5);
        let mut bound: Vec<(FieldTable, u64)> = Vec::new();
        for (verb, arguments, queue) in steps {
            if verb > 0 {
                let known = bound.contains(&(arguments.clone(), queue));
                let is_new = topology.bind(pattern(queue, arguments.clone())).unwrap();
                prop_assert_eq!(is_new, !known);
                if is_new {
                    bound.push((arguments, queue));
                }
            } else if !bound.is_empty() {
                let chosen = usize::try_from(queue).unwrap() % bound.len();
                let (arguments, queue) = bound.swap_remove(chosen);
                prop_assert_eq!(topology.unbind(&pattern(queue, arguments)).bindings.len(), 1);
            }
            for message in &messages {
                let mut expected: Vec<u64> = bound.iter()
                    .filter(|(arguments, _)| reference_matches(arguments, message))
                    .map(|(_, queue)| *queue)
                    .collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(by_headers(&topology, message), or_unrouted(expected));
            }
        }
    }
}
