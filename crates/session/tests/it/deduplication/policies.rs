//! Deduplication by policy.

use std::rc::Rc;

use leveret_codec::AMQPValue;
use leveret_settings::policy::{ApplyTo, PolicyKind, PolicySpec};
use serde_json::{Value, json};

use super::{bodies, id, key, queue};
use crate::harness::World;
use crate::harness::calls::Flag;

fn set_policy(world: &Rc<World>, pattern: &str, apply_to: ApplyTo, definition: &Value) {
    let policy = PolicySpec {
        vhost: "/".to_owned(),
        name: "p".to_owned(),
        pattern: pattern.to_owned(),
        apply_to,
        priority: 0,
        definition: definition.as_object().unwrap().clone(),
    };
    let now = world.now();
    world
        .broker
        .set_policy(PolicyKind::User, policy, now)
        .unwrap();
}

#[test]
fn policies_open_and_close_windows() {
    let world = World::durable();
    let client = world.client();
    client.declare_exchange("x", "direct", &[Flag::Durable], &[]);
    client.seen();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("behind", &[Flag::Durable], &[]);
    client.bind("behind", "x", "k");
    client.seen();
    client.publish_with("k", "cached route", &id("x", "1"));
    set_policy(
        &world,
        "^(q|x)$",
        ApplyTo::All,
        &json!({"dedup-window-ms": 60_000}),
    );
    for _ in 0..2 {
        client.publish_with("q", "a", &id("", "1"));
        client.publish_with("k", "a", &id("x", "1"));
    }
    assert_eq!(bodies(&client, "q"), "a");
    assert_eq!(bodies(&client, "behind"), "cached route a");

    let after = world.restarted();
    let client = after.client();
    client.publish_with("q", "b", &id("", "1"));
    client.publish_with("k", "b", &id("x", "1"));
    assert_eq!(bodies(&client, "q"), "");
    assert_eq!(bodies(&client, "behind"), "");
    after
        .broker
        .delete_policy(PolicyKind::User, "/", "p", after.now());
    client.publish_with("q", "c", &id("", "1"));
    client.publish_with("k", "c", &id("x", "1"));
    assert_eq!(bodies(&client, "q"), "c");
    assert_eq!(bodies(&client, "behind"), "c");
}

#[test]
fn keys_of_the_brokers_own_exchanges_survive_too() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.bind("q", "amq.direct", "k");
    client.seen();
    set_policy(
        &world,
        ".*",
        ApplyTo::Exchanges,
        &json!({"x-dedup-window-ms": 60_000}),
    );
    client.publish_with("k", "a", &id("amq.direct", "1"));
    let client = world.restarted().client();
    client.publish_with("k", "again", &id("amq.direct", "1"));
    assert_eq!(bodies(&client, "q"), "a");
}

#[test]
fn a_policy_makes_a_queue_take_no_second_of_what_is_in_it() {
    let world = World::durable();
    let client = queue(&world, &[]);
    let unique = |on: bool| {
        let definition = json!({"x-message-deduplication": on});
        set_policy(&world, "^q$", ApplyTo::Queues, &definition);
    };
    client.publish_with("q", "a", &key("", "1"));
    client.publish_with("q", "b", &key("", "1"));
    assert_eq!(bodies(&client, "q"), "a b");
    unique(true);
    for body in ["c", "again"] {
        client.publish_with("q", body, &key("", "1"));
    }
    let after = world.restarted();
    let other = after.client();
    other.publish_with("q", "again", &key("", "1"));
    assert_eq!(bodies(&other, "q"), "c");
    unique(false);
    client.publish_with("q", "d", &key("", "1"));
    assert_eq!(bodies(&client, "q"), "c d");
    // What an argument asks for stays.
    let argument = [("x-message-deduplication", AMQPValue::Boolean(true))];
    client.delete("q", false, false);
    client.seen();
    client.declare_ok("q", &[Flag::Durable], &argument);
    for body in ["e", "again"] {
        client.publish_with("q", body, &key("", "1"));
    }
    assert_eq!(bodies(&client, "q"), "e");
}
