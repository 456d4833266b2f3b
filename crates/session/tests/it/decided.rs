//! What a commit rejects, or puts back for later, is decided with it, and read and carried out when it shows: a few at a
//! time, and after a kill too.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};
use leveret_store_api::MessageLog;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};
use crate::unacked_memory::{frugal, held, returned, stored, to_the_dead};

const LARGE: u32 = 30;

/// A client that holds `LARGE` large messages, none of which is in memory, and has rejected all in a transaction.
fn rejected_in_a_transaction(world: &Rc<World>, arguments: &[(&str, AMQPValue)]) -> Client {
    let client = world.client();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], arguments);
    client.tx(10);
    client.expect_first("tx.select-ok");
    let publisher = world.client();
    for number in 0..LARGE {
        let body = number.to_string().repeat(2 << 20);
        publisher.publish_with("q", &body, &Properties::persistent());
    }
    client.consume_ok("q", "c");
    assert_eq!(client.bodies().len(), LARGE as usize);
    client.nack(0, true, false);
    client
}

fn numbered(letters: &[String]) -> Vec<u32> {
    let number = |body: &String| {
        let digits = body.len() >> 21;
        body[..digits].parse().expect("a number")
    };
    letters.iter().map(number).collect()
}

/// A commit reads nothing, and what it rejected is read a few at a time when it shows.
#[test]
fn what_a_commit_rejects_waits_for_the_store() {
    let world = frugal();
    let client = rejected_in_a_transaction(&world, &to_the_dead());
    let other = world.client();
    world.hold_commits();
    client.tx(20);
    assert!(world.store().staged_bytes() < 1000);
    assert_eq!((other.counts("q").0, other.counts("dead").0), (0, 0));
    let mut before = 0;
    while before < LARGE {
        client.expect_nothing();
        world.commit();
        let now = other.counts("dead").0;
        // Of 2 to 4 MiB, as many as a step reads.
        assert!((before + 1..=before + 9).contains(&now), "{before} {now}");
        before = now;
    }
    client.expect_first("commit-ok");
    world.commit();
    let reader = world.client();
    reader.consume_ok("dead", "d");
    let expected: Vec<u32> = (0..LARGE).collect();
    assert_eq!(numbered(&reader.bodies()), expected);
    assert_eq!(stored(&world, "q"), 0);
}

/// Nothing of what a commit decided comes back, although the broker ends before it has carried it out: it goes on with
/// it when it starts, with what others have expired behind it.
#[test]
fn what_a_commit_decided_is_carried_out_after_a_kill() {
    for (stops_after, purges) in [(0, false), (0, true), (2, false), (2, true)] {
        let world = frugal();
        let client = rejected_in_a_transaction(&world, &to_the_dead());
        world.hold_commits();
        client.publish_with("q", "last", &Properties::persistent());
        client.tx(20);
        let before = world.restarted();
        assert_eq!(
            before.client().counts("q").0,
            LARGE,
            "nothing before it is durable"
        );
        (0..stops_after).for_each(|_| world.commit());
        world.commit_unheard();
        let after = world.restarted();
        after.hold_paging();
        let reader = after.client();
        assert_eq!(reader.counts("q").0, 1);
        if purges {
            reader.purge("q");
            reader.expect(&["purge-ok 1"]);
        }
        after.go_on_paging();
        reader.consume_ok("q", "c");
        let lasts = reader.bodies();
        let lasts: Vec<&str> = lasts
            .iter()
            .map(|body| body.trim_end_matches('!'))
            .collect();
        let expected: &[&str] = if purges { &[] } else { &["last"] };
        assert_eq!(lasts, expected);
        let reader = after.client();
        reader.consume_ok("dead", "d");
        let expected: Vec<u32> = (0..LARGE).collect();
        assert_eq!(
            numbered(&reader.bodies()),
            expected,
            "{stops_after} {purges}"
        );
        reader.ack(0, true);
        let again = after.restarted();
        assert_eq!(again.client().counts("q").0, u32::from(!purges));
        assert_eq!(again.client().counts("dead").0, 0);
    }
}

/// So does what a commit put back where it does not simply come back.
#[test]
fn what_a_commit_puts_back_for_later_is_carried_out_after_a_kill() {
    let delays = AMQPValue::FieldArray(FieldArray::from(vec![number(50), number(50)]));
    for (closes, carried_out) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = frugal();
        let mut arguments = to_the_dead();
        if closes {
            arguments.push(("x-queue-type", string("quorum")));
            arguments.push(("x-delivery-limit", number(0)));
        } else {
            arguments.push(("x-retry-delays", delays.clone()));
        }
        let client = held(&world, 20, &arguments, &Properties::persistent());
        client.tx(10);
        client.expect_first("tx.select-ok");
        world.hold_commits();
        client.nack(0, true, true);
        client.tx(20);
        match carried_out {
            true => {
                world.commit();
                client.expect_first("commit-ok");
                world.commit();
            }
            false => world.commit_unheard(),
        }
        let world = world.restarted();
        let other = world.client();
        if closes {
            assert_eq!((other.counts("q").0, other.counts("dead").0), (0, 20));
            continue;
        }
        assert_eq!((other.counts("q").0, other.counts("dead").0), (0, 0));
        // A second time it is the second delay, and a third time there is none.
        for round in 0..2 {
            world.pass(50);
            let client = world.client();
            client.consume_ok("q", "c");
            client.expect_bodies(&returned(1, 20));
            client.nack(0, true, true);
            client.disconnect();
            let dead = if round == 1 { 20 } else { 0 };
            assert_eq!(other.counts("dead").0, dead, "{carried_out}");
        }
    }
}

/// One that has used up its delays does not come back either, although its letter was not durable when the broker ended.
#[test]
fn what_a_commit_puts_back_once_too_often_dies_after_a_kill() {
    let world = frugal();
    let mut arguments = to_the_dead();
    let delays = FieldArray::from(vec![number(50)]);
    arguments.push(("x-retry-delays", AMQPValue::FieldArray(delays)));
    let client = held(&world, 20, &arguments, &Properties::persistent());
    client.nack(0, true, true);
    world.pass(50);
    client.expect_bodies(&returned(1, 20));
    client.tx(10);
    client.expect_first("tx.select-ok");
    world.hold_commits();
    client.nack(0, true, true);
    client.tx(20);
    let point = world.staged_point();
    world.commit_up_to(point);
    client.expect_first("commit-ok");
    assert_eq!(world.client().counts("dead").0, 20);
    let after = world.restarted().client();
    assert_eq!((after.counts("q").0, after.counts("dead").0), (0, 20));
}

/// A transaction of a queue that looks for duplicates keeps the keys of what it read alone.
#[test]
fn keys_are_forgotten_with_what_a_commit_acknowledges() {
    let world = frugal();
    let arguments = [("x-message-deduplication", AMQPValue::Boolean(true))];
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &arguments);
    let unique = |key: &str| {
        let header = table(&[("x-deduplication-header", string(key))]);
        let properties = AMQPProperties::default().with_delivery_mode(2);
        Properties::of(properties.with_headers(header))
    };
    for key in ["a", "b", "b"] {
        client.publish_with("q", key, &unique(key));
    }
    client.consume_ok("q", "c");
    client.expect_bodies("a b");
    client.tx(10);
    client.expect_first("tx.select-ok");
    client.ack(1, false);
    client.reject(2, false);
    client.tx(20);
    client.expect_first("commit-ok");
    let other = world.client();
    for key in ["a", "b", "a"] {
        other.publish_with("q", key, &unique(key));
    }
    client.expect_bodies("a b");
}
