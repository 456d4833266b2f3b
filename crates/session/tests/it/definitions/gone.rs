//! Every way in which something durable goes, with a restart behind it.

use std::rc::Rc;

use leveret_access::permission::{Access, Permission, Resource};
use leveret_settings::policy::{ApplyTo, PolicyKind, PolicySpec};

use super::*;

/// Queues, exchanges and bindings that are there, as text.
fn inventory(world: &World) -> Vec<String> {
    let vhost = world.broker.vhost("/").unwrap();
    let queues = vhost.queue_handles();
    let mut all: Vec<String> = queues
        .iter()
        .filter(|queue| queue.identity().durable && queue.identity().exclusive.is_none())
        .map(|queue| format!("queue {}", queue.name()))
        .collect();
    let names = vhost.exchange_names();
    let made = names
        .iter()
        .filter(|name| !name.is_empty() && !name.starts_with("amq."));
    all.extend(made.map(|name| format!("exchange {name}")));
    all.sort();
    all
}

/// A durable auto-delete exchange `auto` with the queue `q` bound to it, `up` bound to lead to `auto`, and
/// `up` auto-delete too.
fn chain(client: &Client, queue: &[Flag], arguments: &[(&str, AMQPValue)]) {
    client.declare_ok("q", queue, arguments);
    for name in ["auto", "up"] {
        client.declare_exchange(name, "topic", &[Flag::Durable, Flag::AutoDelete], &[]);
    }
    client.bind("q", "auto", "a");
    client.exchange_binding(30, "auto", "up", "a");
    client.expect(&[
        "exchange.declare-ok",
        "exchange.declare-ok",
        "bind-ok",
        "exchange.bind-ok",
    ]);
}

/// After `goes`, nothing is there any more: now, and after a restart.
fn check(
    way: &str,
    queue: &[Flag],
    arguments: &[(&str, AMQPValue)],
    goes: impl Fn(&Rc<World>, &Client),
) {
    let world = World::durable();
    let client = world.client();
    let untouched = world.client();
    untouched.declare_ok("stays", &[Flag::Durable], &[]);
    untouched.bind("stays", "amq.topic", "a");
    chain(&client, queue, arguments);
    goes(&world, &client);
    world.run();
    assert_eq!(inventory(&world), ["queue stays"], "{way}");
    let after = world.restarted();
    assert_eq!(inventory(&after), ["queue stays"], "{way}, after a restart");
    let definitions = after.store().definitions().unwrap();
    let bindings = definitions.iter().filter(|(key, _)| key.starts_with(b"b"));
    assert_eq!(bindings.count(), 1, "{way}");
    assert_eq!(
        examine_definitions(definitions),
        Vec::<String>::new(),
        "{way}"
    );
}

#[test]
fn what_goes_with_a_queue_stays_away() {
    let durable = [Flag::Durable];
    let kinds: [(&str, &[Flag]); 4] = [
        ("durable", &durable),
        ("transient", &[]),
        ("exclusive", &[Flag::Exclusive]),
        ("durable exclusive", &[Flag::Durable, Flag::Exclusive]),
    ];
    for (kind, flags) in kinds {
        check(&format!("delete, {kind}"), flags, &[], |_, client| {
            client.delete("q", false, false);
        });
        check(&format!("if-unused, {kind}"), flags, &[], |_, client| {
            client.delete("q", true, true);
        });
        check(
            &format!("the last unbind, {kind}"),
            flags,
            &[],
            |_, client| {
                client.unbind("q", "auto", "a");
                client.delete("q", false, false);
            },
        );
        let expires = [("x-expires", number(50))];
        check(
            &format!("x-expires, {kind}"),
            flags,
            &expires,
            |world, _| world.pass(1000),
        );
        let auto = [flags, &[Flag::AutoDelete]].concat();
        check(
            &format!("the last consumer, {kind}"),
            &auto,
            &[],
            |_, client| {
                client.consume_ok("q", "c");
                client.cancel("c");
            },
        );
        check(
            &format!("the last consumer's connection, {kind}"),
            &auto,
            &[],
            |world, client| {
                if flags.contains(&Flag::Exclusive) {
                    client.consume_ok("q", "c");
                    client.close();
                } else {
                    let other = world.client();
                    other.consume_ok("q", "c");
                    other.close();
                }
            },
        );
        if flags.contains(&Flag::Exclusive) {
            check(
                &format!("the owner's connection, {kind}"),
                flags,
                &[],
                |_, client| client.vanish(),
            );
        }
    }
}

#[test]
fn what_goes_with_an_exchange_or_a_binding_stays_away() {
    let durable = [Flag::Durable];
    let gone = |client: &Client| client.delete("q", false, false);
    check("delete the source", &durable, &[], |_, client| {
        client.delete_exchange("auto", false);
        gone(client);
    });
    check("delete both", &durable, &[], |_, client| {
        client.delete_exchange("up", false);
        client.delete_exchange("auto", false);
        gone(client);
    });
    check("unbind the exchange", &durable, &[], |_, client| {
        client.exchange_binding(40, "auto", "up", "a");
        gone(client);
    });
    check("if-unused", &durable, &[], |_, client| {
        client.exchange_binding(40, "auto", "up", "a");
        client.unbind("q", "auto", "a");
        client.declare_exchange(
            "last",
            "fanout",
            &[Flag::Durable],
            &[("alternate-exchange", string("none"))],
        );
        client.delete_exchange("last", true);
        gone(client);
    });
}

#[test]
fn policies_that_were_cleared_stay_away() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for kind in [PolicyKind::User, PolicyKind::Operator] {
        let spec = PolicySpec {
            vhost: "/".to_owned(),
            name: "short".to_owned(),
            pattern: "^q".to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: json!({"max-length": 1, "expires": 315_360_000_000_u64})
                .as_object()
                .unwrap()
                .clone(),
        };
        world.broker.set_policy(kind, spec, world.now()).unwrap();
    }
    let limited = |world: &World| {
        let queue = world.broker.vhost("/").unwrap().queue("q").unwrap();
        queue.options().max_length
    };
    world.run();
    let world = world.restarted();
    assert_eq!(limited(&world), Some(1));
    for kind in [PolicyKind::User, PolicyKind::Operator] {
        world.broker.delete_policy(kind, "/", "short", world.now());
    }
    assert_eq!(limited(&world), None);
    world.run();
    assert_eq!(limited(&world.restarted()), None);
}

#[test]
fn permissions_that_were_taken_away_stay_away() {
    let world = World::durable();
    let may = |world: &World| {
        let queue = Resource::Queue("q");
        world.broker.check_access("/", "guest", Access::Read, queue)
    };
    assert_eq!(may(&world), Ok(()));
    let none = Permission::default();
    world.broker.permit("/", "guest", none).unwrap();
    world.run();
    assert!(may(&world.restarted()).is_err());
}
