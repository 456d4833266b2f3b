//! What a transaction brings reaches consumers that wait before a limit or its time takes it; what a limit refuses
//! makes the commit an error.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue};

use crate::dead_letters::deaths;
use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

const SELECT: u16 = 10;
const COMMIT: u16 = 20;
const PARTIAL: &str = "PRECONDITION_FAILED - partial tx completion";

/// The queue `q` with these arguments, and whose dead letters go to `dead`; who commits, and somebody else.
fn world(arguments: &[(&'static str, AMQPValue)]) -> (Rc<World>, Client, Client) {
    let world = World::durable();
    let (client, other) = (world.client(), world.client());
    let mut arguments = arguments.to_vec();
    arguments.push(("x-dead-letter-exchange", string("")));
    arguments.push(("x-dead-letter-routing-key", string("dead")));
    client.declare_ok("q", &[Flag::Durable], &arguments);
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("r", &[Flag::Durable], &[]);
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    (world, client, other)
}

fn expiring(milliseconds: &str) -> Properties {
    let properties = AMQPProperties::default().with_delivery_mode(2);
    Properties::of(properties.with_expiration(milliseconds.into()))
}

fn ready(client: &Client, queues: &[&str]) -> Vec<u32> {
    queues.iter().map(|queue| client.counts(queue).0).collect()
}

/// Everything that is ready, each with its deaths.
fn dead(client: &Client, queue: &str) -> Vec<String> {
    client.seen();
    let (count, _) = client.counts(queue);
    (0..count).for_each(|_| client.get(queue, true));
    let seen = client.seen();
    let told = seen
        .iter()
        .map(|it| format!("{}: {}", it.body_text(), deaths(&it.headers())));
    told.collect()
}

fn kinds() -> Vec<Vec<(&'static str, AMQPValue)>> {
    let mut kinds = Vec::new();
    for queue_type in ["classic", "quorum"] {
        for limit in ["x-max-length", "x-max-length-bytes"] {
            for overflow in ["drop-head", "reject-publish"] {
                kinds.push(vec![
                    ("x-queue-type", string(queue_type)),
                    (limit, number(2)),
                    ("x-overflow", string(overflow)),
                ]);
            }
        }
    }
    kinds
}

#[test]
fn consumers_that_wait_come_before_limits() {
    for arguments in kinds() {
        for message in [Properties::default(), Properties::persistent()] {
            let (world, client, other) = world(&arguments);
            other.consume("q", "c", &[Flag::NoAck], &[]);
            other.expect(&["consume-ok c"]);
            world.hold_commits();
            client.publish_all("q", "1 2 3 4 5 6 7 8 9", &message);
            client.tx(COMMIT);
            world.commit();
            client.expect(&["commit-ok"]);
            other.expect_bodies("1 2 3 4 5 6 7 8 9");
            assert_eq!(ready(&other, &["q", "dead"]), [0, 0], "{arguments:?}");
        }
    }
}

#[test]
fn what_must_not_be_seen_yet_counts_for_no_limit() {
    for limit in ["x-max-length", "x-max-length-bytes"] {
        let (world, client, other) = world(&[(limit, number(2))]);
        other.publish("q", "a");
        world.hold_commits();
        client.publish_all("q", "b c", &Properties::persistent());
        client.tx(COMMIT);
        other.publish("q", "d");
        assert_eq!(ready(&other, &["q"]), [2], "{limit}");
        world.commit();
        client.expect(&["commit-ok"]);
        assert_eq!(
            dead(&other, "q"),
            ["c: without deaths", "d: without deaths"]
        );
    }
}

#[test]
fn limits_hold_for_what_consumers_do_not_take() {
    for queue_type in ["classic", "quorum"] {
        let limited = [
            ("x-queue-type", string(queue_type)),
            ("x-max-length", number(2)),
        ];
        let (_, client, other) = world(&limited);
        other.qos_ok(3, false);
        other.consume_ok("q", "c");
        client.publish_all("q", "1 2 3 4 5 6 7 8", &Properties::persistent());
        client.tx(COMMIT);
        client.expect(&["commit-ok"]);
        other.expect_bodies("1 2 3");
        assert_eq!(
            dead(&client, "q"),
            ["7: without deaths", "8: without deaths"]
        );
        let expected = ["4", "5", "6"].map(|body| format!("{body}: q maxlen 1"));
        assert_eq!(dead(&client, "dead"), expected);
    }
}

#[test]
fn what_consumers_will_take_is_not_refused() {
    for (prefetch, global) in [(3, false), (3, true)] {
        let refusing = [
            ("x-max-length", number(2)),
            ("x-overflow", string("reject-publish")),
        ];
        let (world, client, other) = world(&refusing);
        other.qos_ok(prefetch, global);
        other.consume_ok("q", "c");
        world.hold_commits();
        client.publish_all("q", "1 2 3 4 5", &Properties::persistent());
        client.tx(COMMIT);
        world.commit();
        client.expect(&["commit-ok"]);
        other.expect_bodies("1 2 3");
        client.publish("q", "6");
        client.tx(COMMIT);
        world.commit();
        client.expect_channel_error(406, PARTIAL);
        other.ack(3, true);
        other.expect_bodies("4 5");
    }
}

/// What is left to be taken counts, and not what has been.
#[test]
fn what_was_taken_before_makes_no_room() {
    let refusing = [
        ("x-max-priority", number(1)),
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    let (world, client, other) = world(&refusing);
    let kept = [("x-recent-history-length", number(1))];
    client.declare_exchange("past", "x-recent-history", &[], &kept);
    client.bind("q", "past", "q");
    client.seen();
    let consumer = world.client();
    consumer.qos_ok(2, false);
    consumer.consume_ok("q", "c");
    other.confirms();
    world.hold_commits();
    client.publish("q", "low");
    client.tx(COMMIT);
    let high = Properties {
        exchange: "past",
        ..Properties::priority(1)
    };
    other.publish_with("q", "high", &high);
    consumer.expect_bodies("high");
    other.publish_all("q", "a b", &Properties::default());
    world.commit();
    client.expect(&["commit-ok"]);
    other.expect(&["ack 1", "ack 2", "nack 3"]);
    consumer.expect_bodies("low");
    assert_eq!(ready(&other, &["q"]), [1]);
}

#[test]
fn others_are_not_refused_for_what_is_about_to_be_taken() {
    let refusing = [
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    let (world, client, other) = world(&refusing);
    let consumer = world.client();
    consumer.qos_ok(2, false);
    consumer.consume_ok("q", "c");
    other.confirms();
    world.hold_commits();
    client.publish_all("q", "1 2", &Properties::default());
    client.tx(COMMIT);
    other.publish("q", "3");
    other.publish("q", "4");
    world.commit();
    client.expect(&["commit-ok"]);
    consumer.expect_bodies("1 2");
    other.expect(&["ack 1", "nack 2"]);
    assert_eq!(ready(&other, &["q"]), [1]);
}

#[test]
fn dead_letters_of_a_commit_reach_consumers_before_limits() {
    for arguments in kinds() {
        let (world, client, other) = world(&[]);
        client.declare_ok("letters", &[Flag::Durable], &arguments);
        let reject = [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string("letters")),
        ];
        client.declare_ok("work", &[Flag::Durable], &reject);
        other.publish_all("work", "1 2 3 4 5 6", &Properties::persistent());
        other.consume("letters", "c", &[Flag::NoAck], &[]);
        other.expect(&["consume-ok c"]);
        (0..6).for_each(|_| client.get("work", false));
        client.seen();
        world.hold_commits();
        client.nack(6, true, false);
        client.tx(COMMIT);
        other.expect_nothing();
        world.commit();
        client.expect(&["commit-ok"]);
        other.expect_bodies("1 2 3 4 5 6");
    }
}

#[test]
fn no_time_to_live_is_enough_for_a_consumer_that_waits() {
    for arguments in [vec![], vec![("x-message-ttl", number(0))]] {
        let by_message = arguments.is_empty();
        let (world, client, other) = world(&arguments);
        other.consume("q", "c", &[Flag::NoAck], &[]);
        other.expect(&["consume-ok c"]);
        world.hold_commits();
        for body in ["a", "b", "c"] {
            let message = if by_message {
                expiring("0")
            } else {
                Properties::persistent()
            };
            client.publish_with("q", body, &message);
        }
        client.tx(COMMIT);
        world.pass(5_000);
        world.commit();
        client.expect(&["commit-ok"]);
        other.expect_bodies("a b c");
        other.cancel("c");
        client.publish_with("q", "d", &expiring("0"));
        client.tx(COMMIT);
        world.commit();
        world.pass(0);
        assert_eq!(dead(&other, "dead"), ["d: q expired 1"]);
    }
}

#[test]
fn times_to_live_begin_when_the_commit_is_durable() {
    let (world, client, other) = world(&[("x-message-ttl", number(500))]);
    world.hold_commits();
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("q", "b", &expiring("100"));
    client.publish("q", "c");
    client.tx(COMMIT);
    world.pass(5_000);
    world.commit();
    world.pass(499);
    assert_eq!(ready(&other, &["q"]), [3]);
    world.pass(1);
    world.commit();
    assert_eq!(ready(&other, &["q", "dead"]), [0, 3]);
}

#[test]
fn delays_of_retries_begin_when_the_commit_is_durable() {
    let delays = AMQPValue::FieldArray(vec![number(1000)].into());
    let (world, client, other) = world(&[("x-retry-delays", delays)]);
    other.publish_with("q", "a", &Properties::persistent());
    client.get("q", false);
    client.seen();
    world.hold_commits();
    client.nack(1, false, true);
    client.tx(COMMIT);
    world.pass(5_000);
    world.commit();
    world.pass(999);
    assert_eq!(ready(&other, &["q"]), [0]);
    world.pass(1);
    assert_eq!(ready(&other, &["q"]), [1]);
}

#[test]
fn what_a_full_queue_refuses_makes_a_commit_partial() {
    for queue_type in ["classic", "quorum"] {
        for overflow in ["reject-publish", "reject-publish-dlx"] {
            let refusing = [
                ("x-queue-type", string(queue_type)),
                ("x-max-length", number(1)),
                ("x-overflow", string(overflow)),
            ];
            let (world, client, other) = world(&refusing);
            other.publish_with("r", "old", &Properties::persistent());
            client.get("r", false);
            client.seen();
            world.hold_commits();
            client.ack(1, false);
            client.publish_all("q", "a b c", &Properties::persistent());
            client.publish_with("r", "d", &Properties::persistent());
            client.tx(COMMIT);
            client.expect_nothing();
            assert_eq!(ready(&other, &["q", "r", "dead"]), [0, 0, 0]);
            world.commit();
            client.expect_channel_error(406, PARTIAL);
            world.commit();
            // All else has happened.
            let refused = u32::from(overflow == "reject-publish-dlx") * 2;
            assert_eq!(ready(&other, &["q", "r", "dead"]), [1, 1, refused]);
            let after = world.restarted().client();
            assert_eq!(ready(&after, &["q", "r", "dead"]), [1, 1, refused]);
            let letters = dead(&after, "dead");
            assert!(
                letters.iter().all(|it| it.ends_with("q maxlen 1")),
                "{letters:?}"
            );
        }
    }
}

#[test]
fn a_partial_commit_whose_client_has_gone_happens_all_the_same() {
    let refusing = [
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish-dlx")),
    ];
    let (world, client, other) = world(&refusing);
    world.hold_commits();
    client.publish_all("q", "a b", &Properties::persistent());
    client.tx(COMMIT);
    client.vanish();
    assert_eq!(ready(&other, &["q", "dead"]), [0, 0]);
    world.commit();
    world.commit();
    assert_eq!(ready(&other, &["q", "dead"]), [1, 1]);
}

#[test]
fn past_exchanges_that_keep_something_the_same_holds() {
    let refusing = [
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish-dlx")),
    ];
    let (world, client, other) = world(&refusing);
    let kept = [("x-recent-history-length", number(5))];
    client.declare_exchange("past", "x-recent-history", &[Flag::Durable], &kept);
    client.bind("q", "past", "q");
    client.seen();
    other.consume_ok("q", "c");
    client.publish_all("q", "1 2 3", &Properties::to("past"));
    client.tx(COMMIT);
    client.expect(&["commit-ok"]);
    other.expect_bodies("1 2 3");
    other.cancel("c");
    other.expect(&["cancel-ok c"]);
    world.hold_commits();
    client.publish_all("q", "4 5", &Properties::to("past"));
    client.tx(COMMIT);
    assert_eq!(ready(&other, &["q", "dead"]), [0, 0]);
    world.commit();
    client.expect_channel_error(406, PARTIAL);
    world.commit();
    assert_eq!(ready(&other, &["q", "dead"]), [1, 1]);
}

#[test]
fn a_full_dead_letter_queue_is_not_the_publishers_concern() {
    let (_, client, other) = world(&[]);
    let refusing = [
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    client.delete("dead", false, false);
    client.seen();
    client.declare_ok("dead", &[Flag::Durable], &refusing);
    other.publish_all("q", "a b", &Properties::persistent());
    client.get("q", false);
    client.get("q", false);
    client.seen();
    client.nack(2, true, false);
    client.tx(COMMIT);
    client.expect(&["commit-ok"]);
    assert_eq!(ready(&other, &["q", "dead"]), [0, 1]);
}

#[test]
fn what_lives_for_no_time_takes_no_room() {
    for overflow in ["drop-head", "reject-publish"] {
        let limited = [
            ("x-max-length", number(1)),
            ("x-overflow", string(overflow)),
        ];
        // By a commit, and published together.
        for commits in [true, false] {
            let (world, client, other) = world(&limited);
            other.confirms();
            let publisher = if commits { &client } else { &other };
            publisher.publish_all("q", "a b c", &expiring("0"));
            if commits {
                client.tx(COMMIT);
                client.expect(&["commit-ok"]);
            } else {
                let confirmed = other.lines();
                assert!(
                    confirmed.iter().all(|it| it.starts_with("ack")),
                    "{confirmed:?}"
                );
            }
            world.pass(0);
            let expected = ["a", "b", "c"].map(|body| format!("{body}: q expired 1"));
            assert_eq!(dead(&other, "dead"), expected, "{overflow} {commits}");
        }
    }
}

#[test]
fn what_lives_for_no_time_stays_behind_what_lives() {
    let refusing = [
        ("x-max-length", number(2)),
        ("x-overflow", string("reject-publish")),
    ];
    let (_, client, other) = world(&refusing);
    other.publish_with("q", "lives", &Properties::persistent());
    client.publish_all("q", "a b", &expiring("0"));
    client.tx(COMMIT);
    client.expect_channel_error(406, PARTIAL);
    assert_eq!(ready(&other, &["q", "dead"]), [2, 0]);
}
