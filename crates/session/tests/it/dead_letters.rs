//! Dead letters: why, where to, and what is written on them.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue, FieldTable};

use crate::harness::calls::{number, string, table};
use crate::harness::client::Client;
use crate::harness::{Properties, World};

fn with_letters(arguments: &[(&str, AMQPValue)]) -> (Rc<World>, Client) {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("dead", &[], &[]);
    client.bind("dead", "amq.fanout", "");
    client.expect(&["bind-ok"]);
    let exchange = [("x-dead-letter-exchange", string("amq.fanout"))];
    let arguments: Vec<_> = exchange.iter().chain(arguments).cloned().collect();
    client.declare_ok("q", &[], &arguments);
    (world, client)
}

fn text(table: &FieldTable, key: &str) -> String {
    match table.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => format!("{other:?}"),
    }
}

/// The deaths in a message's headers, the newest first: queue, reason and count.
pub(crate) fn deaths(headers: &FieldTable) -> String {
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
        return "without deaths".to_owned();
    };
    let told = deaths.as_slice().iter().map(|death| match death {
        AMQPValue::FieldTable(it) => {
            let count = it.inner().get("count");
            let count = count.and_then(leveret_codec::value_as_integer).unwrap();
            format!("{} {} {count}", text(it, "queue"), text(it, "reason"))
        }
        other => panic!("{other:?}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The next dead letter and its deaths.
fn next_dead(client: &Client, queue: &str) -> String {
    client.seen();
    client.get(queue, true);
    let seen = client.seen().remove(0);
    assert!(seen.text.starts_with("get-ok"), "{}", seen.text);
    format!("{}: {}", seen.body_text(), deaths(&seen.headers()))
}

#[test]
fn rejected() {
    let (_, client) = with_letters(&[]);
    client.publish_all("q", "a b", &Properties::default());
    client.get("q", false);
    client.get("q", false);
    client.nack(2, true, false);
    assert_eq!(next_dead(&client, "dead"), "a: q rejected 1");
    assert_eq!(next_dead(&client, "dead"), "b: q rejected 1");
}

#[test]
fn expired() {
    let (world, client) = with_letters(&[]);
    client.publish_with("q", "a", &Properties::expiring("10"));
    world.pass(10);
    assert_eq!(client.counts("dead"), (1, 0));
    // It does not expire a second time.
    world.pass(1_000);
    client.get("dead", true);
    let letter = client.seen().remove(0);
    assert_eq!(letter.properties().expiration(), &None);
    let headers = letter.headers();
    assert_eq!(text(&headers, "x-first-death-reason"), "expired");
    assert_eq!(text(&headers, "x-first-death-queue"), "q");
    assert_eq!(text(&headers, "x-first-death-exchange"), "");
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
        panic!("no x-death");
    };
    let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else {
        panic!("no death");
    };
    assert_eq!(text(death, "original-expiration"), "10");
    assert_eq!(
        death.inner().get("time"),
        Some(&AMQPValue::Timestamp(world.now().seconds() - 1))
    );
}

#[test]
fn over_the_limit() {
    let (_, client) = with_letters(&[("x-max-length", number(1))]);
    client.publish_all("q", "a b", &Properties::default());
    assert_eq!(next_dead(&client, "dead"), "a: q maxlen 1");
}

#[test]
fn refused() {
    let (_, client) = with_letters(&[
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish-dlx")),
    ]);
    client.publish_all("q", "a b", &Properties::default());
    assert_eq!(next_dead(&client, "dead"), "b: q maxlen 1");
}

#[test]
fn delivered_too_often() {
    let world = World::durable();
    let client = world.client();
    use crate::harness::calls::Flag;
    client.declare_ok("dead", &[], &[]);
    client.declare_ok(
        "q",
        &[Flag::Durable],
        &[
            ("x-queue-type", string("quorum")),
            ("x-delivery-limit", number(2)),
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string("dead")),
        ],
    );
    client.publish("q", "a");
    client.consume_ok("q", "c");
    client.expect_bodies("a");
    client.nack(1, false, true);
    client.expect_bodies("a!");
    client.nack(2, false, true);
    client.expect_bodies("a!");
    client.nack(3, false, true);
    client.expect_nothing();
    assert_eq!(next_dead(&client, "dead"), "a: q delivery_limit 1");
}

#[test]
fn the_key_stays_unless_another_is_set() {
    let (_, client) = with_letters(&[]);
    client.declare_ok("keyed", &[], &[]);
    client.bind("keyed", "amq.direct", "other");
    client.seen();
    client.declare_ok(
        "r",
        &[],
        &[
            ("x-dead-letter-exchange", string("amq.direct")),
            ("x-dead-letter-routing-key", string("other")),
        ],
    );
    client.publish("r", "a");
    client.get("r", false);
    client.reject(1, false);
    assert_eq!(next_dead(&client, "keyed"), "a: r rejected 1");
}

#[test]
fn a_second_round_counts_on() {
    let world = World::volatile();
    let client = world.client();
    let to = |queue| {
        [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string(queue)),
        ]
    };
    client.declare_ok("work", &[], &to("wait"));
    let waiting: Vec<_> = to("work")
        .into_iter()
        .chain([("x-message-ttl", number(50))])
        .collect();
    client.declare_ok("wait", &[], &waiting);
    client.publish("work", "job");
    for tag in 1..=3 {
        client.get("work", false);
        client.reject(tag, false);
        world.pass(50);
    }
    assert_eq!(
        next_dead(&client, "work"),
        "job: wait expired 3, work rejected 3"
    );
}

#[test]
fn a_circle_without_a_rejection_ends() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok(
        "q",
        &[],
        &[
            ("x-message-ttl", number(10)),
            ("x-dead-letter-exchange", string("")),
        ],
    );
    client.publish("q", "a");
    world.pass(10_000);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn order_is_kept() {
    let (_, client) = with_letters(&[("x-max-length", number(1))]);
    client.publish_all("q", "a b c d e", &Properties::default());
    client.consume_ok("dead", "c");
    client.expect_bodies("a b c d");
}

#[test]
fn order_is_kept_where_dead_letters_push_others_out() {
    let world = World::volatile();
    let client = world.client();
    let to = |queue| {
        [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string(queue)),
        ]
    };
    let with = |queue, name, value| {
        let more = [(name, number(value))];
        to(queue).into_iter().chain(more).collect::<Vec<_>>()
    };
    client.declare_ok("first", &[], &with("second", "x-message-ttl", 10));
    client.declare_ok("second", &[], &with("third", "x-max-length", 1));
    client.declare_ok("third", &[], &[]);
    client.publish("second", "x");
    client.publish_all("first", "a b", &Properties::default());
    world.pass(10);
    client.consume_ok("third", "c");
    client.expect_bodies("x a");
}

#[test]
fn a_missing_exchange_just_loses_them() {
    let client = World::volatile().client();
    client.declare_ok("q", &[], &[("x-dead-letter-exchange", string("nowhere"))]);
    client.publish("q", "a");
    client.get("q", false);
    client.seen();
    client.reject(1, false);
    client.expect_nothing();
    assert_eq!(client.counts("q"), (0, 0));
}

/// A dead letter that goes by x-dead-letter-routing-key has left all its own keys behind: where it dies again,
/// it goes by none of them.
#[test]
fn the_keys_before_a_dead_letter_routing_key_are_gone_for_good() {
    let world = World::durable();
    let client = world.client();
    for queue in ["copy", "blind", "end"] {
        client.declare_ok(queue, &[], &[]);
        client.bind(queue, "amq.direct", queue);
        client.expect(&["bind-ok"]);
    }
    let to = |exchange: &str| ("x-dead-letter-exchange", string(exchange));
    let key = ("x-dead-letter-routing-key", string("second"));
    client.declare_ok("first", &[], &[to(""), key]);
    client.declare_ok("second", &[], &[to("amq.direct")]);
    client.bind("second", "amq.direct", "second");
    client.bind("end", "amq.direct", "second");
    client.expect(&["bind-ok", "bind-ok"]);
    client.unbind("second", "amq.direct", "second");
    client.expect(&["unbind-ok"]);
    let keys = |key: &str| AMQPValue::FieldArray(vec![string(key)].into());
    let headers = table(&[("CC", keys("copy")), ("BCC", keys("blind"))]);
    let message = Properties::of(AMQPProperties::default().with_headers(headers));
    client.publish_with("first", "a", &message);
    for queue in ["copy", "blind"] {
        client.purge(queue);
    }
    client.seen();
    client.get("first", false);
    client.expect_bodies("a");
    client.reject(1, false);
    client.get("second", false);
    client.expect_bodies("a");
    client.reject(2, false);
    let ready = ["end", "copy", "blind"].map(|queue| client.counts(queue).0);
    assert_eq!(ready, [1, 0, 0]);
}
