//! What a commit makes one unit: rejections with their dead letters, requeues, streams and exchanges; and
//! that nothing of it is seen, or can be taken away, before it is durable.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_broker::handle::QueueHandle;
use leveret_codec::{
    AMQPProperties, AMQPValue, FieldArray, decode_header, encode_header, write_names,
};
use leveret_deduplication::Look;
use leveret_message::{Body, Message, MessageScratch};
use leveret_queue::queue::hidden::HiddenTicket;
use leveret_store_api::{Change, CommitPoint, MessageLog};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

const SELECT: u16 = 10;
const COMMIT: u16 = 20;

/// Queues `q`, with `arguments` and dead letters to amq.fanout, and `dead` and `more` bound to that.
fn world(arguments: &[(&str, AMQPValue)]) -> (Rc<World>, Client, Client) {
    let world = World::durable_with(BrokerConfig {
        step_cost: 3,
        ..BrokerConfig::default()
    });
    let (client, other) = (world.client(), world.client());
    let letters = [("x-dead-letter-exchange", string("amq.fanout"))];
    let arguments: Vec<_> = letters.iter().chain(arguments).cloned().collect();
    client.declare_ok("q", &[Flag::Durable], &arguments);
    for queue in ["dead", "more"] {
        client.declare_ok(queue, &[Flag::Durable], &[]);
        client.bind(queue, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    client.declare_ok("r", &[Flag::Durable], &[]);
    (world, client, other)
}

fn select(client: &Client) {
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
}

fn ready(client: &Client, queues: &[&str]) -> Vec<u32> {
    queues.iter().map(|queue| client.counts(queue).0).collect()
}

const ALL: [&str; 4] = ["q", "r", "dead", "more"];

#[test]
fn a_rejection_and_its_dead_letters_are_one_unit() {
    let (world, client, other) = world(&[]);
    client.publish_with("q", "a", &Properties::persistent());
    select(&client);
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.reject(1, false);
    client.publish_with("r", "done", &Properties::persistent());
    assert_eq!(ready(&other, &ALL), [0, 0, 0, 0]);
    client.tx(COMMIT);
    client.expect_nothing();
    assert_eq!(
        ready(&other, &ALL),
        [0, 0, 0, 0],
        "nothing before it is durable"
    );
    assert_eq!(ready(&world.restarted().client(), &ALL), [1, 0, 0, 0]);
    world.commit();
    client.expect(&["commit-ok"]);
    assert_eq!(ready(&other, &ALL), [0, 1, 1, 1]);
    let after = world.restarted().client();
    assert_eq!(ready(&after, &ALL), [0, 1, 1, 1]);
    after.get("dead", true);
    let seen = after.seen().remove(0);
    assert!(seen.headers().inner().contains_key("x-death"));
}

#[test]
fn dead_letters_pass_exchanges_that_keep_something_in_the_same_unit() {
    let world = World::durable();
    let client = world.client();
    let kind = [("x-delayed-type", string("fanout"))];
    client.declare_exchange("later", "x-delayed-message", &[Flag::Durable], &kind);
    client.seen();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.bind("dead", "later", "");
    client.seen();
    let letters = [("x-dead-letter-exchange", string("later"))];
    client.declare_ok("q", &[Flag::Durable], &letters);
    client.seen();
    let delayed = AMQPProperties::default()
        .with_delivery_mode(2)
        .with_headers(table(&[("x-delay", number(50))]));
    client.publish_with("q", "a", &Properties::of(delayed));
    select(&client);
    client.get("q", false);
    client.reject(1, false);
    client.seen();
    world.hold_commits();
    client.tx(COMMIT);
    assert_eq!(ready(&world.restarted().client(), &["q", "dead"]), [1, 0]);
    world.commit();
    client.expect(&["commit-ok"]);
    let after = world.restarted();
    assert_eq!(ready(&after.client(), &["q", "dead"]), [0, 0]);
    after.pass(50);
    assert_eq!(ready(&after.client(), &["q", "dead"]), [0, 1]);
}

#[test]
fn a_requeue_is_seen_when_the_transaction_is_durable() {
    let (world, client, other) = world(&[]);
    client.publish_with("q", "a", &Properties::persistent());
    select(&client);
    client.get("q", false);
    client.seen();
    other.consume_ok("q", "c");
    world.hold_commits();
    client.nack(1, false, true);
    client.publish_with("r", "done", &Properties::persistent());
    client.tx(COMMIT);
    other.expect_nothing();
    world.commit();
    client.expect(&["commit-ok"]);
    other.expect(&["deliver c 1 redelivered 'a'"]);
}

#[test]
fn a_requeue_with_a_delay_is_in_the_unit() {
    let delays = FieldArray::from(vec![number(1_000)]);
    let (world, client, _) = world(&[("x-retry-delays", AMQPValue::FieldArray(delays))]);
    client.publish_with("q", "a", &Properties::persistent());
    select(&client);
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.nack(1, false, true);
    client.publish_with("r", "done", &Properties::persistent());
    client.tx(COMMIT);
    assert_eq!(ready(&world.restarted().client(), &["r"]), [0]);
    world.commit();
    client.expect(&["commit-ok"]);
    world.pass(999);
    assert_eq!(ready(&client, &["q", "r"]), [0, 1]);
    // What the commit decided is carried out when the broker starts.
    let earlier = world.restarted();
    assert_eq!(ready(&earlier.client(), &["q"]), [0]);
    earlier.pass(999);
    assert_eq!(ready(&earlier.client(), &["q"]), [0]);
    earlier.pass(1);
    assert_eq!(ready(&earlier.client(), &["q"]), [1]);
    // The delay that has begun is used up: after a crash there is no second one.
    world.commit();
    let after = world.restarted_at(world.now() + 1);
    let client = after.client();
    client.get("q", false);
    client.expect(&["get-ok 1 redelivered left=0 'a'"]);
    client.nack(1, false, true);
    assert_eq!(ready(&client, &["q", "dead"]), [0, 1]);
}

#[test]
fn the_delivery_limit_holds_in_a_transaction() {
    let quorum = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(0)),
    ];
    let (world, client, _) = world(&quorum);
    client.publish_with("q", "a", &Properties::persistent());
    select(&client);
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.nack(1, false, true);
    client.tx(COMMIT);
    // Without the commit it dies at the start: it was out when the broker ended, once too often as well.
    assert_eq!(ready(&world.restarted().client(), &["q", "dead"]), [0, 1]);
    world.commit();
    client.expect(&["commit-ok"]);
    assert_eq!(ready(&client, &["q", "dead"]), [0, 1]);
    assert_eq!(ready(&world.restarted().client(), &["q", "dead"]), [0, 1]);
}

#[test]
fn the_delivery_limit_is_the_same_in_a_transaction() {
    let quorum = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(2)),
    ];
    let (_, client, _) = world(&quorum);
    client.publish_with("q", "a", &Properties::persistent());
    select(&client);
    for (tag, left) in [(1, [1, 0]), (2, [1, 0]), (3, [0, 1])] {
        client.get("q", false);
        client.nack(tag, false, true);
        client.tx(COMMIT);
        client.seen();
        assert_eq!(ready(&client, &["q", "dead"]), left, "after {tag}");
    }
}

#[test]
fn dead_letters_of_a_transaction_do_not_go_in_circles() {
    let circle = [
        ("x-queue-type", string("quorum")),
        ("x-delivery-limit", number(0)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("circle")),
    ];
    let (_, client, _) = world(&[]);
    client.declare_ok("circle", &[Flag::Durable], &circle);
    client.publish_with("circle", "a", &Properties::persistent());
    client.publish_with("circle", "b", &Properties::persistent());
    select(&client);
    client.get("circle", false);
    client.get("circle", false);
    client.nack(1, false, true);
    // What was rejected may come around.
    client.reject(2, false);
    client.tx(COMMIT);
    client.seen();
    assert_eq!(ready(&client, &["circle"]), [1]);
    client.get("circle", true);
    assert_eq!(client.seen()[0].body_text(), "b");
}

#[test]
fn a_commit_that_was_durable_before_its_connection_went_shows() {
    let (world, client, other) = world(&[]);
    client.publish_with("q", "old", &Properties::persistent());
    select(&client);
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.ack(1, false);
    client.publish_with("r", "a", &Properties::persistent());
    client.tx(COMMIT);
    world.store().commit();
    client.vanish();
    assert_eq!(ready(&other, &["q", "r"]), [0, 1]);
    assert_eq!(ready(&world.restarted().client(), &["q", "r"]), [0, 1]);
}

#[test]
fn queues_streams_and_exchanges_are_in_one_unit() {
    for committed in [false, true] {
        let (world, client, _) = world(&[]);
        let kind = [("x-delayed-type", string("direct"))];
        client.declare_exchange("later", "x-delayed-message", &[Flag::Durable], &kind);
        client.bind("r", "later", "k");
        client.seen();
        client.declare_ok("s", &[Flag::Durable], &[("x-queue-type", string("stream"))]);
        client.publish_with("q", "a", &Properties::persistent());
        select_after(&client);
        client.get("q", false);
        world.hold_commits();
        client.ack(1, false);
        client.publish_with("s", "streamed", &Properties::persistent());
        client.publish_with("dead", "queued", &Properties::persistent());
        let headers = table(&[("x-delay", number(10))]);
        let delayed = AMQPProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers);
        let delayed = Properties {
            exchange: "later",
            ..Properties::of(delayed)
        };
        client.publish_with("k", "delayed", &delayed);
        client.tx(COMMIT);
        if committed {
            world.commit();
        }
        let after = world.restarted();
        after.pass(10);
        let client = after.client();
        let expected = if committed { [0, 1, 1] } else { [1, 0, 0] };
        assert_eq!(ready(&client, &["q", "dead", "r"]), expected);
        client.qos_ok(10, false);
        let first = [("x-stream-offset", string("first"))];
        client.consume("s", "c", &[], &first);
        client.expect_first("consume-ok c");
        let streamed = if committed { "streamed" } else { "" };
        assert_eq!(client.bodies().join(" "), streamed);
    }
}

fn select_after(client: &Client) {
    client.tx(SELECT);
    client.seen();
}

#[test]
fn what_is_not_durable_is_neither_counted_purged_nor_dropped() {
    let limited = [("x-max-length", number(2)), ("x-message-ttl", number(100))];
    let (world, client, other) = world(&limited);
    select(&client);
    world.hold_commits();
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("q", "b", &Properties::persistent());
    client.tx(COMMIT);
    assert_eq!(ready(&other, &["q"]), [0]);
    other.publish_all("q", "x y", &Properties::persistent());
    assert_eq!(ready(&other, &["q"]), [2]);
    other.purge("q");
    world.pass(200);
    let third = world.client();
    assert_eq!(ready(&third, &["q"]), [0]);
    world.commit();
    other.expect(&["purge-ok 2"]);
    client.expect(&["commit-ok"]);
    // Only now their time begins.
    world.pass(99);
    assert_eq!(ready(&other, &["q", "dead"]), [2, 0]);
    world.pass(1);
    assert_eq!(ready(&other, &["q", "dead"]), [0, 2]);
}

#[test]
fn a_commit_whose_client_is_gone_is_not_seen_before_it_is_durable() {
    let (world, client, other) = world(&[]);
    client.publish_with("q", "old", &Properties::persistent());
    other.consume_ok("r", "c");
    select(&client);
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.publish_with("r", "a", &Properties::persistent());
    client.nack(1, false, true);
    client.tx(COMMIT);
    client.vanish();
    world.pass(1_000);
    other.expect_nothing();
    assert_eq!(ready(&other, &["q"]), [0]);
    world.commit();
    other.expect_bodies("a");
    assert_eq!(other.counts("q"), (1, 0));
}

#[test]
fn a_transaction_larger_than_allowed_is_refused_as_a_whole() {
    let world = World::durable_with(BrokerConfig {
        transaction_bytes_max: 10_000,
        ..BrokerConfig::default()
    });
    let (client, other) = (world.client(), world.client());
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("r", &[Flag::Durable], &[]);
    client.publish_with("q", "old", &Properties::persistent());
    select(&client);
    client.get("q", false);
    client.ack(1, false);
    client.seen();
    let large = "x".repeat(6_000);
    client.publish("r", &large);
    client.expect_nothing();
    client.publish("r", &large);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - transaction is larger than the 10000 bytes allowed",
    );
    assert_eq!(ready(&other, &["q", "r"]), [1, 0]);
    other.get("q", true);
    other.expect(&["get-ok 1 redelivered left=0 'old'"]);
    // The channel's next transaction begins with nothing.
    select(&client);
    client.publish("r", &large);
    client.tx(COMMIT);
    client.expect(&["commit-ok"]);
    assert_eq!(ready(&other, &["r"]), [1]);
}

/// A persistent message to a queue by its name.
fn message(queue: &str, body: &str) -> Message {
    let mut names = Vec::new();
    write_names(&mut names, b"", queue.as_bytes());
    let properties = AMQPProperties::default().with_delivery_mode(2);
    let payload = encode_header(body.len() as u64, &properties);
    Message::compose(
        &mut MessageScratch::default(),
        &names,
        &decode_header(&payload).unwrap(),
        Body::Borrowed(body.as_bytes()),
    )
}

/// Between a transaction's messages entering their queue and their being staged anything may happen to the
/// queue; `meanwhile` does, and the rest of the commit follows.
fn interrupted(
    arguments: &[(&str, AMQPValue)],
    meanwhile: impl Fn(&World, &Client, &QueueHandle),
) -> Rc<World> {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], arguments);
    let queue = world.broker.vhost("/").unwrap().queue("q").unwrap();
    let ticket = HiddenTicket(u64::MAX);
    let mut changes: Vec<Change<Message>> = Vec::new();
    let messages = ["a", "b"].map(|body| message("q", body));
    let messages = messages.into_iter();
    queue.enter(ticket, messages, Look::Published, world.now(), &mut changes);
    meanwhile(&world, &client, &queue);
    world.run();
    let point: CommitPoint = world.store().stage(&mut changes);
    queue.staged(ticket, point);
    world.run();
    queue.show(ticket);
    queue.deliver_shown(world.now());
    world.run();
    world
}

fn left(world: &Rc<World>) -> String {
    let client = world.client();
    for _ in 0..client.counts("q").0 {
        client.get("q", true);
    }
    let seen = client.seen().into_iter();
    let bodies = seen.filter(|it| it.text.starts_with("get-ok"));
    bodies
        .map(|it| it.body_text())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn nothing_takes_a_message_away_before_it_is_staged() {
    let purged = interrupted(&[], |_, client, _| {
        client.publish_with("q", "before", &Properties::persistent());
        client.purge("q");
        client.expect(&["purge-ok 1"]);
    });
    let limited = interrupted(&[("x-max-length", number(2))], |_, client, _| {
        client.publish_all("q", "c d e", &Properties::persistent());
    });
    let expired = interrupted(&[("x-message-ttl", number(10))], |world, client, queue| {
        world.pass(50);
        queue.handle_timeout(world.now());
        client.get("q", true);
        client.expect(&["get-empty"]);
    });
    for (world, expected) in [(purged, "a b"), (limited, "d e"), (expired, "")] {
        world.pass(11);
        // What is in memory and what is on the disk are the same.
        assert_eq!(left(&world.restarted()), expected);
        assert_eq!(left(&world), expected);
        assert_eq!(left(&world.restarted()), "");
    }
}

#[test]
fn a_queue_deleted_before_a_transaction_is_staged_leaves_no_log() {
    for kind in ["classic", "stream"] {
        let arguments = [("x-queue-type", string(kind))];
        let world = interrupted(&arguments, |_, client, _| {
            client.delete("q", false, false);
            client.expect(&["delete-ok 0"]);
        });
        assert_eq!(MessageLog::logs(world.store()), [], "{kind}");
    }
}
