//! What a queue tells about itself: counts, times, rates and where they lead.

use std::rc::Rc;

use leveret_codec::{AMQPValue, FieldArray};
use leveret_message::Timestamp;
use leveret_queue::queue::statistics::{Distribution, QueueStatistics, Reasons};

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};
use crate::streams::stream;

fn with_queue(arguments: &[(&str, AMQPValue)]) -> (Rc<World>, Client) {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], arguments);
    (world, client)
}

pub fn of(world: &World, queue: &str) -> QueueStatistics {
    let vhost = world.broker.vhost("/").unwrap();
    vhost.queue(queue).unwrap().statistics(world.now())
}

/// Number, shortest half, maximum; times below 32 ms are exact.
fn times(said: Distribution) -> (u64, u64, u64) {
    (said.count, said.p50_ms, said.max_ms)
}

fn rejected(rejected: u64) -> Reasons {
    Reasons {
        rejected,
        ..Reasons::default()
    }
}

#[track_caller]
fn assert_near(said: f64, expected: f64) {
    assert!(
        (said - expected).abs() <= expected.abs() * 0.03 + 1e-3,
        "{said} is not {expected}"
    );
}

#[test]
fn a_queue_without_messages_has_nothing_to_tell() {
    let (world, _) = with_queue(&[]);
    let mut said = of(&world, "q");
    assert!(said.memory_bytes < 2048, "{}", said.memory_bytes);
    assert_eq!(said.forecast.empty_in_seconds.take(), Some(0.0));
    said.memory_bytes = 0;
    assert_eq!(said, QueueStatistics::default());
}

#[test]
fn every_message_is_counted_once_at_each_thing_that_happens_to_it() {
    let (world, client) = with_queue(&[]);
    client.publish_all("q", "aa bb cc dd ee ff", &Properties::persistent());
    client.get("q", true);
    client.get("q", false);
    client.seen();
    client.qos_ok(3, false);
    client.consume_ok("q", "c");
    client.expect_bodies("cc dd ee");
    client.ack(2, false);
    client.nack(3, false, true);
    client.expect_bodies("cc!");
    client.reject(4, false);
    client.expect_bodies("ff");
    let said = of(&world, "q");
    let totals = said.totals;
    assert_eq!((totals.published, totals.got, totals.got_no_ack), (6, 1, 1));
    assert_eq!((totals.delivered, totals.delivered_no_ack), (5, 0));
    assert_eq!(totals.all_delivered(), 7);
    assert_eq!(
        (totals.acknowledged, totals.redelivered, totals.requeued),
        (1, 1, 1)
    );
    assert_eq!(totals.discarded, rejected(1));
    assert_eq!(totals.dead_lettered, Reasons::default());
    assert_eq!((said.counts.ready, said.counts.unacknowledged), (0, 3));
    assert_eq!((said.ready_bytes, said.unacknowledged_bytes), (0, 6));
    client.get("q", true);
    client.close_channel();
    let totals = of(&world, "q").totals;
    assert_eq!((totals.got_empty, totals.requeued), (1, 4));
    assert_eq!(of(&world, "q").ready_bytes, 6);
    client.seen();
    let client = client.with_channel(2);
    client.purge("q");
    assert_eq!(of(&world, "q").totals.purged, 3);
}

#[test]
fn a_consumer_that_does_not_acknowledge_is_no_acknowledgement() {
    let (world, client) = with_queue(&[]);
    client.consume("q", "c", &[Flag::NoAck], &[]);
    client.publish_all("q", "a b c", &Properties::persistent());
    let said = of(&world, "q");
    assert_eq!(said.totals.delivered_no_ack, 3);
    assert_eq!((said.totals.acknowledged, said.time_to_ack.count), (0, 0));
    assert_eq!(times(said.time_in_queue), (3, 0, 0));
}

#[test]
fn each_message_that_is_dead_counts_by_its_reason() {
    let arguments = [
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
        ("x-max-length", number(3)),
        ("x-delivery-limit", number(1)),
        ("x-queue-type", string("quorum")),
    ];
    let (world, client) = with_queue(&arguments);
    client.declare_ok("dead", &[], &[]);
    client.publish("q", "dropped");
    client.publish_with("q", "expired", &Properties::expiring("10"));
    client.publish_all("q", "a b", &Properties::default());
    world.pass(10);
    client.consume_ok("q", "c");
    client.nack(1, false, false);
    client.nack(2, false, true);
    client.nack(3, false, true);
    let said = of(&world, "q");
    let each = Reasons {
        rejected: 1,
        expired: 1,
        maxlen: 1,
        delivery_limit: 1,
        damaged: 0,
    };
    assert_eq!(said.totals.dead_lettered, each);
    let dead = of(&world, "dead");
    assert_eq!((dead.totals.published, dead.counts.ready), (4, 4));
}

#[test]
fn a_full_queue_counts_what_it_refuses() {
    let (world, client) = with_queue(&[
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ]);
    client.publish_all("q", "a b c", &Properties::default());
    let said = of(&world, "q");
    assert_eq!((said.totals.published, said.totals.refused), (1, 2));
    assert_eq!(said.forecast.full_in_seconds, Some(0.0));
}

#[test]
fn known_delays_are_told_to_the_millisecond() {
    let (world, client) = with_queue(&[]);
    client.publish_all("q", "a b", &Properties::default());
    world.pass(7);
    client.publish("q", "c");
    world.pass(13);
    client.consume_ok("q", "c");
    let said = of(&world, "q").time_in_queue;
    assert_eq!(times(said), (3, 20, 20));
    assert_near(said.mean_ms, (20.0 + 20.0 + 13.0) / 3.0);
    world.pass(9);
    client.ack(1, false);
    world.pass(1000);
    client.ack(3, true);
    let said = of(&world, "q");
    assert_eq!(times(said.time_in_queue), (3, 20, 20));
    assert_eq!(said.time_to_ack.count, 3);
    assert_eq!(said.time_to_ack.max_ms, 1009);
    assert_near(said.time_to_ack.mean_ms, (9.0 + 1009.0 * 2.0) / 3.0);
}

#[test]
fn a_message_that_came_back_has_waited_once() {
    let (world, client) = with_queue(&[]);
    client.publish_all("q", "a b", &Properties::default());
    world.pass(5);
    client.get("q", false);
    world.pass(100);
    client.nack(1, false, true);
    world.pass(6);
    client.get("q", false);
    client.get("q", false);
    world.pass(3);
    client.ack(3, true);
    let said = of(&world, "q");
    assert_eq!(said.time_in_queue.count, 2);
    assert_eq!(said.time_in_queue.p50_ms, 5);
    assert_eq!(said.time_in_queue.max_ms, 111);
    assert_eq!(times(said.time_to_ack), (2, 3, 3));
}

#[test]
fn each_priority_has_its_own_times() {
    let (world, client) = with_queue(&[("x-max-priority", number(5))]);
    for (priority, wait) in [(0, 3), (5, 4), (0, 5), (3, 6), (5, 7)] {
        client.publish_with("q", "m", &Properties::priority(priority));
        world.pass(wait);
    }
    client.consume_ok("q", "c");
    let said = of(&world, "q").time_in_queue;
    assert_eq!(times(said), (5, 18, 25));
    assert_near(said.mean_ms, f64::from(25 + 22 + 18 + 13 + 7) / 5.0);
}

#[test]
fn paging_changes_nothing() {
    for message in [Properties::default(), Properties::persistent()] {
        let world = World::paging(600);
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &[]);
        for _ in 0..100 {
            client.publish_all("q", "a b", &message);
            world.pass(10);
        }
        client.consume_ok("q", "c");
        let said = of(&world, "q").time_in_queue;
        assert_eq!((said.count, said.max_ms), (200, 1000));
        assert_near(said.mean_ms, 505.0);
        assert_near(said.p50_ms as f64, 500.0);
        assert_near(said.p90_ms as f64, 900.0);
    }
}

#[test]
fn a_backlog_of_more_times_than_there_are_marks_is_told_within_a_thirty_second() {
    let (world, client) = with_queue(&[]);
    for _ in 0..2000 {
        client.publish("q", "m");
        world.pass(10);
    }
    client.consume_ok("q", "c");
    let said = of(&world, "q").time_in_queue;
    assert_eq!(said.count, 2000);
    assert_near(said.mean_ms, 10_005.0);
    for (said, exact) in [
        (said.p50_ms, 10_000),
        (said.p99_ms, 19_800),
        (said.max_ms, 20_000),
    ] {
        let off = u64::abs_diff(said, exact);
        assert!(off * 16 <= exact, "{said} for {exact}");
    }
}

#[test]
fn what_expires_or_is_dropped_or_purged_has_not_waited() {
    let (world, client) =
        with_queue(&[("x-message-ttl", number(100)), ("x-max-length", number(2))]);
    client.publish_all("q", "a b c", &Properties::default());
    world.pass(100);
    client.publish("q", "d");
    client.purge("q");
    client.seen();
    client.publish_all("q", "e f", &Properties::default());
    world.pass(99);
    client.publish("q", "g");
    client.consume_ok("q", "c");
    let said = of(&world, "q");
    assert_eq!(said.time_in_queue.count, 2);
    assert_eq!(said.time_in_queue.max_ms, 99);
    assert_near(said.time_in_queue.mean_ms, 49.5);
    assert_eq!(
        (said.totals.discarded.expired, said.totals.discarded.maxlen),
        (2, 2)
    );
    assert_eq!(said.totals.purged, 1);
}

#[test]
fn a_dead_letter_arrives_when_it_dies() {
    let arguments = [
        ("x-message-ttl", number(50)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    let (world, client) = with_queue(&arguments);
    client.declare_ok("dead", &[], &[]);
    client.publish("q", "a");
    world.pass(50 + 8);
    client.get("dead", true);
    assert_eq!(times(of(&world, "dead").time_in_queue), (1, 8, 8));
    assert_eq!(of(&world, "q").time_in_queue.count, 0);
}

#[test]
fn a_transaction_arrives_when_it_is_committed_and_acknowledges_then() {
    let (world, client) = with_queue(&[]);
    let consumer = world.client();
    consumer.tx(10);
    consumer.seen();
    consumer.consume_ok("q", "c");
    client.tx(10);
    client.publish("q", "a");
    world.pass(500);
    client.tx(20);
    world.pass(4);
    consumer.ack(1, false);
    world.pass(5);
    assert_eq!(of(&world, "q").totals.acknowledged, 0);
    consumer.tx(20);
    let said = of(&world, "q");
    assert_eq!(times(said.time_in_queue), (1, 0, 0));
    assert_eq!(times(said.time_to_ack), (1, 9, 9));
}

#[test]
fn what_a_transaction_rejects_or_requeues_is_counted_as_that() {
    let delays = FieldArray::from(vec![number(100)]);
    let arguments = [("x-retry-delays", AMQPValue::FieldArray(delays))];
    for (arguments, back) in [(&[][..], true), (&arguments[..], false)] {
        let (world, client) = with_queue(arguments);
        client.publish_all("q", "a b c", &Properties::persistent());
        client.tx(10);
        client.seen();
        client.consume_ok("q", "c");
        client.expect_bodies("a b c");
        client.nack(1, false, false);
        client.nack(2, false, true);
        client.ack(3, false);
        assert_eq!(of(&world, "q").totals.requeued, 0);
        client.tx(20);
        let seen = client.lines();
        let came = |body: &str| seen.iter().any(|line| line.contains(body));
        assert!(came("commit-ok") && came("'b'") == back, "{seen:?}");
        let said = of(&world, "q");
        assert_eq!((said.totals.acknowledged, said.time_to_ack.count), (1, 1));
        assert_eq!(said.totals.discarded, rejected(1));
        assert_eq!(said.totals.requeued, 1);
    }
}

#[test]
fn what_is_hidden_is_not_counted_as_ready_and_keeps_its_time_over_a_purge() {
    let (world, client) = with_queue(&[]);
    let other = world.client();
    other.publish("q", "old");
    client.tx(10);
    client.publish_with("q", "new", &Properties::persistent());
    world.hold_commits();
    client.tx(20);
    let said = of(&world, "q");
    assert_eq!((said.counts.ready, said.ready_bytes), (1, 3));
    other.purge("q");
    world.pass(7);
    world.commit();
    world.pass(5);
    other.seen();
    other.consume_ok("q", "c");
    other.expect_bodies("new");
    let said = of(&world, "q");
    assert_eq!(said.totals.purged, 1);
    assert_eq!(times(said.time_in_queue), (1, 12, 12));
}

#[test]
fn waits_that_began_before_a_restart_are_not_told() {
    let (world, client) = with_queue(&[]);
    client.publish_all("q", "a b", &Properties::persistent());
    let later = Timestamp(world.now().0 + 60_000);
    let world = world.restarted_at(later);
    let client = world.client();
    client.publish_with("q", "c", &Properties::persistent());
    world.pass(10);
    client.consume_ok("q", "c");
    let said = of(&world, "q");
    assert_eq!(times(said.time_in_queue), (1, 10, 10));
    assert_eq!((said.totals.published, said.totals.delivered), (1, 3));
    assert_eq!(said.totals.redelivered, 0);
}

/// Publishes and gets `published` and `got` messages every 100 ms.
fn traffic(world: &World, client: &Client, published: usize, got: usize, steps: usize) {
    let bodies = vec!["1234567890"; published].join(" ");
    for _ in 0..steps {
        client.publish_all("q", &bodies, &Properties::default());
        for _ in 0..got {
            client.get("q", true);
        }
        world.pass(100);
        client.seen();
    }
}

#[test]
fn a_queue_that_drains_says_when_it_will_be_empty() {
    let (world, client) = with_queue(&[("x-max-length", number(10_000))]);
    traffic(&world, &client, 40, 0, 100);
    traffic(&world, &client, 1, 3, 400);
    let said = of(&world, "q");
    assert_eq!(said.counts.ready, 3200);
    assert_near(said.rates.arrival, 10.0);
    assert_near(said.rates.service, 30.0);
    assert_near(said.rates.published, 10.0);
    assert_near(said.rates.delivered, 30.0);
    assert_near(said.forecast.empty_in_seconds.unwrap(), 160.0);
    assert_eq!(said.forecast.full_in_seconds, None);
    // And it is: M(t) = M(0) + (r - s)t.
    traffic(&world, &client, 1, 3, 1599);
    assert_eq!(of(&world, "q").counts.ready, 2);
    traffic(&world, &client, 1, 3, 1);
    assert_eq!(of(&world, "q").forecast.empty_in_seconds, Some(0.0));
}

#[test]
fn a_queue_that_grows_says_when_it_will_be_full() {
    for (limit, value) in [("x-max-length", 1000), ("x-max-length-bytes", 10_000)] {
        let (world, client) = with_queue(&[(limit, number(value))]);
        traffic(&world, &client, 3, 1, 300);
        let said = of(&world, "q");
        assert_eq!((said.counts.ready, said.ready_bytes), (600, 6000));
        assert_eq!(said.forecast.empty_in_seconds, None);
        assert_near(said.forecast.full_in_seconds.unwrap(), 20.0);
        traffic(&world, &client, 3, 1, 199);
        assert_near(of(&world, "q").forecast.full_in_seconds.unwrap(), 0.1);
        assert_eq!(of(&world, "q").totals.discarded, Reasons::default());
        traffic(&world, &client, 3, 1, 1);
        assert_ne!(of(&world, "q").totals.discarded, Reasons::default());
    }
}

#[test]
fn messages_that_go_round_do_not_empty_a_queue() {
    let (world, client) = with_queue(&[]);
    traffic(&world, &client, 100, 0, 1);
    for tag in 1..=600 {
        client.get("q", false);
        client.nack(tag, false, true);
        world.pass(100);
        client.seen();
    }
    let said = of(&world, "q");
    assert_near(said.rates.arrival, 10.0);
    assert_near(said.rates.service, 10.0);
    assert_near(said.rates.redelivered, 10.0);
    assert!(
        said.forecast
            .empty_in_seconds
            .is_none_or(|seconds| seconds > 3600.0)
    );
}

#[test]
fn rates_fade_when_nothing_happens() {
    let (world, client) = with_queue(&[]);
    traffic(&world, &client, 2, 2, 300);
    assert_near(of(&world, "q").rates.published, 20.0);
    world.pass(5000);
    assert_near(of(&world, "q").rates.published, 20.0 / std::f64::consts::E);
    world.pass(120_000);
    assert!(of(&world, "q").rates.published < 1e-6);
}

#[test]
fn a_queue_that_was_in_use_stays_small() {
    let (world, client) = with_queue(&[]);
    client.consume_ok("q", "c");
    for tag in 1..=300 {
        client.publish("q", "m");
        world.pass(tag);
        client.ack(tag, false);
    }
    client.bodies();
    let said = of(&world, "q");
    assert_eq!(said.time_to_ack.count, 300);
    assert!(said.memory_bytes < 5000, "{}", said.memory_bytes);
}

#[test]
fn a_stream_tells_what_there_is_of_it() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    client.qos_ok(10, false);
    client.consume("s", "c", &[], &[("x-stream-offset", string("first"))]);
    client.publish_all("s", "a b c", &Properties::default());
    world.pass(12);
    client.ack(2, true);
    let said = of(&world, "s");
    assert_eq!((said.totals.published, said.totals.delivered), (3, 3));
    assert_eq!(said.totals.acknowledged, 2);
    assert_eq!((said.counts.ready, said.counts.unacknowledged), (3, 1));
    assert_eq!(times(said.time_to_ack), (2, 12, 12));
    assert_eq!(said.time_in_queue, Distribution::default());
    assert_eq!(said.forecast.empty_in_seconds, None);
    assert!(said.rates.published > 0.0 && said.ready_bytes > 0);
    let world = world.restarted();
    assert_eq!(of(&world, "s").totals.published, 0);
}
