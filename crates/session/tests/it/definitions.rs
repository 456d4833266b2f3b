//! What durable things are kept as: they come back as they were declared, those that could not are not
//! taken, those that cannot are put aside, and what is gone stays gone.

use std::sync::Arc;

use leveret_broker::{Broker, BrokerConfig, examine_definitions};
use leveret_codec::{AMQPValue, FieldTable, TABLE_DEPTH_MAX, encode_table};
use leveret_message::{Message, Timestamp};
use leveret_store_api::{Change, DefinitionStore, MessageLog, SteppedStore};
use serde_json::json;

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::wire::Arguments;
use crate::harness::{Client, Properties, World};

mod arbitrary;
mod aside;
mod gone;

/// `queue.declare` of a durable queue, its arguments as bytes.
fn declare_with(client: &Client, queue: &str, arguments: &[u8]) {
    let bits = [false, true, false, false, false];
    let call = Arguments::new().ticket().short(queue).bits(&bits);
    client.call((50, 10), call.long(arguments));
}

/// `exchange.declare` of a durable headers exchange.
fn declare_exchange_with(client: &Client, exchange: &str, arguments: &[u8]) {
    let bits = [false, true, false, false, false];
    let call = Arguments::new().ticket().short(exchange).short("headers");
    client.call((40, 10), call.bits(&bits).long(arguments));
}

/// `queue.bind`.
fn bind_with(client: &Client, queue: &str, exchange: &str, arguments: &[u8]) {
    let call = Arguments::new().ticket().short(queue).short(exchange);
    client.call((50, 20), call.short("key").bits(&[false]).long(arguments));
}

/// `queue.unbind`.
fn unbind_with(client: &Client, queue: &str, exchange: &str, arguments: &[u8]) {
    let call = Arguments::new().ticket().short(queue).short(exchange);
    client.call((50, 50), call.short("key").long(arguments));
}

/// A table with one field: `value`, its type octet included.
fn field(value: &[u8]) -> Vec<u8> {
    [b"\x01k", value].concat()
}

/// `inside` within so many arrays.
fn within_arrays(inside: &[u8], count: usize) -> Vec<u8> {
    (0..count).fold(inside.to_vec(), |inside, _| {
        let length = u32::try_from(inside.len()).unwrap();
        [b"A", &length.to_be_bytes()[..], &inside].concat()
    })
}

/// The arguments of a queue.
fn arguments_of(world: &World, queue: &str) -> FieldTable {
    let vhost = world.broker.vhost("/").unwrap();
    vhost.queue(queue).unwrap().identity().arguments.clone()
}

#[test]
fn arguments_come_back_whatever_is_in_them() {
    let odd = [
        // An empty name, one with a zero octet, and text that is no UTF-8.
        b"\x00S\x00\x00\x00\x02\xff\xfe".to_vec(),
        b"\x01\x00x\x00\x00\x00\x01\x00".to_vec(),
        field(b"T\xff\xff\xff\xff\xff\xff\xff\xff"),
        field(b"D\xff\xff\xff\xff\xff"),
        field(b"l\x80\x00\x00\x00\x00\x00\x00\x00"),
        field(b"f\x80\x00\x00\x00"),
        field(b"d\x00\x00\x00\x00\x00\x00\x00\x01"),
        field(&within_arrays(b"V", TABLE_DEPTH_MAX - 1)),
    ];
    let world = World::durable();
    let client = world.client();
    for (at, arguments) in odd.iter().enumerate() {
        let (queue, exchange) = (format!("q{at}"), format!("x{at}"));
        declare_with(&client, &queue, arguments);
        declare_exchange_with(&client, &exchange, arguments);
        bind_with(&client, &queue, &exchange, arguments);
        let ok = format!("declare-ok {queue} 0 0");
        client.expect(&[&ok, "exchange.declare-ok", "bind-ok"]);
    }
    let after = world.restarted();
    let vhost = after.broker.vhost("/").unwrap();
    for (at, arguments) in odd.iter().enumerate() {
        let queue = arguments_of(&after, &format!("q{at}"));
        let exchange = vhost.exchange(&format!("x{at}")).unwrap();
        assert_eq!(&encode_table(&queue), arguments);
        assert_eq!(&encode_table(&exchange.arguments), arguments);
    }
    // The bindings are there if taking them away leaves nothing.
    let client = after.client();
    for (at, arguments) in odd.iter().enumerate() {
        let (queue, exchange) = (format!("q{at}"), format!("x{at}"));
        client.delete_exchange(&exchange, true);
        let used = format!("PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use");
        client.expect_channel_error(406, &used);
        unbind_with(&client, &queue, &exchange, arguments);
        client.delete_exchange(&exchange, true);
        client.expect(&["unbind-ok", "exchange.delete-ok"]);
    }
}

#[test]
fn numbers_that_are_none_are_refused_at_any_depth_and_change_nothing() {
    let numbers: [&[u8]; 5] = [
        b"d\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"d\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"d\xff\xf0\x00\x00\x00\x00\x00\x00",
        b"f\x7f\xc0\x00\x00",
        b"f\xff\x80\x00\x00",
    ];
    let world = World::durable();
    world.client().declare_ok("q", &[Flag::Durable], &[]);
    let before = world.store().definitions().unwrap();
    for value in numbers {
        for depth in [0, 1, 40] {
            let arguments = field(&within_arrays(value, depth));
            for call in [
                &|client: &Client| declare_with(client, "new", &arguments) as (),
                &|client: &Client| declare_exchange_with(client, "new", &arguments),
                &|client: &Client| bind_with(client, "q", "amq.headers", &arguments),
                &|client: &Client| {
                    let call = Arguments::new().ticket().short("q").short("c");
                    client.call((60, 20), call.bits(&[false; 4]).long(&arguments));
                },
            ] as [&dyn Fn(&Client); 4]
            {
                let client = world.client();
                call(&client);
                client.expect_connection_error(
                    541,
                    "INTERNAL_ERROR - a number in the arguments is not finite",
                );
            }
        }
    }
    assert_eq!(world.store().definitions().unwrap(), before);
}

#[test]
fn headers_of_messages_may_hold_any_number() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    let nan = table(&[
        ("k", AMQPValue::Double(f64::NAN)),
        ("i", AMQPValue::Float(f32::INFINITY)),
    ]);
    let sent = Properties {
        properties: Properties::persistent()
            .properties
            .with_headers(nan.clone()),
        ..Properties::persistent()
    };
    client.publish_with("q", "a", &sent);
    let client = world.restarted().client();
    client.get("q", true);
    let headers = client.seen()[0].headers();
    assert_eq!(encode_table(&headers), encode_table(&nan));
}

#[test]
fn what_a_definitions_file_nests_deep_comes_back() {
    let world = World::durable();
    // As deep as a file may be.
    let deep = (0..120).fold(json!(1.1), |inside, _| json!([inside]));
    let file = json!({"parameters": [{"component": "shovel", "name": "s", "value": deep}]});
    let plan = leveret_broker::definitions_import::Plan::parse(file.to_string().as_bytes());
    world.broker.import(&plan.unwrap(), world.now()).unwrap();
    world.run();
    let before = world.broker.parameters();
    let after = world.restarted();
    assert_eq!(after.broker.parameters(), before);
    assert_eq!(after.broker.parameters().len(), 1);
}

#[test]
fn what_is_not_durable_yet_is_not_said_to_be_there_or_gone() {
    let world = World::durable();
    let (client, other) = (world.client(), world.client());
    client.declare_ok("old", &[Flag::Durable], &[]);
    client.declare_exchange("old", "fanout", &[Flag::Durable], &[]);
    client.expect(&["exchange.declare-ok"]);
    let waits = |first: &dyn Fn(), second: &dyn Fn(), answers: [&str; 2]| {
        world.hold_commits();
        first();
        second();
        other.expect_nothing();
        world.commit();
        client.expect(&[answers[0]]);
        other.expect(&[answers[1]]);
    };
    waits(
        &|| client.declare("new", &[Flag::Durable], &[]),
        &|| other.declare("new", &[Flag::Passive], &[]),
        ["declare-ok new 0 0"; 2],
    );
    waits(
        &|| client.declare_exchange("new", "fanout", &[Flag::Durable], &[]),
        &|| other.declare_exchange("new", "fanout", &[Flag::Passive], &[]),
        ["exchange.declare-ok"; 2],
    );
    waits(
        &|| client.bind("old", "old", "k"),
        &|| other.bind("old", "old", "k"),
        ["bind-ok"; 2],
    );
    waits(
        &|| client.unbind("old", "old", "k"),
        &|| other.unbind("old", "old", "k"),
        ["unbind-ok"; 2],
    );
    waits(
        &|| client.delete("old", false, false),
        &|| other.delete("old", false, false),
        ["delete-ok 0"; 2],
    );
    waits(
        &|| client.delete_exchange("old", false),
        &|| other.delete_exchange("old", false),
        ["exchange.delete-ok"; 2],
    );
}

#[test]
fn a_priority_queue_keeps_its_type_and_its_levels() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("p", &[Flag::Durable], &[("x-max-priority", number(3))]);
    client.declare_ok("s", &[Flag::Durable], &[("x-queue-type", string("stream"))]);
    let after = world.restarted();
    let vhost = after.broker.vhost("/").unwrap();
    assert_eq!(vhost.queue("p").unwrap().options().max_priority, Some(3));
    assert_eq!(vhost.queue("s").unwrap().kind().name(), "stream");
}
