//! Users, permissions, policies, limits, parameters, virtual hosts; the alarm of the disk.

use leveret_access::limits::VhostLimits;
use leveret_codec::AMQPValue;
use leveret_settings::policy::PolicyKind;
use leveret_store_api::{Shortage, StoreStatus};

use super::{import, listener, told, told_keys, told_one};
use crate::harness::World;
use crate::harness::calls::number;

#[test]
fn what_a_definitions_file_changes_is_told_once() {
    let world = World::durable();
    let client = listener(&world, "#");
    let file = r#"{
        "vhosts": [{"name": "shop"}],
        "users": [{"name": "ann", "password": "secret", "tags": ["monitoring", "management"],
                   "limits": {"max-channels": 9}}],
        "permissions": [{"user": "ann", "vhost": "shop", "configure": "c", "write": "w", "read": "r"}],
        "topic_permissions": [{"user": "ann", "vhost": "shop", "exchange": "amq.topic",
                               "write": "a", "read": "b"}],
        "parameters": [{"vhost": "shop", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://"}},
                       {"vhost": "shop", "component": "vhost-limits", "name": "limits",
                        "value": {"max-queues": 3}}],
        "global_parameters": [{"name": "cluster_name", "value": "x"}],
        "policies": [{"vhost": "shop", "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 4,
                      "definition": {"max-length": 5}}],
        "exchanges": [{"name": "x", "vhost": "shop", "type": "fanout", "durable": true,
                       "auto_delete": false, "internal": false, "arguments": {}}],
        "queues": [{"name": "q", "vhost": "shop", "durable": true, "auto_delete": false,
                    "arguments": {"x-queue-type": "quorum"}}],
        "bindings": [{"source": "x", "vhost": "shop", "destination": "q", "destination_type": "queue",
                      "routing_key": "", "arguments": {}}]
    }"#;
    import(&world, file);
    let mut all = told(&client);
    all.sort_by(|a, b| (&a.key, a.text("component")).cmp(&(&b.key, b.text("component"))));
    let keys: Vec<&str> = all.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "binding.created",
            "exchange.created",
            "parameter.set",
            "parameter.set",
            "parameter.set",
            "permission.created",
            "policy.set",
            "queue.created",
            "topic.permission.created",
            "user.created",
            "user.limits.set",
            "user.tags.set",
            "vhost.created",
            "vhost.limits.set",
        ]
    );
    for event in &all {
        event.expect(&event.key, &[("user_who_performed_action", "rmq-internal")]);
    }
    let of = |key: &str| all.iter().find(|it| it.key == key).unwrap();
    all[2].expect(
        "parameter.set",
        &[
            ("component", "global"),
            ("name", "cluster_name"),
            ("value", "x"),
        ],
    );
    all[3].expect(
        "parameter.set",
        &[("component", "shovel"), ("vhost", "shop"), ("name", "s")],
    );
    all[4].expect(
        "parameter.set",
        &[("component", "vhost-limits"), ("name", "limits")],
    );
    let permission = [
        ("user", "ann"),
        ("vhost", "shop"),
        ("configure", "c"),
        ("write", "w"),
        ("read", "r"),
    ];
    of("permission.created").expect("permission.created", &permission);
    let topics = [("exchange", "amq.topic"), ("write", "a"), ("read", "b")];
    of("topic.permission.created").expect("topic.permission.created", &topics);
    let policy = of("policy.set");
    let expected = [
        ("name", "p"),
        ("vhost", "shop"),
        ("pattern", "^q"),
        ("apply-to", "queues"),
        ("priority", "4"),
    ];
    policy.expect("policy.set", &expected);
    let Some(AMQPValue::FieldTable(definition)) = policy.get("definition") else {
        panic!("no definition");
    };
    assert_eq!(definition.inner().get("max-length"), Some(&number(5)));
    of("queue.created").expect("queue.created", &[("type", "rabbit_quorum_queue")]);
    of("user.limits.set").expect(
        "user.limits.set",
        &[("username", "ann"), ("max-channels", "9")],
    );
    of("user.tags.set").expect("user.tags.set", &[("tags", "monitoring management")]);
    of("vhost.created").expect("vhost.created", &[("name", "shop"), ("tracing", "false")]);
    of("vhost.limits.set").expect(
        "vhost.limits.set",
        &[("max-queues", "3"), ("name", "limits")],
    );

    import(&world, file);
    assert!(told(&client).is_empty());
}

#[test]
fn a_changed_user_tells_what_changed() {
    let world = World::durable();
    let client = listener(&world, "user.#");
    let put = |fields: &str| {
        import(
            &world,
            &format!(r#"{{"users": [{{"name": "ann", {fields}}}]}}"#),
        );
    };
    put(r#""password": "one", "tags": []"#);
    told_keys(&client, &["user.created"]);
    put(r#""password": "two", "tags": []"#);
    told_keys(&client, &["user.password.changed"]);
    put(r#""password_hash": "", "tags": []"#);
    told_keys(&client, &["user.password.cleared"]);
    put(r#""password_hash": "", "tags": ["monitoring"], "limits": {"max-connections": 1}"#);
    told_keys(&client, &["user.tags.set", "user.limits.set"]);
    put(r#""password_hash": "", "tags": ["monitoring"], "limits": {}"#);
    told_keys(&client, &["user.limits.cleared"]);
}

#[test]
fn policies_and_limits_are_cleared() {
    let world = World::durable();
    let client = listener(&world, "#");
    let clear = |kind| {
        world.broker.delete_policy(kind, "/", "p", world.now());
    };
    import(
        &world,
        r#"{"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"max-length": 5}}],
            "parameters": [{"vhost": "/", "component": "operator_policy", "name": "p",
                            "value": {"pattern": "", "definition": {"max-length": 5}}},
                           {"vhost": "/", "component": "vhost-limits", "name": "limits",
                            "value": {"max-queues": 3}}]}"#,
    );
    assert_eq!(told(&client).len(), 4);
    clear(PolicyKind::User);
    clear(PolicyKind::User);
    clear(PolicyKind::Operator);
    let limits = VhostLimits::default();
    world.broker.set_vhost_limits("/", limits).unwrap();
    let told = told_keys(
        &client,
        &[
            "policy.cleared",
            "operator.policy.cleared",
            "parameter.cleared",
            "vhost.limits.cleared",
        ],
    );
    told[0].expect("policy.cleared", &[("name", "p"), ("vhost", "/")]);
}

#[test]
fn the_alarm_of_the_disk_is_told() {
    let world = World::durable();
    let client = listener(&world, "alarm.*");
    let set = |status| {
        world.store().set_status(status);
        world.broker.handle_store_status();
        world.broker.handle_store_status();
        world.run();
    };
    set(StoreStatus::Full {
        path: "/data".into(),
        free_bytes: 5,
        lacks: Shortage::Disk,
    });
    let node = [("source", "disk"), ("node", "leveret@localhost")];
    told_one(&client).expect("alarm.set", &node);
    set(StoreStatus::Running);
    told_one(&client).expect("alarm.cleared", &node);
}
