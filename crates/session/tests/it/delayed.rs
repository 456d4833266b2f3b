//! `x-delayed-message`: what waits, for how long, and that nothing of it is lost or doubled.

use std::rc::Rc;

use leveret_broker::DelayedId;
use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};
use leveret_message::Message;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};

/// A message with these headers.
fn with(exchange: &'static str, headers: &[(&str, AMQPValue)]) -> Properties {
    let properties = AMQPProperties::default()
        .with_delivery_mode(2)
        .with_headers(table(headers));
    Properties {
        exchange,
        ..Properties::of(properties)
    }
}

fn delayed(milliseconds: i64) -> Properties {
    with("later", &[("x-delay", number(milliseconds))])
}

fn declare(client: &Client, name: &str, kind: &str) {
    let arguments = [("x-delayed-type", string(kind))];
    client.declare_exchange(name, "x-delayed-message", &[Flag::Durable], &arguments);
    client.expect(&["exchange.declare-ok"]);
}

/// An exchange `later` with a queue `q` bound to it by the key `k`.
fn prepared(world: &Rc<World>) -> Client {
    let client = world.client();
    declare(&client, "later", "direct");
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.bind("q", "later", "k");
    client.expect(&["bind-ok"]);
    client
}

fn count(world: &World) -> usize {
    world.broker.delayed_count("/", "later").unwrap()
}

fn bodies(client: &Client, queue: &str) -> String {
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, true);
    }
    client.bodies().join(" ")
}

#[test]
fn messages_come_in_the_order_of_their_times() {
    for world in [World::volatile(), World::durable()] {
        let client = prepared(&world);
        client.consume_ok("q", "c");
        client.seen();
        for (body, delay) in [("c", 30), ("a", 10), ("long", 5_000), ("b", 20), ("now", 0)] {
            client.publish_with("k", body, &delayed(delay));
        }
        client.expect_bodies("now");
        world.pass(9);
        client.expect_bodies("");
        world.pass(1);
        client.expect_bodies("a");
        world.pass(20);
        client.expect_bodies("b c");
        assert_eq!(count(&world), 1);
        world.pass(4_969);
        client.expect_bodies("");
        world.pass(1);
        client.expect_bodies("long");
        assert_eq!(count(&world), 0);
    }
}

#[test]
fn what_is_no_delay_goes_at_once() {
    let world = World::durable();
    let client = prepared(&world);
    for value in [number(-5), number(0x1_0000_0000), string("soon")] {
        client.publish_with("k", "now", &with("later", &[("x-delay", value)]));
    }
    client.publish_with("k", "plain", &Properties::to("later"));
    client.publish_with("k", "digits", &with("later", &[("x-delay", string("50"))]));
    assert_eq!(bodies(&client, "q"), "now now now plain");
    world.pass(50);
    assert_eq!(bodies(&client, "q"), "digits");
}

#[test]
fn the_delay_arrives_negated_and_all_else_unchanged() {
    let world = World::durable();
    let client = prepared(&world);
    let copies = AMQPValue::FieldArray(FieldArray::from(vec![string("unseen")]));
    let message = with(
        "later",
        &[
            ("x-delay", number(40)),
            ("other", number(1)),
            ("BCC", copies),
        ],
    );
    client.declare_ok("blind", &[], &[]);
    client.bind("blind", "later", "unseen");
    client.seen();
    client.publish_with("k", "body", &message);
    world.pass(40);
    for queue in ["q", "blind"] {
        client.get(queue, true);
        let seen = client.seen().remove(0);
        let headers = seen.headers();
        assert_eq!(
            headers.inner().get("x-delay"),
            Some(&AMQPValue::LongInt(-40))
        );
        assert_eq!(headers.inner().get("other"), Some(&number(1)));
        assert_eq!(headers.inner().get("BCC"), None);
        assert_eq!(seen.properties().delivery_mode(), &Some(2));
        assert_eq!(seen.body_text(), "body");
    }
}

#[test]
fn a_delayed_message_is_confirmed_when_durable_and_survives() {
    let world = World::durable();
    let client = prepared(&world);
    client.confirms();
    world.hold_commits();
    client.publish_with("k", "kept", &delayed(1_000));
    client.publish_with("k", "far", &delayed(60_000));
    client.expect_nothing();
    world.commit();
    client.expect(&["ack 2 multiple"]);
    client.publish_with("k", "lost", &delayed(500));

    let after = world.restarted();
    let client = after.client();
    assert_eq!(count(&after), 2);
    client.consume_ok("q", "c");
    after.pass(999);
    client.expect_nothing();
    after.pass(1);
    client.expect_bodies("kept");
    after.pass(59_000);
    client.expect_bodies("far");
}

#[test]
fn what_became_due_while_the_broker_was_down_goes_at_once() {
    let world = World::durable();
    let client = prepared(&world);
    for delay in [300, 100, 200] {
        client.publish_with("k", &delay.to_string(), &delayed(delay));
    }
    let after = world.restarted_at(world.now() + 1_000);
    after.pass(5);
    assert_eq!(bodies(&after.client(), "q"), "100 200 300");
}

#[test]
fn it_goes_on_only_when_durable_and_arrives_in_one_commit() {
    let world = World::durable();
    let client = prepared(&world);
    client.declare_ok("second", &[Flag::Durable], &[]);
    client.bind("second", "later", "k");
    client.seen();
    world.hold_commits();
    client.publish_with("k", "a", &delayed(10));
    world.pass(20);
    assert_eq!(client.counts("q"), (0, 0), "not durable yet");
    world.commit();
    world.pass(5);
    assert_eq!(client.counts("q"), (1, 0));

    // The move is not durable: after a crash the message is where it was, and nowhere else.
    let before_move = world.restarted();
    let other = before_move.client();
    assert_eq!(other.counts("q"), (0, 0));
    before_move.pass(10);
    assert_eq!(other.counts("q"), (1, 0));
    assert_eq!(other.counts("second"), (1, 0));

    world.commit();
    let after_move = world.restarted();
    let other = after_move.client();
    after_move.pass(1_000);
    assert_eq!(other.counts("q"), (1, 0));
    assert_eq!(other.counts("second"), (1, 0));
    assert_eq!(count(&after_move), 0);
}

#[test]
fn bodies_stay_in_the_store_until_they_are_due() {
    let world = World::durable();
    let client = prepared(&world);
    for index in 0..3_000 {
        client.write(&client.publishing(
            "k",
            index.to_string().as_bytes(),
            &delayed(5_000 + (index * 7_919) % 3_000),
        ));
    }
    world.run();
    assert_eq!(count(&world), 3_000);
    client.consume("q", "c", &[Flag::NoAck], &[]);
    client.seen();
    world.pass(4_999);
    client.expect_nothing();
    world.pass(3_001);
    let mut expected: Vec<i64> = (0..3_000).collect();
    expected.sort_by_key(|index| ((index * 7_919) % 3_000, *index));
    let expected: Vec<String> = expected.iter().map(i64::to_string).collect();
    assert_eq!(client.bodies(), expected);
}

#[test]
fn large_bodies_that_are_due_together_are_read_a_few_at_a_time() {
    let world = World::durable();
    let client = prepared(&world);
    let body = "x".repeat(600_000);
    for _ in 0..12 {
        client.publish_with("k", &body, &delayed(500));
    }
    world.pass(520);
    assert_eq!(client.counts("q"), (12, 0));
    assert_eq!(count(&world), 0);
}

#[test]
fn exchanges_behind_one_another_are_passed_once() {
    let world = World::durable();
    let client = prepared(&world);
    declare(&client, "again", "fanout");
    client.exchange_binding(30, "later", "amq.topic", "#");
    client.exchange_binding(30, "again", "later", "k");
    client.seen();
    client.declare_ok("end", &[], &[]);
    client.bind("end", "again", "");
    client.seen();
    client.declare_ok("direct", &[], &[]);
    client.bind("direct", "amq.topic", "k");
    client.seen();
    client.publish_with("k", "a", &with("amq.topic", &[("x-delay", number(100))]));
    assert_eq!(
        client.counts("direct"),
        (1, 0),
        "not bound to the delayed exchange"
    );
    assert_eq!(client.counts("end"), (0, 0));
    world.pass(100);
    assert_eq!(client.counts("q"), (1, 0));
    assert_eq!(client.counts("end"), (1, 0), "not delayed a second time");
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'a'"]);
}

#[test]
fn mandatory_is_about_where_it_would_go_now() {
    let world = World::durable();
    let client = prepared(&world);
    client.confirms();
    client.publish_with("k", "a", &delayed(10).mandatory());
    client.expect(&["ack 1"]);
    client.publish_with("nowhere", "b", &delayed(10).mandatory());
    client.expect(&["return 312 NO_ROUTE 'b'", "ack 2"]);
    assert_eq!(count(&world), 1);
    client.publish_with("bound later", "c", &delayed(10));
    client.expect(&["ack 3"]);
    client.bind("q", "later", "bound later");
    client.seen();
    world.pass(10);
    assert_eq!(bodies(&client, "q"), "a c");
}

#[test]
fn a_delayed_exchange_for_dead_letters_delays_them() {
    let world = World::durable();
    let client = prepared(&world);
    let arguments = [
        ("x-dead-letter-exchange", string("later")),
        ("x-dead-letter-routing-key", string("k")),
    ];
    client.declare_ok("work", &[Flag::Durable], &arguments);
    let message = with("", &[("x-delay", number(70))]);
    client.publish_with("work", "a", &message);
    client.get("work", false);
    client.reject(1, false);
    client.seen();
    assert_eq!(count(&world), 1);
    let after = world.restarted();
    let client = after.client();
    assert_eq!(
        client.counts("work"),
        (0, 0),
        "in the exchange now, and nowhere else"
    );
    after.pass(70);
    assert_eq!(bodies(&client, "q"), "a");
}

#[test]
fn transactions_delay_when_they_are_committed() {
    let world = World::durable();
    let client = prepared(&world);
    client.tx(10);
    client.publish_with("k", "rolled back", &delayed(10));
    client.tx(30);
    client.publish_with("k", "at once", &Properties::to("later"));
    client.publish_with("k", "delayed", &delayed(10));
    client.publish_with("nowhere", "returned", &delayed(10).mandatory());
    assert_eq!(count(&world), 0);
    client.seen();
    client.tx(20);
    client.expect(&["return 312 NO_ROUTE 'returned'", "commit-ok"]);
    assert_eq!(count(&world), 1);
    assert_eq!(bodies(&client, "q"), "at once");
    world.pass(10);
    assert_eq!(bodies(&client, "q"), "delayed");
}

#[test]
fn a_full_queue_refuses_with_a_nack() {
    let world = World::durable();
    let client = prepared(&world);
    let arguments = [
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish")),
    ];
    client.declare_ok("small", &[], &arguments);
    client.bind("small", "later", "small");
    client.seen();
    client.confirms();
    client.publish_with("small", "a", &Properties::to("later"));
    client.publish_with("small", "b", &Properties::to("later"));
    client.expect(&["ack 1", "nack 2"]);
    assert_eq!(bodies(&client, "small"), "a");
}

#[test]
fn they_are_listed_and_cancelled() {
    for world in [World::volatile(), World::durable()] {
        let client = prepared(&world);
        for (body, delay) in [("c", 90_000), ("a", 100), ("b", 5_000), ("d", 90_000)] {
            client.publish_with("k", body, &delayed(delay));
        }
        let list = |after: Option<DelayedId>, max| {
            let found = (world.broker).delayed_messages("/", "later", after, max, Message::clone);
            found.unwrap().messages
        };
        let shown = |after, max| -> Vec<String> {
            let text = |message: &[u8]| String::from_utf8_lossy(message).into_owned();
            list(after, max)
                .iter()
                .map(|one| text(one.seen.as_ref().unwrap().body()))
                .collect()
        };
        assert_eq!(shown(None, 10), ["a", "b", "c", "d"]);
        let second = list(None, 2)[1].place;
        assert_eq!(shown(Some(second), 1), ["c"]);

        let places: Vec<_> = list(None, 10).iter().map(|one| one.place).collect();
        let cancel = |place: DelayedId| {
            let cancelled = world.broker.cancel_delayed("/", "later", place.sequence);
            cancelled.unwrap().is_some()
        };
        assert!(cancel(places[0]));
        assert!(!cancel(places[0]), "once is enough");
        assert!(cancel(places[2]));
        assert!(!cancel(places[2]));
        assert_eq!(shown(None, 10), ["b", "d"]);
        assert_eq!(count(&world), 2);
        world.pass(100_000);
        assert_eq!(bodies(&client, "q"), "b d");
        assert!(!cancel(places[1]), "it is gone");
        assert!(world.broker.delayed_count("/", "amq.direct").is_err());
    }
}

#[test]
fn each_of_very_many_is_listed_and_cancelled() {
    const MANY: usize = 10_000;
    let world = World::volatile();
    let client = prepared(&world);
    for number in 0..MANY {
        // The later ones are due earlier, and all of them late.
        client.write(&client.publishing("k", b"x", &delayed((100_000 - number) as i64)));
    }
    world.run();
    let page = |after| {
        let found = (world.broker).delayed_messages("/", "later", after, 300, |_| ());
        let places = found.unwrap().messages.into_iter().map(|it| it.place);
        places.collect::<Vec<_>>()
    };
    let (mut places, mut after) = (Vec::new(), None);
    loop {
        let found = page(after);
        let Some(last) = found.last() else { break };
        after = Some(*last);
        places.extend(found);
    }
    assert_eq!(places.len(), MANY);
    assert!(places.is_sorted());
    for at in [0, 4095, 4096, 4097, 8192, MANY - 1] {
        let cancel = || {
            world
                .broker
                .cancel_delayed("/", "later", places[at].sequence)
        };
        assert!(cancel().unwrap().is_some(), "{at}");
        assert!(cancel().unwrap().is_none(), "{at} again");
    }
    assert_eq!(count(&world), MANY - 6);
    world.pass(100_000);
    assert_eq!(client.counts("q").0 as usize, MANY - 6);
}

#[test]
fn cancelled_messages_stay_cancelled() {
    let world = World::durable();
    let client = prepared(&world);
    client.publish_with("k", "a", &delayed(90_000));
    client.publish_with("k", "b", &delayed(90_000));
    world.broker.cancel_delayed("/", "later", 0).unwrap();
    world.run();
    let after = world.restarted();
    assert_eq!(count(&after), 1);
    after.pass(90_000);
    assert_eq!(bodies(&after.client(), "q"), "b");
}

#[test]
fn deleting_the_exchange_drops_what_it_holds() {
    let world = World::durable();
    let client = prepared(&world);
    client.publish_with("k", "a", &delayed(100));
    client.delete_exchange("later", false);
    client.expect(&["exchange.delete-ok"]);
    world.pass(200);
    assert_eq!(client.counts("q"), (0, 0));
    declare(&client, "later", "direct");
    client.bind("q", "later", "k");
    client.seen();
    let after = world.restarted();
    assert_eq!(count(&after), 0);
    after.pass(200);
    assert_eq!(after.client().counts("q"), (0, 0));
}

#[test]
fn a_transient_exchange_takes_its_messages_with_it() {
    let world = World::durable();
    let client = world.client();
    let arguments = [("x-delayed-type", string("direct"))];
    client.declare_exchange("later", "x-delayed-message", &[], &arguments);
    client.seen();
    client.declare_ok("q", &[], &[]);
    client.bind("q", "later", "k");
    client.seen();
    client.publish_with("k", "a", &delayed(5_000));
    client.publish_with("k", "b", &delayed(100));
    world.pass(5_000);
    assert_eq!(bodies(&client, "q"), "b a");
    client.publish_with("k", "c", &delayed(5_000));
    let after = world.restarted();
    assert!(after.broker.delayed_count("/", "later").is_err());
    assert_eq!(leveret_store_api::MessageLog::logs(after.store()), []);
}

#[test]
fn the_delayed_type_must_be_one() {
    let client = World::volatile().client();
    for arguments in [vec![], vec![("x-delayed-type", string("zz"))]] {
        client.declare_exchange("x", "x-delayed-message", &[], &arguments);
        client.expect_channel_error(
            406,
            "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type",
        );
    }
}

/// Bodies leave memory before they are written, and the next ones wanted are not in the store yet.
#[test]
fn what_the_store_does_not_have_yet_is_not_given_up() {
    let world = World::durable();
    let client = prepared(&world);
    let body = "x".repeat(1_500_000);
    world.hold_commits();
    for delay in 10..16 {
        client.publish_with("k", &body, &delayed(delay));
    }
    for _ in 0..10 {
        world.pass(5);
    }
    assert_eq!(client.counts("q"), (0, 0));
    world.commit();
    for _ in 0..10 {
        world.pass(5);
    }
    assert_eq!(client.counts("q"), (6, 0));
    assert_eq!(count(&world), 0);
}
