//! The firehose: what `amq.rabbitmq.trace` gets to see, and when it sees nothing.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_broker::definitions_import::Plan;
use leveret_codec::{AMQPProperties, AMQPValue, FieldArray, FieldTable};

use crate::harness::calls::{Flag, string, table};
use crate::harness::{Client, Properties, World};

/// A traced world with a queue `q`, and a queue `trace` bound by `key`.
fn traced(world: &Rc<World>, key: &str) -> Client {
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    client.declare_ok("trace", &[], &[]);
    client.bind("trace", "amq.rabbitmq.trace", key);
    client.expect(&["bind-ok"]);
    assert!(world.broker.set_tracing("/", true));
    client
}

struct Sighting {
    headers: FieldTable,
    body: String,
}

/// What the queue `trace` holds, taken without being traced itself.
fn sightings(client: &Client) -> Vec<Sighting> {
    let earlier = client.seen();
    let (ready, _) = client.counts("trace");
    for _ in 0..ready {
        client.get("trace", true);
    }
    let seen = client.seen();
    drop(earlier);
    seen.iter()
        .map(|seen| Sighting {
            headers: seen.headers(),
            body: seen.body_text(),
        })
        .collect()
}

fn text(headers: &FieldTable, name: &str) -> String {
    match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

fn texts(headers: &FieldTable, name: &str) -> Vec<String> {
    match headers.inner().get(name) {
        Some(AMQPValue::FieldArray(array)) => array
            .as_slice()
            .iter()
            .map(|value| match value {
                AMQPValue::LongString(text) => text.to_string(),
                other => panic!("{other:?} in {name}"),
            })
            .collect(),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn a_publish_is_seen_with_all_that_is_known_of_it() {
    let world = World::volatile();
    let client = traced(&world, "publish.amq.topic");
    client.declare_ok("other", &[], &[]);
    client.bind("q", "amq.topic", "a.*");
    client.bind("other", "amq.topic", "#");
    let copies = |key| AMQPValue::FieldArray(FieldArray::from(vec![string(key)]));
    let headers = [
        ("CC", copies("a.c")),
        ("BCC", copies("hidden")),
        ("h", string("v")),
    ];
    let properties = AMQPProperties::default()
        .with_content_type("text/plain".into())
        .with_delivery_mode(2)
        .with_timestamp(1_700_000_000)
        .with_headers(table(&headers));
    let message = Properties {
        exchange: "amq.topic",
        ..Properties::of(properties)
    };
    client.publish_with("a.b", "the body", &message);
    let seen = sightings(&client);
    assert_eq!(seen.len(), 1);
    let Sighting { headers, body } = &seen[0];
    assert_eq!(body, "the body");
    assert_eq!(text(headers, "exchange_name"), "amq.topic");
    assert_eq!(texts(headers, "routing_keys"), ["a.b", "a.c", "hidden"]);
    let mut queues = texts(headers, "routed_queues");
    queues.sort();
    assert_eq!(queues, ["other", "q"]);
    assert_eq!(text(headers, "vhost"), "/");
    assert_eq!(text(headers, "user"), "guest");
    assert_eq!(text(headers, "node"), "leveret@localhost");
    assert!(text(headers, "connection").contains(" -> "));
    let inner = headers.inner();
    assert_eq!(inner.get("channel"), Some(&AMQPValue::LongInt(1)));
    assert_eq!(inner.get("redelivered"), None);
    let Some(AMQPValue::FieldTable(properties)) = inner.get("properties") else {
        panic!("no properties");
    };
    assert_eq!(text(properties, "content_type"), "text/plain");
    let number = |name: &str| properties.inner().get(name).cloned();
    assert_eq!(number("delivery_mode"), Some(AMQPValue::LongInt(2)));
    assert_eq!(number("timestamp"), Some(AMQPValue::LongInt(1_700_000_000)));
    assert_eq!(number("priority"), None);
    let Some(AMQPValue::FieldTable(own)) = properties.inner().get("headers") else {
        panic!("no headers");
    };
    assert_eq!(text(own, "h"), "v");
    assert_eq!(own.inner().get("BCC"), None);
}

#[test]
fn deliveries_are_seen_by_consumers_and_by_get() {
    let world = World::volatile();
    let client = traced(&world, "deliver.q");
    client.publish("q", "a");
    client.publish("q", "b");
    client.get("q", false);
    client.nack(1, false, true);
    client.seen();
    client.consume_ok("q", "c");
    client.expect_bodies("a! b");
    let seen = sightings(&client);
    let bodies: Vec<&str> = seen.iter().map(|it| it.body.as_str()).collect();
    assert_eq!(bodies, ["a", "a", "b"]);
    let redelivered: Vec<_> = seen
        .iter()
        .map(|it| it.headers.inner().get("redelivered").cloned())
        .collect();
    let number = |it| Some(AMQPValue::LongInt(it));
    assert_eq!(redelivered, [number(0), number(1), number(0)]);
    assert_eq!(text(&seen[0].headers, "exchange_name"), "");
    assert_eq!(texts(&seen[0].headers, "routing_keys"), ["q"]);
    assert_eq!(seen[0].headers.inner().get("routed_queues"), None);
}

#[test]
fn what_reaches_nobody_is_seen_too() {
    let world = World::volatile();
    let client = traced(&world, "publish.");
    client.publish_with("nowhere", "a", &Properties::default().mandatory());
    client.expect(&["return 312 NO_ROUTE 'a'"]);
    let seen = sightings(&client);
    assert_eq!(seen.len(), 1);
    assert!(texts(&seen[0].headers, "routed_queues").is_empty());
}

#[test]
fn what_is_traced_is_not_traced_again() {
    let world = World::volatile();
    let client = traced(&world, "#");
    let other = world.client();
    other.consume_ok("trace", "t");
    other.seen();
    client.publish("q", "a");
    client.get("q", true);
    client.expect_bodies("a");
    other.expect_bodies("a a");
}

#[test]
fn a_consumer_of_its_own_traces_gets_each_once() {
    let world = World::volatile();
    let client = traced(&world, "#");
    client.consume_ok("trace", "t");
    client.seen();
    client.publish_all("q", "a b", &Properties::default());
    client.expect_bodies("a b");
}

#[test]
fn transactions_are_seen_as_they_publish() {
    let world = World::durable();
    let client = traced(&world, "publish.#");
    client.tx(10);
    client.publish("q", "a");
    client.seen();
    assert_eq!(sightings(&client).len(), 1);
    client.tx(30);
    client.seen();
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn exchanges_that_keep_something_are_traced_once() {
    let world = World::durable();
    let client = traced(&world, "publish.#");
    client.declare_exchange("talk", "x-recent-history", &[Flag::Durable], &[]);
    client.bind("q", "talk", "");
    client.seen();
    client.publish_with("k", "a", &Properties::to("talk"));
    let seen = sightings(&client);
    assert_eq!(seen.len(), 1);
    assert_eq!(texts(&seen[0].headers, "routed_queues"), ["q"]);
}

#[test]
fn tracing_is_off_unless_asked_for_and_after_a_restart() {
    let world = World::durable();
    let client = traced(&world, "#");
    world.broker.set_tracing("/", false);
    client.publish("q", "a");
    client.get("q", true);
    assert!(sightings(&client).is_empty());
    world.broker.set_tracing("/", true);
    client.publish("q", "a");
    assert_eq!(sightings(&client).len(), 1);
    assert!(!world.broker.set_tracing("nowhere", true));

    let after = world.restarted();
    assert!(!after.broker.vhost("/").unwrap().is_traced());
}

#[test]
fn the_configuration_and_definitions_switch_it() {
    let config = BrokerConfig {
        traced_vhosts: vec!["watched".to_owned()],
        ..BrokerConfig::default()
    };
    let world = World::durable_with(config);
    world.broker.create_vhost("watched").unwrap();
    let is_traced = |world: &World, name| world.broker.vhost(name).unwrap().is_traced();
    assert!(is_traced(&world, "watched"));
    let import = |json: &str| {
        let plan = Plan::parse(json.as_bytes()).unwrap();
        world.broker.import(&plan, world.now()).unwrap();
    };
    import(
        r#"{"vhosts": [{"name": "watched", "tracing": false}, {"name": "/", "tracing": true}]}"#,
    );
    assert!(!is_traced(&world, "watched"));
    assert!(is_traced(&world, "/"));
    import(r#"{"vhosts": [{"name": "/"}]}"#);
    assert!(is_traced(&world, "/"));
    world.commit();
    assert!(is_traced(&world.restarted(), "watched"));
}
