//! What becomes of a delivery is the same in a transaction and outside of one, whatever the queue is asked to
//! do, whoever has it, and whether or not the store has it; and what others have is none the less counted.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, AMQPValue, FieldArray};
use leveret_queue::queue::counts::QueueCounts;

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

const SELECT: u16 = 10;
const COMMIT: u16 = 20;
const ROLLBACK: u16 = 30;

type Argument = (&'static str, AMQPValue);

/// Queues by name; those that dead-letter do so to `dead`, or to themselves.
fn queues() -> Vec<(&'static str, Vec<Argument>)> {
    let quorum = ("x-queue-type", string("quorum"));
    let limit = ("x-delivery-limit", number(1));
    let to = |key: &str| {
        [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string(key)),
        ]
    };
    let delays = AMQPValue::FieldArray(FieldArray::from(vec![number(100)]));
    vec![
        ("plain", vec![]),
        ("with dead letters", to("dead").to_vec()),
        ("with dead letters to itself", to("q").to_vec()),
        (
            "with a delivery limit",
            [vec![quorum.clone(), limit.clone()], to("dead").to_vec()].concat(),
        ),
        (
            "with a delivery limit that leads back",
            [vec![quorum, limit], to("q").to_vec()].concat(),
        ),
        (
            "with retries",
            [vec![("x-retry-delays", delays)], to("dead").to_vec()].concat(),
        ),
        ("with priorities", vec![("x-max-priority", number(3))]),
    ]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Settling {
    Ack,
    Requeue,
    Reject,
    AckAll,
    RequeueAll,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Taking {
    Get,
    Consumer,
    GlobalPrefetch,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum In {
    NoTransaction,
    Transaction,
    /// Rolled back, and done again and committed.
    SecondTransaction,
}

fn counts(world: &World, queue: &str) -> QueueCounts {
    let vhost = world.broker.vhost("/").unwrap();
    vhost.queue(queue).unwrap().counts()
}

fn settle(client: &Client, settling: Settling, tags: &[u64]) {
    let (first, last) = (tags[0], tags[tags.len() - 1]);
    match settling {
        Settling::Ack => client.ack(first, false),
        Settling::Requeue => client.nack(first, false, true),
        Settling::Reject => client.reject(first, false),
        Settling::AckAll => client.ack(last, true),
        Settling::RequeueAll => client.nack(last, true, true),
    }
}

/// What is in the queue: bodies, what marks them as redelivered, and what is said of earlier deaths.
fn contents(client: &Client, queue: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, true);
        for seen in client.seen() {
            let headers = seen.headers();
            let said = |name: &str| format!("{:?}", headers.inner().get(name));
            let mark = if seen.text.contains("redelivered") {
                "!"
            } else {
                ""
            };
            found.push(format!(
                "{}{mark} count {} reason {}",
                seen.body_text(),
                said("x-delivery-count"),
                said("x-first-death-reason"),
            ));
        }
    }
    found
}

/// Three messages are taken, one at least is settled (twice over where it comes back at once), another
/// consumer holds a fourth; answers all that is to be seen in the end.
fn story(
    arguments: &[Argument],
    settling: Settling,
    taking: Taking,
    inside: In,
    delivery_mode: u8,
) -> (Vec<String>, String) {
    let world = World::durable();
    let (client, other) = (world.client(), world.client());
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("q", &[Flag::Durable], arguments);
    let message = Properties::of(AMQPProperties::default().with_delivery_mode(delivery_mode));
    client.publish_with("q", "other's", &message);
    other.get("q", false);
    other.expect_bodies("other's");
    client.publish_all("q", "a b c", &message);

    let mut tags: Vec<u64> = vec![1, 2, 3];
    match taking {
        Taking::Get => {
            for _ in 0..3 {
                client.get("q", false);
            }
        }
        Taking::Consumer => {
            client.qos_ok(3, false);
            client.consume_ok("q", "c");
        }
        Taking::GlobalPrefetch => {
            // Quorum queues have none.
            if !arguments.iter().any(|(name, _)| *name == "x-queue-type") {
                client.qos_ok(3, true);
            }
            client.consume_ok("q", "c");
        }
    }
    assert_eq!(client.seen().len(), 3);
    let mut said = Vec::new();
    for round in 0..2 {
        match inside {
            In::NoTransaction => settle(&client, settling, &tags),
            In::Transaction | In::SecondTransaction => {
                client.tx(SELECT);
                client.expect(&["tx.select-ok"]);
                settle(&client, settling, &tags);
                client.expect_nothing();
                if inside == In::SecondTransaction {
                    client.tx(ROLLBACK);
                    client.expect(&["rollback-ok"]);
                    settle(&client, settling, &tags);
                }
                client.tx(COMMIT);
                let mut seen = client.seen();
                let answer = seen.remove(0);
                assert_eq!(answer.text, "commit-ok");
                client.put_back(seen);
            }
        }
        let again: Vec<String> = client.bodies();
        let settled = if matches!(settling, Settling::AckAll | Settling::RequeueAll) {
            tags.len()
        } else {
            1
        };
        tags.drain(..settled);
        let last = 3 + said.len() as u64;
        tags.extend((0..again.len() as u64).map(|more| last + 1 + more));
        said.extend(again.iter().cloned());
        let counts = counts(&world, "q");
        assert_eq!(
            counts.unacknowledged,
            tags.len() as u64 + 1,
            "round {round}"
        );
        if tags.is_empty() {
            break;
        }
    }
    world.pass(1_000);
    said.extend(client.bodies());
    client.close();
    client.seen();
    assert_eq!(counts(&world, "q").unacknowledged, 1);
    let mut end = said;
    end.push("| q:".to_owned());
    end.extend(contents(&other, "q"));
    end.push("| dead:".to_owned());
    end.extend(contents(&other, "dead"));
    other.ack(1, false);
    assert_eq!(counts(&world, "q").unacknowledged, 0);
    let restarted = world.restarted();
    let left = format!(
        "{:?} {:?}",
        counts(&restarted, "q"),
        counts(&restarted, "dead")
    );
    (end, left)
}

#[test]
fn a_transaction_changes_nothing_of_what_becomes_of_a_delivery() {
    use Settling::{Ack, AckAll, Reject, Requeue, RequeueAll};
    use Taking::{Consumer, Get, GlobalPrefetch};
    for (name, arguments) in queues() {
        for settling in [Ack, Requeue, Reject, AckAll, RequeueAll] {
            for taking in [Get, Consumer, GlobalPrefetch] {
                for delivery_mode in [1, 2] {
                    let without = story(
                        &arguments,
                        settling,
                        taking,
                        In::NoTransaction,
                        delivery_mode,
                    );
                    for inside in [In::Transaction, In::SecondTransaction] {
                        let with = story(&arguments, settling, taking, inside, delivery_mode);
                        assert_eq!(
                            with, without,
                            "{name}, {settling:?}, {taking:?}, {inside:?}, {delivery_mode}"
                        );
                    }
                }
            }
        }
    }
}

fn numbered(sequence: i64) -> Properties {
    let headers = crate::harness::calls::table(&[
        ("x-producer", string("p")),
        ("x-sequence", number(sequence)),
    ]);
    Properties::of(
        AMQPProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers),
    )
}

/// A commit that is refused gives back what it would have settled: the channel closes.
#[test]
fn a_refused_commit_gives_back_what_it_would_have_settled() {
    for settling in [
        Settling::Ack,
        Settling::Requeue,
        Settling::Reject,
        Settling::AckAll,
    ] {
        let world = World::durable();
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &[]);
        client.publish_with("q", "first", &numbered(1));
        client.publish_with("q", "b", &Properties::persistent());
        client.get("q", false);
        client.get("q", false);
        client.expect_bodies("first b");
        client.tx(SELECT);
        client.expect(&["tx.select-ok"]);
        settle(&client, settling, &[1, 2]);
        client.publish_with("q", "gap", &numbered(5));
        client.tx(COMMIT);
        let lines = client.lines();
        assert!(lines[0].starts_with("channel.close 406"), "{lines:?}");
        let after = counts(&world, "q");
        assert_eq!((after.ready, after.unacknowledged), (2, 0), "{settling:?}");
        let times = |n: i64| Some(AMQPValue::LongLongInt(n));
        assert_eq!(delivery_counts(&world, "q"), [times(1), times(1)]);
        assert_eq!(counts(&world.restarted(), "q").ready, 2);
    }
}

/// Publishes of a transaction come in their order, whatever has to be decided about some of them.
#[test]
fn plain_and_numbered_publishes_of_a_transaction_keep_their_order() {
    for waiting in [false, true] {
        for mode in [1, 2] {
            let world = World::durable();
            let (client, reader) = (world.client(), world.client());
            client.declare_ok("q", &[Flag::Durable], &[]);
            if waiting {
                reader.consume_ok("q", "c");
            }
            let plain = Properties::of(AMQPProperties::default().with_delivery_mode(mode));
            client.tx(SELECT);
            for (sequence, bodies) in [(1, ["a", "b"]), (2, ["c", "d"])] {
                client.publish_with("q", bodies[0], &plain);
                client.publish_with("q", bodies[1], &numbered(sequence));
            }
            client.publish_with("q", "e", &plain);
            client.tx(COMMIT);
            client.expect(&["tx.select-ok", "commit-ok"]);
            if !waiting {
                reader.consume_ok("q", "c");
            }
            reader.expect_bodies("a b c d e");
        }
    }
}

/// A channel's limit counts what its consumers have, however that ends.
#[test]
fn a_channels_limit_is_given_back_once_for_each_delivery() {
    let started = || {
        let world = World::durable();
        let client = world.client();
        client.declare_ok("q", &[Flag::Durable], &[]);
        client.declare_ok("beside", &[Flag::Durable], &[]);
        client.publish_all("q", "a b c d e f g h", &Properties::persistent());
        client.publish_all("beside", "x y z", &Properties::persistent());
        client.qos_ok(2, true);
        client.consume_ok("q", "c");
        client.expect_bodies("a b");
        (world, client)
    };
    // Settled in a transaction.
    let (_world, client) = started();
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    client.ack(2, true);
    client.expect_nothing();
    client.tx(COMMIT);
    client.expect_first("commit-ok");
    client.expect_bodies("c d");
    client.nack(3, false, true);
    client.tx(COMMIT);
    client.expect_first("commit-ok");
    client.expect_bodies("c!");
    // A rollback gives back nothing.
    client.ack(5, true);
    client.tx(ROLLBACK);
    client.expect(&["rollback-ok"]);

    // basic.get is outside of the limit, and so is what ends it.
    for end in [Settling::Ack, Settling::Requeue, Settling::Reject] {
        let (_world, client) = started();
        client.get("beside", false);
        client.expect_bodies("x");
        settle(&client, end, &[3]);
        client.expect_nothing();
        client.ack(1, false);
        client.expect_bodies("c");
    }

    // Recovered: they come again.
    let (_world, client) = started();
    client.recover(true);
    let mut seen = client.seen();
    let answer = seen.iter().position(|seen| seen.text == "recover-ok");
    seen.remove(answer.expect("recover-ok"));
    let again: Vec<String> = seen.iter().map(|seen| seen.body_text()).collect();
    assert_eq!(again, ["a", "b"]);
    client.ack(4, true);
    client.expect_bodies("c d");

    // What their consumer, which is gone, makes room for is for the others of the channel.
    let (_world, client) = started();
    client.consume("beside", "other", &[], &[]);
    client.expect(&["consume-ok other"]);
    client.cancel("c");
    client.expect(&["cancel-ok c"]);
    client.recover(true);
    let seen = client.seen();
    let got: Vec<String> = seen
        .iter()
        .filter(|seen| seen.text.starts_with("deliver"))
        .map(|seen| seen.body_text())
        .collect();
    assert_eq!(got, ["x", "y"]);
}

/// Whatever a no-ack delivery or a deleted queue does to the counts, it leaves those of others alone.
#[test]
fn counts_beside_what_others_hold() {
    for mode in [1, 2] {
        let world = World::durable();
        let (client, holder) = (world.client(), world.client());
        client.declare_ok("q", &[Flag::Durable], &[]);
        let message = Properties::of(AMQPProperties::default().with_delivery_mode(mode));
        client.publish_all("q", "held b c d", &message);
        holder.get("q", false);
        holder.expect_bodies("held");
        let unacknowledged = || counts(&world, "q").unacknowledged;
        client.get("q", true);
        client.expect_bodies("b");
        assert_eq!(unacknowledged(), 1);
        client.consume("q", "c", &[Flag::NoAck], &[]);
        client.expect_first("consume-ok c");
        client.expect_bodies("c d");
        assert_eq!(unacknowledged(), 1);
        client.publish_with("q", "e", &message);
        client.expect_bodies("e");
        assert_eq!(unacknowledged(), 1);
        client.cancel("c");
        client.expect(&["cancel-ok c"]);
        assert_eq!(unacknowledged(), 1);
        client.consume("q", "c", &[Flag::NoAck], &[]);
        client.close();
        assert_eq!(unacknowledged(), 1);
        holder.ack(1, false);
        assert_eq!(unacknowledged(), 0);
    }
}

/// What was never sent to a no-ack consumer that is gone comes back, and was never counted.
#[test]
fn a_deaf_no_ack_consumer_goes_beside_one_that_holds_a_delivery() {
    for mode in [1, 2] {
        let world = World::durable();
        let (client, holder, deaf) = (world.client(), world.client(), world.client());
        client.declare_ok("q", &[Flag::Durable], &[]);
        let message = Properties::of(AMQPProperties::default().with_delivery_mode(mode));
        client.publish_with("q", "held", &message);
        holder.get("q", false);
        holder.expect_bodies("held");
        deaf.consume("q", "c", &[Flag::NoAck], &[]);
        deaf.expect(&["consume-ok c"]);
        deaf.set_reads(false);
        let body = "x".repeat(10_000);
        for _ in 0..400 {
            client.publish_with("q", &body, &message);
        }
        deaf.vanish();
        let left = counts(&world, "q");
        assert_eq!(left.unacknowledged, 1);
        assert!(left.ready > 0, "{left:?}");
        holder.ack(1, false);
        assert_eq!(counts(&world, "q").unacknowledged, 0);
    }
}

/// A queue takes along what was delivered from it: nothing of that is dead-lettered later.
#[test]
fn what_is_rejected_after_its_queue_was_deleted_is_gone() {
    for in_a_transaction in [false, true] {
        let world = World::durable();
        let (client, other) = (world.client(), world.client());
        client.declare_ok("dead", &[Flag::Durable], &[]);
        let arguments = [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string("dead")),
        ];
        client.declare_ok("q", &[Flag::Durable], &arguments);
        client.publish_with("q", "a", &Properties::persistent());
        client.get("q", false);
        client.expect_bodies("a");
        if in_a_transaction {
            client.tx(SELECT);
        }
        other.delete("q", false, false);
        other.expect(&["delete-ok 0"]);
        client.reject(1, false);
        if in_a_transaction {
            client.tx(COMMIT);
            client.expect(&["tx.select-ok", "commit-ok"]);
        }
        assert_eq!(other.counts("dead").0, 0);
        assert_eq!(counts(&world.restarted(), "dead").ready, 0);
    }
}

fn delivery_counts(world: &Rc<World>, queue: &str) -> Vec<Option<AMQPValue>> {
    let client = world.client();
    let (ready, _) = client.counts(queue);
    for _ in 0..ready {
        client.get(queue, false);
    }
    let seen = client.seen();
    let counts = seen.iter().map(|seen| {
        let headers = seen.headers();
        headers.inner().get("x-delivery-count").cloned()
    });
    counts.collect()
}

/// Counts are stored in runs: one in the middle that has another count is not in the run.
#[test]
fn counts_of_neighbours_are_their_own_after_a_kill() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.publish_all("q", "a b c", &Properties::persistent());
    client.consume_ok("q", "c");
    client.expect_bodies("a b c");
    // a and c are delivered three times, together each time, b once.
    client.nack(1, false, true);
    client.nack(3, false, true);
    client.expect_bodies("a! c!");
    client.write(&nacks(&client, &[4, 5]));
    world.run();
    client.expect_bodies("a! c!");
    let restarted = world.restarted();
    let times = |n: i64| Some(AMQPValue::LongLongInt(n));
    assert_eq!(
        delivery_counts(&restarted, "q"),
        [times(3), times(1), times(3)]
    );
}

fn nacks(client: &Client, tags: &[u64]) -> Vec<u8> {
    tags.iter()
        .flat_map(|&tag| client.nacking(tag, false, true))
        .collect()
}
