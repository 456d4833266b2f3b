//! What a queue is asked to do with messages holds whether or not somebody waits for them: every feature, each
//! way of publishing, messages that are stored and such as are not, and each kind of consumer.
//!
//! A message for which a consumer waits may go straight to it, without becoming ready; what is not stored
//! leaves no trace in the store. Neither may change what is delivered, nor what is counted.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue};
use leveret_queue::queue::statistics::QueueStatistics;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

const SELECT: u16 = 10;
const COMMIT: u16 = 20;

type Argument = (&'static str, AMQPValue);

/// How messages come to the queue `q`.
enum Way {
    Direct,
    /// By an exchange of this kind, with these arguments.
    Exchange(&'static str, Vec<Argument>),
    /// As what an exchange routes nowhere.
    Alternate,
    /// As dead letters of another queue.
    DeadLetters,
}

/// A feature of a queue or of the way to it, and what becomes of the messages a, b and c.
struct Feature {
    name: &'static str,
    way: Way,
    arguments: Vec<Argument>,
    messages: [AMQPProperties; 3],
    /// What somebody gets who has been waiting and acknowledges.
    waiting: &'static str,
    /// What somebody gets who has been waiting and does not acknowledge (no-ack).
    waiting_no_ack: &'static str,
    /// What somebody gets who comes later.
    later: &'static str,
}

/// Here, and only here, it matters whether a message has left the queue when the next one comes.
const KEYS: &str = "keys of what is in the queue";

fn plain() -> AMQPProperties {
    AMQPProperties::default()
}

fn id(id: &str) -> AMQPProperties {
    plain().with_message_id(id.into())
}

fn headers(headers: &[Argument]) -> AMQPProperties {
    plain().with_headers(table(headers))
}

fn key(key: &str) -> AMQPProperties {
    headers(&[("x-deduplication-header", string(key))])
}

fn numbered(sequence: i64) -> AMQPProperties {
    headers(&[
        ("x-producer", string("p")),
        ("x-sequence", number(sequence)),
    ])
}

fn feature(
    name: &'static str,
    arguments: &[Argument],
    messages: [AMQPProperties; 3],
    [waiting, waiting_no_ack, later]: [&'static str; 3],
) -> Feature {
    Feature {
        name,
        way: Way::Direct,
        arguments: arguments.to_vec(),
        messages,
        waiting,
        waiting_no_ack,
        later,
    }
}

fn on_the_way(
    name: &'static str,
    way: Way,
    messages: [AMQPProperties; 3],
    expected: &'static str,
) -> Feature {
    Feature {
        way,
        ..feature(name, &[], messages, [expected; 3])
    }
}

fn ways() -> Vec<Feature> {
    let three = || [plain(), plain(), plain()];
    let all = "a b c";
    let exchange = |kind, arguments: &[Argument]| Way::Exchange(kind, arguments.to_vec());
    vec![
        on_the_way("an exchange", exchange("direct", &[]), three(), all),
        on_the_way(
            "an exchange's window",
            exchange("direct", &[("x-dedup-window-ms", number(60_000))]),
            [id("1"), id("1"), id("2")],
            "a c",
        ),
        on_the_way(
            "an exchange's cache",
            exchange("x-message-deduplication", &[("x-cache-size", number(9))]),
            [key("1"), key("1"), key("2")],
            "a c",
        ),
        on_the_way(
            "numbers by an exchange",
            exchange("topic", &[]),
            [numbered(1), numbered(1), numbered(2)],
            "a c",
        ),
        on_the_way(
            "an exchange that delays nothing",
            exchange("x-delayed-message", &[("x-delayed-type", string("direct"))]),
            three(),
            all,
        ),
        on_the_way(
            "an exchange that remembers",
            exchange("x-recent-history", &[]),
            three(),
            all,
        ),
        on_the_way("an alternate exchange", Way::Alternate, three(), all),
        on_the_way("dead letters", Way::DeadLetters, three(), all),
    ]
}

fn features() -> Vec<Feature> {
    let three = || [plain(), plain(), plain()];
    let limit = ("x-max-length", number(1));
    let bytes = ("x-max-length-bytes", number(1));
    let refuse = ("x-overflow", string("reject-publish"));
    let all = "a b c";
    vec![
        feature("nothing", &[], three(), [all; 3]),
        feature(
            "a window by message id",
            &[("x-dedup-window-ms", number(60_000))],
            [id("1"), id("1"), id("2")],
            ["a c"; 3],
        ),
        // The key is free again once its message has left the queue.
        feature(
            KEYS,
            &[("x-message-deduplication", AMQPValue::Boolean(true))],
            [key("1"), key("1"), key("2")],
            ["a c", all, "a c"],
        ),
        feature(
            "numbered messages",
            &[],
            [numbered(1), numbered(1), numbered(2)],
            ["a c"; 3],
        ),
        feature(
            "a length limit",
            std::slice::from_ref(&limit),
            three(),
            [all, all, "c"],
        ),
        feature(
            "a limit in bytes",
            std::slice::from_ref(&bytes),
            three(),
            [all, all, "c"],
        ),
        feature(
            "a full queue that refuses",
            &[limit.clone(), refuse.clone()],
            three(),
            [all, all, "a"],
        ),
        feature(
            "one that refuses by bytes",
            &[bytes.clone(), refuse],
            three(),
            [all, all, "a"],
        ),
        feature(
            "a time to live of nothing",
            &[("x-message-ttl", number(0))],
            three(),
            [all, all, ""],
        ),
        feature(
            "a message's own time of nothing",
            &[],
            [plain(), plain().with_expiration("0".into()), plain()],
            [all, all, "a c"],
        ),
        feature(
            "priorities",
            &[("x-max-priority", number(5))],
            [
                plain().with_priority(1),
                plain().with_priority(1),
                plain().with_priority(3),
            ],
            [all, all, "c a b"],
        ),
        feature(
            "a delivery limit",
            &[
                ("x-queue-type", string("quorum")),
                ("x-delivery-limit", number(3)),
            ],
            three(),
            [all; 3],
        ),
        feature(
            "a single active consumer",
            &[("x-single-active-consumer", AMQPValue::Boolean(true))],
            three(),
            [all; 3],
        ),
        feature(
            "a quorum queue",
            &[("x-queue-type", string("quorum"))],
            three(),
            [all; 3],
        ),
    ]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Publishing {
    OneByOne,
    InOneRead,
    Confirmed,
    InATransaction,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waiting {
    Nobody,
    One,
    NoAck,
    /// On one connection.
    Two,
    /// On a connection each.
    TwoApart,
}

/// The queue `q`, and what is before it.
fn declare(client: &Client, feature: &Feature) {
    client.declare_ok("q", &[Flag::Durable], &feature.arguments);
    let (kind, arguments) = match &feature.way {
        Way::Direct => return,
        Way::DeadLetters => {
            let arguments = [
                ("x-message-ttl", number(0)),
                ("x-dead-letter-exchange", string("")),
                ("x-dead-letter-routing-key", string("q")),
            ];
            client.declare_ok("before", &[Flag::Durable], &arguments);
            return;
        }
        Way::Exchange(kind, arguments) => (*kind, arguments.clone()),
        Way::Alternate => {
            client.bind("q", "amq.fanout", "");
            client.expect(&["bind-ok"]);
            let alternate = ("alternate-exchange", string("amq.fanout"));
            ("topic", vec![alternate])
        }
    };
    client.declare_exchange("x", kind, &[Flag::Durable], &arguments);
    client.expect(&["exchange.declare-ok"]);
    if matches!(feature.way, Way::Exchange(..)) {
        client.bind("q", "x", "q");
        client.expect(&["bind-ok"]);
    }
}

fn publish(client: &Client, feature: &Feature, how: Publishing, delivery_mode: u8) {
    match how {
        Publishing::Confirmed => client.confirms(),
        Publishing::InATransaction => {
            client.tx(SELECT);
            client.expect(&["tx.select-ok"]);
        }
        Publishing::OneByOne | Publishing::InOneRead => {}
    }
    let (exchange, routing_key) = match feature.way {
        Way::Direct => ("", "q"),
        Way::Exchange(..) => ("x", "q"),
        Way::Alternate => ("x", "nowhere"),
        Way::DeadLetters => ("", "before"),
    };
    for (body, properties) in ["a", "b", "c"].iter().zip(&feature.messages) {
        let properties = Properties {
            exchange,
            ..Properties::of(properties.clone().with_delivery_mode(delivery_mode))
        };
        if how == Publishing::InOneRead {
            client.write(&client.publishing(routing_key, body.as_bytes(), &properties));
        } else {
            client.publish_with(routing_key, body, &properties);
        }
    }
    client.world().run();
    if how == Publishing::InATransaction {
        client.tx(COMMIT);
    }
    // What is due at once.
    client.world().pass(0);
    client.seen();
}

fn statistics(world: &World) -> QueueStatistics {
    let vhost = world.broker.vhost("/").unwrap();
    vhost.queue("q").unwrap().statistics(world.now())
}

/// What was delivered, and on which connection and with which tag.
fn delivered(clients: &[Client]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        found.extend(client.bodies().into_iter().map(|body| (body, index)));
    }
    found
}

fn check(feature: &Feature, world: &Rc<World>, how: Publishing, who: Waiting, delivery_mode: u8) {
    let said = format!(
        "{}, {how:?}, {who:?}, delivery mode {delivery_mode}",
        feature.name
    );
    let publisher = world.client();
    declare(&publisher, feature);
    let consumers: Vec<Client> = match who {
        Waiting::Nobody => Vec::new(),
        Waiting::One | Waiting::NoAck | Waiting::Two => vec![world.client()],
        Waiting::TwoApart => vec![world.client(), world.client()],
    };
    let no_ack = who == Waiting::NoAck;
    for consumer in &consumers {
        let flags: &[Flag] = if no_ack { &[Flag::NoAck] } else { &[] };
        consumer.consume("q", "first", flags, &[]);
        consumer.expect(&["consume-ok first"]);
        if who == Waiting::Two {
            consumer.consume("q", "second", flags, &[]);
            consumer.expect(&["consume-ok second"]);
        }
    }
    publish(&publisher, feature, how, delivery_mode);

    // A commit that is refused in part closes its channel.
    let observer = world.client();
    let at_once = matches!(how, Publishing::InOneRead | Publishing::InATransaction);
    let expected = match who {
        Waiting::Nobody => feature.later,
        // None of them has left the queue before the next one comes.
        Waiting::NoAck if at_once && feature.name == KEYS => feature.waiting,
        Waiting::NoAck => feature.waiting_no_ack,
        Waiting::One | Waiting::Two | Waiting::TwoApart => feature.waiting,
    };
    let expected: Vec<&str> = expected.split_whitespace().collect();
    let count = expected.len() as u64;
    if who == Waiting::Nobody {
        // What is expired behind others still counts, and is given to nobody.
        let (ready, _) = observer.counts("q");
        for _ in 0..ready {
            observer.get("q", true);
        }
        let got = observer.seen().into_iter();
        let got = got.filter(|seen| seen.text.starts_with("get-ok"));
        let got: Vec<String> = got.map(|seen| seen.body_text()).collect();
        assert_eq!(got, expected, "{said}");
    } else {
        let mut found = delivered(&consumers);
        let of_each: Vec<u64> = (0..consumers.len())
            .map(|index| found.iter().filter(|(_, on)| *on == index).count() as u64)
            .collect();
        // Several of different priorities that come at once, come by priority.
        if consumers.len() > 1 || feature.name == "priorities" {
            found.sort();
        }
        let bodies: Vec<&str> = found.iter().map(|(body, _)| body.as_str()).collect();
        assert_eq!(bodies, expected, "{said}");
        let unacknowledged = if no_ack { 0 } else { count };
        let counts = world.broker.vhost("/").unwrap().queue("q").unwrap();
        assert_eq!(counts.counts().ready, 0, "{said}");
        assert_eq!(counts.counts().unacknowledged, unacknowledged, "{said}");
        for (consumer, of_it) in consumers.iter().zip(of_each).filter(|_| !no_ack) {
            if of_it > 0 {
                consumer.ack(of_it, true);
                consumer.expect_nothing();
            }
        }
        assert_eq!(counts.counts().unacknowledged, 0, "{said}");
        let totals = statistics(world).totals;
        assert_eq!(
            totals.delivered + totals.delivered_no_ack,
            count,
            "{said}: {totals:?}"
        );
        assert_eq!(
            totals.acknowledged,
            if no_ack { 0 } else { count },
            "{said}: {totals:?}"
        );
    }
    assert_eq!(observer.counts("q").0, 0, "{said}");
    observer.delete("q", false, false);
    observer.expect(&["delete-ok 0"]);
}

/// All combinations; a new world each, so that no number is left of another.
fn check_all(worlds: &dyn Fn() -> Rc<World>) {
    use Publishing::{Confirmed, InATransaction, InOneRead, OneByOne};
    use Waiting::{NoAck, Nobody, One, Two, TwoApart};
    for feature in features().into_iter().chain(ways()) {
        for how in [OneByOne, InOneRead, Confirmed, InATransaction] {
            for who in [Nobody, One, NoAck, Two, TwoApart] {
                for delivery_mode in [1, 2] {
                    check(&feature, &worlds(), how, who, delivery_mode);
                }
            }
        }
    }
}

#[test]
fn with_a_store() {
    check_all(&World::durable);
}

#[test]
fn without_one() {
    check_all(&World::volatile);
}

/// Straight to a consumer or not, it comes back to its own priority.
#[test]
fn what_was_delivered_at_once_keeps_its_priority() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], &[("x-max-priority", number(5))]);
    client.consume_ok("q", "c");
    let with = |priority| Properties::of(AMQPProperties::default().with_priority(priority));
    client.publish_with("q", "high", &with(3));
    client.expect_bodies("high");
    client.cancel("c");
    client.seen();
    client.publish_with("q", "low", &with(1));
    client.nack(1, false, true);
    for expected in ["high", "low"] {
        client.get("q", true);
        client.expect_bodies(expected);
    }
}
