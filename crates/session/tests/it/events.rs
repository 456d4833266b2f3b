//! The event exchange: what `amq.rabbitmq.event` is told, by which keys, and when nobody is told.

mod administration;
mod sessions;

use std::rc::Rc;

use leveret_broker::definitions_import::Plan;
use leveret_codec::{AMQPProperties, AMQPValue, FieldTable};
use leveret_store_api::MessageLog;

use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Dial, Properties, World};

const EVENTS: &str = "amq.rabbitmq.event";

/// An event as its receiver sees it.
struct Told {
    key: String,
    properties: AMQPProperties,
}

impl Told {
    fn headers(&self) -> FieldTable {
        self.properties.headers().clone().unwrap_or_default()
    }

    fn get(&self, name: &str) -> Option<AMQPValue> {
        self.headers().inner().get(name).cloned()
    }

    /// A header in a few words.
    fn text(&self, name: &str) -> String {
        match self.get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(AMQPValue::Boolean(value)) => value.to_string(),
            Some(AMQPValue::LongLongInt(value)) => value.to_string(),
            Some(AMQPValue::FieldArray(values)) => {
                let texts = values.as_slice().iter().map(|value| match value {
                    AMQPValue::LongString(text) => text.to_string(),
                    other => format!("{other:?}"),
                });
                texts.collect::<Vec<_>>().join(" ")
            }
            Some(other) => format!("{other:?}"),
            None => "-".to_owned(),
        }
    }

    #[track_caller]
    fn expect(&self, key: &str, headers: &[(&str, &str)]) {
        assert_eq!(self.key, key, "{:?}", self.headers());
        for (name, expected) in headers {
            assert_eq!(&self.text(name), expected, "{name} of {key}");
        }
    }
}

/// A client whose queue `events` is bound by `key`.
fn listener(world: &Rc<World>, key: &str) -> Client {
    let client = world.client();
    client.declare_ok("events", &[Flag::Durable], &[]);
    client.bind("events", EVENTS, key);
    client.expect(&["bind-ok"]);
    told(&client);
    client
}

/// The events since the last look.
fn told(client: &Client) -> Vec<Told> {
    client.world().pass(0);
    let earlier = client.seen();
    let (ready, _) = client.counts("events");
    for _ in 0..ready {
        client.get("events", true);
    }
    drop(earlier);
    let seen = client.seen();
    let told = seen.iter().map(|seen| Told {
        key: seen.routing_key.clone(),
        properties: seen.properties(),
    });
    told.collect()
}

#[track_caller]
fn told_keys(client: &Client, expected: &[&str]) -> Vec<Told> {
    let told = told(client);
    let keys: Vec<&str> = told.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, expected);
    told
}

#[track_caller]
fn told_one(client: &Client) -> Told {
    let mut told = told(client);
    assert_eq!(told.len(), 1);
    told.remove(0)
}

fn import(world: &World, json: &str) {
    let plan = Plan::parse(json.as_bytes()).unwrap();
    world.broker.import(&plan, world.now()).unwrap();
    world.run();
}

#[test]
fn a_queue_comes_and_goes() {
    let world = World::durable();
    let client = listener(&world, "queue.*");
    client.declare_ok(
        "q",
        &[Flag::Durable, Flag::AutoDelete],
        &[
            ("x-max-length", number(5)),
            ("x-overflow", string("drop-head")),
        ],
    );
    let created = told_one(&client);
    created.expect(
        "queue.created",
        &[
            ("name", "q"),
            ("vhost", "/"),
            ("type", "rabbit_classic_queue"),
            ("durable", "true"),
            ("auto_delete", "true"),
            ("exclusive", "false"),
            ("owner_pid", ""),
            (
                "arguments",
                "{<<\"x-max-length\">>,long,5} {<<\"x-overflow\">>,longstr,<<\"drop-head\">>}",
            ),
            ("leader", "leveret@localhost"),
            ("members", "leveret@localhost"),
            ("user_who_performed_action", "guest"),
        ],
    );
    let now = world.now().0;
    assert_eq!(created.text("timestamp_in_ms"), now.to_string());
    assert_eq!(created.properties.timestamp(), &Some(now / 1000));
    assert_eq!(created.properties.delivery_mode(), &Some(2));

    // Declared again it is no news; nor is a passive declaration.
    client.declare("q", &[Flag::Passive], &[]);
    assert!(told(&client).is_empty());
    client.delete("q", false, false);
    told_one(&client).expect(
        "queue.deleted",
        &[
            ("name", "q"),
            ("vhost", "/"),
            ("user_who_performed_action", "guest"),
        ],
    );
}

#[test]
fn queues_that_go_by_themselves_are_told_as_the_brokers_doing() {
    let world = World::volatile();
    let client = listener(&world, "queue.#");
    let by_itself = [("user_who_performed_action", "rmq-internal")];

    let other = world.client();
    other.declare_ok("exclusive", &[Flag::Exclusive], &[]);
    let created = told_one(&client);
    created.expect("queue.created", &[("exclusive", "true")]);
    assert!(created.text("owner_pid").starts_with("<leveret@localhost."));
    other.close();
    told_one(&client).expect("queue.deleted", &by_itself);

    client.declare_ok("auto", &[Flag::AutoDelete], &[]);
    client.consume_ok("auto", "c");
    client.cancel("c");
    told_keys(&client, &["queue.created", "queue.deleted"])[1].expect("queue.deleted", &by_itself);

    client.declare_ok("expiring", &[], &[("x-expires", number(100))]);
    world.pass(200);
    told_keys(&client, &["queue.created", "queue.deleted"])[1].expect("queue.deleted", &by_itself);
}

#[test]
fn exchanges_and_bindings_come_and_go() {
    let world = World::durable();
    let client = listener(&world, "#");
    client.declare_exchange("x", "headers", &[Flag::AutoDelete], &[]);
    told_one(&client).expect(
        "exchange.created",
        &[
            ("name", "x"),
            ("vhost", "/"),
            ("type", "headers"),
            ("durable", "false"),
            ("auto_delete", "true"),
            ("internal", "false"),
            ("arguments", ""),
            ("policy", ""),
            ("user_who_performed_action", "guest"),
        ],
    );
    client.declare_ok("q", &[], &[]);
    client.bind("q", "x", "key");
    client.bind("q", "x", "key");
    let ends = [
        ("source_name", "x"),
        ("source_kind", "exchange"),
        ("destination_name", "q"),
        ("destination_kind", "queue"),
        ("routing_key", "key"),
        ("arguments", ""),
        ("vhost", "/"),
        ("user_who_performed_action", "guest"),
    ];
    told_keys(&client, &["queue.created", "binding.created"])[1].expect("binding.created", &ends);
    client.unbind("q", "x", "key");
    // The exchange goes with its last binding.
    told_keys(&client, &["exchange.deleted", "binding.deleted"])[1]
        .expect("binding.deleted", &ends);

    client.declare_exchange("y", "topic", &[], &[]);
    client.exchange_binding(30, "amq.fanout", "y", "#");
    client.bind("q", "y", "a");
    let told = told_keys(
        &client,
        &["exchange.created", "binding.created", "binding.created"],
    );
    told[1].expect("binding.created", &[("destination_kind", "exchange")]);
    client.delete("q", false, false);
    // rabbitmq: a queue's bindings go before it, and nobody asked for that
    let told = told_keys(&client, &["binding.deleted", "queue.deleted"]);
    told[0].expect(
        "binding.deleted",
        &[
            ("destination_name", "q"),
            ("user_who_performed_action", "rmq-internal"),
        ],
    );
    client.delete_exchange("y", false);
    let told = told_keys(&client, &["exchange.deleted", "binding.deleted"]);
    told[1].expect(
        "binding.deleted",
        &[
            ("destination_name", "amq.fanout"),
            ("user_who_performed_action", "guest"),
        ],
    );
}

#[test]
fn nothing_is_kept_while_nobody_is_bound() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("events", &[], &[]);
    client.declare_ok("q", &[], &[]);
    assert_eq!(world.broker.poll_timeout(), None);
    client.bind("events", EVENTS, "queue.#");
    assert!(told(&client).is_empty());
    client.declare_ok("r", &[], &[]);
    told_one(&client).expect("queue.created", &[("name", "r")]);
    client.unbind("events", EVENTS, "queue.#");
    client.expect(&["unbind-ok"]);
    client.declare_ok("s", &[], &[]);
    assert!(told(&client).is_empty());
    assert_eq!(world.broker.poll_timeout(), None);
    // Other exchanges' bindings make nobody hear.
    client.bind("events", "amq.topic", "#");
    client.expect(&["bind-ok"]);
    client.declare_ok("t", &[], &[]);
    assert_eq!(world.broker.poll_timeout(), None);
}

#[test]
fn its_first_binding_is_its_first_event() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("events", &[], &[]);
    client.bind("events", EVENTS, "#");
    let binding = told_one(&client);
    binding.expect(
        "binding.created",
        &[("source_name", EVENTS), ("destination_name", "events")],
    );
}

#[test]
fn events_of_all_virtual_hosts_come_in_order() {
    let world = World::durable();
    let client = listener(&world, "queue.#");
    import(
        &world,
        r#"{"vhosts": [{"name": "shop"}],
            "permissions": [{"user": "guest", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}]}"#,
    );
    let dial = Dial {
        vhost: "shop",
        ..Dial::default()
    };
    let other = Client::connect(&world, dial).with_channel(1);
    let mut expected = Vec::new();
    for number in 0..2_000 {
        let name = format!("q{number}");
        other.declare_ok(&name, &[], &[]);
        expected.push(name);
    }
    // More than one batch.
    world.pass(10);
    let told = told(&client);
    let names: Vec<String> = told.iter().map(|it| it.text("name")).collect();
    assert_eq!(names, expected);
    assert!(told.iter().all(|it| it.text("vhost") == "shop"));
    assert!(
        world
            .broker
            .vhost("shop")
            .unwrap()
            .exchange(EVENTS)
            .is_none()
    );
}

#[test]
fn events_wait_for_a_store_that_is_far_behind() {
    let world = World::durable();
    let client = listener(&world, "queue.created");
    let text = "x".repeat(100_000);
    let argument = [("argument", string(&text))];
    world.hold_commits();
    let mut declared = 0;
    while world.store().staged_bytes() < 74 << 20 {
        client.declare_ok(&format!("q{declared}"), &[], &argument);
        declared += 1;
        world.pass(0);
        assert!(declared < 1_000);
    }
    client.declare_ok("late", &[], &argument);
    world.pass(200);
    assert_eq!(client.counts("events").0, declared);
    world.commit();
    world.pass(50);
    assert_eq!(client.counts("events").0, declared + 1);
}

#[test]
fn it_cannot_be_published_to_nor_deleted() {
    let world = World::durable();
    let client = world.client();
    client.publish_with("queue.created", "x", &Properties::to(EVENTS));
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.event' in vhost '/'",
    );
    let client = world.client();
    client.delete_exchange(EVENTS, false);
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - deletion of system exchange 'amq.rabbitmq.event' in vhost '/' not allowed",
    );
}

#[test]
fn durable_listeners_hear_again_after_a_crash() {
    let world = World::durable();
    let client = listener(&world, "#");
    client.declare_ok("q", &[Flag::Durable], &[]);
    world.pass(0);
    let after = world.restarted();
    let client = after.client();
    let told = told(&client);
    // What was told before is there; what came back with the broker is no news.
    let keys: Vec<&str> = told.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "queue.created",
            "user.authentication.success",
            "connection.created",
            "channel.created"
        ]
    );
}
