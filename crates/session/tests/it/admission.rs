//! Who is let in how often, and to which topics: limits of virtual hosts and users, topic permissions.

use std::rc::Rc;

use leveret_broker::definitions_import::Plan;
use leveret_codec::{AMQPProperties, AMQPValue, FieldArray, FieldTable, PROTOCOL_HEADER};
use serde_json::{Value, json};

use crate::harness::calls::{Flag, string};
use crate::harness::wire::Arguments;
use crate::harness::{Client, Dial, Properties, World};

/// A broker with the user `ann` and what else the definitions say.
fn world(definitions: &Value) -> Rc<World> {
    let world = World::volatile();
    import(
        &world,
        &json!({
            "users": [{"name": "ann", "password": "pw"}],
            "permissions": [{"user": "ann", "configure": ".*", "write": ".*", "read": ".*"}],
        }),
    );
    import(&world, definitions);
    world
}

fn import(world: &World, definitions: &Value) {
    let plan = Plan::parse(definitions.to_string().as_bytes()).expect("good definitions");
    world
        .broker
        .import(&plan, world.now())
        .expect("definitions that fit");
}

fn vhost_limits(limits: &Value) -> Value {
    json!({"parameters": [{"component": "vhost-limits", "name": "limits", "value": limits}]})
}

fn user_limits(limits: &Value) -> Value {
    json!({"users": [{"name": "ann", "password": "pw", "limits": limits}]})
}

fn ann() -> Dial {
    Dial {
        response: b"\0ann\0pw".to_vec(),
        ..Dial::default()
    }
}

#[track_caller]
fn refused(world: &Rc<World>, text: &str) {
    let client = Client::socket(world, &ann());
    for step in [
        PROTOCOL_HEADER.to_vec(),
        ann().start_ok(),
        ann().tune_ok(),
        ann().open(),
    ] {
        client.send(&step);
    }
    client.expect(&[
        "start".to_owned(),
        "tune 2047 131072 60".to_owned(),
        format!("connection.close 530 NOT_ALLOWED - {text}"),
    ]);
}

#[test]
fn a_virtual_host_takes_as_many_connections_as_it_may() {
    let world = world(&vhost_limits(&json!({"max-connections": 2})));
    let text = "access to vhost '/' refused for user 'ann': connection limit (2) is reached";
    let first = Client::connect(&world, ann());
    let _second = world.client();
    refused(&world, text);
    first.close();
    let third = Client::connect(&world, ann());
    refused(&world, text);
    third.vanish();
    let _fourth = Client::connect(&world, ann());
    import(&world, &vhost_limits(&json!({"max-connections": -1})));
    let _fifth = Client::connect(&world, ann());
}

#[test]
fn a_user_opens_as_many_connections_as_it_may() {
    let world = world(&user_limits(&json!({"max-connections": 1})));
    let first = Client::connect(&world, ann());
    refused(
        &world,
        "connection refused for user 'ann': user connection limit (1) is reached",
    );
    let _guest = world.client();
    first.vanish();
    let _second = Client::connect(&world, ann());
    import(&world, &user_limits(&json!({"max-connections": 0})));
    refused(
        &world,
        "connection refused for user 'ann': user connection limit (0) is reached",
    );
}

#[test]
fn a_user_opens_as_many_channels_as_it_may_over_all_connections() {
    let world = world(&user_limits(&json!({"max-channels": 2})));
    let first = Client::connect(&world, ann()).with_channel(1);
    let second = Client::connect(&world, ann()).with_channel(1);
    first.close_channel();
    first.expect(&["channel.close-ok"]);
    second.with_channel(2);
    first.call((20, 10), Arguments::new().short(""));
    first.expect_connection_error(
        530,
        "NOT_ALLOWED - number of channels opened for user 'ann' has reached the maximum allowed user limit of (2)",
    );
    second.vanish();
    Client::connect(&world, ann())
        .with_channel(1)
        .with_channel(2);
}

#[test]
fn a_virtual_host_has_as_many_queues_as_it_may() {
    let world = world(&vhost_limits(&json!({"max-queues": 1})));
    let client = world.client();
    client.declare_ok("a", &[], &[]);
    client.declare_ok("a", &[], &[]);
    client.declare("b", &[], &[]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost '/' (1) is reached",
    );
    client.delete("a", false, false);
    client.expect(&["delete-ok 0"]);
    client.declare_ok("b", &[], &[]);
}

fn topics(write: &str, read: &str) -> Value {
    json!({"topic_permissions": [{"user": "ann", "exchange": "amq.topic", "write": write, "read": read}]})
}

/// 403 for a key of amq.topic.
#[track_caller]
fn topic_refused(client: &Client, access: &str, key: &str) {
    client.expect_channel_error(
        403,
        &format!(
            "ACCESS_REFUSED - {access} access to topic '{key}' in exchange topic 'amq.topic' in vhost '/' refused for user 'ann'"
        ),
    );
}

#[test]
fn topics_are_published_to_and_bound_as_permitted() {
    let world = world(&topics("^{username}\\.", "^all\\."));
    let client = Client::connect(&world, ann()).with_channel(1);
    client.declare_ok("q", &[], &[]);
    client.bind("q", "amq.topic", "all.#");
    client.expect(&["bind-ok"]);
    client.bind("q", "amq.topic", "#");
    topic_refused(&client, "read", "#");
    client.exchange_binding(30, "amq.fanout", "amq.topic", "x");
    topic_refused(&client, "read", "x");

    let topic = || Properties::to("amq.topic");
    client.publish_with("ann.a", "1", &topic());
    client.expect_nothing();
    client.publish_with("bob.a", "2", &topic());
    topic_refused(&client, "write", "bob.a");
    // Other exchanges know no topics.
    client.publish_with("bob.a", "3", &Properties::to("amq.direct"));
    client.expect_nothing();
}

#[test]
fn every_key_of_a_message_must_be_permitted() {
    let world = world(&topics("^ann", ".*"));
    let client = Client::connect(&world, ann()).with_channel(1);
    let mut headers = FieldTable::default();
    let keys = FieldArray::from(vec![AMQPValue::LongString("bob".into())]);
    headers.insert("CC".into(), AMQPValue::FieldArray(keys));
    let message = Properties {
        exchange: "amq.topic",
        ..Properties::of(AMQPProperties::default().with_headers(headers))
    };
    client.publish_with("ann", "m", &message);
    topic_refused(&client, "write", "bob");
}

#[test]
fn a_route_used_before_is_checked_again_after_a_change() {
    let world = world(&json!({}));
    let client = Client::connect(&world, ann()).with_channel(1);
    client.declare_ok("q", &[], &[]);
    client.bind("q", "amq.topic", "#");
    client.expect(&["bind-ok"]);
    let topic = || Properties::to("amq.topic");
    client.publish_with("k", "1", &topic());
    client.publish_with("k", "2", &topic());
    client.expect_nothing();
    import(&world, &topics("^x", ".*"));
    client.publish_with("k", "3", &topic());
    topic_refused(&client, "write", "k");
}

#[test]
fn rights_on_other_exchanges_are_asked_for_when_something_is_made() {
    let letters = || [("x-dead-letter-exchange", string("dlx"))];
    let alternate = || [("alternate-exchange", string("dlx"))];
    let world = world(&json!({}));
    let boss = world.client();
    boss.declare_ok("work", &[], &letters());
    boss.declare_exchange("in", "topic", &[], &alternate());
    boss.expect(&["exchange.declare-ok"]);
    import(
        &world,
        &json!({"permissions": [{"user": "ann", "configure": "^(work|in|new)$", "write": "^$", "read": "^$"}]}),
    );
    let client = Client::connect(&world, ann()).with_channel(1);
    client.declare_ok("work", &[Flag::Passive], &[]);
    client.declare_exchange("in", "topic", &[Flag::Passive], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.declare_ok("work", &[], &letters());
    client.declare_exchange("in", "topic", &[], &alternate());
    client.expect(&["exchange.declare-ok"]);
    // What differs is told as such.
    client.declare("work", &[], &[("x-dead-letter-exchange", string("other"))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'work' in vhost '/': received 'other' \
         but current is 'dlx'",
    );
    client.declare("new", &[], &letters());
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - read access to queue 'new' in vhost '/' refused for user 'ann'",
    );
    client.declare_exchange("new", "topic", &[], &alternate());
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - read access to exchange 'new' in vhost '/' refused for user 'ann'",
    );
    import(
        &world,
        &json!({"permissions": [{"user": "ann", "configure": ".*", "write": "^new$", "read": ".*"}]}),
    );
    client.declare("new", &[], &letters());
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - write access to exchange 'dlx' in vhost '/' refused for user 'ann'",
    );
    client.declare_exchange("new", "topic", &[], &alternate());
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - write access to exchange 'dlx' in vhost '/' refused for user 'ann'",
    );
    boss.declare("new", &[Flag::Passive], &[]);
    boss.expect_channel_error(404, "NOT_FOUND - no queue 'new' in vhost '/'");
}
