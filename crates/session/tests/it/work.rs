//! What a connection may do before others have their turn: bounded by what it costs, not by how few bytes ask for it.

use std::rc::Rc;

use leveret_codec::{AMQPValue, FieldTable};
use leveret_settings::policy::{ApplyTo, PolicyKind, PolicySpec};

use crate::harness::calls::number;
use crate::harness::client::{Client, Flag};
use crate::harness::wire::{self, Arguments};
use crate::harness::{Properties, World};

/// More of anything than a turn has room for.
const MANY: usize = 10_000;

fn client() -> (Rc<World>, Client) {
    let world = World::volatile();
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    (world, client)
}

/// Sends `what` many times at once: a turn answers no more than `most`, and all is answered in the end.
#[track_caller]
fn flood(client: &Client, what: &[u8], answers: usize, most: usize) {
    client.write(&what.repeat(MANY));
    client.turn();
    let first = client.seen().len();
    assert!((1..=most).contains(&first), "{first} answers in a turn");
    client.world().run();
    assert_eq!(first + client.seen().len(), MANY * answers);
}

fn get() -> Vec<u8> {
    get_of("q")
}

fn declare(passive: bool) -> Vec<u8> {
    let arguments = Arguments::new()
        .ticket()
        .short("q")
        .bits(&[passive, false, false, false, false])
        .table(&FieldTable::default());
    wire::method(1, (50, 10), arguments)
}

fn binding(method: u16) -> Vec<u8> {
    let names = Arguments::new()
        .ticket()
        .short("q")
        .short("amq.direct")
        .short("key");
    let arguments = match method {
        20 => names.bits(&[false]),
        _ => names,
    };
    wire::method(1, (50, method), arguments.table(&FieldTable::default()))
}

#[test]
fn gets() {
    let (_world, client) = client();
    flood(&client, &get(), 1, 600);
    client.publish_all("q", &"x ".repeat(MANY), &Properties::default());
    flood(&client, &get(), 1, 600);
}

#[test]
fn declarations_and_bindings() {
    let (_world, client) = client();
    flood(&client, &declare(false), 1, 64);
    flood(&client, &declare(true), 1, 64);
    let both = [binding(20), binding(50)].concat();
    flood(&client, &both, 2, 64);
}

#[test]
fn returned_messages() {
    let (_world, client) = client();
    let message = client.publishing("nowhere", b"x", &Properties::default().mandatory());
    flood(&client, &message, 1, 1_000);
}

#[test]
fn channels_that_come_and_go() {
    let (_world, client) = client();
    let open = wire::method(2, (20, 10), Arguments::new().short(""));
    let bye = Arguments::new().u16(200).short("bye").u16(0).u16(0);
    let close = wire::method(2, (20, 40), bye);
    flood(&client, &[open, close].concat(), 2, 70);
}

#[test]
fn channels_that_fail() {
    let (_world, client) = client();
    let open = wire::method(2, (20, 10), Arguments::new().short(""));
    let get = Arguments::new().ticket().short("missing").bits(&[true]);
    let get = wire::method(2, (60, 70), get);
    let closed = wire::method(2, (20, 41), Arguments::new());
    flood(&client, &[open, get, closed].concat(), 2, 64);
}

#[test]
fn consumers_that_come_and_go() {
    let (_world, client) = client();
    let consume = Arguments::new()
        .ticket()
        .short("q")
        .short("tag")
        .bits(&[false, false, false, false])
        .table(&FieldTable::default());
    let consume = wire::method(1, (60, 20), consume);
    let cancel = Arguments::new().short("tag").bits(&[false]);
    let cancel = wire::method(1, (60, 30), cancel);
    flood(&client, &[consume, cancel].concat(), 2, 64);
}

#[test]
fn messages_for_many_queues() {
    const QUEUES: usize = 500;
    let (world, client) = client();
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    for name in &names {
        client.declare_ok(name, &[Flag::AutoDelete], &[]);
        client.bind(name, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    for body in [&b"x"[..], &[b'x'; 100]] {
        let before = ready(&world, &names[0]);
        client.write(
            &client
                .publishing("", body, &Properties::to("amq.fanout"))
                .repeat(100),
        );
        client.turn();
        let taken = ready(&world, &names[0]) - before;
        assert!((1..=10).contains(&taken), "{taken} messages in a turn");
        world.run();
        assert_eq!(ready(&world, &names[QUEUES - 1]) - before, 100);
    }
}

/// More queues than a turn has room for: one message is several turns, and confirmed when all of them have it.
#[test]
fn one_message_for_very_many_queues_is_several_turns() {
    const QUEUES: usize = 2_000;
    let (world, client) = client();
    let names: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
    for name in &names {
        client.declare_ok(name, &[], &[]);
        client.bind(name, "amq.fanout", "");
        client.expect(&["bind-ok"]);
    }
    let have_it = || names.iter().filter(|&name| ready(&world, name) > 0).count();
    client.confirms();
    let both = [
        client.publishing("q", b"before", &Properties::default()),
        client.publishing("", b"wide", &Properties::to("amq.fanout")),
        get_of("q1999"),
    ];
    client.write(&both.concat());
    client.turn();
    let first = have_it();
    assert!(first <= 1_000, "{first} queues in a turn");
    let has_got = || client.lines().iter().any(|line| line.starts_with("get-ok"));
    assert!(!has_got());
    while !has_got() {
        assert!(world.turn());
        assert!(have_it() > first);
    }
    world.run();
    assert_eq!(have_it(), QUEUES - 1);
    // In a transaction as well.
    let other = client.with_channel(2);
    other.tx(10);
    other.publish_with("", "wide", &Properties::to("amq.fanout"));
    assert_eq!(have_it(), QUEUES - 1);
    other.tx(20);
    assert_eq!(have_it(), QUEUES);
    assert_eq!(ready(&world, "q0"), 2);
}

fn get_of(queue: &str) -> Vec<u8> {
    let arguments = Arguments::new().ticket().short(queue).bits(&[true]);
    wire::method(1, (60, 70), arguments)
}

fn ready(world: &World, queue: &str) -> u64 {
    let vhost = world.broker.vhost("/").expect("the virtual host");
    vhost.queue(queue).expect("the queue").counts().ready
}

#[test]
fn small_publishes_to_one_queue_are_one_turn() {
    let (world, client) = client();
    for body in ["", "x"] {
        let before = ready(&world, "q");
        let message = client.publishing("q", body.as_bytes(), &Properties::default());
        client.write(&message.repeat(3_000));
        client.turn();
        assert_eq!(ready(&world, "q") - before, 3_000);
    }
}

/// Messages of a queue that are gone with each step of the deadlines.
fn gone_in_steps(world: &World, queue: &str) -> Vec<u64> {
    let mut gone = Vec::new();
    let mut before = ready(world, queue);
    while world.broker.handle_one_timeout(world.now()) {
        let now = ready(world, queue);
        gone.push(before - now);
        before = now;
    }
    gone
}

#[test]
fn very_many_messages_expire_some_at_a_time() {
    let (world, client) = client();
    let message = client.publishing("q", b"x", &Properties::expiring("1000"));
    client.send(&message.repeat(MANY));
    assert_eq!(ready(&world, "q"), MANY as u64);
    world.wait(1000);
    let gone = gone_in_steps(&world, "q");
    assert!(gone.iter().all(|&count| count <= 4096), "{gone:?}");
    assert_eq!(gone.iter().sum::<u64>(), MANY as u64);
}

#[test]
fn a_lower_limit_drops_very_many_messages_some_at_a_time() {
    let (world, client) = client();
    let message = client.publishing("q", b"x", &Properties::default());
    client.send(&message.repeat(MANY));
    let definition = serde_json::json!({"max-length": 10});
    let spec = PolicySpec {
        vhost: "/".to_owned(),
        name: "limit".to_owned(),
        pattern: "".to_owned(),
        apply_to: ApplyTo::Queues,
        priority: 0,
        definition: definition.as_object().expect("an object").clone(),
    };
    let set = world.broker.set_policy(PolicyKind::User, spec, world.now());
    set.expect("a good policy");
    assert_eq!(ready(&world, "q"), MANY as u64 - 4096);
    let gone = gone_in_steps(&world, "q");
    assert!(gone.iter().all(|&count| count <= 4096), "{gone:?}");
    assert_eq!(ready(&world, "q"), 10);
}

const BINDINGS: usize = 2_000;

/// How many of the keys lead nowhere.
fn unbound(client: &Client) -> usize {
    for number in 0..BINDINGS {
        let message = Properties::to("amq.direct").mandatory();
        client.write(&client.publishing(&number.to_string(), b"", &message));
    }
    client.world().run();
    client.seen().len()
}

fn delete(ids: (u16, u16), name: &str) -> Vec<u8> {
    let arguments = Arguments::new().ticket().short(name).bits(&[false]);
    wire::method(1, ids, arguments)
}

/// A queue is gone at once, and its bindings go a few at a time: a crash takes all of them or none.
#[test]
fn a_queue_with_very_many_bindings_is_deleted_in_turns() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for number in 0..BINDINGS {
        client.bind("q", "amq.direct", &number.to_string());
    }
    client.seen();
    let other = world.client();
    assert_eq!(unbound(&other), 0);
    world.stand_still();
    client.write(&delete((50, 40), "q"));
    client.turn();
    client.expect_nothing();
    let vhost = world.broker.vhost("/").expect("the virtual host");
    assert!(vhost.queue("q").is_err() && vhost.is_clearing());
    assert_eq!(unbound(&world.restarted().client()), 0);
    world.store().commit();
    let crashed = world.restarted();
    let after = crashed.client();
    after.declare_ok("q", &[Flag::Durable], &[]);
    assert_eq!(unbound(&after), BINDINGS);
    world.go_on();
    client.expect(&[format!("delete-ok {BINDINGS}")]);
    assert_eq!(unbound(&other), BINDINGS);
    let world = world.restarted();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    assert_eq!(unbound(&client), BINDINGS);
}

/// What was found when it was asked for holds until it is gone: nothing comes in between.
#[test]
fn a_queue_with_very_many_bindings_is_deleted_at_once_if_empty_or_unused() {
    let world = World::durable();
    let vhost = world.broker.vhost("/").expect("the virtual host");
    for (if_unused, if_empty) in [(true, false), (false, true), (true, true)] {
        let (client, other) = (world.client(), world.client());
        client.declare_ok("q", &[Flag::Durable], &[]);
        for number in 0..BINDINGS {
            client.bind("q", "amq.direct", &number.to_string());
        }
        client.seen();
        // What is refused keeps all its bindings.
        client.publish("q", "m");
        client.consume("q", "c", &[], &[]);
        client.seen();
        let refusal = if if_unused { "in use" } else { "not empty" };
        if !if_unused {
            client.cancel("c");
            client.recover(true);
            client.seen();
        }
        other.delete("q", if_unused, if_empty);
        let text = format!("PRECONDITION_FAILED - queue 'q' in vhost '/' {refusal}");
        other.expect_channel_error(406, &text);
        let other = world.client();
        assert_eq!(unbound(&other), 0);
        client.cancel("c");
        client.recover(true);
        client.seen();
        other.purge("q");
        other.seen();
        world.stand_still();
        client.write(&delete_if(if_unused, if_empty));
        client.turn();
        assert!(vhost.queue("q").is_err());
        world.go_on();
        client.expect(&["delete-ok 0"]);
        assert_eq!(unbound(&other), BINDINGS);
    }
}

fn delete_if(if_unused: bool, if_empty: bool) -> Vec<u8> {
    let conditions = [if_unused, if_empty, false];
    let arguments = Arguments::new().ticket().short("q").bits(&conditions);
    wire::method(1, (50, 40), arguments)
}

#[test]
fn an_exchange_with_very_many_bindings_is_deleted_in_turns() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_exchange("e", "direct", &[Flag::Durable], &[]);
    for number in 0..BINDINGS {
        client.bind("q", "e", &number.to_string());
    }
    client.seen();
    world.stand_still();
    client.write(&delete((40, 20), "e"));
    client.turn();
    client.expect_nothing();
    let vhost = world.broker.vhost("/").expect("the virtual host");
    assert!(vhost.exchange("e").is_none() && vhost.is_clearing());
    world.go_on();
    client.expect(&["exchange.delete-ok"]);
    // One by the same name has nothing of it, after a restart either.
    client.declare_exchange("e", "direct", &[Flag::Durable], &[]);
    client.expect(&["exchange.declare-ok"]);
    for world in [world.restarted(), world.clone()] {
        let client = world.client();
        client.publish_with("0", "", &Properties::to("e").mandatory());
        client.expect(&["return 312 NO_ROUTE ''"]);
    }
}

/// A queue with very many bindings that goes with its last consumer, its connection or for want of use.
#[test]
fn what_goes_by_itself_loses_very_many_bindings_in_turns() {
    let world = World::durable();
    let other = world.client();
    let bound = |client: &Client, flags: &[Flag], arguments: &[(&str, AMQPValue)]| {
        client.declare_ok("q", flags, arguments);
        for number in 0..BINDINGS {
            client.bind("q", "amq.direct", &number.to_string());
        }
        client.seen();
        assert_eq!(unbound(&other), 0);
    };
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let is_there = || vhost.queue("q").is_ok();
    // With its last consumer.
    for closes in [false, true] {
        let client = world.client();
        bound(&client, &[Flag::AutoDelete], &[]);
        client.purge("q");
        client.consume("q", "c", &[], &[]);
        client.seen();
        world.stand_still();
        let answer = if closes {
            client.close_channel();
            "channel.close-ok"
        } else {
            client.cancel("c");
            "cancel-ok c"
        };
        client.turn();
        client.expect_nothing();
        assert!(!is_there() && vhost.is_clearing());
        world.go_on();
        client.expect(&[answer]);
        assert_eq!(unbound(&other), BINDINGS);
    }
    // With its connection.
    let client = world.client();
    bound(&client, &[Flag::Exclusive], &[]);
    world.stand_still();
    client.disconnect();
    client.turn();
    assert!(!is_there() && vhost.is_clearing() && !client.is_closed());
    world.go_on();
    assert!(client.is_closed());
    assert_eq!(unbound(&other), BINDINGS);
    // For want of use.
    let client = world.client();
    bound(&client, &[], &[("x-expires", number(1000))]);
    world.stand_still();
    world.wait(1000);
    world.broker.handle_timeout(world.now());
    assert!(!is_there() && vhost.is_clearing());
    world.go_on();
    assert_eq!(unbound(&other), BINDINGS);
}

/// Whoever declares what is still being cleared away waits until nothing of it is left, in memory and in the store.
#[test]
fn a_name_is_given_again_when_all_is_cleared_away() {
    let world = World::durable();
    let (client, other) = (world.client(), world.client());
    let bound = || {
        client.declare_ok("q", &[Flag::Durable], &[]);
        client.declare_exchange("e", "direct", &[Flag::Durable], &[]);
        for number in 0..BINDINGS {
            client.bind("q", "e", &number.to_string());
        }
        client.seen();
    };
    let vhost = world.broker.vhost("/").expect("the virtual host");
    let declare_exchange = {
        let names = Arguments::new().ticket().short("e").short("direct");
        let flags = names.bits(&[false, true, false, false, false]);
        wire::method(1, (40, 10), flags.table(&FieldTable::default()))
    };
    let declare_queue = {
        let flags = Arguments::new().ticket().short("q").bits(&[false, true]);
        wire::method(1, (50, 10), flags.table(&FieldTable::default()))
    };
    for (ids, name, declare, answer) in [
        ((40, 20), "e", &declare_exchange, "exchange.declare-ok"),
        ((50, 40), "q", &declare_queue, "declare-ok q 0 0"),
    ] {
        bound();
        world.stand_still();
        client.write(&delete(ids, name));
        client.turn();
        other.write(declare);
        other.turn();
        assert!(vhost.is_clearing());
        other.expect_nothing();
        world.go_on();
        assert!(!vhost.is_clearing());
        other.expect(&[answer]);
        client.seen();
        // The binding is that of the new one, whatever the store was told of the old.
        client.bind("q", "e", "1");
        client.seen();
        for world in [world.restarted(), Rc::clone(&world)] {
            let client = world.client();
            let to = Properties::to("e").mandatory();
            client.publish_with("1", "", &to);
            client.expect_nothing();
            client.publish_with("2", "", &to);
            client.expect(&["return 312 NO_ROUTE ''"]);
        }
        client.delete("q", false, false);
        client.delete_exchange("e", false);
        client.seen();
    }
}

/// A crash in between leaves no exchange behind that goes with what is gone.
#[test]
fn what_goes_along_with_very_many_others_stays_away() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for number in 0..BINDINGS {
        let name = format!("x{number}");
        let flags = [Flag::Durable, Flag::AutoDelete];
        client.declare_exchange(&name, "direct", &flags, &[]);
        client.bind("q", &name, "");
    }
    client.seen();
    world.stand_still();
    client.write(&delete((50, 40), "q"));
    client.turn();
    client.expect_nothing();
    world.store().commit();
    let left = |world: &World| {
        let names = world.broker.vhost("/").expect("it").exchange_names();
        names.iter().filter(|name| name.starts_with('x')).count()
    };
    let crashed = world.restarted();
    crashed.run();
    assert_eq!(left(&crashed), 0);
    assert_eq!(left(&crashed.restarted()), 0);
    assert!(left(&world) > 0);
    world.go_on();
    client.expect(&["delete-ok 0"]);
    assert_eq!(left(&world), 0);
    assert_eq!(left(&world.restarted()), 0);
}
