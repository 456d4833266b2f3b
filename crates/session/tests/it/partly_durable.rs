//! What is answered, shown and remembered while the store has come only part of the way, and while it has
//! come all the way but nobody has heard of it.

use std::rc::Rc;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::{Client, Properties, World};
use leveret_codec::AMQPProperties;

const SELECT: u16 = 10;
const COMMIT: u16 = 20;

fn held() -> (Rc<World>, Client) {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    world.hold_commits();
    (world, client)
}

fn stored(body: &str, world: &World, client: &Client) -> leveret_store_api::CommitPoint {
    client.publish_with("q", body, &Properties::persistent());
    world.staged_point()
}

#[test]
fn each_confirm_waits_for_its_own_publish() {
    let (world, client) = held();
    client.confirms();
    let points: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|body| stored(body, &world, &client))
        .collect();
    client.expect_nothing();
    for (point, confirm) in points.into_iter().zip(["ack 1", "ack 2", "ack 3"]) {
        world.commit_up_to(point);
        client.expect(&[confirm]);
    }
}

#[test]
fn what_needs_no_disk_is_not_confirmed_before_what_was_published_earlier() {
    let (world, client) = held();
    client.confirms();
    client.declare_ok("passing", &[], &[]);
    stored("a", &world, &client);
    client.publish("passing", "b");
    let second = stored("c", &world, &client);
    stored("d", &world, &client);
    client.expect_nothing();
    world.commit_up_to(second);
    client.expect(&["ack 3 multiple"]);
    world.commit();
    client.expect(&["ack 4"]);
}

#[test]
fn two_channels_hear_of_their_own() {
    let (world, first) = held();
    let second = first.with_channel(2);
    first.confirms();
    second.confirms();
    first.seen();
    let point = stored("a", &world, &second);
    stored("b", &world, &first);
    world.commit_up_to(point);
    first.expect(&["2: ack 1"]);
    world.commit();
    first.expect(&["ack 1"]);
}

#[test]
fn a_declaration_is_answered_with_its_own_definition() {
    let (world, client) = held();
    let other = world.client();
    client.declare("first", &[Flag::Durable], &[]);
    let point = world.staged_point();
    other.declare("second", &[Flag::Durable], &[]);
    world.commit_up_to(point);
    client.expect(&["declare-ok first 0 0"]);
    other.expect_nothing();
    let crashed = world.restarted();
    let after = crashed.client();
    after.declare("first", &[Flag::Passive], &[]);
    after.expect(&["declare-ok first 0 0"]);
    after.declare("second", &[Flag::Passive], &[]);
    after.expect_channel_error(404, "NOT_FOUND - no queue 'second' in vhost '/'");
    world.commit();
    other.expect(&["declare-ok second 0 0"]);
}

#[test]
fn a_commit_is_shown_and_answered_with_its_own_unit() {
    let (world, client) = held();
    let other = world.client();
    for publisher in [&client, &other] {
        publisher.tx(SELECT);
        publisher.expect(&["tx.select-ok"]);
    }
    client.publish_with("q", "a", &Properties::persistent());
    client.tx(COMMIT);
    let point = world.staged_point();
    other.publish_with("q", "b", &Properties::persistent());
    other.tx(COMMIT);
    let observer = world.client();
    assert_eq!(observer.counts("q"), (0, 0));
    world.commit_up_to(point);
    client.expect(&["commit-ok"]);
    other.expect_nothing();
    assert_eq!(observer.counts("q"), (1, 0));
    world.commit();
    other.expect(&["commit-ok"]);
    assert_eq!(observer.counts("q"), (2, 0));
}

/// The store is through with the commit, its connection has not been told and is gone.
#[test]
fn a_commit_that_its_connection_never_heard_of_is_whole() {
    let (world, client) = held();
    let observer = world.client();
    client.publish_with("q", "taken", &Properties::persistent());
    world.commit();
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    client.get("q", false);
    client.seen();
    client.ack(1, false);
    client.publish_with("q", "a", &Properties::persistent());
    client.publish_with("q", "b", &Properties::persistent());
    client.tx(COMMIT);
    assert_eq!(observer.counts("q"), (0, 0));
    world.commit_unheard();
    client.vanish();
    assert_eq!(observer.counts("q"), (2, 0));
    observer.get("q", true);
    observer.get("q", true);
    observer.expect_bodies("a b");
    let after = world.restarted();
    assert_eq!(after.client().counts("q"), (2, 0));
}

#[test]
fn a_commit_whose_connection_is_gone_before_is_whole_afterwards() {
    let (world, client) = held();
    let observer = world.client();
    client.tx(SELECT);
    client.expect(&["tx.select-ok"]);
    client.publish_with("q", "a", &Properties::persistent());
    client.tx(COMMIT);
    client.vanish();
    assert_eq!(observer.counts("q"), (0, 0));
    world.commit_unheard();
    world.run();
    assert_eq!(observer.counts("q"), (1, 0));
}

#[test]
fn a_duplicate_is_not_confirmed_before_the_first_is_durable() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok(
        "q",
        &[Flag::Durable],
        &[("x-dedup-window-ms", number(60_000))],
    );
    world.hold_commits();
    let other = world.client();
    client.confirms();
    other.confirms();
    let id = Properties::of(
        AMQPProperties::default()
            .with_delivery_mode(2)
            .with_message_id("1".into()),
    );
    client.publish_with("q", "earlier", &Properties::persistent());
    let before = world.staged_point();
    client.publish_with("q", "a", &id);
    let first = world.staged_point();
    other.publish_with("q", "again", &id);
    world.commit_up_to(before);
    client.expect(&["ack 1"]);
    other.expect_nothing();
    world.commit_up_to(first);
    client.expect(&["ack 2"]);
    world.commit();
    other.expect(&["ack 1"]);
}

/// What a producer's number made durable is what counts after a crash.
#[test]
fn numbers_are_durable_with_their_own_message() {
    let (world, client) = held();
    let numbered = |sequence: i64| {
        let headers = table(&[
            ("x-producer", string("p")),
            ("x-sequence", number(sequence)),
        ]);
        Properties::of(
            AMQPProperties::default()
                .with_delivery_mode(2)
                .with_headers(headers),
        )
    };
    client.confirms();
    client.publish_with("q", "1", &numbered(1));
    let point = world.staged_point();
    client.publish_with("q", "2", &numbered(2));
    world.commit_up_to(point);
    client.expect(&["ack 1"]);
    let after = world.restarted();
    let again = after.client();
    again.confirms();
    again.publish_with("q", "1", &numbered(1));
    again.publish_with("q", "2", &numbered(2));
    again.expect(&["ack 1", "ack 2"]);
    again.get("q", true);
    again.get("q", true);
    again.get("q", true);
    let lines = again.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[2].contains("get-empty"), "{lines:?}");
}
