//! Policies while clients are at work, and what a definitions file asks for.

use std::sync::Arc;
use std::thread;

use leveret_codec::AMQPValue;
use leveret_settings::policy::{ApplyTo, PolicyKind, PolicySpec};
use serde_json::{Value, json};

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Properties, World};

/// A policy for all queues and exchanges whose name begins with `p`.
fn spec(definition: &Value) -> PolicySpec {
    PolicySpec {
        vhost: "/".to_owned(),
        name: "policy".to_owned(),
        pattern: "^p".to_owned(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: definition.as_object().expect("an object").clone(),
    }
}

/// Sets it.
fn set(world: &World, kind: PolicyKind, definition: &Value) {
    world
        .broker
        .set_policy(kind, spec(definition), world.now())
        .expect("a good policy");
    world.run();
}

#[test]
fn messages_obey_the_time_to_live_of_their_moment() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("p", &[], &[]);
    client.publish("p", "before");
    set(&world, PolicyKind::User, &json!({"message-ttl": 50}));
    client.publish("p", "under");
    world
        .broker
        .delete_policy(PolicyKind::User, "/", "policy", world.now());
    client.publish("p", "after");
    world.pass(100);
    client.get("p", true);
    client.expect(&["get-ok 1 left=1 'before'"]);
    client.get("p", true);
    client.expect(&["get-ok 2 left=0 'after'"]);
}

#[test]
fn what_waits_for_a_retry_gets_the_time_to_live_of_the_moment_it_comes_back() {
    let world = World::volatile();
    let client = world.client();
    let delays = AMQPValue::FieldArray(vec![number(1000)].into());
    client.declare_ok("p", &[], &[("x-retry-delays", delays)]);
    client.publish("p", "a");
    client.get("p", false);
    client.expect_bodies("a");
    client.nack(1, false, true);
    set(&world, PolicyKind::User, &json!({"message-ttl": 500}));
    world.pass(1499);
    assert_eq!(client.counts("p"), (1, 0));
    world.pass(1);
    assert_eq!(client.counts("p"), (0, 0));
}

#[test]
fn a_lower_limit_reaches_what_is_on_disk() {
    let world = World::paging(64);
    let client = world.client();
    client.declare_ok("p", &[Flag::Durable], &[]);
    let words: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    client.publish_all("p", &words.join(" "), &Properties::persistent());
    set(&world, PolicyKind::Operator, &json!({"max-length": 2}));
    assert_eq!(client.counts("p"), (2, 0));
    client.get("p", true);
    client.expect(&["get-ok 1 left=1 '198'"]);
    let world = world.restarted();
    let client = world.client();
    client.publish_all("p", "new newer", &Properties::persistent());
    assert_eq!(client.counts("p"), (2, 0));
}

#[test]
fn dead_letters_that_have_nowhere_to_go_any_more_are_gone_for_good() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("dead", &[Flag::Durable], &[]);
    client.declare_ok("p", &[Flag::Durable], &[]);
    let letters = json!({"dead-letter-exchange": "", "dead-letter-routing-key": "dead"});
    set(&world, PolicyKind::User, &letters);
    let words: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    client.publish_all("p", &words.join(" "), &Properties::persistent());
    // More than are moved at once; the others wait for the pager.
    client.consume_ok("p", "c");
    client.seen();
    world.hold_paging();
    client.nack(0, true, false);
    let (moved, _) = client.counts("dead");
    assert!((1..600).contains(&moved), "{moved}");
    world
        .broker
        .delete_policy(PolicyKind::User, "/", "policy", world.now());
    for _ in 0..10 {
        world.page();
    }
    assert_eq!(client.counts("dead"), (moved, 0));
    let world = world.restarted();
    let client = world.client();
    assert_eq!(client.counts("p"), (0, 0));
    assert_eq!(client.counts("dead"), (moved, 0));
}

#[test]
fn declared_arguments_are_what_is_compared() {
    let world = World::volatile();
    let client = world.client();
    set(&world, PolicyKind::User, &json!({"max-length": 1}));
    let arguments = [("x-max-length", number(5))];
    client.declare_ok("p", &[], &arguments);
    client.declare_ok("p", &[], &arguments);
    client.publish_all("p", "a b", &Properties::default());
    assert_eq!(client.counts("p"), (1, 0));
}

#[test]
fn a_quorum_queue_gives_up_when_the_policy_says() {
    let world = World::durable();
    let client = world.client();
    let quorum = [("x-queue-type", string("quorum"))];
    client.declare_ok("p", &[Flag::Durable], &quorum);
    set(&world, PolicyKind::User, &json!({"delivery-limit": 1}));
    client.publish_with("p", "poison", &Properties::persistent());
    for tag in 1..=2 {
        client.get("p", false);
        assert_eq!(client.lines().len(), 1, "delivery {tag}");
        client.reject(tag, true);
    }
    assert_eq!(client.counts("p"), (0, 0));
}

#[test]
fn publishers_see_a_policys_alternate_exchange_at_once() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("rest", &[], &[]);
    client.declare_exchange("px", "direct", &[], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.bind("rest", "amq.fanout", "");
    client.expect(&["bind-ok"]);
    let to_px = || Properties::to("px");
    client.publish_with("k", "lost", &to_px());
    set(
        &world,
        PolicyKind::User,
        &json!({"alternate-exchange": "amq.fanout"}),
    );
    client.publish_with("k", "kept", &to_px());
    world
        .broker
        .delete_policy(PolicyKind::User, "/", "policy", world.now());
    client.publish_with("k", "lost again", &to_px());
    client.get("rest", true);
    client.expect(&["get-ok 1 left=0 'kept'"]);
}

#[test]
fn a_stream_keeps_what_the_policy_allows() {
    let world = World::durable();
    let client = world.client();
    let stream = [("x-queue-type", string("stream"))];
    client.declare_ok("p", &[Flag::Durable], &stream);
    let body = "x".repeat(1000);
    for _ in 0..100 {
        client.publish_with("p", &body, &Properties::persistent());
    }
    assert_eq!(client.counts("p"), (100, 0));
    set(
        &world,
        PolicyKind::User,
        &json!({"max-length-bytes": 30_000}),
    );
    let (kept, _) = client.counts("p");
    assert!((15..=30).contains(&kept), "{kept}");
    // The newest ones are there.
    let world = world.restarted();
    let client = world.client();
    assert_eq!(client.counts("p"), (kept, 0));
}

#[test]
fn a_stream_lets_go_of_what_was_not_durable_when_the_policy_came() {
    let world = World::durable();
    let client = world.client();
    let stream = [("x-queue-type", string("stream"))];
    client.declare_ok("p", &[Flag::Durable], &stream);
    world.hold_commits();
    let body = "x".repeat(1000);
    for _ in 0..100 {
        client.publish_with("p", &body, &Properties::persistent());
    }
    set(
        &world,
        PolicyKind::User,
        &json!({"max-length-bytes": 30_000}),
    );
    // A declaration would wait for the policy to be durable.
    let stream = world
        .broker
        .vhost("/")
        .expect("the virtual host")
        .queue("p");
    assert_eq!(stream.expect("the stream").counts().ready, 100);
    world.commit();
    let (kept, _) = client.counts("p");
    assert!((15..=30).contains(&kept), "{kept}");
}

#[test]
fn a_consumer_timeout_counts_from_the_next_delivery_on() {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("p", &[], &[]);
    client.consume_ok("p", "c");
    client.publish("p", "before");
    client.expect_bodies("before");
    set(&world, PolicyKind::User, &json!({"consumer-timeout": 500}));
    world.pass(1000);
    client.expect_nothing();
    client.publish("p", "under");
    client.expect_bodies("under");
    world.pass(499);
    client.expect_nothing();
    world.pass(1);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 500 ms. \
         This timeout value can be configured, see consumers doc guide to learn more",
    );
}

/// Two change the same policy at once, over and over: whichever change was the last, all queues and exchanges obey it.
#[test]
fn of_two_changes_the_later_wins_everywhere() {
    const QUEUES: usize = 200;
    const CHANGES: u64 = 40;
    let world = World::volatile();
    let client = world.client();
    for number in 0..QUEUES {
        client.declare_ok(&format!("p{number}"), &[], &[]);
        client.declare_exchange(&format!("p{number}"), "fanout", &[], &[]);
        client.expect(&["exchange.declare-ok"]);
    }
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let changers: Vec<_> = (0..2)
        .map(|changer| {
            let (broker, now) = (Arc::clone(&world.broker), world.now());
            thread::spawn(move || {
                for change in 0..CHANGES {
                    let limit = 1 + 2 * change + changer;
                    let alternate = format!("alternate{limit}");
                    let definition = json!({"max-length": limit, "alternate-exchange": alternate});
                    let spec = spec(&definition);
                    let set = broker.set_policy(PolicyKind::User, spec, now);
                    set.expect("a good policy");
                }
            })
        })
        .collect();
    // What is declared meanwhile obeys, too.
    for number in QUEUES..QUEUES * 2 {
        client.declare_ok(&format!("p{number}"), &[], &[]);
    }
    for changer in changers {
        changer.join().expect("no panic");
    }
    let policies = vhost.policies(PolicyKind::User);
    let last = policies[0].definition["max-length"].as_u64();
    for number in 0..QUEUES * 2 {
        let queue = vhost.queue(&format!("p{number}")).expect("the queue");
        assert_eq!(queue.options().max_length, last, "{queue:?}");
    }
    let alternate = last.map(|last| format!("alternate{last}"));
    for number in 0..QUEUES {
        let exchange = vhost.exchange(&format!("p{number}"));
        assert_eq!(exchange.and_then(|it| it.alternate), alternate);
    }
}
