//! What was delivered before a restart is marked after it, with its count; nothing else is.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue};

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

/// What came since the last look: each body, with `x-delivery-count` behind it if it was delivered before.
#[track_caller]
fn came(client: &Client) -> String {
    let seen = client.seen();
    let told = seen.iter().map(|seen| {
        let count = match seen.properties().headers() {
            Some(headers) => match headers.inner().get("x-delivery-count") {
                Some(AMQPValue::LongLongInt(count)) => *count,
                _ => 0,
            },
            None => 0,
        };
        let redelivered = seen.text.contains(" redelivered");
        assert_eq!(redelivered, count > 0, "mark and count of {seen:?}");
        match count {
            0 => seen.body_text(),
            count => format!("{}:{count}", seen.body_text()),
        }
    });
    told.collect::<Vec<_>>().join(" ")
}

/// Takes everything out of the queue, unacknowledged.
#[track_caller]
fn all(client: &Client, queue: &str) -> String {
    let (ready, _) = client.counts(queue);
    (0..ready).for_each(|_| client.get(queue, false));
    came(client)
}

fn published(arguments: &[(&str, AMQPValue)], bodies: &str) -> (Rc<World>, Client) {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], arguments);
    client.publish_all("q", bodies, &Properties::persistent());
    (world, client)
}

fn quorum() -> (&'static str, AMQPValue) {
    ("x-queue-type", string("quorum"))
}

#[test]
fn what_was_got_is_marked_and_nothing_else() {
    let (world, client) = published(&[], "a b c d");
    client.get("q", false);
    client.get("q", true);
    client.get("q", false);
    assert_eq!(came(&client), "a b c");
    let world = world.restarted();
    assert_eq!(all(&world.client(), "q"), "a:1 c:1 d");
    let world = world.restarted();
    let client = world.client();
    client.publish_with("q", "e", &Properties::persistent());
    assert_eq!(all(&client, "q"), "a:2 c:2 d:1 e");
}

#[test]
fn what_was_consumed_is_marked_and_nothing_else() {
    for queue_type in ["classic", "quorum"] {
        let arguments = [("x-queue-type", string(queue_type))];
        let (world, client) = published(&arguments, "a b c d e");
        client.qos_ok(3, false);
        client.consume_ok("q", "c");
        assert_eq!(came(&client), "a b c");
        client.ack(2, false);
        assert_eq!(came(&client), "d");
        assert_eq!(all(&world.restarted().client(), "q"), "a:1 c:1 d:1 e");
    }
}

#[test]
fn without_acknowledgements_too() {
    let (world, client) = published(&[], "a b");
    world.hold_commits();
    client.consume("q", "c", &[Flag::NoAck], &[]);
    client.expect_first("consume-ok c");
    assert_eq!(came(&client), "a b");
    // What settles them was not written.
    let client = world.restarted().client();
    client.publish_with("q", "c", &Properties::persistent());
    assert_eq!(all(&client, "q"), "a:1 b:1 c");
}

#[test]
fn each_level_of_a_priority_queue_has_its_own_place() {
    let (world, client) = published(&[("x-max-priority", number(4))], "");
    for (body, priority) in [("a", 1), ("b", 3), ("c", 1), ("d", 4), ("e", 3)] {
        let properties = AMQPProperties::default().with_delivery_mode(2);
        let properties = properties.with_priority(priority);
        client.publish_with("q", body, &Properties::of(properties));
    }
    client.qos_ok(2, false);
    client.consume_ok("q", "c");
    assert_eq!(came(&client), "d b");
    let world = world.restarted();
    assert_eq!(all(&world.client(), "q"), "d:1 b:1 e a c");
    assert_eq!(all(&world.restarted().client(), "q"), "d:2 b:2 e:1 a:1 c:1");
}

#[test]
fn what_never_left_for_its_consumer_is_not_marked() {
    let (world, client) = published(&[], "");
    let body = "x".repeat(100_000);
    (0..20).for_each(|_| client.publish_with("q", &body, &Properties::persistent()));
    let deaf = world.client();
    deaf.set_reads(false);
    deaf.consume("q", "c", &[], &[]);
    assert!(client.counts("q").0 < 20);
    // Some are in the output, others still in the mailbox.
    let found = all(&world.restarted().client(), "q");
    let marked: Vec<bool> = found.split(' ').map(|it| it.ends_with(":1")).collect();
    let first_unmarked = marked.iter().position(|marked| !marked).unwrap();
    assert!((1..20).contains(&first_unmarked) && marked.len() == 20);
    assert!(marked.is_sorted_by(|one, next| one >= next), "{marked:?}");
}

#[test]
fn what_never_left_for_its_next_consumer_keeps_its_count() {
    let (world, client) = published(&[], "");
    let body = "x".repeat(100_000);
    (0..20).for_each(|_| client.publish_with("q", &body, &Properties::persistent()));
    all(&client, "q");
    client.nack(0, true, true);
    let deaf = world.client();
    deaf.set_reads(false);
    deaf.consume("q", "c", &[], &[]);
    assert!(client.counts("q").0 < 20);
    deaf.vanish();
    let after = world.restarted();
    let counts = |client: &Client| all(client, "q").replace(&body, "");
    let found = counts(&after.client());
    assert_eq!(found, counts(&client));
    assert!(found.starts_with(":2 ") && found.ends_with(":1"), "{found}");
}

#[test]
fn what_went_back_unseen_hides_nothing_that_was_seen() {
    let (world, client) = published(&[], "");
    let deaf = [world.client(), world.client()];
    for (deaf, prefetch) in deaf.iter().zip([9, 0]) {
        deaf.qos_ok(prefetch, false);
        deaf.consume_ok("q", "c");
        deaf.set_reads(false);
    }
    let body = "x".repeat(50_000);
    (0..18).for_each(|_| client.publish_with("q", &body, &Properties::persistent()));
    // What had not left for the first one comes to the second one, behind others.
    deaf[0].vanish();
    deaf[1].set_reads(true);
    assert_eq!(client.counts("q").0, 0);
    let client = world.restarted().client();
    let found = all(&client, "q");
    assert_eq!(found.matches(':').count(), 18);
    assert_eq!(client.counts("q").0, 0);
}

#[test]
fn sequences_that_a_crash_gives_again_are_not_marked() {
    let (world, client) = published(&[], "a");
    world.hold_commits();
    client.publish_all("q", "b c", &Properties::persistent());
    for _ in 0..3 {
        client.get("q", false);
    }
    assert_eq!(came(&client), "a b c");
    // The store never had the last two.
    let client = world.restarted().client();
    client.publish_all("q", "d e", &Properties::persistent());
    assert_eq!(all(&client, "q"), "a:1 d e");
}

#[test]
fn after_a_power_cut_everything_may_have_been_delivered() {
    let (world, client) = published(&[quorum(), ("x-delivery-limit", number(1))], "a b");
    client.get("q", false);
    assert_eq!(came(&client), "a");
    let world = world.after_power_cut();
    let client = world.client();
    client.publish_with("q", "c", &Properties::persistent());
    client.consume_ok("q", "c");
    assert_eq!(came(&client), "a:1 b:1 c");
    // That does not use up the limit.
    client.nack(3, true, true);
    assert_eq!(came(&client), "a:2 b:2 c:1");
    client.nack(6, true, true);
    assert_eq!(came(&client), "");
    assert_eq!(client.counts("q"), (0, 1));
}

#[test]
fn messages_behind_the_window_are_marked_as_well() {
    let world = World::paging(2_000);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    let body = |number: usize| format!("{number:0>300}");
    for number in 0..100 {
        client.publish_with("q", &body(number), &Properties::persistent());
    }
    client.qos_ok(50, false);
    client.consume_ok("q", "c");
    assert_eq!(client.seen().len(), 50);
    let client = world.restarted().client();
    let found = all(&client, "q");
    let expected: Vec<String> = (0..100)
        .map(|number| format!("{}{}", body(number), if number < 50 { ":1" } else { "" }))
        .collect();
    assert_eq!(found, expected.join(" "));
}

#[test]
fn a_deleted_queue_leaves_no_marks_to_its_successor() {
    let (world, client) = published(&[], "a b");
    client.get("q", false);
    client.delete("q", false, false);
    client.seen();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.publish_all("q", "c d", &Properties::persistent());
    assert_eq!(all(&world.restarted().client(), "q"), "c d");
}

#[test]
fn what_came_back_keeps_its_count() {
    for queue_type in ["classic", "quorum"] {
        let (world, client) = published(&[("x-queue-type", string(queue_type))], "a b c");
        for tag in 1..4 {
            client.get("q", false);
            client.nack(tag, false, true);
        }
        assert_eq!(came(&client), "a a:1 a:2");
        // It is ready, and came back three times; the others nobody had.
        let world = world.restarted();
        let client = world.client();
        assert_eq!(all(&client, "q"), "a:3 b c");
        // It is out for the fourth time, they for the first.
        let world = world.restarted();
        assert_eq!(all(&world.client(), "q"), "a:4 b:1 c:1");
        assert_eq!(all(&world.restarted().client(), "q"), "a:5 b:2 c:2");
    }
}

#[test]
fn without_a_delivery_limit_what_is_put_back_goes_to_the_end() {
    let arguments = [quorum(), ("x-delivery-limit", number(-1))];
    let (world, client) = published(&arguments, "a b c d");
    client.get("q", false);
    client.get("q", false);
    client.nack(2, true, true);
    client.get("q", false);
    client.reject(3, true);
    assert_eq!(came(&client), "a b c");
    assert_eq!(client.counts("q"), (4, 0));
    // There, with their counts, also after a restart.
    let world = world.restarted();
    let client = world.client();
    assert_eq!(all(&client, "q"), "d a:1 b:1 c:1");
    client.ack(1, false);
    // What a channel held when it closed is in its place.
    client.publish_with("q", "e", &Properties::persistent());
    client.close_channel();
    client.close_channel_ok();
    let client = world.client();
    assert_eq!(all(&client, "q"), "a:2 b:2 c:2 e");
    client.ack(0, true);
    assert_eq!(client.counts("q"), (0, 0));
    assert_eq!(all(&world.restarted().client(), "q"), "");
}

#[test]
fn what_goes_to_the_end_leaves_memory_as_others_do() {
    let world = World::paging(300);
    let client = world.client();
    let arguments = [quorum(), ("x-delivery-limit", number(-1))];
    client.declare_ok("q", &[Flag::Durable], &arguments);
    client.publish_all("q", "a b c d e f g h", &Properties::persistent());
    client.tx(10);
    for tag in 1..=4 {
        client.get("q", false);
        client.nack(tag, false, true);
        client.tx(20);
    }
    client.seen();
    assert_eq!(all(&client, "q"), "e f g h a:1 b:1 c:1 d:1");
    assert_eq!(
        all(&world.restarted().client(), "q"),
        "e:1 f:1 g:1 h:1 a:2 b:2 c:2 d:2"
    );
}

#[test]
fn a_closed_channel_gives_back_with_a_count() {
    let (world, client) = published(&[], "a b c d");
    for _ in 0..3 {
        let other = client.with_channel(2);
        other.qos_ok(3, false);
        other.consume_ok("q", "c");
        client.seen();
        other.close_channel();
        other.seen();
    }
    assert_eq!(all(&world.restarted().client(), "q"), "a:3 b:3 c:3 d");
}

#[test]
fn what_never_left_again_is_not_counted_again() {
    let (world, client) = published(&[], "");
    let body = "x".repeat(100_000);
    (0..20).for_each(|_| client.publish_with("q", &body, &Properties::persistent()));
    let first = world.client();
    first.consume_ok("q", "c");
    first.vanish();
    let deaf = world.client();
    deaf.set_reads(false);
    deaf.consume("q", "c", &[], &[]);
    deaf.vanish();
    let in_process = all(&client, "q").matches(":2").count();
    assert!((1..20).contains(&in_process));
    client.vanish();
    // As many as left twice have come back twice, and all once more.
    let found = all(&world.restarted().client(), "q");
    let count = |times: &str| found.matches(times).count();
    assert_eq!((count(":3"), count(":2")), (in_process, 20 - in_process));
}

#[test]
fn the_limit_counts_over_restarts() {
    let arguments = [
        quorum(),
        ("x-delivery-limit", number(2)),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("dead")),
    ];
    let (mut world, client) = published(&arguments, "a b");
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.get("q", false);
    assert_eq!(came(&client), "a");
    for count in 1..3 {
        world = world.restarted();
        let client = world.client();
        client.get("q", false);
        assert_eq!(came(&client), format!("a:{count}"));
    }
    // It was out three times: that is once too often.
    let world = world.restarted();
    let client = world.client();
    assert_eq!((client.counts("q").0, client.counts("dead").0), (1, 1));
    assert_eq!(all(&client, "q"), "b");
    client.get("dead", false);
    let letter = client.seen().remove(0);
    assert_eq!(
        (
            letter.body_text().as_str(),
            letter.headers().inner().get("x-first-death-reason")
        ),
        ("a", Some(&string("delivery_limit")))
    );
}

#[test]
fn a_retry_that_waits_keeps_its_count() {
    use leveret_codec::FieldArray;
    let delays = AMQPValue::FieldArray(FieldArray::from(vec![number(1000), number(1000)]));
    let (world, client) = published(&[("x-retry-delays", delays)], "a b");
    client.get("q", false);
    client.nack(1, false, true);
    assert_eq!(came(&client), "a");
    let world = world.restarted();
    let client = world.client();
    assert_eq!(all(&client, "q"), "b");
    world.pass(1000);
    client.get("q", false);
    assert_eq!(came(&client), "a:1");
    client.with_channel(2);
    client.vanish();
    assert_eq!(all(&world.restarted().client(), "q"), "a:2 b:1");
}

#[test]
fn what_is_not_certain_stays_so() {
    let (world, client) = published(&[quorum(), ("x-delivery-limit", number(1))], "a");
    drop(client);
    let world = world.after_power_cut();
    assert_eq!(all(&world.client(), "q"), "a:1");
    // Out once for certain, and perhaps before.
    let world = world.restarted();
    let client = world.client();
    assert_eq!(all(&client, "q"), "a:2");
    assert_eq!(world.restarted().client().counts("q"), (0, 0));
}

#[test]
fn what_goes_to_the_end_together_does_so_in_the_queues_order() {
    let arguments = [quorum(), ("x-delivery-limit", number(-1))];
    let (world, client) = published(&arguments, "a b c d");
    for _ in 0..3 {
        client.get("q", false);
    }
    client.seen();
    let backwards = [3, 1, 2].map(|tag| client.nacking(tag, false, true));
    client.send(&backwards.concat());
    assert_eq!(all(&client, "q"), "d a:1 b:1 c:1");
    assert_eq!(all(&world.restarted().client(), "q"), "d:1 a:2 b:2 c:2");
}
