//! Streams: read by many, from anywhere, and never emptied but by retention.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};
use leveret_store_api::{Change, MessageLog, Sequence};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

/// Declares a stream.
pub fn stream(client: &Client, name: &str, more: &[(&str, AMQPValue)]) {
    let mut arguments = vec![("x-queue-type", string("stream"))];
    arguments.extend_from_slice(more);
    client.declare_ok(name, &[Flag::Durable], &arguments);
}

/// A consumer from an offset on, with the channel's prefetch.
#[track_caller]
pub fn read_from(client: &Client, queue: &str, tag: &str, offset: AMQPValue) {
    client.consume(queue, tag, &[], &[("x-stream-offset", offset)]);
    client.expect_first(&format!("consume-ok {tag}"));
}

/// What was delivered since the last look: offset and body.
pub fn delivered(client: &Client) -> Vec<(usize, String)> {
    let seen = client.seen();
    let each = seen.iter().map(|seen| {
        assert!(seen.text.contains("deliver "), "unexpected {seen:?}");
        assert!(!seen.text.contains("redelivered"), "{seen:?}");
        match seen.headers().inner().get("x-stream-offset") {
            Some(AMQPValue::LongLongInt(offset)) => {
                (usize::try_from(*offset).unwrap(), seen.body_text())
            }
            other => panic!("x-stream-offset is {other:?}"),
        }
    });
    each.collect()
}

/// Offsets and bodies as one text, `0:a 1:b`.
fn text(client: &Client) -> String {
    let each = delivered(client).into_iter();
    each.map(|(offset, body)| format!("{offset}:{body}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
}

/// `0:0 1:1 ...`
fn numbered(range: std::ops::Range<u32>) -> String {
    range
        .map(|n| format!("{n}:{n}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every kind of world: with a tail that holds everything, nearly nothing, and without a store.
fn worlds() -> [Rc<World>; 3] {
    [World::durable(), World::paging(400), World::volatile()]
}

#[test]
fn every_reader_gets_everything_and_is_told_the_offset() {
    for world in worlds() {
        let client = world.client();
        stream(&client, "s", &[]);
        for n in 0..60 {
            client.publish("s", &n.to_string());
        }
        assert_eq!(client.counts("s"), (60, 0));
        for name in ["a", "b"] {
            let reader = world.client();
            reader.qos_ok(100, false);
            read_from(&reader, "s", name, string("first"));
            assert_eq!(text(&reader), numbered(0..60));
            client.publish("s", "more");
            assert_eq!(reader.bodies(), ["more"]);
            reader.vanish();
            client.seen();
            stream(&client, "s", &[]);
            client.delete("s", false, false);
            client.expect(&["delete-ok 0"]);
            stream(&client, "s", &[]);
            client.publish_all("s", &numbers(0..60), &Properties::default());
        }
    }
}

#[test]
fn a_reader_begins_where_it_wants() {
    for world in worlds() {
        let client = world.client();
        stream(&client, "s", &[]);
        for n in 0..50 {
            client.publish("s", &n.to_string());
            world.pass(1000);
        }
        let start = world.now().seconds_before(50);
        let cases = [
            (string("first"), 0),
            (string("last"), 49),
            (string("next"), 50),
            (number(0), 0),
            (number(31), 31),
            (number(49), 49),
            (number(50), 50),
            (number(5000), 50),
            (number(-1), 0),
            (AMQPValue::Timestamp(0), 0),
            (AMQPValue::Timestamp(start), 0),
            (AMQPValue::Timestamp(start + 1), 1),
            (AMQPValue::Timestamp(start + 33), 33),
            (AMQPValue::Timestamp(start + 49), 49),
            (AMQPValue::Timestamp(start + 50), 50),
            (AMQPValue::Timestamp(start + 5000), 50),
            (string("10s"), 40),
            (string("1m"), 0),
        ];
        for (offset, first) in cases {
            let reader = world.client();
            reader.qos_ok(1000, false);
            read_from(&reader, "s", "c", offset.clone());
            assert_eq!(text(&reader), numbered(first..50), "{offset:?}");
            reader.vanish();
        }
        let reader = world.client();
        reader.qos_ok(1000, false);
        reader.consume_ok("s", "without an offset");
        client.publish("s", "50");
        assert_eq!(text(&reader), "50:50");
    }
}

/// Seconds, for offsets in time.
trait Seconds {
    fn seconds_before(self, seconds: u64) -> u64;
}

impl Seconds for leveret_message::Timestamp {
    fn seconds_before(self, seconds: u64) -> u64 {
        self.seconds() - seconds
    }
}

#[test]
fn what_a_stream_cannot_do_is_refused_as_by_rabbitmq() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    client.consume("s", "c", &[], &[]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - consumer prefetch count is not set for stream queue 's' in vhost '/'",
    );
    client.qos_ok(10, false);
    client.consume("s", "c", &[], &[("x-stream-offset", string("3"))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 's' in vhost '/': \
         {invalid_stream_offset_arg,{longstr,<<\"3\">>}}",
    );
    let refused = |ask: &dyn Fn(&Client), text: &str| {
        let client = world.client();
        client.qos_ok(10, false);
        ask(&client);
        client.expect_connection_error(540, &format!("NOT_IMPLEMENTED - {text}"));
    };
    refused(
        &|client| client.consume("s", "c", &[Flag::NoAck], &[]),
        "automatic acknowledgement not supported by stream queue 's' in vhost '/'",
    );
    refused(
        &|client| {
            client.qos_ok(10, true);
            client.consume("s", "c", &[], &[]);
        },
        "queue 's' in vhost '/' does not support global qos",
    );
    refused(
        &|client| client.get("s", false),
        "basic.get not supported by stream queues queue 's' in vhost '/'",
    );
    refused(
        &|client| client.purge("s"),
        "queue.purge not supported by stream queues queue 's' in vhost '/'",
    );
}

#[test]
fn declarations_that_make_no_stream_are_refused() {
    let client = World::durable().client();
    let kind = ("x-queue-type", string("stream"));
    let property = |name: &str| {
        format!("PRECONDITION_FAILED - invalid property '{name}' for queue 's' in vhost '/'")
    };
    client.declare("s", &[], std::slice::from_ref(&kind));
    client.expect_channel_error(406, &property("non-durable"));
    client.declare(
        "s",
        &[Flag::Durable, Flag::AutoDelete],
        std::slice::from_ref(&kind),
    );
    client.expect_channel_error(406, &property("auto-delete"));
    client.declare(
        "s",
        &[Flag::Durable, Flag::Exclusive],
        std::slice::from_ref(&kind),
    );
    client.expect_channel_error(406, &property("exclusive-owner"));
    let argument = |name: &str, value: AMQPValue, text: &str| {
        client.declare("s", &[Flag::Durable], &[kind.clone(), (name, value)]);
        client.expect_channel_error(406, &format!("PRECONDITION_FAILED - {text}"));
    };
    argument(
        "x-max-age",
        string("soon"),
        "invalid arg 'x-max-age' for queue 's' in vhost '/': invalid_max_age",
    );
    argument(
        "x-stream-max-segment-size-bytes",
        number(3_000_000_001),
        "Exceeded max value for x-stream-max-segment-size-bytes",
    );
    argument(
        "x-stream-filter-size-bytes",
        number(15),
        "Invalid value for  x-stream-filter-size-bytes",
    );
    argument(
        "x-max-length",
        number(10),
        "invalid arg 'x-max-length' for queue 's' in vhost '/' of queue type rabbit_stream_queue",
    );
}

#[test]
fn settling_gives_credit_back_and_nothing_else() {
    for world in worlds() {
        let client = world.client();
        client.declare_ok("dead", &[Flag::Durable], &[]);
        stream(&client, "s", &[]);
        client.publish_all("s", &numbers(0..30), &Properties::persistent());
        client.qos_ok(3, false);
        read_from(&client, "s", "c", string("first"));
        assert_eq!(text(&client), numbered(0..3));
        client.ack(1, false);
        assert_eq!(text(&client), numbered(3..4));
        client.nack(2, false, true);
        assert_eq!(text(&client), numbered(4..5), "not requeued");
        client.reject(3, false);
        assert_eq!(text(&client), numbered(5..6));
        client.recover(true);
        client.expect_first("recover-ok");
        assert_eq!(text(&client), numbered(6..9), "not redelivered");
        client.ack(0, true);
        assert_eq!(text(&client), numbered(9..12));
        assert_eq!(client.counts("s").0, 30);
    }
}

#[test]
fn readers_far_behind_go_at_their_own_pace() {
    let world = World::paging(400);
    let publisher = world.client();
    stream(&publisher, "s", &[]);
    for n in 0..20 {
        publisher.publish_all("s", &numbers(n * 50..n * 50 + 50), &Properties::default());
    }
    let readers: Vec<_> = [1u16, 7, 100]
        .into_iter()
        .map(|prefetch| {
            let reader = world.client();
            reader.qos_ok(prefetch, false);
            read_from(&reader, "s", "c", string("first"));
            (reader, Vec::new())
        })
        .collect();
    let mut readers: Vec<(Client, Vec<(usize, String)>)> = readers;
    for round in 0..2000 {
        for (reader, got) in &mut readers {
            got.extend(delivered(reader));
            if !got.is_empty() && got.len() < 1010 {
                reader.ack(0, true);
            }
        }
        if round < 10 {
            publisher.publish("s", &(1000 + round).to_string());
        }
    }
    for (_, got) in &readers {
        assert_eq!(got.len(), 1010);
        for (place, (offset, body)) in got.iter().enumerate() {
            assert_eq!((&place.to_string(), place), (body, *offset));
        }
    }
}

#[test]
fn nothing_is_seen_before_it_is_durable_and_offsets_go_on_after_a_crash() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    client.publish("s", "a");
    let reader = world.client();
    reader.qos_ok(10, false);
    read_from(&reader, "s", "c", string("first"));
    assert_eq!(text(&reader), "0:a");
    world.hold_commits();
    client.publish("s", "lost");
    reader.expect_nothing();
    let world = world.restarted();
    let client = world.client();
    assert_eq!(client.counts("s"), (1, 0));
    client.publish("s", "b");
    client.qos_ok(10, false);
    read_from(&client, "s", "c", string("first"));
    assert_eq!(text(&client), "0:a 1:b");
    world.hold_commits();
    client.publish("s", "c");
    client.expect_nothing();
    world.commit();
    assert_eq!(text(&client), "2:c");
}

/// A crash takes a transaction's messages, and leaves those that were published behind them.
#[test]
fn places_that_a_crash_left_empty_are_not_counted() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    client.publish_all("s", "a b c", &Properties::default());
    client.seen();
    let log = world.store().logs()[0];
    world.store().stage(&mut vec![Change::Acknowledge {
        log,
        first: Sequence(1),
        count: 1,
    }]);
    world.commit();
    let world = world.restarted();
    let client = world.client();
    assert_eq!(client.counts("s"), (2, 0));
    client.publish("s", "d");
    assert_eq!(client.counts("s"), (3, 0));
    for (from, found) in [(0, "0:a 2:c 3:d"), (1, "2:c 3:d")] {
        let reader = world.client();
        reader.qos_ok(10, false);
        read_from(&reader, "s", "c", number(from));
        assert_eq!(text(&reader), found);
    }
}

#[test]
fn a_restart_forgets_neither_messages_nor_times() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    for n in 0..100 {
        client.publish_with("s", &n.to_string(), &Properties::default());
        world.pass(1000);
    }
    let end = world.now().seconds();
    let world = world.restarted();
    let cases = [
        (string("first"), 0),
        (string("last"), 99),
        (string("next"), 100),
        (number(17), 17),
        (AMQPValue::Timestamp(end - 30), 70),
        (AMQPValue::Timestamp(end + 30), 100),
        (string("5s"), 95),
    ];
    for (offset, first) in cases {
        let reader = world.client();
        reader.qos_ok(1000, false);
        read_from(&reader, "s", "c", offset.clone());
        assert_eq!(text(&reader), numbered(first..100), "{offset:?}");
    }
}

/// What a reader from the start gets.
fn contents(world: &Rc<World>, queue: &str) -> Vec<(usize, String)> {
    let reader = world.client();
    reader.qos_ok(10_000, false);
    read_from(&reader, queue, "contents", string("first"));
    let all = delivered(&reader);
    reader.vanish();
    all
}

#[test]
fn max_length_bytes_removes_the_oldest() {
    for world in worlds() {
        let client = world.client();
        stream(&client, "s", &[("x-max-length-bytes", number(5000))]);
        for n in 0..500 {
            client.publish("s", &format!("{n:050}"));
        }
        let kept = contents(&world, "s");
        let (first, last) = (kept[0].0, kept[kept.len() - 1].0);
        assert_eq!(last, 499);
        // 50 bytes of body and some 30 beside it, in segments of a sixteenth of the limit
        assert!((430..=450).contains(&first), "first is {first}");
        assert_eq!(client.counts("s").0 as usize, kept.len());
        assert_eq!(kept.len(), last - first + 1);
        let reader = world.client();
        reader.qos_ok(1, false);
        read_from(&reader, "s", "c", number(3));
        assert_eq!(delivered(&reader)[0].0, first, "clamped to what there is");
    }
}

#[test]
fn what_retention_removed_is_gone_after_a_restart() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[("x-max-length-bytes", number(5000))]);
    for n in 0..500 {
        client.publish("s", &format!("{n:050}"));
    }
    let before = contents(&world, "s");
    let world = world.restarted();
    assert_eq!(contents(&world, "s"), before);
    let client = world.client();
    for n in 500..600 {
        client.publish("s", &format!("{n:050}"));
    }
    let after = contents(&world, "s");
    assert_eq!(after[after.len() - 1].0, 599);
    assert!((520..=550).contains(&after[0].0), "{}", after[0].0);
}

#[test]
fn max_age_removes_what_is_old_without_anything_being_published() {
    for (world, crash) in worlds()
        .into_iter()
        .map(|world| (world, false))
        .chain([(World::durable(), true), (World::paging(400), true)])
    {
        let client = world.client();
        stream(&client, "s", &[("x-max-age", string("160s"))]);
        for n in 0..100 {
            client.publish("s", &n.to_string());
            world.pass(5000);
        }
        let oldest = contents(&world, "s")[0].0;
        assert!((65..=69).contains(&oldest), "first is {oldest}");
        let world = if crash { world.restarted() } else { world };
        world.pass(80_000);
        let oldest = contents(&world, "s")[0].0;
        assert!((80..=85).contains(&oldest), "first is {oldest}");
        world.pass(1_000_000);
        let left = contents(&world, "s");
        assert!(
            !left.is_empty() && left.len() <= 4,
            "the newest segment stays: {left:?}"
        );
        assert_eq!(left[left.len() - 1].0, 99);
        let client = world.client();
        client.publish("s", "100");
        client.qos_ok(10, false);
        read_from(&client, "s", "c", string("last"));
        assert_eq!(text(&client), "100:100");
    }
}

#[test]
fn a_reader_that_retention_overtakes_goes_on_with_what_is_left() {
    let world = World::paging(400);
    let client = world.client();
    stream(&client, "s", &[("x-max-length-bytes", number(2000))]);
    client.publish("s", "0");
    let reader = world.client();
    reader.qos_ok(1, false);
    read_from(&reader, "s", "c", string("first"));
    assert_eq!(delivered(&reader).len(), 1);
    for n in 1..300 {
        client.publish("s", &n.to_string());
    }
    let first = contents(&world, "s")[0].0;
    assert!(first > 100);
    reader.ack(0, true);
    let next = delivered(&reader);
    assert!(next[0].0 == 1 || next[0].0 >= first, "{next:?}");
}

fn with_value(value: &str) -> Properties {
    let headers = table(&[("x-stream-filter-value", string(value))]);
    Properties::of(AMQPProperties::default().with_headers(headers))
}

#[test]
fn a_filter_leaves_out_what_does_not_match() {
    for world in worlds() {
        let client = world.client();
        stream(&client, "s", &[]);
        for n in 0..60 {
            match n % 3 {
                0 => client.publish_with("s", &n.to_string(), &with_value("a")),
                1 => client.publish_with("s", &n.to_string(), &with_value("b")),
                _ => client.publish("s", &n.to_string()),
            }
        }
        let read = |filter: AMQPValue, unfiltered: bool| {
            let reader = world.client();
            reader.qos_ok(100, false);
            let arguments = [
                ("x-stream-offset", string("first")),
                ("x-stream-filter", filter),
                ("x-stream-match-unfiltered", AMQPValue::Boolean(unfiltered)),
            ];
            reader.consume("s", "c", &[], &arguments);
            reader.expect_first("consume-ok c");
            delivered(&reader)
        };
        let kept = |rest: &[usize]| {
            (0..60)
                .filter(|n| rest.contains(&(n % 3)))
                .map(|n| (n, n.to_string()))
                .collect::<Vec<_>>()
        };
        let both = AMQPValue::FieldArray(FieldArray::from(vec![string("a"), string("b")]));
        assert_eq!(read(string("a"), false), kept(&[0]));
        assert_eq!(read(string("b"), true), kept(&[1, 2]));
        assert_eq!(read(both, false), kept(&[0, 1]));
        assert_eq!(read(string("c"), false), []);
    }
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next_where_it_left_off() {
    for world in worlds() {
        let client = world.client();
        let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
        stream(&client, "s", &[single]);
        client.publish_all("s", &numbers(0..40), &Properties::default());
        let readers: Vec<Client> = (0..3)
            .map(|_| {
                let reader = world.client();
                reader.qos_ok(5, false);
                read_from(&reader, "s", "c", string("first"));
                reader
            })
            .collect();
        assert_eq!(text(&readers[0]), numbered(0..5));
        readers[1].expect_nothing();
        readers[0].ack(3, true);
        assert_eq!(text(&readers[0]), numbered(5..8));
        readers[0].vanish();
        assert_eq!(
            text(&readers[1]),
            numbered(3..8),
            "what was not settled first"
        );
        readers[2].expect_nothing();
        readers[1].ack(0, true);
        assert_eq!(text(&readers[1]), numbered(8..13));
        readers[1].ack(0, true);
        assert_eq!(text(&readers[1]), numbered(13..18));
        readers[1].ack(0, true);
        readers[1].seen();
        readers[1].cancel("c");
        readers[1].expect(&["cancel-ok c"]);
        assert_eq!(text(&readers[2]), numbered(18..23));
    }
}

#[test]
fn a_transaction_is_seen_whole_and_in_its_place() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    let reader = world.client();
    reader.qos_ok(100, false);
    read_from(&reader, "s", "c", string("first"));
    client.tx(10);
    client.expect(&["tx.select-ok"]);
    client.publish_all("s", "a b", &Properties::default());
    reader.expect_nothing();
    world.hold_commits();
    client.tx(20);
    world.client_publishes("s", "after");
    reader.expect_nothing();
    world.commit();
    client.expect(&["commit-ok"]);
    assert_eq!(text(&reader), "0:a 1:b 2:after");
}

impl World {
    fn client_publishes(self: &Rc<Self>, queue: &str, body: &str) {
        self.client().publish(queue, body);
    }
}

#[test]
fn dead_letters_and_deletion() {
    for world in worlds() {
        let client = world.client();
        stream(&client, "s", &[]);
        client.declare_ok(
            "q",
            &[Flag::Durable],
            &[
                ("x-dead-letter-exchange", string("")),
                ("x-dead-letter-routing-key", string("s")),
            ],
        );
        client.publish_with("q", "dead", &Properties::persistent());
        client.get("q", false);
        client.seen();
        client.reject(1, false);
        let reader = world.client();
        reader.qos_ok(100, false);
        read_from(&reader, "s", "c", string("first"));
        assert_eq!(text(&reader), "0:dead");
        client.delete("s", false, false);
        client.expect(&["delete-ok 0"]);
        reader.expect(&["cancel c"]);
        reader.ack(1, false);
        reader.expect_nothing();
        stream(&client, "s", &[]);
        assert_eq!(contents(&world, "s"), []);
    }
}

#[test]
fn all_whose_deliveries_are_settled_together_go_on() {
    let world = World::durable();
    let client = world.client();
    stream(&client, "s", &[]);
    client.publish_all("s", "a b c", &Properties::persistent());
    client.qos_ok(1, false);
    for tag in ["one", "other", "third"] {
        read_from(&client, "s", tag, string("first"));
        assert_eq!(text(&client), "0:a");
    }
    client.ack(3, true);
    assert_eq!(text(&client), "1:b 1:b 1:b");
    client.ack(6, true);
    assert_eq!(text(&client), "2:c 2:c 2:c");
}
