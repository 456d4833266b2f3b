//! What is deleted and has very many bindings, and what goes with it.

use leveret_codec::protocol::exchange;

use super::*;

const MANY: usize = 20_000;

fn declare_exchange(name: &str, kind: &str, auto_delete: bool) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        passive: false,
        durable: true,
        auto_delete,
        internal: false,
        nowait: true,
        arguments: FieldTable::default(),
    }))
}

fn bind_exchange(destination: &str, source: &str, key: &str) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
        destination: destination.into(),
        source: source.into(),
        routing_key: key.into(),
        nowait: true,
        arguments: FieldTable::default(),
    }))
}

fn delete_exchange(name: &str, if_unused: bool) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
        exchange: name.into(),
        if_unused,
        nowait: false,
    }))
}

fn unbind(name: &str, exchange: &str, key: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
        queue: name.into(),
        exchange: exchange.into(),
        routing_key: key.into(),
        arguments: FieldTable::default(),
    }))
}

/// Has `client` do what `goes` says once all that it has said is carried out: the steps that were too long.
#[track_caller]
fn long_steps_of(broker: Leveret, mut client: Client, goes: &AMQPClass) -> Vec<String> {
    client.call(&declare("last", false)).unwrap();
    client.call(goes).unwrap();
    client.close().unwrap();
    stopped(broker)
}

fn durable(name: &str) -> AMQPClass {
    let mut class = lasting(name, FieldTable::default());
    if let AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) = &mut class {
        declare.durable = true;
    }
    class
}

fn started() -> (Leveret, Client) {
    let broker = Leveret::start_measured(&[]);
    let mut client = Client::connect(broker.addr()).unwrap();
    client.say(&durable(QUEUE));
    (broker, client)
}

#[test]
fn very_many_durable_bindings() {
    for if_unused in [false, true] {
        expect_short_steps(|| {
            let (broker, mut client) = started();
            for number in 0..MANY {
                client.say(&bind(&number.to_string()));
            }
            let mut delete = delete(QUEUE);
            if let AMQPClass::Queue(queue::AMQPMethod::Delete(delete)) = &mut delete {
                delete.if_unused = if_unused;
            }
            long_steps_of(broker, client, &delete)
        });
    }
}

/// An exchange that very many bindings lead to is deleted, and goes with its last binding.
#[test]
fn very_many_bindings_that_lead_to_an_exchange() {
    for auto_delete in [false, true] {
        expect_short_steps(|| {
            let (broker, mut client) = started();
            client.say(&declare_exchange("x", "topic", auto_delete));
            for number in 0..MANY {
                client.say(&bind_exchange("x", "amq.topic", &number.to_string()));
            }
            let goes = if auto_delete {
                client.say(&bind_to(QUEUE, "x", "k"));
                unbind(QUEUE, "x", "k")
            } else {
                delete_exchange("x", true)
            };
            long_steps_of(broker, client, &goes)
        });
    }
}

/// Each goes with its only binding: all lead to one queue, or each to the one before.
#[test]
fn very_many_exchanges_that_go_along() {
    let name = |number: usize| format!("x{number}");
    for is_chain in [false, true] {
        expect_short_steps(|| {
            let (broker, mut client) = started();
            for number in 0..MANY {
                let this = name(number);
                client.say(&declare_exchange(&this, "direct", true));
                client.say(&match number {
                    0 => bind_to(QUEUE, &this, ""),
                    _ if is_chain => bind_exchange(&name(number - 1), &this, ""),
                    _ => bind_to(QUEUE, &this, ""),
                });
            }
            long_steps_of(broker, client, &delete(QUEUE))
        });
    }
}
